"""Owns the picture of a tiled slide: what was taken for tissue, and which tiles were kept."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from featurestore.sources.tissue_mask import TissueMask

THUMBNAIL_PX = 1024
"""Longest side of the picture."""

_MAX_ENLARGED = 6.0
_TISSUE = (0, 160, 60)
_PEN = (255, 140, 0)
_TILE = (20, 60, 220)


def overlay(
    overview: NDArray[np.uint8],
    mask: TissueMask,
    boxes: Iterable[tuple[float, float, float]],
    width_px: int,
) -> NDArray[np.uint8]:
    """Draw the outline of the tissue (green), pen (orange) and the tiles (blue).

    Parameters
    ----------
    overview : ndarray of uint8, shape (height, width, 3)
    mask : TissueMask
        Of the same slide, at this or another resolution.
    boxes : iterable of (float, float, float)
        Left, top and side of each tile in pixels of level 0.
    width_px : int
        Width of level 0.

    Returns
    -------
    ndarray of uint8, shape (height, width, 3)
        At most :data:`THUMBNAIL_PX` a side; small overviews are enlarged up to six times.
    """
    height, width = overview.shape[:2]
    scale = min(THUMBNAIL_PX / max(height, width), _MAX_ENLARGED)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    picture = np.array(Image.fromarray(overview).resize(size, Image.Resampling.BICUBIC))
    for part, colour in ((mask.tissue, _TISSUE), (mask.pen, _PEN)):
        large = np.asarray(Image.fromarray(part).resize(size, Image.Resampling.NEAREST))
        edge = large & ~ndimage.binary_erosion(large, iterations=1, border_value=1)
        picture[edge] = colour
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    per_px = size[0] / width_px
    for left, top, side in boxes:
        corners = [left * per_px, top * per_px, (left + side) * per_px, (top + side) * per_px]
        draw.rectangle([round(corner) for corner in corners], outline=_TILE)
    return np.asarray(image)
