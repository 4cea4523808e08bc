"""A map of tiles: features laid out in two dimensions, so that like lies near like.

A picture to look at, never evidence: UMAP keeps neighbourhoods and little else.
"""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

N_NEIGHBOURS = 15
MIN_DISTANCE = 0.1


def method() -> str:
    """Program and version that lays out, as it is recorded with every map."""
    from importlib.metadata import version

    return f"umap-learn {version('umap-learn')}"


def lay_out(features: NDArray[np.float32], *, seed: int) -> NDArray[np.float32]:
    """Lay out tiles by the cosine distance of their features.

    The same features in the same order and the same seed give the same map on one machine.

    Parameters
    ----------
    features : (n, dim) array
        One row a tile.
    seed : int
        Seed of the layout.

    Returns
    -------
    (n, 2) array
        Without a unit; fewer than four tiles lie on a line.

    References
    ----------
    McInnes, Healy & Melville, UMAP: Uniform Manifold Approximation and Projection for
    Dimension Reduction, arXiv 1802.03426, 2018.
    """
    n = len(features)
    if n < 4:  # too few for neighbourhoods
        return np.stack([np.arange(n), np.zeros(n)], axis=1).astype(np.float32)
    with warnings.catch_warnings():
        # Its remark that an optional part is not installed.
        warnings.simplefilter("ignore", ImportWarning)
        from umap import UMAP

    layout = UMAP(
        n_neighbors=min(N_NEIGHBOURS, n - 1),
        min_dist=MIN_DISTANCE,
        metric="cosine",
        init="pca",
        random_state=seed,
        n_jobs=1,  # several threads would not repeat
    )
    points: NDArray[np.float32] = layout.fit_transform(features).astype(np.float32)
    return points
