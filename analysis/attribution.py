"""What each tile adds to a patient's prediction: exact, since models are linear and tiles averaged.

A patient's features are the mean of the tiles', and ridge and logistic regression are linear
(the latter in the log odds), so the prediction for a patient is the mean of the model's
predictions for the tiles taken alone. Nothing is approximated. The model is fitted on all
patients: it shows what was learned, and is no evidence of how well.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis import logistic, ridge
from featurestore.errors import CohortError


@dataclass(frozen=True)
class LinearModel:
    """A model in the features' own units: ``mean_prediction + (x − centre) · weights``.

    Attributes
    ----------
    weights : ndarray of shape (d,), float64
        Unit of the prediction by unit of the feature; 0 where a feature does not vary.
    centre : ndarray of shape (d,), float64
        Mean features of the patients.
    mean_prediction : float
        Prediction for a patient of mean features.
    penalty : float
        The chosen one.
    """

    weights: NDArray[np.float64]
    centre: NDArray[np.float64]
    mean_prediction: float
    penalty: float

    def predict(self, features: NDArray[np.floating]) -> NDArray[np.float64]:
        """Predictions for tiles or patients, one a row of ``features``."""
        centred = features.astype(np.float64) - self.centre
        return np.asarray(self.mean_prediction + centred @ self.weights, dtype=np.float64)


def fit_expression(
    features: NDArray[np.floating],
    values: NDArray[np.floating],
    *,
    n_components: int | None = None,
) -> LinearModel:
    """Ridge regression as :mod:`analysis.expression` does it, on all patients at once.

    Parameters
    ----------
    features : ndarray of shape (n, d)
        Mean features of each patient's tiles; finite.
    values : ndarray of shape (n,)
        log2(x + 1) expression; finite.
    n_components : int, optional
        Principal components to keep; by default all.

    Returns
    -------
    LinearModel
        Of log2(x + 1) expression.
    """
    _check(features, values)
    axes = ridge.split_axes(features, features[:1], n_components=n_components)
    _, chosen = ridge.predict(axes, values[:, None])
    penalty = float(chosen[0])
    z, scale = _standardised(features)
    squares = np.square(axes.lengths)
    along = axes.train.T @ (values - values.mean(dtype=np.float64))
    # By the singular value decomposition V = Zᵀ U / lengths, and w = V · kept / lengths · along.
    kept = squares / (squares + penalty * axes.mean_square)
    weights = z.T @ (axes.train @ (kept / squares * along))
    return _model(features, weights / scale, float(values.mean(dtype=np.float64)), penalty)


def fit_mutation(features: NDArray[np.floating], mutated: NDArray[np.bool_]) -> LinearModel:
    """Logistic regression as :mod:`analysis.mutation` does it, on all patients at once.

    Parameters
    ----------
    features : ndarray of shape (n, d)
        Mean features of each patient's tiles; finite.
    mutated : ndarray of shape (n,), bool

    Returns
    -------
    LinearModel
        Of the log odds of a mutation at the patients' prevalence.
    """
    _check(features, mutated)
    penalty = logistic.fit_predict(features, mutated, features[:1]).penalty
    weights, intercept = logistic.standardised_weights(features, mutated, penalty=penalty)
    _, scale = _standardised(features)
    return _model(features, weights / scale, intercept, penalty)


def _model(
    features: NDArray[np.floating], weights: NDArray[np.float64], intercept: float, penalty: float
) -> LinearModel:
    centre = features.mean(axis=0, dtype=np.float64)
    return LinearModel(weights, centre, intercept, penalty)


def _standardised(
    features: NDArray[np.floating],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Features as every model standardises them, and what they were divided by."""
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler()
    z: NDArray[np.float64] = scaler.fit_transform(features.astype(np.float64))
    return z, np.asarray(scaler.scale_, dtype=np.float64)


def _check(features: NDArray[np.floating], values: NDArray[np.generic]) -> None:
    if features.ndim != 2 or values.shape != (len(features),) or not len(features):
        raise CohortError(
            f"got features of shape {features.shape} and values of shape {values.shape}; expected "
            "one row and one value a patient"
        )
    if not np.isfinite(features).all() or not np.isfinite(values).all():
        raise CohortError("features and values must be finite; leave out who has none")
