"""Owns how one image file becomes pixels, and which files are refused.

A tile is 8-bit RGB. Whatever would have to be guessed to become that (what a grey level,
an ink or a transparent pixel looked like, which page of several is meant) is refused with a
message of its own rather than converted.

Three decisions:

* A file with several pages or frames is refused: which of them is the tile is not known.
* An EXIF orientation is applied, for every format alike (Pillow applies a TIFF's by itself),
  so that the pixels are those which a viewer shows.
* Embedded colour profiles are not applied: encoders are trained on the stored values.
"""

from __future__ import annotations

import hashlib
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from featurestore.errors import UnreadableImageError

MIN_TILE_PX = 32
"""Shortest side of a usable tile, in pixels: below it no network here sees tissue."""

MAX_TILE_PX = 4096
"""Longest side of a usable tile, in pixels: anything larger is a slide, to be tiled first."""

FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP")
"""Formats that are read, told by content and not by file name."""

_EXPECTED = "expected one image of 8-bit RGB"
_CONVERT = "convert the file to an 8-bit RGB PNG"
_REFUSED_MODES = {
    "1": "black and white without grey levels",
    "L": "grayscale",
    "LA": "grayscale with transparency",
    "CMYK": "CMYK, whose colours depend on the ink",
    "I": "integers of 32 bits a pixel",
    "F": "32-bit floating point",
}


def read_rgb(path: Path) -> NDArray[np.uint8]:
    """Read one image file as 8-bit RGB.

    Accepted are PNG, JPEG, TIFF, BMP and WebP holding 8-bit RGB, a palette, or RGBA whose
    alpha is opaque everywhere (it is dropped). The size is checked before anything is
    decoded, so that a small file cannot fill the memory.

    Parameters
    ----------
    path : Path
        The file; its suffix is not looked at.

    Returns
    -------
    ndarray of uint8, shape (height, width, 3)
        The pixels; the array is its own and writeable.

    Raises
    ------
    UnreadableImageError
        Whatever is wrong with the file, from its absence to a damaged last byte.
    """
    try:
        if not path.is_file():
            found = "it is not a regular file" if path.exists() else "there is no such file"
            raise _refusal(path, found, "expected an image file", "check the path")
        if path.stat().st_size == 0:
            found = "the file is empty (0 bytes)"
            raise _refusal(path, found, _EXPECTED, "copy or download it again")
        stream = path.open("rb")
    except OSError as error:
        found = f"the file cannot be opened ({error.strerror or error})"
        raise _refusal(path, found, "expected a readable file", "check its permissions") from error
    with stream, _pillow_warnings_ignored():
        try:
            with Image.open(stream, formats=FORMATS) as image:
                _check_header(path, image)
                return _pixels(path, image)
        except UnreadableImageError:
            raise
        except UnidentifiedImageError as error:
            found = f"its content is none of {', '.join(FORMATS)}, whatever its name says"
            raise _refusal(path, found, _EXPECTED, "remove or re-export it") from error
        except Image.DecompressionBombError as error:
            raise _too_large(path, str(error)) from error
        except Exception as error:  # Pillow raises nearly anything on damaged bytes
            found = f"it is truncated or damaged ({type(error).__name__}: {error})"
            raise _refusal(path, found, _EXPECTED, "copy or download it again") from error


def pixel_sha256(rgb: NDArray[np.uint8]) -> str:
    """Digest of an image's content, the same whatever file format it came from.

    Parameters
    ----------
    rgb : ndarray of uint8, shape (height, width, 3)
        The pixels.

    Returns
    -------
    str
        Hexadecimal SHA-256 over height and width (4 bytes each, big-endian) and the RGB
        bytes in row order.

    Raises
    ------
    ValueError
        If the array is not 8-bit RGB.
    """
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
        raise ValueError(
            f"pixels are {rgb.dtype} of shape {rgb.shape}; expected uint8 (height, width, 3)"
        )
    height_px, width_px = rgb.shape[:2]
    digest = hashlib.sha256(height_px.to_bytes(4, "big") + width_px.to_bytes(4, "big"))
    digest.update(np.ascontiguousarray(rgb).data)
    return digest.hexdigest()


