"""Owns files of features that another tool computed: which there are, and what one holds.

Which tool wrote a file is told by its content, never by its name: HDF5 files are told apart in
:mod:`featurestore.sources.feature_hdf5`, archives of slide2vec are read in
:mod:`featurestore.sources.feature_archives`. Nothing is unpickled here; a tensor file is handed
to a reader that the caller brings, since the store knows no network library.
"""

from __future__ import annotations

import glob
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import SourceError, UnreadableFeaturesError
from featurestore.model_versions import content_sha256
from featurestore.sources.feature_archives import companions, read_archive
from featurestore.sources.feature_hdf5 import read_hdf5
from featurestore.sources.feature_layouts import FeatureFile
from featurestore.sources.file_kinds import is_file, is_text

ReadTensor = Callable[[Path], NDArray[np.float32]]

_HDF5 = b"\x89HDF\r\n\x1a\n"
_ZIP = b"PK\x03\x04"


@dataclass(frozen=True)
class FeatureFiles:
    """Files of features, before any is opened.

    Attributes
    ----------
    root : Path
        The folder that all of them lie under, absolute.
    paths : tuple of str
        Relative to ``root``, with ``/`` between folders, sorted.
    patches : Path or None
        Folder of CLAM's patch files.
    stamps : tuple
        Path, size in bytes and modification time in ns of each file and of those that go
        with it.
    """

    root: Path
    paths: tuple[str, ...]
    patches: Path | None
    stamps: tuple[tuple[str, int, int], ...]

    @property
    def listing_sha256(self) -> str:
        """Digest that changes when reading these files may come to something else."""
        return content_sha256([str(self.root), list(self.stamps)])


def find_features(pattern: str, patches: Path | None = None) -> FeatureFiles:
    """List files of features: a pattern with ``*`` (``**`` for folders below), or one file.

    Raises
    ------
    SourceError
        If there is none.
    """
    found = sorted(Path(name) for name in glob.glob(pattern, recursive=True))  # noqa: PTH207
    files = [file.absolute() for file in found if is_file(file) and file.name[0] != "."]
    if not files:
        raise SourceError(
            f"{pattern}: no file of features is there; expected files of TRIDENT, CLAM, STAMP or "
            "slide2vec, one a slide; correct `features`"
        )
    unnamed = next((file for file in files if not is_text(file)), None)
    if unnamed is not None:
        raise SourceError(f"{unnamed}: its name is not valid UTF-8; rename it")
    root = _fixed_part(Path(pattern).absolute())
    extra = [other for file in files for other in companions(file) if is_file(other)]
    if patches is not None:
        extra += sorted(patches.glob("*.h5"))
    stamps = []
    for file in dict.fromkeys([*files, *extra]):
        status = file.stat()
        stamps.append((str(file), status.st_size, status.st_mtime_ns))
    paths = tuple(sorted(file.relative_to(root).as_posix() for file in files))
    return FeatureFiles(root, paths, patches, tuple(stamps))


def _fixed_part(pattern: Path) -> Path:
    """The folder of a pattern above its first wildcard."""
    parts = pattern.parts
    wild = next((at for at, part in enumerate(parts) if glob.has_magic(part)), len(parts) - 1)
    return Path(*parts[:wild])


def read_feature_file(
    file: Path, *, read_tensor: ReadTensor, patches: Path | None = None
) -> FeatureFile:
    """Read the features of one slide, by whichever tool they were written.

    Parameters
    ----------
    file : Path
    read_tensor : callable
        Reads a file of ``torch.save`` that holds one tensor, without unpickling.
    patches : Path, optional
        Folder of CLAM's patch files, which tell the size of its tiles.

    Raises
    ------
    UnreadableFeaturesError
        If the file is damaged, of no known layout, or its parts do not agree.
    """
    try:
        if file.exists() and not is_file(file):
            raise UnreadableFeaturesError("is no regular file; expected a file of features")
        with file.open("rb") as stream:
            start = stream.read(8)
    except OSError as error:
        raise UnreadableFeaturesError(f"cannot be opened ({error.strerror})") from error
    if start == _HDF5:
        found = read_hdf5(file, patches)
    elif start.startswith(_ZIP):
        found = read_archive(file, read_tensor)
    else:
        raise UnreadableFeaturesError(
            "is neither HDF5 nor an archive of numpy or torch (1.6 or newer) by its content; "
            "expected a file of TRIDENT, CLAM, STAMP or slide2vec"
        )
    _check(found)
    return found


def _check(found: FeatureFile) -> None:
    shape = found.features.shape
    if len(shape) != 2:
        raise UnreadableFeaturesError(
            f"holds features of shape {shape}; expected one vector a tile: (n_tiles, dim). "
            "Features of whole slides cannot be imported"
        )
    if found.coords.ndim != 2 or found.coords.shape[1] != 2:
        raise UnreadableFeaturesError(
            f"holds coordinates of shape {found.coords.shape}; expected (n_tiles, 2)"
        )
    if len(found.features) != len(found.coords):
        raise UnreadableFeaturesError(
            f"holds {len(found.features)} vectors but {len(found.coords)} coordinates; expected "
            "one of each a tile; extract its features again"
        )
    if 0 in shape:
        raise UnreadableFeaturesError("holds no tile; nothing is to be imported")
