"""Owns a tile's place on a slide: what identifies it, and how its pixels are read again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import UnreadableImageError
from featurestore.model_versions import content_sha256
from featurestore.sources.slide_pixels import (
    LEVEL_TOLERANCE,
    best_level,
    pixels_of,
    read_area,
    slide_sha256,
)
from featurestore.sources.stain import normalise


@dataclass(frozen=True, slots=True)
class TilePlace:
    """Where a tile is on its slide, and how it is cut.

    Attributes
    ----------
    slide_sha256 : str
        Digest of the slide's file.
    slide_mpp : float
        Resolution of level 0 in µm per pixel.
    x_px, y_px : int
        Its left and top edge in pixels of level 0.
    tile_px : int
        Its side in its own pixels.
    mpp : float
        Its own resolution in µm per pixel.
    stain : str
        Normalisation of its colours: ``"none"`` or ``"macenko"``.
    """

    slide_sha256: str
    slide_mpp: float
    x_px: int
    y_px: int
    tile_px: int
    mpp: float
    stain: str = "none"

    @property
    def sha256(self) -> str:
        """The tile's digest: it is told by its place, not by its pixels."""
        # The slide's resolution belongs to it: corrected, the same place shows another field.
        return content_sha256(
            [self.slide_sha256, self.slide_mpp, self.x_px, self.y_px, self.tile_px, self.mpp,
             self.stain]
        )  # fmt: skip

    @property
    def on_slide(self) -> str:
        """How the ledger names it after the slide's path: ``@x,y``."""
        return f"@{self.x_px},{self.y_px}"


def level0_side(
    downsamples: tuple[float, ...], *, slide_mpp: float, tile_px: int, mpp: float
) -> float:
    """Side of a tile in pixels of level 0.

    Its field of view is ``tile_px * mpp`` µm; where a level fits to within 1 %, that level's
    pixels are taken as they are.
    """
    wanted = mpp / slide_mpp
    level = downsamples[best_level(downsamples, wanted)]
    if abs(level / wanted - 1) <= LEVEL_TOLERANCE:
        return tile_px * level
    return tile_px * wanted


def read_place(file: Path, place: TilePlace) -> NDArray[np.uint8]:
    """Pixels of a place, shape (tile_px, tile_px, 3); the slide is not checked.

    Raises
    ------
    UnreadableImageError
        If they cannot be decoded, or their stain cannot be normalised.
    """
    side = level0_side(
        pixels_of(file).downsamples,
        slide_mpp=place.slide_mpp,
        tile_px=place.tile_px,
        mpp=place.mpp,
    )
    rgb = read_area(
        file,
        x_px=place.x_px,
        y_px=place.y_px,
        width_px=side,
        height_px=side,
        to_px=(place.tile_px, place.tile_px),
    )
    return normalise(rgb, place.stain)


def read_tile(file: Path, place: TilePlace, sha256: str) -> NDArray[np.uint8]:
    """Pixels of a tile of the store, from the very slide that it was cut from.

    Parameters
    ----------
    file : Path
        The slide.
    place : TilePlace
    sha256 : str
        The tile's digest in the store.

    Returns
    -------
    ndarray of uint8, shape (tile_px, tile_px, 3)

    Raises
    ------
    UnreadableImageError
        If the slide is gone, is another file than when it was tiled, or its resolution was
        corrected since; or if this tile cannot be decoded.
    """
    found = slide_sha256(file)
    if found != place.slide_sha256:
        raise UnreadableImageError(
            f"{file} is another file than when it was tiled: SHA-256 {found}, expected "
            f"{place.slide_sha256}. Tile the slides again, or put the first file back."
        )
    if place.sha256 != sha256:
        raise UnreadableImageError(
            f"{file}: its resolution was corrected to {place.slide_mpp:g} µm per pixel since this "
            "tile was cut. Tile the slides again."
        )
    return read_place(file, place)
