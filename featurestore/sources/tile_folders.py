"""Owns reading a folder of labelled tiles: ``root/<class>/<image>``, as NCT-CRC-HE has it.

The class is the first folder under the root; what lies deeper belongs to it. A tile is known
by its pixels, so the same image found twice is one tile, and the same image under two classes
or two patients is none: its label or patient is unknown. Patients come from a table or not at
all; names such as ``ADI-TCGA-AAICEQFN.tif`` look like barcodes and are not.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

from featurestore.errors import Reject, SourceError, UnreadableImageError
from featurestore.model_versions import content_sha256
from featurestore.sources.images import pixel_sha256, read_rgb
from featurestore.sources.listings import Listing, list_folder
from featurestore.sources.patients import read_patients

_BATCH = 1024  # paths handed to the threads at a time: bounds what waits, not what runs


@dataclass(frozen=True, slots=True)
class TileFile:
    """One readable tile of a folder.

    Attributes
    ----------
    path : str
        Where it lies, relative to the root, with ``/`` between folders.
    label : str
        Its class: the first folder of ``path``.
    sha256 : str
        Digest of its pixels (:func:`featurestore.sources.images.pixel_sha256`).
    width_px, height_px : int
        Its size in pixels.
    patient_id : str or None
        Its patient by the patients table; None where no row tells.
    """

    path: str
    label: str
    sha256: str
    width_px: int
    height_px: int
    patient_id: str | None


@dataclass(frozen=True)
class TileFolder:
    """What a folder of tiles holds.

    Attributes
    ----------
    root : Path
        The folder, absolute.
    tiles : tuple of TileFile
        The tiles, sorted by path; no two have the same pixels.
    rejects : tuple of Reject
        What was left out, and why; sorted by item.
    listing_sha256 : str
        Digest of the listing it was read from (see :func:`listing_sha256`).
    """

    root: Path
    tiles: tuple[TileFile, ...]
    rejects: tuple[Reject, ...]
    listing_sha256: str

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes that have a tile, sorted."""
        return tuple(sorted({tile.label for tile in self.tiles}))

    @cached_property
    def digest(self) -> str:
        """Digest of the content: pixels, labels and patients, wherever the files lie."""
        return content_sha256(
            sorted([tile.sha256, tile.label, tile.patient_id or ""] for tile in self.tiles)
        )


def read_tile_folder(
    root: Path,
    *,
    patients: Path | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    n_threads: int = 2,
) -> TileFolder:
    """Read every tile of a folder: decode it, identify it, label it.

    Hidden files and what operating systems leave behind are skipped; so are files beside the
    class folders that are no images. Everything else that cannot be a tile is a reject.
    Pixels are dropped as soon as they are hashed, so memory does not grow with the folder.

    Parameters
    ----------
    root : Path
        The folder that holds the class folders.
    patients : Path, optional
        CSV with the columns ``file`` (path relative to ``root``, or a bare name that only
        one image has) and ``patient``. A row that matches no image is a reject; an image
        without a row has no patient.
    on_progress : callable, optional
        Called in the calling thread as ``on_progress(n_done, n_total)`` after each image.
    n_threads : int
        Images decoded at the same time.

    Returns
    -------
    TileFolder
        The same for the same files, whatever the number of threads.

    Raises
    ------
    SourceError
        If the folder or the table cannot be used as a whole, or not one tile is left.
    """
    root = root.absolute()
    listing = list_folder(root)
    listed = listing.sha256(patients)
    table, rejects = read_patients(patients, root, listing.images) if patients else ({}, [])
    rejects += listing.rejects
    tiles = []
    read = partial(_read_tile, root, table)
    with ThreadPoolExecutor(n_threads, thread_name_prefix="tiles") as pool:
        for start in range(0, len(listing.images), _BATCH):
            outcomes = pool.map(read, listing.images[start : start + _BATCH])
            for n_done, outcome in enumerate(outcomes, start + 1):
                if isinstance(outcome, Reject):
                    rejects.append(outcome)
                else:
                    tiles.append(outcome)
                if on_progress:
                    on_progress(n_done, len(listing.images))
    tiles, duplicates = _without_duplicates(tiles)
    rejects += duplicates
    if not tiles:
        raise SourceError(_no_tile_left(root, listing, rejects))
    rejects += _classes_without_tile(listing, tiles)
    ordered = tuple(sorted(rejects, key=lambda reject: (reject.item, reject.reason)))
    return TileFolder(root, tuple(tiles), ordered, listed)


