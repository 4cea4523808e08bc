"""Ridge regression of many targets at once, each with a penalty of its own.

One factorisation of a split's training patients serves all genes and all penalties, and the
leave-one-out error of every gene under every penalty follows from it without a refit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import CohortError

PENALTIES = tuple(float(10.0**exponent) for exponent in np.arange(-2, 4.5, 0.5))
"""Penalties tried, relative to the number of features; see :func:`predict`."""

_BLOCK = 512  # targets worked on at a time: their residuals stay in the processor's cache


@dataclass(frozen=True)
class SplitAxes:
    """The principal axes of a split's standardised training features.

    With Z = U · diag(lengths) · Vᵀ the singular value decomposition of the standardised
    training features, r their rank (or the number of components kept).

    Attributes
    ----------
    train : ndarray of shape (n_train, r), float64
        U: orthonormal columns, each of mean 0.
    lengths : ndarray of shape (r,), float64
        Singular values, largest first.
    test : ndarray of shape (n_test, r), float64
        Standardised test features times V.
    mean_square : float
        Mean squared length of a standardised training row: the number of features that
        vary in the training patients.
    """

    train: NDArray[np.float64]
    lengths: NDArray[np.float64]
    test: NDArray[np.float64]
    mean_square: float


def split_axes(
    train: NDArray[np.floating], test: NDArray[np.floating], *, n_components: int | None = None
) -> SplitAxes:
    """Standardise by the training patients and find their principal axes.

    Parameters
    ----------
    train, test : ndarray of shape (n_train, d) and (n_test, d)
        Features; finite.
    n_components : int, optional
        Keep only so many principal components (fitted on ``train``); by default all.

    Returns
    -------
    SplitAxes
    """
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler()
    z_train: NDArray[np.float64] = scaler.fit_transform(train.astype(np.float64))
    z_test: NDArray[np.float64] = scaler.transform(test.astype(np.float64))
    n, d = z_train.shape
    mean_square = float(np.square(z_train).sum() / n)
    squares, vectors = np.linalg.eigh(z_train @ z_train.T if n <= d else z_train.T @ z_train)
    # Directions in which the training patients do not differ are rounding noise only.
    keep = np.flatnonzero(squares > max(squares[-1], 0.0) * max(n, d) * np.finfo(np.float64).eps)
    keep = keep[::-1][:n_components]
    lengths, vectors = np.sqrt(squares[keep]), vectors[:, keep]
    if n <= d:
        return SplitAxes(vectors, lengths, (z_test @ z_train.T) @ (vectors / lengths), mean_square)
    return SplitAxes((z_train @ vectors) / lengths, lengths, z_test @ vectors, mean_square)


def predict(
    axes: SplitAxes, values: NDArray[np.floating], *, penalties: Sequence[float] = PENALTIES
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Fit every target on the training patients, and predict the test patients.

    For each target y, with an unpenalised intercept b and standardised features Z, this
    minimises ``|y − b − Z w|² + penalty · m · |w|²``, where m is ``axes.mean_square``: so
    one grid of penalties suits 3 features as well as 2,048. Of the penalties, each target
    has the one with the least squared leave-one-out error in the training patients, the
    largest of equals. The error is exact for given axes::

        residual_i / (1 − leverage_i),  leverage_i = 1/n + Σ_k U_ik² s_k / (s_k + penalty · m)

    with s the squared lengths (Golub, Heath & Wahba, Technometrics 21:215-223, 1979). This
    is ``make_pipeline(StandardScaler(), [PCA(n_components),] RidgeCV(alphas,
    alpha_per_target=True))``. Standardising a target would change nothing: predictions scale
    with it, and the choice of the penalty does not depend on its scale.

    Parameters
    ----------
    axes : SplitAxes
    values : ndarray of shape (n_train, n_targets)
        Targets of the training patients; finite.
    penalties : sequence of float
        Positive.

    Returns
    -------
    predicted : ndarray of shape (n_test, n_targets), float64
    chosen : ndarray of shape (n_targets,), float64
        The penalty of each target, one of ``penalties``.

    Raises
    ------
    CohortError
        No penalty is given, or one is not positive.
    """
    grid = np.sort(np.asarray(penalties, dtype=np.float64))[::-1]
    if not grid.size or not grid[-1] > 0:
        raise CohortError(f"expected positive penalties, got {list(penalties)}")
    squares = np.square(axes.lengths)
    shrinkage = squares / (squares + grid[:, None] * axes.mean_square) if squares.size else None
    means = values.mean(axis=0, dtype=np.float64)
    predicted = np.tile(means, (len(axes.test), 1))
    if shrinkage is None:  # no feature varies, so there is nothing to predict from
        return predicted, np.full(values.shape[1], grid[0])
    # What one minus the leverage leaves of a residual; positive for every positive penalty.
    spared = 1 - 1 / len(values) - shrinkage @ np.square(axes.train).T
    best = np.empty(values.shape[1], dtype=np.intp)
    for start in range(0, values.shape[1], _BLOCK):
        block = slice(start, start + _BLOCK)
        centred = values[:, block] - means[block]
        along = axes.train.T @ centred
        best[block] = _leave_one_out_errors(axes.train, along, centred, shrinkage, spared).argmin(
            axis=0
        )
        weights = shrinkage[best[block]].T / axes.lengths[:, None] * along
        predicted[:, block] += axes.test @ weights
    return predicted, grid[best]


def prediction_changes(
    axes: SplitAxes, values: NDArray[np.floating], *, penalty: float
) -> NDArray[np.float64]:
    """Change of every test patient's prediction without each training patient.

    Exact for given axes and penalty: without training patient i, a prediction changes by
    ``-h · residual_i / (1 − leverage_i)``, h the weight that i's value has in it.

    Parameters
    ----------
    axes : SplitAxes
    values : ndarray of shape (n_train, n_targets)
        Targets of the training patients, all of this penalty; finite.
    penalty : float
        The one that :func:`predict` chose.

    Returns
    -------
    ndarray of shape (n_targets, n_test, n_train), float64
    """
    n, squares = len(values), np.square(axes.lengths)
    kept = squares / (squares + penalty * axes.mean_square)
    smoothed = axes.train * kept
    residuals = values - values.mean(axis=0) - smoothed @ (axes.train.T @ values)
    leverage = 1 / n + np.einsum("ik,ik->i", smoothed, axes.train)
    weights = 1 / n + (axes.test * (kept / axes.lengths)) @ axes.train.T
    own = (residuals / (1 - leverage)[:, None]).T
    return np.asarray(-weights * own[:, None, :], dtype=np.float64)


def _leave_one_out_errors(
    axes: NDArray[np.float64],
    along: NDArray[np.float64],
    centred: NDArray[np.float64],
    shrinkage: NDArray[np.float64],
    spared: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Sum of squared leave-one-out errors: (n_penalties, n_targets)."""
    errors = np.empty((len(shrinkage), centred.shape[1]))
    for i, (kept, left) in enumerate(zip(shrinkage, spared, strict=True)):
        residuals = centred - (axes * kept) @ along
        residuals /= left[:, None]
        np.einsum("ij,ij->j", residuals, residuals, out=errors[i])
    return errors
