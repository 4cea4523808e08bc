"""Imported features: files of other tools become tiles with a place on the study's slides.

A file's features are those of one slide of the study, told by the file's name without its
suffix. Each of its tiles keeps its place on that slide, so that a result leads back to the
tissue as it does for features of our own. What identifies them, and how they get into the
store, is in :mod:`featurestore.imported_versions`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session

from featurestore.embeddings import LARGEST_HALF
from featurestore.errors import Reject, UnreadableFeaturesError
from featurestore.sources.feature_files import FeatureFiles, ReadTensor, read_feature_file
from featurestore.sources.feature_layouts import FeatureFile, TileSize
from featurestore.sources.slides import MAX_MPP, MIN_MPP, SlideInfo
from featurestore.sources.tiling import SlideTile, SlideTiles, TilingSettings
from featurestore.tables import Dataset, DatasetTile, Slide, Tile

STAGE = "import"

_NO_PICTURE = np.empty((0, 0, 3), np.uint8)
_RESOLUTION_TOLERANCE = 0.1  # as in featurestore.resolution
_MOST_OUTSIDE = 0.5
_COMPOUND = (".ome.tif", ".ome.tiff")


@dataclass(frozen=True, kw_only=True)
class ImportSettings:
    """What a study says of the features that it imports.

    Attributes
    ----------
    network : str
        What computed them, in words.
    weights_sha256 : str or None
        Checksum of its weights, where it is known.
    tile_px, mpp : int or None, float or None
        Side and resolution of the tiles. Both are needed where the files do not tell them;
        where they do, they must agree.
    input_px : int or None
        Side of the network's input; that of the tiles if None.
    dim : int or None
        Number of features; that of most files if None.
    precision : str
        Number format of the computation, ``"unknown"`` where it is.
    licence, trained_on : str
        Of the weights, in words.
    """

    network: str
    weights_sha256: str | None = None
    tile_px: int | None = None
    mpp: float | None = None
    input_px: int | None = None
    dim: int | None = None
    precision: str = "unknown"
    licence: str = "unknown"
    trained_on: str = "unknown"


@dataclass(frozen=True)
class ImportedSlide:
    """One slide's features, checked: row i of ``features`` is tile i of ``tiles``."""

    path: str
    layout: str
    tiles: SlideTiles
    features: NDArray[np.float32]
    sha256: str


def study_slides(session: Session, dataset_id: int) -> tuple[SlideInfo, ...]:
    """The slides of a data set, by path, as they were when it was read."""
    rows = session.execute(
        select(
            Dataset.root,
            DatasetTile.path,
            Slide.sha256,
            Slide.patient_id,
            Slide.width_px,
            Slide.height_px,
            Slide.mpp,
            Slide.mpp_source,
        )
        .distinct()
        .join(DatasetTile, DatasetTile.dataset_id == Dataset.dataset_id)
        .join(Tile, Tile.tile_id == DatasetTile.tile_id)
        .join(Slide, Slide.slide_id == Tile.slide_id)
        .where(Dataset.dataset_id == dataset_id)
        .order_by(DatasetTile.path)
    )
    return tuple(
        SlideInfo(Path(row[0]), *row[1:], downsamples=(1.0,))  # imported tiles are never cut
        for row in rows
    )


