"""Owns what is tissue: told from glass and from pen on an overview, from blur on a tile."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

Mask = NDArray[np.bool_]

# Saturation of a pixel, 0-255. Otsu's threshold finds the valley between glass and tissue,
# but a slide of nothing but tissue has none, and there it would cut the tissue in two: so it
# may move only between what glass never reaches and what any stained tissue does.
_GLASS_BELOW, _TISSUE_ABOVE = 12, 30
_MIN_ISLAND_UM = 60.0  # a smaller speck is dust
_DARK = 55  # brightest channel, 0-255: neither stain is so dark over a whole pixel of overview


class TissueMask(NamedTuple):
    """What an overview shows, each of its shape.

    ``pen`` is ink of a marker, of any colour, or what is as dark: edges, folds of glass.
    """

    tissue: Mask
    pen: Mask


def tissue_mask(rgb: NDArray[np.uint8], *, mpp: float) -> TissueMask:
    """Find tissue and pen on an overview.

    Tissue is coloured, glass is not: saturation is smoothed and cut at Otsu's threshold
    (Otsu 1979, IEEE Trans. Syst. Man Cybern. 9(1)), kept within the bounds that stained
    tissue and glass have.

    Parameters
    ----------
    rgb : ndarray of uint8, shape (height, width, 3)
    mpp : float
        Its resolution in µm per pixel; about 4 to 16 is meant.
    """
    brightest = rgb.max(axis=2).astype(np.float32)
    spread = brightest - rgb.min(axis=2)
    saturation = 255 * spread / np.maximum(brightest, 1)
    smooth = ndimage.gaussian_filter(saturation, 1.0, mode="nearest")
    pen = _pen(rgb, saturation, brightest)
    cut = float(np.clip(otsu(smooth), _GLASS_BELOW, _TISSUE_ABOVE))
    return TissueMask(_without_specks((smooth > cut) & ~pen, mpp), pen)


def share_of_boxes(
    mask: Mask, left: NDArray[np.int64], top: NDArray[np.int64], side: tuple[int, int]
) -> NDArray[np.float64]:
    """Share of each box that is in the mask.

    Parameters
    ----------
    mask : ndarray of bool, shape (height, width)
    left, top : ndarray of int, shape (n,)
        Corners of the boxes; what reaches out of the mask is moved in.
    side : tuple of int
        Width and height of a box in pixels.
    """
    height, width = mask.shape
    sums = np.zeros((height + 1, width + 1), np.int64)
    sums[1:, 1:] = mask.cumsum(axis=0, dtype=np.int64).cumsum(axis=1)
    box_width, box_height = min(side[0], width), min(side[1], height)
    x0 = np.clip(left, 0, width - box_width)
    y0 = np.clip(top, 0, height - box_height)
    x1, y1 = x0 + box_width, y0 + box_height
    inside = sums[y1, x1] - sums[y0, x1] - sums[y1, x0] + sums[y0, x0]
    share: NDArray[np.float64] = inside / (box_width * box_height)
    return share


def sharpness(rgb: NDArray[np.uint8]) -> float:
    """Variance of the Laplacian of a tile's brightness (0-255): small where it is blurred.

    Pech-Pacheco et al. 2000, ICPR, doi 10.1109/ICPR.2000.903548.
    """
    # Half resolution: noise of the sensor and of JPEG is sharp in every tile.
    small = np.asarray(Image.fromarray(rgb).convert("L").reduce(2), np.float32)
    laplacian = small[:-2, 1:-1] + small[2:, 1:-1] + small[1:-1, :-2] + small[1:-1, 2:]
    laplacian -= 4 * small[1:-1, 1:-1]
    return float(laplacian.var())


def otsu(values: NDArray[np.float32]) -> float:
    """Threshold between two groups of values (0-255) with the largest variance between them."""
    counts, edges = np.histogram(values, bins=256, range=(0, 256))
    middles = (edges[:-1] + edges[1:]) / 2
    below = counts.cumsum()
    above = below[-1] - below
    sum_below = (counts * middles).cumsum()
    with np.errstate(divide="ignore", invalid="ignore"):
        apart = sum_below / below - (sum_below[-1] - sum_below) / above
        between = np.where((below > 0) & (above > 0), below * above * apart**2, 0)
    # Between two groups far apart every threshold is as good: take the middle one.
    best = np.flatnonzero(between >= between.max() * (1 - 1e-9))
    return float(edges[1:][best].mean())


def _pen(
    rgb: NDArray[np.uint8], saturation: NDArray[np.float32], brightest: NDArray[np.float32]
) -> Mask:
    red, green, blue = (rgb[..., i].astype(np.int16) for i in range(3))
    # Both stains let red and blue pass and take green: green above red is neither.
    cold = (green > red + 8) & (saturation > 50)
    # Blood is red too, but never so pure.
    scarlet = (red > 130) & (green < 70) & (blue < 80) & (saturation > 180)
    # A stroke is several pixels wide; colour fringes and single dark nuclei are not.
    mask: Mask = ndimage.binary_opening(cold | scarlet | (brightest < _DARK), np.ones((3, 3)))
    return mask


def _without_specks(mask: Mask, mpp: float) -> Mask:
    labels, n = ndimage.label(mask)
    if n == 0:
        return mask
    sizes = np.bincount(labels.ravel())
    # A mask smaller than a speck is a small image, not dust.
    enough = min((_MIN_ISLAND_UM / mpp) ** 2, 0.25 * mask.size)
    sizes[0] = 0
    kept: Mask = (sizes >= enough)[labels]
    return kept
