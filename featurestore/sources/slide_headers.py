"""Owns what a slide's header may claim before OpenSlide is let near its pixels.

OpenSlide trusts the header of a TIFF: for a tile that is said to measure a hundred gigabytes it
asks for a hundred gigabytes, and where the system has not that much it ends the whole process.
So a claim that no slide makes is refused here, in Python, before.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from featurestore.errors import UnreadableImageError

MAX_TILE_PIXELS = 1 << 26
"""Pixels of the largest tile that a slide may be stored in: 256 MiB of memory for each."""

_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_MAX_PAGES = 1000


def require_sound_tiles(file: Path) -> None:
    """Refuse a TIFF whose stored tiles are larger than any memory or than the file itself.

    Raises
    ------
    UnreadableImageError
        If it claims such tiles.
    """
    with file.open("rb") as stream:
        if stream.read(4) not in _TIFF:
            return
    size_bytes = file.stat().st_size
    for width_px, height_px, n_bytes in _claims(file):
        if width_px * height_px > MAX_TILE_PIXELS:
            found = f"its tiles are said to measure {width_px} × {height_px} px"
            expected = f"at most {MAX_TILE_PIXELS} pixels a tile"
        elif n_bytes > size_bytes:
            found = f"one of its tiles is said to take {n_bytes} bytes"
            expected = f"less than the {size_bytes} of the file"
        else:
            continue
        raise UnreadableImageError(
            f"{file} cannot be opened as a slide: {found}; expected {expected}; its header is "
            "damaged: copy or download it again"
        )


def _claims(file: Path) -> Iterator[tuple[int, int, int]]:
    """Width, height and bytes of the largest tile of each page, as far as a header goes."""
    import tifffile

    # It tells of every fault, which OpenSlide will refuse anyway.
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    try:
        with tifffile.TiffFile(file) as opened:
            page: Any
            for number, page in enumerate(opened.pages):
                if number == _MAX_PAGES:
                    return
                tags = page.tags
                if "TileWidth" in tags and "TileLength" in tags:
                    counts = tags["TileByteCounts"].value if "TileByteCounts" in tags else 0
                    yield (
                        int(np.max(tags["TileWidth"].value)),
                        int(np.max(tags["TileLength"].value)),
                        int(np.max(counts)),
                    )
    except Exception:  # what is left of it is for OpenSlide to refuse
        return
