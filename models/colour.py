"""Colour alone, as an encoder: what any network must beat.

Mean RGB tells the nine tissue classes of NCT-CRC-HE apart in over half of the tiles, and a
colour histogram in over 80 % (Ignatov & Malivenko 2024, arXiv 2409.11546), so a result means
little without these beside it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import InputError
from featurestore.model_versions import ModelVersion

COLOUR_PREFIX = "colour."
_INPUT_PX = 224
_N_BINS = 8


def mean_rgb(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Mean red, green and blue of each tile, on a 0-1 scale.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (n, px, px, 3)

    Returns
    -------
    ndarray of float32, shape (n, 3)
    """
    sums = pixels.sum(axis=(1, 2), dtype=np.int64)
    means: NDArray[np.float32] = (sums / (255 * pixels.shape[1] * pixels.shape[2])).astype(
        np.float32
    )
    return means


def histogram(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Joint RGB histogram of each tile: the share of its pixels in each of 8 × 8 × 8 colours.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (n, px, px, 3)

    Returns
    -------
    ndarray of float32, shape (n, 512)
        Each row sums to one. Red varies slowest, blue fastest.
    """
    level = (pixels // (256 // _N_BINS)).astype(np.int64)
    code = (level[..., 0] * _N_BINS + level[..., 1]) * _N_BINS + level[..., 2]
    counts = [np.bincount(tile.ravel(), minlength=_N_BINS**3) for tile in code]
    shares = np.asarray(counts, np.float64).reshape(len(pixels), _N_BINS**3)
    return (shares / max(code[0].size if len(code) else 1, 1)).astype(np.float32)


_ENCODERS = {"colour.mean_rgb": (mean_rgb, 3), "colour.histogram": (histogram, _N_BINS**3)}


def colour_version(
    network: str, *, input_px: int | None = None, mpp: float | None = None
) -> ModelVersion:
    """Model version of a colour encoder.

    Raises
    ------
    InputError
        There is no colour encoder of that name.
    """
    if network not in _ENCODERS:
        raise InputError(f"network {network!r}; expected one of {', '.join(_ENCODERS)}.")
    return ModelVersion(
        network=network,
        network_options={"n_bins": _N_BINS} if network == "colour.histogram" else {},
        weights_sha256=None,
        input_px=input_px or _INPUT_PX,
        mpp=mpp,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        interpolation="bicubic",
        pooling="mean" if network == "colour.mean_rgb" else "histogram",
        precision="float32",
        dim=_ENCODERS[network][1],
        licence="Apache-2.0",
        trained_on="nothing",
        weights_source="no weights",
    )


class ColourEncoder:
    """A colour encoder behind the same protocol as the networks.

    Attributes
    ----------
    version : ModelVersion
        What it computes.
    runtime : str
        What computes it.
    batch_size, n_in_flight : int
        Tiles a batch, and batches at a time.
    """

    runtime = "numpy"
    batch_size = 32
    n_in_flight = 1

    def __init__(self, version: ModelVersion) -> None:
        self.version = version
        self._encode, _ = _ENCODERS[version.network]

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Encode ``(n, px, px, 3)`` pixels as ``(n, dim)`` features."""
        return self._encode(pixels)
