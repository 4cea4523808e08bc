"""Owns what an image file tells without being decoded: size, format, JPEG quality, name.

None of it is tissue. Where it tells the label, the label can be had without looking.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

# Annex K of the JPEG standard (ITU-T T.81): the luminance table that encoders scale by quality.
_ANNEX_K_MEAN = 57.625
_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What one file tells of itself.

    Attributes
    ----------
    size_bytes : int
    format : str
        As Pillow names it: ``"JPEG"``, ``"PNG"``, …
    width_px, height_px : int
    jpeg_quality : float
        Estimated from the quantisation table, 1-100; NaN where the file is no JPEG.
    jpeg_table : int
        Digest of the quantisation tables: 0 where the file is no JPEG.
    """

    size_bytes: int
    format: str
    width_px: int
    height_px: int
    jpeg_quality: float
    jpeg_table: int


@dataclass(frozen=True, slots=True)
class NameFacts:
    """What a file's name tells, its class folder left out.

    Attributes
    ----------
    pattern : str
        The name with every number replaced by ``#`` and its label by ``*``.
    length : int
    number : float
        The last number in it; NaN where it has none.
    holds_label : bool
        Whether the label itself stands in the name.
    """

    pattern: str
    length: int
    number: float
    holds_label: bool


def read_file_facts(file: Path) -> FileFacts | None:
    """Read a file's header; None where it is gone or no image."""
    try:
        size_bytes = file.stat().st_size
        with Image.open(file) as image:
            tables = getattr(image, "quantization", None) or {}
            return FileFacts(
                size_bytes=size_bytes,
                format=image.format or "",
                width_px=image.width,
                height_px=image.height,
                jpeg_quality=jpeg_quality(tables),
                jpeg_table=zlib.crc32(repr(sorted(tables.items())).encode()) if tables else 0,
            )
    except Exception:  # Pillow raises nearly anything on damaged bytes
        return None


def jpeg_quality(tables: dict[int, list[int]]) -> float:
    """Quality (1-100) at which libjpeg would write about this luminance table.

    Inverts libjpeg's scaling of the standard's table by the mean of its entries; NaN for no
    table. Other encoders have tables of their own, of which
    this is a scale all the same. Below about 25 entries reach their limit and it reads too high.
    """
    if 0 not in tables:
        return float("nan")
    percent = 100 * float(np.mean(tables[0])) / _ANNEX_K_MEAN
    quality = 100 - percent / 2 if percent <= 100 else 5000 / percent
    return float(np.clip(round(quality), 1, 100))


def name_facts(path: str, label: str) -> NameFacts:
    """What the name of a tile's file tells.

    Parameters
    ----------
    path : str
        Relative to the data set's folder, ``/`` between folders; the first of them is the class.
    label : str
    """
    name = Path(path).stem
    label_within = re.compile(rf"(?<![a-z0-9]){re.escape(label.lower())}(?![a-z])")
    lower = name.lower()
    anonymous = label_within.sub("*", lower)
    numbers = _NUMBER.findall(anonymous)
    return NameFacts(
        pattern=_NUMBER.sub("#", anonymous),
        length=len(anonymous),
        number=float(numbers[-1][-15:]) if numbers else float("nan"),
        holds_label=anonymous != lower,
    )
