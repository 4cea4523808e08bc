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
    for page in _pages(file):
        claimed = (page.tilewidth, page.tilelength)
        largest = max(page.databytecounts, default=0)
        if claimed[0] * claimed[1] > MAX_TILE_PIXELS:
            found = f"its tiles are said to measure {claimed[0]} × {claimed[1]} px"
            expected = f"at most {MAX_TILE_PIXELS} pixels a tile"
        elif largest > size_bytes:
            found = f"one of its tiles is said to take {largest} bytes"
            expected = f"less than the {size_bytes} of the file"
        else:
            continue
        raise UnreadableImageError(
            f"{file} cannot be opened as a slide: {found}; expected {expected}; its header is "
            "damaged: copy or download it again"
        )


def _pages(file: Path) -> Iterator[Any]:
    """The tiled pages of a TIFF, as far as its header can be followed."""
    import tifffile

    logger = logging.getLogger("tifffile")
    logger.setLevel(logging.CRITICAL)  # it tells of every fault that OpenSlide will refuse anyway
    try:
        with tifffile.TiffFile(file) as opened:
            for number, page in enumerate(opened.pages):
                if number == _MAX_PAGES:
                    return
                if page.is_tiled:
                    yield page
    except Exception:  # what is left of it is for OpenSlide to refuse
        return
