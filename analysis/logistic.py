"""Weighted L2 logistic regression of one split, with a penalty chosen inside the split.

With more features than patients the fit is done on the patients' inner products: n_train
unknowns, a handful of Newton steps, and leave-one-out predictions almost for free.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import CohortError

PENALTIES = tuple(float(10.0**exponent) for exponent in range(-1, 5))
"""Penalties tried, relative to the number of features; see :func:`fit_predict`."""

TOLERANCE = 1e-8  # of the last Newton step, in units of the log odds
MAX_STEPS = 100


@dataclass(frozen=True)
class LogisticPrediction:
    """What one split's regression says of its test patients.

    Attributes
    ----------
    probabilities : ndarray of shape (n_test,), float64
        Probability of class 1, at the training patients' prevalence.
    penalty : float
        The chosen one of the penalties tried.
    converged : bool
        False where a Newton iteration stopped before it converged.
    """

    probabilities: NDArray[np.float64]
    penalty: float
    converged: bool


@dataclass(frozen=True)
class _Fit:
    """Solution of one penalty: log odds are ``intercept + kernel @ dual``."""

    dual: NDArray[np.float64]
    intercept: float
    log_odds: NDArray[np.float64]
    converged: bool


def fit_predict(
    train: NDArray[np.floating],
    labels: NDArray[np.bool_],
    test: NDArray[np.floating],
    *,
    penalties: Sequence[float] = PENALTIES,
) -> LogisticPrediction:
    """Train on one split's training patients, and predict its test patients.

    Features are standardised with the training patients' mean and standard deviation. The
    regression minimises, with an unpenalised intercept::

        Σ_i c_i · −log p(y_i)  +  penalty · m · |w|² / 2,   c_i = n / (2 · n of class y_i)

    with m the number of features that vary: ``LogisticRegression(C=1/(penalty · m),
    class_weight="balanced")``. Of the penalties, the one with the least weighted
    leave-one-out log loss in the training patients is taken, the largest of equals; the
    leave-one-out predictions are approximate, see :func:`leave_one_out`. Class weights and
    the standardisation are those of all training patients.

    Weights make both classes count alike and shift every probability; the shift is taken
    back by adding log(n1 / n0) to the log odds (King & Zeng, Political Analysis 9:137-163,
    2001), which leaves the order of patients, and so the AUROC, as it is.

    Parameters
    ----------
    train, test : ndarray of shape (n_train, d) and (n_test, d)
        Features; finite.
    labels : ndarray of shape (n_train,), bool
        Both classes must occur.
    penalties : sequence of float
        Positive.

    Returns
    -------
    LogisticPrediction

    Raises
    ------
    CohortError
        No penalty is given, one is not positive, or the training patients are of one class.
    """
    from sklearn.preprocessing import StandardScaler

    y = labels.astype(np.float64)
    n, n_1 = len(y), float(y.sum())
    if n_1 in (0, n):
        raise CohortError(f"all {n} training patients are of one class; use fewer folds")
    grid = np.sort(np.asarray(penalties, dtype=np.float64))[::-1]
    if not grid.size or not grid[-1] > 0:
        raise CohortError(f"expected positive penalties, got {list(penalties)}")
    scaler = StandardScaler()
    z_train: NDArray[np.float64] = scaler.fit_transform(train.astype(np.float64))
    z_test: NDArray[np.float64] = scaler.transform(test.astype(np.float64))
    n_varying = max(float(np.square(z_train).sum() / n), 1.0)
    kernel = z_train @ z_train.T / n_varying
    weights = np.where(labels, n / (2 * n_1), n / (2 * (n - n_1)))
    fit, best, least, converged = None, None, np.inf, True
    for penalty in grid:
        fit = _newton(kernel, y, weights, float(penalty), start=fit)
        converged &= fit.converged
        left_out = leave_one_out(kernel, y, weights, float(penalty), fit.log_odds)
        loss = float(weights @ np.logaddexp(0, np.where(labels, -left_out, left_out)))
        if best is None or loss < least:
            best, least, chosen = fit, loss, float(penalty)
    assert best is not None  # noqa: S101  the grid is not empty
    log_odds = best.intercept + (z_test @ z_train.T) @ best.dual / n_varying
    return LogisticPrediction(_sigmoid(log_odds + np.log(n_1 / (n - n_1))), chosen, converged)


def standardised_weights(
    train: NDArray[np.floating], labels: NDArray[np.bool_], *, penalty: float
) -> tuple[NDArray[np.float64], float]:
    """Weights of the standardised features, and intercept, of the log odds of :func:`fit_predict`.

    Parameters
    ----------
    train, labels
        As for :func:`fit_predict`; both classes must occur.
    penalty : float
        The one that was chosen.

    Returns
    -------
    weights : ndarray of shape (d,), float64
    intercept : float
        With the shift back to the training patients' prevalence.
    """
    from sklearn.preprocessing import StandardScaler

    z: NDArray[np.float64] = StandardScaler().fit_transform(train.astype(np.float64))
    n, n_1 = len(z), float(labels.sum())
    n_varying = max(float(np.square(z).sum() / n), 1.0)
    weights = np.where(labels, n / (2 * n_1), n / (2 * (n - n_1)))
    fit = _newton(z @ z.T / n_varying, labels.astype(np.float64), weights, penalty, start=None)
    return z.T @ fit.dual / n_varying, fit.intercept + float(np.log(n_1 / (n - n_1)))


def prediction_changes(
    train: NDArray[np.floating],
    labels: NDArray[np.bool_],
    test: NDArray[np.floating],
    *,
    penalty: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Log odds of the test patients, and their change without each training patient.

    Approximate as :func:`leave_one_out` is: one Newton step from the fit to all, with the
    class weights and the standardisation of all.

    Parameters
    ----------
    train, labels, test
        As for :func:`fit_predict`.
    penalty : float
        The one that was chosen.

    Returns
    -------
    log_odds : ndarray of shape (n_test,), float64
        Of the weighted fit, whose order is that of the probabilities.
    changes : ndarray of shape (n_test, n_train), float64
    """
    from scipy.linalg import cho_solve
    from sklearn.preprocessing import StandardScaler

    y = labels.astype(np.float64)
    n, n_1 = len(y), float(y.sum())
    if n_1 in (0, n):
        raise CohortError(f"all {n} training patients are of one class; use fewer folds")
    scaler = StandardScaler()
    z_train: NDArray[np.float64] = scaler.fit_transform(train.astype(np.float64))
    z_test: NDArray[np.float64] = scaler.transform(test.astype(np.float64))
    n_varying = max(float(np.square(z_train).sum() / n), 1.0)
    kernel, between = z_train @ z_train.T / n_varying, z_test @ z_train.T / n_varying
    weights = np.where(labels, n / (2 * n_1), n / (2 * (n - n_1)))
    fit = _newton(kernel, y, weights, penalty, start=None)
    p = _sigmoid(fit.log_odds)
    factor, root = _factor(kernel, weights, penalty, p)
    # Of the weighted least squares problem at the optimum: what each working response adds.
    inner = root[:, None] * cho_solve(factor, np.diag(root), check_finite=False) / penalty
    share = inner.sum(axis=0) / inner.sum()
    dual = inner - np.outer(inner.sum(axis=1), share)
    leverage = np.einsum("ij,ji->i", kernel, dual) + share
    residuals = (y - p) / np.maximum(p * (1 - p), 1e-12)
    left_out = residuals / np.maximum(1 - leverage, 1e-12)
    return fit.intercept + between @ fit.dual, -(between @ dual + share) * left_out


