"""The difference of two encoders with the chance of who was trained on as well as tested.

The corrected resampled t-test and the bootstrap of finished predictions both find too much
where much is left to learn: as the value of i enters the prediction of j, so does the value of
j enter that of i, so the scores of two patients vary together and neither test sees it
(Bengio & Grandvalet 2004 call this covariance gamma). Here every patient is left out in both
of its roles, which for ridge regression follows from the fit with it.

A score D of n patients is, up to a constant, a sum over patients plus a sum over pairs of
them (Hoeffding's decomposition): Var D = L + Q. Leaving patients out of testing alone, the
jackknife expects L + Q/2, half of every pair; leaving them out of testing and training, it
expects L + 2 Q (Efron & Stein 1981). Two thirds of the first and a third of the second expect
L + Q.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.expression import split_scores
from analysis.ridge import PENALTIES, predict, split_axes
from featurestore.errors import CohortError

MIN_PATIENTS = 50


@dataclass(frozen=True)
class Roles:
    """Mean score over splits, and what it is without each patient.

    Attributes
    ----------
    score : float
        Over all patients.
    not_tested, not_used : ndarray of shape (n,)
        Without the patient among those tested, and without it altogether.
    """

    score: float
    not_tested: NDArray[np.float64]
    not_used: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class JackknifeDifference:
    """One score of two encoders, with both kinds of chance in its error.

    Attributes
    ----------
    mean_a, mean_b, difference : float
        Mean scores over the splits, and B minus A.
    ci_low, ci_high : float
        Normal interval of the difference.
    standard_error : float
        Square root of ``(2 tested + used) / 3``.
    variance_tested, variance_used : float
        Jackknife variance from leaving out of testing, and of everything. Where nothing is
        left to learn they agree; where nothing is predictable the second is four times the
        first.
    z, p : float
        Two-sided.
    n_patients : int
    """

    mean_a: float
    mean_b: float
    difference: float
    ci_low: float
    ci_high: float
    standard_error: float
    variance_tested: float
    variance_used: float
    z: float
    p: float
    n_patients: int


def jackknife_difference(a: Roles, b: Roles, *, confidence: float = 0.95) -> JackknifeDifference:
    """Compare two encoders whose patients were left out in both roles, on the same splits.

    Assumptions: patients are independent; a score depends on patients one by one and in
    pairs, and what a single patient adds it adds as a test patient (what one more patient
    teaches on average is small beside it); the score is smooth in the predictions, as
    Pearson's r and the AUROC are and accuracy is not.

    Parameters
    ----------
    a, b : Roles
        Of the same patients and splits.
    confidence : float
        Coverage of the interval, between 0 and 1.

    Returns
    -------
    JackknifeDifference
        Where the encoders are one and the same, the difference is 0 and p is 1.

    Raises
    ------
    CohortError
        The encoders have different patients, or there are fewer than 50.

    References
    ----------
    Efron & Stein, The jackknife estimate of variance, Ann Stat 9:586-596, 1981. Bengio &
    Grandvalet, No unbiased estimator of the variance of k-fold cross-validation, JMLR
    5:1089-1105, 2004. How well it holds its level is measured by
    ``benchmarks/calibration.py``.
    """
    from scipy.stats import norm

    n = len(a.not_tested)
    if len(b.not_tested) != n:
        raise CohortError(f"got {n} and {len(b.not_tested)} patients; judge both on the same")
    if n < MIN_PATIENTS:
        raise CohortError(f"got {n} patients, expected at least {MIN_PATIENTS}")
    if not 0 < confidence < 1:
        raise CohortError(f"confidence must be between 0 and 1, got {confidence}")
    difference = b.score - a.score
    tested, used = (
        _variance(of_b - of_a)
        for of_a, of_b in ((a.not_tested, b.not_tested), (a.not_used, b.not_used))
    )
    standard_error = math.sqrt((2 * tested + used) / 3)
    if standard_error < 1e-12:
        z = 0.0 if abs(difference) < 1e-12 else math.copysign(math.inf, difference)
    else:
        z = difference / standard_error
    half_width = standard_error * float(norm.ppf((1 + confidence) / 2))
    return JackknifeDifference(
        mean_a=a.score,
        mean_b=b.score,
        difference=difference,
        ci_low=difference - half_width,
        ci_high=difference + half_width,
        standard_error=standard_error,
        variance_tested=tested,
        variance_used=used,
        z=z,
        p=float(2 * norm.sf(abs(z))),
        n_patients=n,
    )


def ridge_roles(
    features: NDArray[np.floating],
    values: NDArray[np.floating],
    folds: NDArray[np.integer],
    *,
    penalties: Sequence[float] = PENALTIES,
    n_components: int | None = None,
) -> list[Roles]:
    """Leave every patient out of ridge regressions and of their test folds.

    The scaling of features and the penalty of a split stay as chosen with the patient; given
    them, leaving out is exact: without training patient i, the prediction of a test patient
    changes by ``-h · residual_i / (1 − leverage_i)``, h the weight of i's value in it.

    Parameters
    ----------
    features : ndarray of shape (n, d)
        Of one encoder.
    values : ndarray of shape (n, n_targets)
        Expression; finite.
    folds : ndarray of shape (n_repeats, n)
        Test fold of every patient. Ten repeats are enough for the variance.
    penalties, n_components
        As in :class:`analysis.expression.ExpressionSettings`.

    Returns
    -------
    list of Roles
        One a target; the score is Pearson's r.

    Raises
    ------
    CohortError
        The rows do not agree, a value is missing, or there is one repeat only.
    """
    n = len(values)
    if values.ndim != 2 or folds.shape[1:] != (n,) or len(features) != n:
        raise CohortError(
            f"got {len(features)} rows of features and folds of shape {folds.shape} for values of "
            f"shape {values.shape}; give one row a patient"
        )
    if len(folds) < 2:
        raise CohortError(f"got {len(folds)} repeat(s), expected at least 2; repeat the folds")
    if not np.isfinite(values).all() or (folds < 0).any():
        raise CohortError("a value is missing; leave the patient out of values and folds")
    sums = [RoleSums(n) for _ in range(values.shape[1])]
    for fold_of in folds:
        for fold in np.unique(fold_of):
            test = fold_of == fold
            axes = split_axes(features[~test], features[test], n_components=n_components)
            predicted, chosen = predict(axes, values[~test], penalties=penalties)
            squares = np.square(axes.lengths)
            for gene, of_gene in enumerate(sums):
                kept = squares / (squares + chosen[gene] * axes.mean_square)
                y = values[~test, gene]
                smoothed = axes.train * kept
                residuals = y - y.mean() - smoothed @ (axes.train.T @ y)
                leverage = 1 / len(y) + np.einsum("ik,ik->i", smoothed, axes.train)
                weights = 1 / len(y) + (axes.test * (kept / axes.lengths)) @ axes.train.T
                changes = -weights * (residuals / (1 - leverage))
                of_gene.add(test, values[test, gene], predicted[:, gene], changes)
    return [of_gene.roles() for of_gene in sums]


class RoleSums:
    """Adds up splits into :class:`Roles`.

    Parameters
    ----------
    n : int
        Patients of the cohort.
    metric : str
        "pearson_r" or "auroc".
    """

    def __init__(self, n: int, metric: str = "pearson_r") -> None:
        self._score, self._n_splits = 0.0, 0
        self._not_tested, self._not_used = np.zeros(n), np.zeros(n)
        self._of = _correlations if metric == "pearson_r" else _areas

    def add(
        self,
        test: NDArray[np.bool_],
        observed: NDArray[np.float64],
        predicted: NDArray[np.float64],
        changes: NDArray[np.float64],
    ) -> None:
        """Add one split.

        Parameters
        ----------
        test : ndarray of shape (n,), bool
        observed, predicted : ndarray of shape (n_test,)
        changes : ndarray of shape (n_test, n_train)
            By how much each prediction changes without each training patient.
        """
        score = float(self._of(observed, predicted[:, None])[0])
        n_test = len(observed)
        others = ~np.eye(n_test, dtype=bool)
        # Column i holds the test patients without i.
        rest = np.nonzero(others.T)[1].reshape(n_test, n_test - 1).T
        without = self._of(observed[rest], predicted[rest])
        if not np.isfinite(score) or not np.isfinite(without).all():
            return  # as in a study, a split that does not define the score is left out
        self._score += score
        self._n_splits += 1
        self._not_tested[test] += without
        self._not_tested[~test] += score
        self._not_used[test] += without
        self._not_used[~test] += self._of(observed, predicted[:, None] + changes)

    def roles(self) -> Roles:
        """The means over the splits that were added."""
        if not self._n_splits:
            raise CohortError("no split defines the score; give folds with values that differ")
        return Roles(
            score=self._score / self._n_splits,
            not_tested=self._not_tested / self._n_splits,
            not_used=self._not_used / self._n_splits,
        )


def _correlations(
    observed: NDArray[np.float64], predicted: NDArray[np.float64]
) -> NDArray[np.float64]:
    columns = (
        observed if observed.ndim == 2 else np.broadcast_to(observed[:, None], predicted.shape)
    )
    return np.asarray(split_scores(columns, predicted)[0], dtype=np.float64)


def _areas(observed: NDArray[np.float64], predicted: NDArray[np.float64]) -> NDArray[np.float64]:
    """The AUROC of every column."""
    from scipy.stats import rankdata

    y = observed if observed.ndim == 2 else np.broadcast_to(observed[:, None], predicted.shape)
    n_1 = y.sum(axis=0)
    n_pairs = n_1 * (len(y) - n_1)
    won = np.where(y == 1, rankdata(predicted, axis=0), 0.0).sum(axis=0) - n_1 * (n_1 + 1) / 2
    areas = np.full(predicted.shape[1], np.nan)
    np.divide(won, n_pairs, out=areas, where=n_pairs > 0)
    return areas


def _variance(without: NDArray[np.float64]) -> float:
    """The jackknife estimate from the score without each patient."""
    n = len(without)
    return float((n - 1) / n * np.square(without - without.mean()).sum())
