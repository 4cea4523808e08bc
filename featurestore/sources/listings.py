"""Owns what a folder of tiles contains by name, before any file is opened.

Hidden files and what operating systems leave behind do not exist here. Links are followed,
except back to a folder above them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from featurestore.errors import Reject, SourceError
from featurestore.model_versions import content_sha256
from featurestore.sources.file_kinds import is_text

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
"""File names that are taken for images, in any case."""

_LITTER = frozenset({"thumbs.db", "desktop.ini", "ehthumbs.db", "__macosx"})
_LAYOUT = "expected ROOT/<class>/<image>, one folder a class"


@dataclass(frozen=True)
class Listing:
    """A folder's names; all paths are relative to it, with ``/`` between folders.

    Attributes
    ----------
    classes : list of str
        The folders directly under it.
    images : list of str
        Files in them that are images by their name, sorted.
    rejects : list of Reject
        Names that cannot be tiles.
    stamps : list of tuple
        Path, size in bytes and modification time in ns of everything looked at.
    """

    classes: list[str] = field(default_factory=list)
    images: list[str] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    stamps: list[tuple[str, int, int]] = field(default_factory=list)

    def sha256(self, patients: Path | None) -> str:
        """Digest of the listing and of the stamp of the patients table, if there is one."""
        # By name too: an unlistable folder or a name that is no text has no stamp.
        names = sorted(reject.item for reject in self.rejects)
        table = None if patients is None else _stamp(patients)
        return content_sha256([sorted(self.stamps), names, table])


def list_folder(root: Path) -> Listing:
    """List ``root/<class>/…/<image>``.

    Raises
    ------
    SourceError
        If ``root`` is absent, no folder, or has no class folder.
    """
    if not os.path.isdir(root):  # noqa: PTH112 - unlike Path.is_dir it never raises
        found = "it is no folder" if os.path.lexists(root) else "there is no such folder"
        raise SourceError(f"{root} cannot be read: {found}; {_LAYOUT}; check the path")
    listing = Listing()
    for path in _walk(root, "", listing.rejects, frozenset()):
        if path.endswith("/"):
            if path.count("/") == 1:
                listing.classes.append(path[:-1])
                listing.stamps.append((path, 0, 0))
        else:
            _sort_file(root, path, listing)
    if not listing.classes:
        unlistable = [reject.reason for reject in listing.rejects if reject.item == ""]
        found = unlistable[0] if unlistable else "it has no class folder"
        raise SourceError(
            f"{root} cannot be read: {found}; {_LAYOUT}; name the folder that holds the class "
            "folders"
        )
    listing.images.sort()
    return listing


def _sort_file(root: Path, path: str, listing: Listing) -> None:
    """Put a file where it belongs: an image, a reject, or none of our business."""
    is_image = Path(path).suffix.lower() in SUFFIXES
    is_in_class = "/" in path
    if not is_in_class and not is_image:
        return  # a README or a table beside the class folders
    listing.stamps.append((path, *_stamp(root / path)))
    if not is_in_class:
        reason = f"it lies beside the class folders; {_LAYOUT}; move it into its class"
        listing.rejects.append(Reject(path, "ingest", reason))
    elif not is_image:
        reason = f"it is no image by its name; expected {', '.join(SUFFIXES)}"
        reason += "; move it out of the class folder"
        listing.rejects.append(Reject(path, "ingest", reason))
    else:
        listing.images.append(path)


def _walk(
    folder: Path, prefix: str, rejects: list[Reject], above: frozenset[tuple[int, int]]
) -> Iterator[str]:
    """Paths under ``folder``, relative to the root; folders end in ``/``."""
    try:
        status = folder.stat()
        names = sorted(os.listdir(folder))  # noqa: PTH208 - names are all that is needed
    except OSError as error:
        reason = f"the folder cannot be listed ({error.strerror}); check its permissions"
        rejects.append(Reject(prefix, "ingest", reason))
        return
    identity = (status.st_dev, status.st_ino)
    if identity in above:
        reason = "the link leads back to a folder above it; remove it"
        rejects.append(Reject(prefix, "ingest", reason))
        return
    for name in names:
        if name.startswith(".") or name.lower() in _LITTER:
            continue
        if not is_text(name):
            shown = prefix + os.fsencode(name).decode("utf-8", "backslashreplace")
            rejects.append(Reject(shown, "ingest", "its name is not valid UTF-8; rename it"))
        elif os.path.isdir(folder / name):  # noqa: PTH112
            yield f"{prefix}{name}/"
            yield from _walk(folder / name, f"{prefix}{name}/", rejects, above | {identity})
        else:
            yield prefix + name


def _stamp(file: Path) -> tuple[int, int]:
    """Size in bytes and modification time in ns; (-1, -1) for a link that leads nowhere."""
    try:
        status = file.stat()
    except OSError:
        return -1, -1
    return status.st_size, status.st_mtime_ns
