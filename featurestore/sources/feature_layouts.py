"""Owns what files of features have in common, whichever tool wrote them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

TRIDENT, CLAM, STAMP, SLIDE2VEC = "TRIDENT", "CLAM", "STAMP", "slide2vec"


@dataclass(frozen=True, slots=True)
class TileSize:
    """The side of a file's tiles: in their own pixels, and either on level 0 or in µm."""

    tile_px: int
    level0_px: float | None = None
    um: float | None = None

    def mpp(self, slide_mpp: float) -> float:
        """Resolution of the tiles, in µm per pixel of their own."""
        side_um = self.um if self.level0_px is None else self.level0_px * slide_mpp
        return (side_um or 0.0) / self.tile_px


@dataclass(frozen=True)
class FeatureFile:
    """The features of one slide's tiles, as a file tells them.

    Attributes
    ----------
    layout : str
        The tool that wrote it.
    features : ndarray of shape (n, dim), float32
    coords : ndarray of shape (n, 2), float64
        Left and top edge of each tile.
    coords_in_um : bool
        Whether those are µm; pixels of level 0 otherwise.
    size : TileSize or None
        None where the file does not tell.
    """

    layout: str
    features: NDArray[np.float32]
    coords: NDArray[np.float64]
    coords_in_um: bool
    size: TileSize | None


def is_inflated(n_bytes: int, held_bytes: int) -> bool:
    """Whether a file of ``held_bytes`` that says it holds ``n_bytes`` is a bomb.

    Features are noise to a compressor: what shrinks two hundred times is something else.
    """
    return n_bytes > max(1 << 27, 200 * held_bytes)