def listing_sha256(root: Path, patients: Path | None = None) -> str:
    """Digest that changes when the folder may read differently; nothing is decoded.

    Covers relative path, size in bytes and modification time of every file that
    :func:`read_tile_folder` would look at, the class folders and the patients table. A file
    rewritten with its size and its time kept goes unnoticed.

    Raises
    ------
    SourceError
        If the folder is absent or has no class folder.
    """
    return list_folder(root.absolute()).sha256(patients)


def _read_tile(root: Path, table: dict[str, str], path: str) -> TileFile | Reject:
    try:
        rgb = read_rgb(root / path)
    except UnreadableImageError as error:
        return _reject(path, str(error))
    height_px, width_px = rgb.shape[:2]
    label = path.partition("/")[0]
    return TileFile(path, label, pixel_sha256(rgb), width_px, height_px, table.get(path))


def _without_duplicates(tiles: Sequence[TileFile]) -> tuple[list[TileFile], list[Reject]]:
    """Keep one tile an image, and none where its copies contradict each other."""
    copies = defaultdict(list)
    for tile in sorted(tiles, key=lambda tile: tile.path):
        copies[tile.sha256].append(tile)
    kept, rejects = [], []
    for same in copies.values():
        labels = {tile.label for tile in same}
        known = {tile.patient_id for tile in same if tile.patient_id is not None}
        if len(labels) > 1 or len(known) > 1:
            rejects += [_contradiction(tile, same, of_label=len(labels) > 1) for tile in same]
            continue
        first, *others = same
        # One copy's row tells the patient of the image, and so of every copy.
        kept.append(replace(first, patient_id=next(iter(known), None)))
        reason = f"it is the same image as {first.path}, which is kept"
        rejects += [_reject(tile.path, reason) for tile in others]
    return kept, rejects


def _contradiction(tile: TileFile, same: Sequence[TileFile], *, of_label: bool) -> Reject:
    others = [other.path for other in same if other is not tile]
    shown = ", ".join(others[:3]) + (f" and {len(others) - 3} more" if len(others) > 3 else "")
    if of_label:
        reason = f"the same image lies under another class ({shown}), so its label is unknown"
        return _reject(tile.path, f"{reason}; keep it under the right class only")
    reason = f"the same image has another patient ({shown}), so its patient is unknown"
    return _reject(tile.path, f"{reason}; correct the patients table")


def _classes_without_tile(listing: Listing, tiles: Sequence[TileFile]) -> list[Reject]:
    n_images: dict[str, int] = defaultdict(int)
    for path in listing.images:
        n_images[path.partition("/")[0]] += 1
    rejects = []
    for label in sorted(set(listing.classes) - {tile.label for tile in tiles}):
        n = n_images[label]
        found = f"all its {n} images were rejected" if n else "the class folder holds no image"
        reason = f"{found}; the class is left out; add tiles to it or remove it"
        rejects.append(_reject(f"{label}/", reason))
    return rejects


def _no_tile_left(root: Path, listing: Listing, rejects: Sequence[Reject]) -> str:
    quoted = "; ".join(f"{reject.item}: {reject.reason}" for reject in rejects[:3])
    return (
        f"{root} holds no usable tile: {len(listing.classes)} class folders, "
        f"{len(listing.images)} images, {len(rejects)} rejects; expected at least one 8-bit RGB "
        f"image in a class folder; {f'the first rejects: {quoted}' if quoted else 'add tiles'}"
    )


def _reject(item: str, reason: str) -> Reject:
    return Reject(item=item, stage="ingest", reason=reason)
