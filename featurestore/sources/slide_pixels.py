"""Owns how pixels come out of a slide, whatever its format, at whatever resolution is asked.

A slide is a file that OpenSlide opens, or a plain image of a region of one. Both are read the
same way: an area in pixels of level 0, resampled from the best level that there is.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from hashlib import file_digest
from pathlib import Path
from typing import Protocol

import numpy as np
import openslide
from numpy.typing import NDArray
from PIL import Image

from featurestore.errors import UnreadableImageError
from featurestore.sources.images import read_rgb
from featurestore.sources.slide_headers import require_sound_tiles

Pixels = NDArray[np.uint8]

LEVEL_TOLERANCE = 0.01
"""A level this near to the wanted resolution is read as it is: no scanner knows its own
resolution better, and resampling by a hundredth would only blur."""

_MAX_OPEN = 8  # slides kept open, most of all region images decoded whole; tiles come in order
# Decoded blocks of all open slides: two rows of blocks across a wide slide, so that tiles read row
# by row find those of the row above.
_BLOCK_CACHE = openslide.OpenSlideCache(256 << 20)
_WHITE = 255


class SlidePixels(Protocol):
    """An open slide.

    Attributes
    ----------
    width_px, height_px : int
        Size of level 0.
    downsamples : tuple of float
        How much smaller each level is than level 0; the first is 1.
    mpp_xy : tuple of float or None
        Resolution of level 0 in µm per pixel, across and down; None where the file tells none.
    """

    width_px: int
    height_px: int
    downsamples: tuple[float, ...]
    mpp_xy: tuple[float, float] | None

    def level_size(self, level: int) -> tuple[int, int]:
        """Width and height of a level in its own pixels."""
        ...

    def read(self, x_px: int, y_px: int, level: int, width_px: int, height_px: int) -> Pixels:
        """RGB of an area; its place in pixels of level 0, its size in pixels of ``level``."""
        ...


class _OpenSlidePixels:
    def __init__(self, file: Path) -> None:
        self._slide = openslide.OpenSlide(file)
        self._slide.set_cache(_BLOCK_CACHE)
        self.width_px, self.height_px = self._slide.dimensions
        self.downsamples = tuple(self._slide.level_downsamples)
        # Asked for once: a handle that met a damaged block answers nothing any more.
        self._level_sizes = tuple(self._slide.level_dimensions)
        self.mpp_xy = self._declared_mpp()

    def _declared_mpp(self) -> tuple[float, float] | None:
        known = self._slide.properties
        try:
            return (
                float(known[openslide.PROPERTY_NAME_MPP_X]),
                float(known[openslide.PROPERTY_NAME_MPP_Y]),
            )
        except (KeyError, ValueError):  # absent, or no number
            return None

    def level_size(self, level: int) -> tuple[int, int]:
        return self._level_sizes[level]

    def read(self, x_px: int, y_px: int, level: int, width_px: int, height_px: int) -> Pixels:
        image = self._slide.read_region((x_px, y_px), level, (width_px, height_px))
        rgb = np.asarray(image.convert("RGB"))
        opacity = np.asarray(image.getchannel("A"))
        if opacity.all():
            return rgb
        # Where the scanner took no picture there is glass.
        return np.where(opacity[..., None] == 0, np.uint8(_WHITE), rgb)


class _ImagePixels:
    """A plain image: one level, decoded whole."""

    def __init__(self, file: Path) -> None:
        self._rgb = read_rgb(file)
        self.height_px, self.width_px = self._rgb.shape[:2]
        self.downsamples: tuple[float, ...] = (1.0,)
        # Image formats have a field for dots an inch, which no microscope fills in.
        self.mpp_xy: tuple[float, float] | None = None

    def level_size(self, level: int) -> tuple[int, int]:
        return self.width_px, self.height_px

    def read(self, x_px: int, y_px: int, level: int, width_px: int, height_px: int) -> Pixels:
        return self._rgb[y_px : y_px + height_px, x_px : x_px + width_px]


def open_pixels(file: Path) -> SlidePixels:
    """Open a slide or a region image; :func:`pixels_of` keeps it open.

    Raises
    ------
    UnreadableImageError
        Whatever is wrong with the file.
    """
    try:
        if not file.is_file():
            raise OSError("it is no regular file")
        require_sound_tiles(file)
        if openslide.OpenSlide.detect_format(file) is None:
            return _ImagePixels(file)
        return _OpenSlidePixels(file)
    except (openslide.OpenSlideError, OSError) as error:
        raise UnreadableImageError(
            f"{file} cannot be opened as a slide ({error}); expected a file that OpenSlide reads, "
            "or an 8-bit RGB image; copy it again, or convert it to a tiled TIFF"
        ) from error


# Least recently used first. All threads read from one handle: a compressed block that several
# tiles share is decoded once, whoever reads them.
_open: OrderedDict[tuple[Path, int, int], SlidePixels] = OrderedDict()
_opening = threading.Lock()
_hashes: dict[Path, tuple[int, int, str]] = {}
_hashing: dict[Path, threading.Lock] = {}


def pixels_of(file: Path) -> SlidePixels:
    """The slide, kept open; a file that has changed since is opened anew.

    Raises
    ------
    UnreadableImageError
        Whatever is wrong with the file.
    """
    key = (file, *_stamp(file))
    with _opening:
        slide = _open.get(key)
    # Opened outside the lock, or one slow file would hold up all others.
    slide = slide or open_pixels(file)
    with _opening:
        slide = _open.setdefault(key, slide)
        _open.move_to_end(key)
        if len(_open) > _MAX_OPEN:
            _open.popitem(last=False)
    return slide


def forget() -> None:
    """Close what is open and drop its decoded blocks."""
    with _opening:
        _open.clear()


def slide_sha256(file: Path) -> str:
    """SHA-256 of the file's bytes, computed once a process as long as size and time stay.

    Raises
    ------
    UnreadableImageError
        If the file is absent or cannot be read.
    """
    with _hashing.setdefault(file, threading.Lock()):
        stamp = _stamp(file)
        known = _hashes.get(file)
        if known is None or known[:2] != stamp:
            try:
                with file.open("rb") as stream:
                    known = (*stamp, file_digest(stream, "sha256").hexdigest())
            except OSError as error:
                raise _absent(file, error) from error
            _hashes[file] = known
        return known[2]


def read_area(
    file: Path,
    *,
    x_px: float,
    y_px: float,
    width_px: float,
    height_px: float,
    to_px: tuple[int, int],
) -> Pixels:
    """An area of a slide, resampled to a given size.

    The level is the coarsest that is not coarser than asked for; it is resampled with an
    antialiasing bicubic filter, or read as it is where it fits.

    Parameters
    ----------
    file : Path
    x_px, y_px, width_px, height_px : float
        The area in pixels of level 0; it must lie on the slide.
    to_px : tuple of int
        Width and height of the result.

    Returns
    -------
    ndarray of uint8, shape (to_px[1], to_px[0], 3)

    Raises
    ------
    UnreadableImageError
        If the file cannot be opened or this part of it cannot be decoded.
    """
    slide = pixels_of(file)
    level = best_level(slide.downsamples, width_px / to_px[0])
    scale = slide.downsamples[level]
    x, y = math.floor(x_px), math.floor(y_px)
    left, top = (x_px - x) / scale, (y_px - y) / scale
    right, bottom = left + width_px / scale, top + height_px / scale
    level_width, level_height = slide.level_size(level)
    # One pixel of slack for the border, but none from beyond the slide.
    width = max(1, min(math.ceil(right - 1e-6), level_width - math.floor(x / scale)))
    height = max(1, min(math.ceil(bottom - 1e-6), level_height - math.floor(y / scale)))
    rgb = _decode(file, slide, x, y, level, width, height)
    if (left, top) == (0, 0) and (width, height) == to_px and right >= width - 1e-6:
        return np.ascontiguousarray(rgb)
    box = (left, top, min(right, width), min(bottom, height))
    image = Image.fromarray(rgb).resize(to_px, Image.Resampling.BICUBIC, box, reducing_gap=3.0)
    return np.asarray(image)


def best_level(downsamples: tuple[float, ...], wanted: float) -> int:
    """The coarsest level that is not coarser than ``wanted``, within the tolerance."""
    fitting = [i for i, d in enumerate(downsamples) if d <= wanted * (1 + LEVEL_TOLERANCE)]
    return max(fitting, key=lambda i: downsamples[i], default=0)


def _decode(file: Path, slide: SlidePixels, *area: int) -> Pixels:
    try:
        return slide.read(*area)
    except openslide.OpenSlideError:
        # A handle refuses everything after its first error, which may have been another tile's.
        with _opening:
            for key in [key for key, known in _open.items() if known is slide]:
                del _open[key]
    try:
        return open_pixels(file).read(*area)
    except openslide.OpenSlideError as error:
        raise UnreadableImageError(
            f"{file}: pixels cannot be decoded ({error}); the file is damaged there; copy or "
            "download it again"
        ) from error


def _stamp(file: Path) -> tuple[int, int]:
    try:
        status = file.stat()
    except OSError as error:
        raise _absent(file, error) from error
    return status.st_size, status.st_mtime_ns


def _absent(file: Path, error: OSError) -> UnreadableImageError:
    return UnreadableImageError(
        f"{file} cannot be read ({error.strerror or error}); expected a slide; put it back, or "
        "tile the slides again without it"
    )
