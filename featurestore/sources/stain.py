"""Owns stain normalisation: making a tile look as if another laboratory had stained it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import UnreadableImageError

STAINS = ("none", "macenko")
"""What a tile's colours can be normalised by."""

_IO = 255.0
_ALPHA = 1.0
_BETA = 0.15
# The reference that the authors give: optical density of haematoxylin and eosin in red, green
# and blue, and the concentrations that 99 % of the pixels stay below.
_REFERENCE = np.array([[0.5626, 0.7201, 0.4062], [0.2159, 0.8012, 0.5581]], np.float32)
_REFERENCE_MAX = np.array([1.9705, 1.0308], np.float32)
_DENSITY = -np.log((np.arange(256) + 1) / _IO).astype(np.float32)
_MIN_STAINED = 100  # pixels; fewer tell nothing about two stains


def normalise(rgb: NDArray[np.uint8], stain: str) -> NDArray[np.uint8]:
    """Normalise as ``stain`` says; ``"none"`` leaves the pixels alone.

    Raises
    ------
    UnreadableImageError
        If the stains of this tile cannot be told apart.
    ValueError
        If ``stain`` is none of :data:`STAINS`.
    """
    if stain not in STAINS:
        raise ValueError(f"stain = {stain!r}; expected one of {', '.join(STAINS)}")
    return rgb if stain == "none" else macenko(rgb)


def macenko(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Normalise haematoxylin and eosin to a fixed reference.

    The two stains are the robust extremes (α = 1st and 99th percentile) of the directions, in
    the plane of largest variance, of those pixels whose optical density is at least β = 0.15
    in every channel; light that passes glass is Io = 255.

    Parameters
    ----------
    rgb : ndarray of uint8, shape (height, width, 3)

    Returns
    -------
    ndarray of uint8, shape (height, width, 3)

    Raises
    ------
    UnreadableImageError
        If too few pixels are stained, or their colours do not spread into two stains.

    Notes
    -----
    Macenko M. et al., "A method for normalizing histology slides for quantitative analysis",
    ISBI 2009, doi 10.1109/ISBI.2009.5193250.
    """
    # Channels first, and sums without BLAS: faster for so few channels, and the same to the
    # last bit however many threads there are.
    density = np.stack([_DENSITY[rgb[..., channel].ravel()] for channel in range(3)])
    is_stained = np.minimum(np.minimum(density[0], density[1]), density[2]) >= _BETA
    n_stained = int(is_stained.sum())
    if n_stained < _MIN_STAINED:
        raise _failure(f"{n_stained} of {density.shape[1]} pixels are stained")
    stains = _two_stains(np.stack([channel[is_stained] for channel in density]))
    # Least squares with two unknowns, by the pseudo-inverse.
    amounts = _mix(np.linalg.pinv(stains).T, density)
    largest = np.array([np.percentile(amount, 99) for amount in amounts])
    if not np.all(np.isfinite(largest)) or largest.min() <= 1e-3:
        raise _failure("one of the two stains is absent")
    normal = _mix((_REFERENCE_MAX / largest)[None, :] * _REFERENCE.T, amounts)
    light = np.clip(_IO * np.exp(-normal), 0, 255)
    return np.ascontiguousarray(light.astype(np.uint8).T).reshape(rgb.shape)


def _two_stains(stained: NDArray[np.float32]) -> NDArray[np.float64]:
    """Densities of haematoxylin and eosin at concentration 1: shape (2, 3), unit rows."""
    mean = stained.mean(axis=1, dtype=np.float64)
    centred = stained - mean[:, None].astype(np.float32)
    covariance = [[(a * b).mean(dtype=np.float64) for b in centred] for a in centred]
    _, vectors = np.linalg.eigh(np.array(covariance))
    plane = vectors[:, 1:]
    # An eigenvector's sign is arbitrary; turned towards the data, angles do not wrap around.
    plane = plane * np.where(mean @ plane < 0, -1, 1)
    across, along = _mix(plane.T, stained)
    ends = np.percentile(np.arctan2(along, across), [_ALPHA, 100 - _ALPHA]).astype(np.float64)
    if not np.all(np.isfinite(ends)) or ends[1] - ends[0] < 1e-3:
        raise _failure("all of its pixels are of one colour")
    first, second = (plane @ np.array([np.cos(end), np.sin(end)]) for end in ends)
    # Haematoxylin takes more of the red light than eosin does.
    return np.stack([first, second] if first[0] > second[0] else [second, first])


def _mix(weights: NDArray[np.floating], channels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Weighted sums of channels: (k, c) weights and (c, n) channels give (k, n)."""
    rows = []
    for own in weights.astype(np.float32):
        row = own[0] * channels[0]
        for channel, weight in zip(channels[1:], own[1:], strict=True):
            row += weight * channel
        rows.append(row)
    return np.stack(rows)


def _failure(found: str) -> UnreadableImageError:
    return UnreadableImageError(
        f"Macenko's normalisation fails: {found}; expected haematoxylin and eosin; the tile is "
        'left out (or set `stain = "none"`)'
    )