def read_imports(
    files: FeatureFiles,
    slides: Sequence[SlideInfo],
    settings: ImportSettings,
    *,
    read_tensor: ReadTensor,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Iterator[ImportedSlide | Reject]:
    """Read file after file; what cannot be used is a reject and stops nothing.

    One file is in memory at a time. The same files, slides and settings give the same result,
    in the same order.
    """
    by_stem: dict[str, list[SlideInfo]] = {}
    for slide in slides:
        for stem in _stems(slide.path):
            by_stem.setdefault(stem, []).append(slide)
    taken: dict[str, str] = {}
    for n_done, path in enumerate(files.paths, 1):
        rejects: list[Reject] = []
        try:
            slide = _slide_of(path, by_stem, taken)
            file = files.root / path
            found = read_feature_file(file, read_tensor=read_tensor, patches=files.patches)
            imported = _place(path, found, slide, settings, rejects)
        except UnreadableFeaturesError as error:
            yield Reject(path, STAGE, str(error))
        else:
            taken[slide.sha256] = path
            yield from rejects
            yield imported
        on_progress(n_done, len(files.paths))


def _stems(path: str) -> set[str]:
    """Names that a tool may give to a slide's features: the slide's own, without its suffix."""
    name = path.rpartition("/")[2]
    stems = {Path(name).stem}
    return stems | {name[: -len(end)] for end in _COMPOUND if name.lower().endswith(end)}


def _slide_of(path: str, by_stem: dict[str, list[SlideInfo]], taken: dict[str, str]) -> SlideInfo:
    # The last suffix is the format's own; what is before it may well have dots.
    stem = Path(path).stem
    slides = by_stem.get(stem, [])
    if not slides:
        some = ", ".join(sorted(by_stem)[:3])
        raise UnreadableFeaturesError(
            f"belongs to no slide with tiles of this study: none is called {stem!r} (there are "
            f"{some}, …); name the file like its slide"
        )
    if len(slides) > 1:
        raise UnreadableFeaturesError(
            f"may belong to {slides[0].path} or {slides[1].path}; give slides different names"
        )
    if slides[0].sha256 in taken:
        raise UnreadableFeaturesError(
            f"is of the same slide as {taken[slides[0].sha256]}, which is kept; remove one"
        )
    return slides[0]


def _place(
    path: str,
    found: FeatureFile,
    slide: SlideInfo,
    settings: ImportSettings,
    rejects: list[Reject],
) -> ImportedSlide:
    """Put the tiles on the slide; tiles that cannot be used are counted in ``rejects``."""
    if settings.dim is not None and found.features.shape[1] != settings.dim:
        raise UnreadableFeaturesError(
            f"holds {found.features.shape[1]} features a tile; expected {settings.dim}, as the "
            "other files have or `dim` says; they are of another network"
        )
    tile_px, mpp = _resolution(found.size, slide, settings)
    edges = np.floor((found.coords / slide.mpp if found.coords_in_um else found.coords) + 0.5)
    with np.errstate(invalid="ignore"):
        within = (edges >= 0) & (edges < [slide.width_px, slide.height_px])
    inside: NDArray[np.bool_] = np.asarray(within.all(axis=1))
    if (~inside).mean() > _MOST_OUTSIDE:
        raise UnreadableFeaturesError(
            f"has {int((~inside).sum())} of {len(inside)} tiles outside its slide of "
            f"{slide.width_px} × {slide.height_px} px; they are of another slide or level"
        )
    with np.errstate(over="ignore"):
        finite = (np.abs(found.features) <= LARGEST_HALF).all(axis=1)
        not_zero = (found.features.astype(np.float16) != 0).any(axis=1)
    sound: NDArray[np.bool_] = np.asarray(finite & not_zero)
    places = np.where(inside[:, None], edges, -1).astype(np.int64)
    first = np.zeros(len(places), bool)
    usable = np.flatnonzero(inside & sound)
    first[usable[np.unique(places[usable], axis=0, return_index=True)[1]]] = True
    problems: list[tuple[NDArray[np.bool_], str]] = [
        (~inside, "lie outside the slide"),
        (inside & ~sound, "have features that are NaN, infinite, too large or all zero"),
        (inside & sound & ~first, "are named twice; the first is kept"),
    ]
    for bad, why in problems:
        if bad.any():
            at = int(np.flatnonzero(bad)[0])
            reason = f"{int(bad.sum())} of {len(bad)} tiles {why} (first: row {at})"
            rejects.append(Reject(path, STAGE, f"{reason}; the rest is imported"))
    rows = np.flatnonzero(first)
    if not len(rows):
        raise UnreadableFeaturesError(f"has not one usable tile: {rejects[0].reason}")
    rows = rows[np.lexsort((places[rows, 0], places[rows, 1]))]
    tiles = tuple(SlideTile(x, y) for x, y in places[rows].tolist())
    cut = TilingSettings(mpp=mpp, tile_px=tile_px, max_tiles=None)
    features = found.features[rows]
    digest = hashlib.sha256(f"{slide.sha256} {tile_px} {mpp!r} {features.shape}".encode())
    digest.update(places[rows].astype("<i8").tobytes())
    digest.update(features.astype("<f4", copy=False).tobytes())
    return ImportedSlide(
        path,
        found.layout,
        SlideTiles(slide, cut, tiles, len(found.coords), {}, 0.0, _NO_PICTURE),
        features,
        digest.hexdigest(),
    )


def _resolution(
    size: TileSize | None, slide: SlideInfo, settings: ImportSettings
) -> tuple[int, float]:
    """Side of the tiles in pixels and their resolution, as file and study tell them."""
    if size is None:
        if settings.tile_px is None or settings.mpp is None:
            raise UnreadableFeaturesError(
                "does not tell the size of its tiles; say it in the study: `patches` (the folder "
                "of CLAM's patch files), or `tile_px` and `mpp`"
            )
        size = TileSize(settings.tile_px, um=settings.tile_px * settings.mpp)
    mpp = size.mpp(slide.mpp)
    if settings.tile_px is not None and size.tile_px != settings.tile_px:
        raise UnreadableFeaturesError(
            f"has tiles of {size.tile_px} px; expected {settings.tile_px}, as the other files have "
            "or `tile_px` says"
        )
    if not MIN_MPP <= mpp <= MAX_MPP or size.tile_px < 32:
        raise UnreadableFeaturesError(
            f"has tiles of {size.tile_px} px at {mpp:g} µm/px; expected at least 32 px and "
            f"{MIN_MPP} to {MAX_MPP:g} µm/px"
        )
    seen_mpp = mpp * size.tile_px / (settings.input_px or size.tile_px)
    if settings.mpp is not None and abs(seen_mpp / settings.mpp - 1) > _RESOLUTION_TOLERANCE:
        raise UnreadableFeaturesError(
            f"has tiles of {size.tile_px} px at {mpp:.3f} µm/px on this slide, {seen_mpp:.3f} in "
            f"the network's input; expected {settings.mpp:g}, as `mpp` says"
        )
    return size.tile_px, mpp
