"""A model version's projection: principal components of unit vectors, fitted on a sample.

The cosine distance of two embeddings is half the squared distance of their unit vectors, and
an orthogonal projection keeps as much of that as so few dimensions can. Centring unit vectors
changes no distance between them; so codes are compared by Euclidean distance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MAX_CODE_DIM = 256


@dataclass(frozen=True)
class Projection:
    """How embeddings become codes.

    Attributes
    ----------
    mean : (dim,) float32 array
        Mean of the sample's unit vectors.
    components : (code_dim, dim) float32 array
        Orthonormal rows, those of most variance first.
    explained_variance : float
        Share of the sample's variance that they keep.
    """

    mean: NDArray[np.float32]
    components: NDArray[np.float32]
    explained_variance: float

    def codes(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Codes of embeddings, one row each; a zero vector has no direction and gives NaN."""
        with np.errstate(invalid="ignore", divide="ignore"):
            units = _units(vectors)
        return np.asarray((units - self.mean) @ self.components.T, dtype=np.float32)


def fit_projection(vectors: NDArray[np.float32]) -> Projection:
    """Fit a projection on a sample; the same sample gives the same projection.

    Parameters
    ----------
    vectors : (n, dim) array
        None of them zero.

    Returns
    -------
    Projection
        Of at most 256 components, and of no more than the vectors have dimensions or the
        sample can tell apart (n - 1, but at least one).
    """
    n, dim = vectors.shape
    code_dim = max(1, min(MAX_CODE_DIM, dim, n - 1))
    units = _units(vectors)
    mean = units.mean(axis=0, dtype=np.float64)
    centred = units - mean
    if n > dim:
        ascending, columns = np.linalg.eigh(centred.T @ centred)
        variances, axes = ascending[::-1], columns[:, ::-1].T
    else:
        _, spread, axes = np.linalg.svd(centred, full_matrices=False)
        variances = spread**2
    components = axes[:code_dim].copy()
    # An axis may point either way; fixed here, so that codes repeat on any machine.
    largest = np.abs(components).argmax(axis=1)
    components *= np.sign(components[np.arange(len(components)), largest])[:, None]
    total = float(variances.clip(0).sum())
    kept = float(variances[:code_dim].clip(0).sum())
    return Projection(
        mean=mean.astype(np.float32),
        components=np.ascontiguousarray(components, dtype=np.float32),
        explained_variance=min(1.0, kept / total) if total > 0 else 1.0,
    )


def _units(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    units: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return units
