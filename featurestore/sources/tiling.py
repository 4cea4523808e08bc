"""Owns tiling: from a slide to the places on it that are worth embedding."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from itertools import islice
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import Reject, UnreadableImageError
from featurestore.sources.slide_overlays import THUMBNAIL_PX, overlay
from featurestore.sources.slide_overview import Overview, overview
from featurestore.sources.slide_tiles import TilePlace, level0_side, read_place
from featurestore.sources.slides import MAX_MPP, MIN_MPP, SlideInfo
from featurestore.sources.stain import STAINS, normalise
from featurestore.sources.tissue_mask import TissueMask, share_of_boxes, sharpness, tissue_mask

STAGE = "tile"
"""Stage that the ledger names."""

REASONS = ("background", "pen", "blur", "stain", "unreadable")
"""Why a place of the grid is no tile, in the order of the tests."""

_OVERVIEW_UM = 8.0  # µm per pixel of the overview, for tiles of ordinary size
_OVERVIEW_PX = 14  # at least so many pixels of overview a side of a tile
_CHEAP_PX = 8192  # longest side of a slide that is read twice without regret
_MAX_PEN = 0.02
# Real tissue in focus is above 300 at 0.5 µm per pixel, fat and necrosis included; out of focus
# by a Gaussian of 3 pixels it is below 100.
_MIN_SHARPNESS = 60.0


@dataclass(frozen=True, kw_only=True)
class TilingSettings:
    """How slides are cut into tiles.

    Attributes
    ----------
    mpp : float
        Resolution of the tiles in µm per pixel.
    tile_px : int
        Their side in pixels.
    max_tiles : int or None
        At most so many a slide, drawn at random; None for all.
    seed : int
        Of that draw.
    min_tissue : float
        Share of a tile, 0 to 1, that must be tissue.
    min_sharpness : float
        Least variance of the Laplacian (:func:`featurestore.sources.tissue_mask.sharpness`).
    stain : str
        ``"none"`` or ``"macenko"``.
    """

    mpp: float = 0.5
    tile_px: int = 224
    max_tiles: int | None = 500
    seed: int = 0
    min_tissue: float = 0.5
    min_sharpness: float = _MIN_SHARPNESS
    stain: str = "none"

    def __post_init__(self) -> None:
        if not MIN_MPP <= self.mpp <= MAX_MPP:
            raise ValueError(f"mpp = {self.mpp}; expected {MIN_MPP} to {MAX_MPP:g} µm per pixel")
        if self.tile_px < 32:
            raise ValueError(f"tile_px = {self.tile_px}; expected at least 32")
        if self.max_tiles is not None and self.max_tiles < 1:
            raise ValueError(f"max_tiles = {self.max_tiles}; expected at least 1, or None")
        if not 0 < self.min_tissue <= 1:
            raise ValueError(f"min_tissue = {self.min_tissue}; expected above 0, at most 1")
        if self.stain not in STAINS:
            raise ValueError(f"stain = {self.stain!r}; expected one of {', '.join(STAINS)}")

    def content(self) -> dict[str, Any]:
        """Everything that decides which tiles come out, as JSON holds it."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class SlideTile:
    """A tile by its left and top edge in pixels of the slide's level 0."""

    x_px: int
    y_px: int