def _check_header(path: Path, image: Image.Image) -> None:
    """Refuse by size, page count, depth and mode, all known before decoding."""
    width_px, height_px = image.size
    size = f"{width_px} × {height_px} px"
    if min(image.size) < MIN_TILE_PX:
        expected = f"expected at least {MIN_TILE_PX} px a side"
        raise _refusal(path, f"it measures {size}", expected, "leave it out or cut larger tiles")
    if max(image.size) > MAX_TILE_PX:
        raise _too_large(path, f"it measures {size}")
    n_pages = getattr(image, "n_frames", 1)
    if n_pages > 1:
        found = f"it has {n_pages} pages or frames"
        raise _refusal(path, found, _EXPECTED, "save the page that is the tile as its own file")
    if _bits_per_sample(image) > 8:
        found = f"it has {_bits_per_sample(image)} bits a channel"
        raise _refusal(path, found, _EXPECTED, _CONVERT)
    if image.mode not in ("RGB", "RGBA", "P"):
        found = f"it is {_REFUSED_MODES.get(image.mode, f'of colour mode {image.mode}')}"
        raise _refusal(path, found, _EXPECTED, _CONVERT)


def _pixels(path: Path, image: Image.Image) -> NDArray[np.uint8]:
    """Decode, and drop an alpha channel that hides nothing."""
    image.load()
    # A transparent palette entry or colour key is an alpha channel by another name.
    if image.has_transparency_data:
        rgba = np.asarray(ImageOps.exif_transpose(image.convert("RGBA")))
        n_transparent = int(np.count_nonzero(rgba[..., 3] != 255))
        if n_transparent:
            found = f"{n_transparent} of its pixels are transparent"
            raise _refusal(path, found, "expected opaque pixels", "flatten it onto its background")
        return np.ascontiguousarray(rgba[..., :3])
    # Either call would copy the image even where there is nothing to do.
    ImageOps.exif_transpose(image, in_place=True)
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def _bits_per_sample(image: Image.Image) -> int:
    """Bits a channel as stored in the file.

    Pillow opens 16-bit RGB as 8-bit "RGB" and drops the low byte without a word; only the
    raw mode of its decoder still tells.
    """
    if image.mode.startswith("I;16"):
        return 16
    for tile in getattr(image, "tile", []):
        args = tile[3] if isinstance(tile[3], tuple) else (tile[3],)
        if args and isinstance(args[0], str) and ";16" in args[0]:
            return 16
    return 8


def _refusal(path: Path, found: str, expected: str, remedy: str) -> UnreadableImageError:
    return UnreadableImageError(f"{path} cannot be used as a tile: {found}; {expected}; {remedy}")


def _too_large(path: Path, found: str) -> UnreadableImageError:
    expected = f"expected at most {MAX_TILE_PX} px a side"
    return _refusal(path, found, expected, "cut it into tiles, or read it as a slide")


_quiet_lock = threading.Lock()
_quiet_depth = 0
_quiet_scope: warnings.catch_warnings[None] | None = None


@contextmanager
def _pillow_warnings_ignored() -> Iterator[None]:
    """Keep Pillow's remarks about odd metadata to itself, whatever filters are set.

    ``warnings.catch_warnings`` swaps a list that all threads share: two threads leaving it
    out of order would leave the filters changed for good. So the first reader in opens the
    scope, the last one out closes it, and only warnings raised inside Pillow are ignored.
    """
    global _quiet_depth, _quiet_scope  # noqa: PLW0603
    with _quiet_lock:
        if _quiet_depth == 0:
            _quiet_scope = warnings.catch_warnings()
            _quiet_scope.__enter__()
            warnings.filterwarnings("ignore", module=r"PIL\.")
        _quiet_depth += 1
    try:
        yield
    finally:
        with _quiet_lock:
            _quiet_depth -= 1
            if _quiet_depth == 0 and _quiet_scope is not None:
                _quiet_scope.__exit__(None, None, None)
                _quiet_scope = None
