"""Owns the whole of a slide at low resolution, damaged parts and all."""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import UnreadableImageError
from featurestore.sources.slide_pixels import best_level, pixels_of, read_area

_BLOCK_PX = 2048  # level pixels a side that are read at once: bounds the memory
_PIECE_PX = 256  # a smaller piece that cannot be read is given up


class Overview(NamedTuple):
    """A slide at low resolution.

    Attributes
    ----------
    rgb : ndarray of uint8, shape (height, width, 3)
        White where the file is damaged.
    damaged : ndarray of bool, shape (height, width)
    """

    rgb: NDArray[np.uint8]
    damaged: NDArray[np.bool_]


def overview(file: Path, downsample: float) -> Overview:
    """The whole slide, ``downsample`` times smaller; memory does not grow with level 0.

    Raises
    ------
    UnreadableImageError
        If the file cannot be opened, or no part of it can be decoded.
    """
    slide = pixels_of(file)
    width, height = (max(1, round(px / downsample)) for px in (slide.width_px, slide.height_px))
    step = (slide.width_px / width, slide.height_px / height)
    level = slide.downsamples[best_level(slide.downsamples, downsample)]
    block = max(1, math.floor(_BLOCK_PX * level / downsample))
    piece = max(1, math.floor(_PIECE_PX * level / downsample))
    rgb = np.full((height, width, 3), 255, np.uint8)
    damaged = np.zeros((height, width), np.bool_)
    waiting = [
        (left, top, min(left + block, width), min(top + block, height))
        for top in range(0, height, block)
        for left in range(0, width, block)
    ]
    refused: UnreadableImageError | None = None
    while waiting:
        left, top, right, bottom = waiting.pop()
        try:
            rgb[top:bottom, left:right] = read_area(
                file,
                x_px=left * step[0],
                y_px=top * step[1],
                width_px=(right - left) * step[0],
                height_px=(bottom - top) * step[1],
                to_px=(right - left, bottom - top),
            )
        except UnreadableImageError as error:
            refused = error
            if max(right - left, bottom - top) <= piece:
                damaged[top:bottom, left:right] = True
            else:
                waiting += _quarters(left, top, right, bottom)
    if refused is not None and damaged.all():
        raise refused
    return Overview(rgb, damaged)


def _quarters(left: int, top: int, right: int, bottom: int) -> list[tuple[int, int, int, int]]:
    x, y = (left + right) // 2, (top + bottom) // 2
    quarters = [(left, top, x, y), (x, top, right, y), (left, y, x, bottom), (x, y, right, bottom)]
    return [(a, b, c, d) for a, b, c, d in quarters if a < c and b < d]
