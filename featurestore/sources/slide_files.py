"""Owns which files may be slides, by name, before any of them is opened."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from featurestore.errors import Reject, SourceError
from featurestore.model_versions import content_sha256
from featurestore.sources.file_kinds import is_file, is_folder, is_text
from featurestore.sources.listings import SUFFIXES as IMAGE_SUFFIXES

SLIDE_SUFFIXES = (".bif", ".ndpi", ".scn", ".svs", ".svslide", ".tif", ".tiff")
"""File names that are taken for slides, in any case, besides those of images."""

_SEVERAL_FILES = (".dcm", ".mrxs", ".vms", ".vmu")


@dataclass(frozen=True)
class SlideFiles:
    """Files that may be slides, before any is opened.

    Attributes
    ----------
    root : Path
        The folder that all of them lie under, absolute.
    paths : tuple of str
        Relative to ``root``, with ``/`` between folders, sorted.
    rejects : tuple of Reject
        Files that cannot be slides by their name.
    stamps : tuple
        Path, size in bytes and modification time in ns of each file.
    """

    root: Path
    paths: tuple[str, ...]
    rejects: tuple[Reject, ...]
    stamps: tuple[tuple[str, int, int], ...]

    def listing_sha256(self, patients: Path | None, settings: object) -> str:
        """Digest that changes when tiling these files may come to something else.

        ``settings`` is whatever JSON holds: how slides are tiled, and overrides of the mpp.
        """
        table = None
        if patients is not None and patients.is_file():
            status = patients.stat()
            table = [status.st_size, status.st_mtime_ns]
        return content_sha256([self.stamps, [r.item for r in self.rejects], table, settings])


def find_slides(where: Path) -> SlideFiles:
    """List slides: a file, a folder with all that is under it, or a pattern with ``*``.

    Raises
    ------
    SourceError
        If nothing there can be a slide.
    """
    where = where.absolute()
    parts = where.parts
    fixed = next((i for i, part in enumerate(parts) if re.search(r"[*?\[]", part)), len(parts))
    if fixed < len(parts):
        root = Path(*parts[:fixed])
        found = list(root.glob("/".join(parts[fixed:]))) if is_folder(root) else []
        named = [file for file in found if is_file(file)]
    elif is_folder(where):
        root = where
        known = (*SLIDE_SUFFIXES, *IMAGE_SUFFIXES, *_SEVERAL_FILES)
        named = [f for f in root.rglob("*") if f.suffix.lower() in known and is_file(f)]
    else:
        root, named = where.parent, [where] if is_file(where) else []
    paths = sorted(file.relative_to(root).as_posix() for file in named)
    paths = [path for path in paths if not any(part.startswith(".") for part in path.split("/"))]
    if not paths:
        raise SourceError(
            f"{where}: no slide is there; expected files that OpenSlide reads, or images of "
            f"regions ({', '.join(sorted({*SLIDE_SUFFIXES, *IMAGE_SUFFIXES}))}); correct `slides`"
        )
    unnamed = [path for path in paths if not is_text(path)]
    paths = [path for path in paths if is_text(path)]
    several = {path for path in paths if Path(path).suffix.lower() in _SEVERAL_FILES}
    rejects = tuple(Reject(path, "ingest", _several(path)) for path in paths if path in several)
    rejects += tuple(
        Reject(path, "ingest", "its name is not valid UTF-8; rename it") for path in unnamed
    )
    stamps = tuple((path, *_size_and_time(root / path)) for path in paths)
    return SlideFiles(root, tuple(path for path in paths if path not in several), rejects, stamps)


def _several(path: str) -> str:
    return (
        f"a slide of several files ({Path(path).suffix}), which one checksum cannot tell; expected "
        "one file; convert it to a tiled TIFF"
    )


def _size_and_time(file: Path) -> tuple[int, int]:
    try:
        status = file.stat()
    except OSError:
        return -1, -1
    return status.st_size, status.st_mtime_ns
