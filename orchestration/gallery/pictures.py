"""Pictures that the gallery shows: stored tiles and slides, and nothing else on this machine.

A request names a tile or a slide by its number; where its file lies, only the store says. A
tile is shown if its pixels are still those that were taken in.
"""

from __future__ import annotations

import base64
import io
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from featurestore.browse import TileFacts
from featurestore.errors import UnreadableImageError
from featurestore.sources.slide_overview import overview
from featurestore.sources.slide_pixels import pixels_of, slide_sha256
from models.tiles import TileRef, read_unchanged

THUMBNAIL_PX = 1_400
_QUALITY = 90


def tile_jpeg(tile: TileFacts) -> bytes:
    """A stored tile as JPEG.

    Raises
    ------
    UnreadableImageError, OSError
        If its file is gone or shows something else now.
    """
    return _jpeg(read_unchanged(TileRef(tile.tile_id, tile.path, tile.sha256, tile.place)))


def thumbnail_jpeg(file: Path, sha256: str) -> bytes:
    """A whole slide, small, as JPEG.

    Raises
    ------
    UnreadableImageError
        If the file is gone, cannot be decoded, or is not the slide of this digest.
    """
    found = slide_sha256(file)
    if found != sha256:
        raise UnreadableImageError(f"{file} is another slide than when it was tiled")
    return _thumbnail(file, sha256)


@lru_cache(maxsize=64)
def _thumbnail(file: Path, sha256: str) -> bytes:
    slide = pixels_of(file)
    downsample = max(1.0, max(slide.width_px, slide.height_px) / THUMBNAIL_PX)
    return _jpeg(overview(file, downsample).rgb)


def data_url(rgb: NDArray[np.uint8]) -> str:
    """An uploaded picture as it goes back into the page; it is kept nowhere."""
    return "data:image/jpeg;base64," + base64.b64encode(_jpeg(rgb)).decode()


def _jpeg(rgb: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()