@dataclass(frozen=True)
class SlideTiles:
    """What tiling one slide came to.

    Attributes
    ----------
    slide : SlideInfo
    settings : TilingSettings
    tiles : tuple of SlideTile
        From top to bottom, then from left to right.
    n_grid : int
        Places on the slide's grid.
    n_rejected : dict
        Number of places by reason (:data:`REASONS`). Background and pen are counted on the
        whole grid; the others on the places that were looked at, which is not all of them
        where ``max_tiles`` were found before.
    seconds : float
        Wall time.
    thumbnail : ndarray of uint8, shape (height, width, 3)
        The slide with mask and tiles drawn on it, at most 1,024 pixels a side.
    """

    slide: SlideInfo
    settings: TilingSettings
    tiles: tuple[SlideTile, ...]
    n_grid: int
    n_rejected: dict[str, int]
    seconds: float
    thumbnail: NDArray[np.uint8] = field(repr=False)

    def place(self, tile: SlideTile) -> TilePlace:
        """A tile's place, by which the store knows it."""
        return TilePlace(
            self.slide.sha256, self.slide.mpp, tile.x_px, tile.y_px,
            self.settings.tile_px, self.settings.mpp, self.settings.stain,
        )  # fmt: skip

    @property
    def reject(self) -> Reject | None:
        """The slide's row in the ledger where it yields no tile."""
        if self.tiles:
            return None
        side_um = self.settings.tile_px * self.settings.mpp
        size = " × ".join(
            f"{px * self.slide.mpp:.0f}" for px in (self.slide.width_px, self.slide.height_px)
        )
        if self.n_grid == 0:
            reason = (
                f"no tile: the slide is {size} µm, smaller than one tile of {side_um:g} µm; choose "
                "a smaller `tile_px` or `mpp`"
            )
        else:
            counts = ", ".join(f"{n} {why}" for why, n in self.n_rejected.items() if n)
            reason = (
                f"no tile: all of {self.n_grid} places were left out ({counts}); look at its "
                "thumbnail"
            )
        return Reject(self.slide.path, STAGE, reason)


def tile_slide(slide: SlideInfo, settings: TilingSettings) -> SlideTiles:
    """Cut one slide into tiles; the same slide and settings give the same tiles.

    Raises
    ------
    UnreadableImageError
        If its overview cannot be read.
    """
    started = perf_counter()
    x_px, y_px, side = _grid(slide, settings)
    # Fine enough that even a small tile has a tissue share, coarse enough to be cheap.
    coarse = max(min(_OVERVIEW_UM / slide.mpp, side / _OVERVIEW_PX), 1.0)
    small = overview(slide.file, coarse)
    mask = tissue_mask(small.rgb, mpp=coarse * slide.mpp)
    candidates, n_rejected = _with_tissue(slide, mask, small.damaged, x_px, y_px, side, settings)
    tiles: list[SlideTile] = []
    for i in _order(slide, candidates, settings):
        tile = SlideTile(int(x_px[i]), int(y_px[i]))
        reason = _look(slide, tile, settings)
        if reason is None:
            tiles.append(tile)
            if len(tiles) == settings.max_tiles:
                break
        else:
            n_rejected[reason] += 1
    tiles.sort(key=lambda tile: (tile.y_px, tile.x_px))
    boxes = [(tile.x_px, tile.y_px, side) for tile in tiles]
    thumbnail = overlay(_picture(slide, small), mask, boxes, slide.width_px)
    return SlideTiles(
        slide, settings, tuple(tiles), len(x_px), n_rejected, perf_counter() - started, thumbnail
    )


def tile_slides(
    slides: Iterable[SlideInfo], settings: TilingSettings, *, n_threads: int = 2
) -> Iterator[SlideTiles | Reject]:
    """Tile slide after slide, in the order given; a bad slide is a reject and stops nothing.

    A slide without a tile comes as it is, with its thumbnail; its ``reject`` says why.
    """
    waiting = iter(slides)
    running: deque[Future[SlideTiles | Reject]] = deque()
    pool = ThreadPoolExecutor(max(1, n_threads), thread_name_prefix="tiling")
    try:
        while True:
            for slide in islice(waiting, max(0, n_threads + 1 - len(running))):
                running.append(pool.submit(_tile_or_reject, slide, settings))
            if not running:
                return
            yield running.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _tile_or_reject(slide: SlideInfo, settings: TilingSettings) -> SlideTiles | Reject:
    try:
        return tile_slide(slide, settings)
    except UnreadableImageError as error:
        return Reject(slide.path, STAGE, str(error))