def leave_one_out(
    kernel: NDArray[np.float64],
    y: NDArray[np.float64],
    weights: NDArray[np.float64],
    penalty: float,
    log_odds: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Approximate log odds of every training patient from a fit without it.

    One Newton step from the full fit towards the fit without patient i (Rad & Maleki,
    J R Stat Soc B 82:965-996, 2020)::

        f_-i ≈ f_i − (1 − q_i) / q_i · (y_i − p_i) / (p_i (1 − p_i)),   q_i = 1 − leverage_i

    with leverages of the weighted least squares problem at the optimum, intercept included.

    Parameters
    ----------
    kernel : ndarray of shape (n, n)
        Inner products of the training patients.
    y, weights : ndarray of shape (n,)
        Class (0 or 1) and class weight of each.
    penalty : float
        Of the squared weights of features.
    log_odds : ndarray of shape (n,)
        Of the fit to all.

    Returns
    -------
    ndarray of shape (n,), float64
    """
    from scipy.linalg import cho_solve
    from scipy.linalg.lapack import dpotri

    p = _sigmoid(log_odds)
    factor, root = _factor(kernel, weights, penalty, p)
    along = cho_solve(factor, root, check_finite=False)
    inverse, _ = dpotri(factor[0], lower=1)
    # Mathematically in (0, 1); a leverage of 1 would be a patient that fits itself alone.
    spared = np.clip(inverse.diagonal() - np.square(along) / (root @ along), 1e-12, 1.0)
    working = np.where(y == 1, 1 / np.maximum(p, 1e-12), -1 / np.maximum(1 - p, 1e-12))
    return np.asarray(log_odds - (1 - spared) / spared * working, dtype=np.float64)


def _newton(
    kernel: NDArray[np.float64],
    y: NDArray[np.float64],
    weights: NDArray[np.float64],
    penalty: float,
    start: _Fit | None,
) -> _Fit:
    """Iteratively reweighted least squares in its dual form, with step halving.

    Rasmussen & Williams, Gaussian Processes for Machine Learning, 2006, algorithm 3.1, with
    an unpenalised intercept.
    """
    from scipy.linalg import cho_solve

    dual = np.zeros(len(y)) if start is None else start.dual
    intercept = 0.0 if start is None else start.intercept
    f = intercept + kernel @ dual
    loss = _loss(f, dual, kernel, y, weights, penalty)
    for _ in range(MAX_STEPS):
        p = _sigmoid(f)
        factor, root = _factor(kernel, weights, penalty, p)
        target = root * f + weights * (y - p) / root
        solved = cho_solve(factor, np.column_stack([target, root]), check_finite=False)
        new_intercept = (root @ solved[:, 0]) / (root @ solved[:, 1])
        new_dual = root * (solved[:, 0] - new_intercept * solved[:, 1]) / penalty
        step = 1.0
        while True:
            next_dual = dual + step * (new_dual - dual)
            next_intercept = intercept + step * (new_intercept - intercept)
            next_f = next_intercept + kernel @ next_dual
            next_loss = _loss(next_f, next_dual, kernel, y, weights, penalty)
            if next_loss <= loss + 1e-10 * abs(loss) or step < 1e-6:
                break
            step /= 2
        moved = float(np.abs(next_f - f).max())
        dual, intercept, f, loss = next_dual, next_intercept, next_f, next_loss
        if moved < TOLERANCE:
            return _Fit(dual, float(intercept), f, True)
    return _Fit(dual, float(intercept), f, False)


def _factor(
    kernel: NDArray[np.float64],
    weights: NDArray[np.float64],
    penalty: float,
    p: NDArray[np.float64],
) -> tuple[tuple[NDArray[np.float64], bool], NDArray[np.float64]]:
    """Cholesky factor of I + √W K √W / penalty, and the diagonal √W."""
    from scipy.linalg import cho_factor

    root = np.sqrt(np.maximum(weights * p * (1 - p), 1e-12))
    system = kernel * root * (root[:, None] / penalty)
    system.flat[:: len(p) + 1] += 1
    return cho_factor(system, lower=True, overwrite_a=True, check_finite=False), root


def _loss(
    f: NDArray[np.float64],
    dual: NDArray[np.float64],
    kernel: NDArray[np.float64],
    y: NDArray[np.float64],
    weights: NDArray[np.float64],
    penalty: float,
) -> float:
    fit = weights @ np.logaddexp(0, np.where(y == 1, -f, f))
    return float(fit + penalty / 2 * (dual @ kernel @ dual))


def _sigmoid(log_odds: NDArray[np.float64]) -> NDArray[np.float64]:
    from scipy.special import expit

    return np.asarray(expit(log_odds), dtype=np.float64)
