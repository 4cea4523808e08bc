"""Changes of a tile that leave its tissue class as it is: flips, quarter turns, mild staining.

Tissue has no up or left, so the eight flips and turns of a tile are equally likely. Staining
varies between laboratories and is changed where it happens, in optical density.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Optical density of haematoxylin, eosin and DAB in red, green and blue (Ruifrok & Johnston
# 2001, Anal Quant Cytol Histol 23:291-299), each row scaled to unit length.
_STAINS = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
_STAINS /= np.linalg.norm(_STAINS, axis=1, keepdims=True)
_UNMIX = np.linalg.inv(_STAINS)
# Optical density of each 8-bit intensity; 0 is taken as 1, for its own would be infinite.
_DENSITY = -np.log(np.maximum(np.arange(256), 1) / 255).astype(np.float32)


def view_of(
    rgb: NDArray[np.uint8], *, view: int, sha256: str, seed: int, stain_jitter: float
) -> NDArray[np.uint8]:
    """One of a tile's views: the tile itself for view 0, a changed one for every other.

    A view depends on the tile, its number and the seed alone, not on the order in which
    views are made.

    Parameters
    ----------
    rgb : ndarray of uint8, shape (px, px, 3)
    view : int
        Which view.
    sha256 : str
        The tile's digest.
    seed : int
    stain_jitter : float
        See :func:`jitter_stain`.

    Returns
    -------
    ndarray of uint8, shape (px, px, 3)
    """
    if view == 0:
        return rgb
    rng = np.random.default_rng([seed, view, int(sha256[:16], 16)])
    turned = np.rot90(rgb, int(rng.integers(4)))
    if rng.integers(2):
        turned = turned[:, ::-1]
    return np.ascontiguousarray(jitter_stain(turned, rng, stain_jitter))


def jitter_stain(
    rgb: NDArray[np.uint8], rng: np.random.Generator, stain_jitter: float
) -> NDArray[np.uint8]:
    """Change the strength of each stain a little (Tellez et al. 2018, IEEE TMI 37:2126-2136).

    In optical density, unmixed into haematoxylin, eosin and a rest, each stain's amount
    becomes ``a · amount + b``, a uniform in 1 ± jitter and b in 0 ± jitter.

    Parameters
    ----------
    rgb : ndarray of uint8, shape (px, px, 3)
    rng : numpy Generator
    stain_jitter : float
        0 leaves the image as it is; 0.05 is mild.

    Returns
    -------
    ndarray of uint8, shape (px, px, 3)
    """
    if stain_jitter == 0:
        return rgb
    scale = rng.uniform(1 - stain_jitter, 1 + stain_jitter, 3)
    offset = rng.uniform(-stain_jitter, stain_jitter, 3)
    # Unmixing, scaling and mixing again are one 3 × 3 matrix.
    mix = (_UNMIX @ np.diag(scale) @ _STAINS).astype(np.float32)
    density = _DENSITY[rgb] @ mix + (offset @ _STAINS).astype(np.float32)
    changed: NDArray[np.uint8] = np.clip(np.rint(255 * np.exp(-density)), 0, 255).astype(np.uint8)
    return changed