def _grid(
    slide: SlideInfo, settings: TilingSettings
) -> tuple[NDArray[np.int64], NDArray[np.int64], float]:
    """Left and top edges of all places, row by row, and their side, in pixels of level 0."""
    side = level0_side(
        slide.downsamples, slide_mpp=slide.mpp, tile_px=settings.tile_px, mpp=settings.mpp
    )
    edges = []
    for length_px in (slide.width_px, slide.height_px):
        n = int((length_px + 1e-6) // side)
        # Centred, so that a small image loses as much on either side.
        start = (length_px - n * side) / 2
        edges.append(np.floor(start + side * np.arange(n)).astype(np.int64))
    x, y = np.meshgrid(edges[0], edges[1])
    return x.ravel(), y.ravel(), side


def _with_tissue(
    slide: SlideInfo,
    mask: TissueMask,
    damaged: NDArray[np.bool_],
    x_px: NDArray[np.int64],
    y_px: NDArray[np.int64],
    side: float,
    settings: TilingSettings,
) -> tuple[NDArray[np.int64], dict[str, int]]:
    """Places with tissue and without pen, and how many have not."""
    scale = mask.tissue.shape[1] / slide.width_px
    left, top = (np.round(edge * scale).astype(np.int64) for edge in (x_px, y_px))
    box = (max(1, round(side * scale)),) * 2
    has_pen = share_of_boxes(mask.pen, left, top, box) > _MAX_PEN
    tissue = share_of_boxes(mask.tissue, left, top, box)
    # Ink lies on tissue too: that place is lost to pen, not to glass.
    either = share_of_boxes(mask.tissue | mask.pen, left, top, box)
    # Whether a place that is damaged altogether holds tissue is not known.
    unknown = share_of_boxes(damaged, left, top, box) > 0.5
    is_background = (np.where(has_pen, either, tissue) < settings.min_tissue) & ~unknown
    has_pen &= ~is_background & ~unknown
    counts = dict.fromkeys(REASONS, 0)
    counts["background"] = int(is_background.sum())
    counts["pen"] = int(has_pen.sum())
    counts["unreadable"] = int(unknown.sum())
    return np.flatnonzero(~(is_background | has_pen | unknown)), counts


def _picture(slide: SlideInfo, small: Overview) -> NDArray[np.uint8]:
    """What the thumbnail is drawn on: the overview, or a finer one where that costs nothing."""
    longest_px = max(slide.width_px, slide.height_px)
    if max(small.rgb.shape) >= THUMBNAIL_PX or longest_px > _CHEAP_PX:
        return small.rgb
    return overview(slide.file, max(longest_px / THUMBNAIL_PX, 1.0)).rgb


def _order(
    slide: SlideInfo, candidates: NDArray[np.int64], settings: TilingSettings
) -> NDArray[np.int64]:
    """The order in which places are looked at: random where not all of them are wanted."""
    if settings.max_tiles is None or len(candidates) <= settings.max_tiles:
        return candidates
    # By the slide's content, so that its tiles do not depend on the slides beside it.
    rng = np.random.default_rng([settings.seed, int(slide.sha256[:16], 16)])
    return rng.permutation(candidates)


def _look(slide: SlideInfo, tile: SlideTile, settings: TilingSettings) -> str | None:
    """Why this place is no tile, judged by its pixels; None where it is one."""
    place = TilePlace(
        slide.sha256, slide.mpp, tile.x_px, tile.y_px, settings.tile_px, settings.mpp
    )  # fmt: skip
    try:
        rgb = read_place(slide.file, place)
    except UnreadableImageError:
        return "unreadable"
    if sharpness(rgb) < settings.min_sharpness:
        return "blur"
    if settings.stain != "none":
        try:
            normalise(rgb, settings.stain)
        except UnreadableImageError:
            return "stain"
    return None
