"""The difference of two encoders with the chance of who was trained on as well as tested.

The corrected resampled t-test and the bootstrap of finished predictions both find too much
where much is left to learn: as the value of i enters the prediction of j, so does the value of
j enter that of i, so the scores of two patients vary together and neither test sees it
(Bengio & Grandvalet 2004 call this covariance gamma). Here every patient is left out in both
of its roles, which for ridge regression follows from the fit with it.

A score D of n patients is, up to a constant, a sum over patients plus a sum over pairs of
them (Hoeffding's decomposition), and Var D = L + Q, the variances of the two sums. A pair
works through one of the two being tested and the other trained on, and either way round. The
jackknife over who is tested counts every pair one way only and expects L + Q/2; Q itself is
the sum of the pairs' squared effects (Efron & Stein 1981), and half of it is added.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.expression import split_scores
from featurestore.errors import CohortError

MIN_PATIENTS = 50


@dataclass(frozen=True)
class Roles:
    """Mean score over splits, and what it is without each patient.

    Attributes
    ----------
    score : float
        Over all patients.
    not_tested : ndarray of shape (n,)
        Without the patient among those tested.
    pairs : ndarray of shape (n, n)
        By how much the score changes through test patient i if patient j is not trained on.
    """

    score: float
    not_tested: NDArray[np.float64]
    pairs: NDArray[np.float64]


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
        Square root of ``variance_tested + variance_pairs / 2``.
    variance_tested, variance_pairs : float
        Jackknife variance over who is tested, and the variance Q of pairs, of which it has
        half. Where nothing is left to learn the second is small; where nothing is
        predictable it is twice the first.
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
    variance_pairs: float
    z: float
    p: float
    n_patients: int


def jackknife_difference(a: Roles, b: Roles, *, confidence: float = 0.95) -> JackknifeDifference:
    """Compare two encoders whose patients were left out in both roles, on the same splits.

    Assumptions: patients are independent; a score depends on patients one by one and in
    pairs, little on three together; what a single patient adds it adds as a test patient (what
    one more patient teaches on average is small beside it); the score is smooth in the
    predictions, as Pearson's r and the AUROC are and accuracy is not.

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
    tested, of_pairs = _variance(b.not_tested - a.not_tested), _pair_variance(b.pairs - a.pairs)
    standard_error = math.sqrt(tested + of_pairs / 2)
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
        variance_pairs=of_pairs,
        z=z,
        p=float(2 * norm.sf(abs(z))),
        n_patients=n,
    )


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
        self._not_tested, self._pairs = np.zeros(n), np.zeros((n, n))
        is_r = metric == "pearson_r"
        self._of = _correlations if is_r else _areas
        self._pairs_of = _correlation_pairs if is_r else _area_pairs

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
        # A shift of all predictions leaves either score as it is, so no pair has a part in it. It
        # comes of the intercept, and is all that changes where the penalty leaves little else.
        changes = changes - changes.mean(axis=0)
        self._score += score
        self._n_splits += 1
        self._pairs[np.ix_(test, ~test)] += self._pairs_of(observed, predicted, changes)
        self._not_tested[test] += without
        self._not_tested[~test] += score

    def roles(self) -> Roles:
        """The means over the splits that were added."""
        if not self._n_splits:
            raise CohortError("no split defines the score; give folds with values that differ")
        return Roles(
            score=self._score / self._n_splits,
            not_tested=self._not_tested / self._n_splits,
            pairs=self._pairs / self._n_splits,
        )


def _correlations(
    observed: NDArray[np.float64], predicted: NDArray[np.float64]
) -> NDArray[np.float64]:
    columns = (
        observed if observed.ndim == 2 else np.broadcast_to(observed[:, None], predicted.shape)
    )
    return np.asarray(split_scores(columns, predicted)[0], dtype=np.float64)


def _correlation_pairs(
    observed: NDArray[np.float64], predicted: NDArray[np.float64], changes: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Change of r through each test patient's prediction, to first order."""
    y, p = observed - observed.mean(), predicted - predicted.mean()
    size = math.sqrt(p @ p)
    if size == 0:
        return np.zeros_like(changes)
    y, p = y / math.sqrt(y @ y), p / size
    slope = (y - (y @ p) * p) / size
    return np.asarray(slope[:, None] * changes, dtype=np.float64)


def _area_pairs(
    observed: NDArray[np.float64], predicted: NDArray[np.float64], changes: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Change of the AUROC through each test patient's prediction, the others as they are."""
    pairs, n_1 = np.zeros_like(changes), int(observed.sum())
    for is_mutated, sign in ((observed == 1, 1), (observed == 0, -1)):
        others = np.sort(predicted[~is_mutated])
        own = predicted[is_mutated, None]
        before, after = (
            (np.searchsorted(others, x, "left") + np.searchsorted(others, x, "right")) / 2
            for x in (own, own + changes[is_mutated])
        )
        pairs[is_mutated] = sign * (after - before) / (n_1 * (len(observed) - n_1))
    return pairs


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


def _pair_variance(pairs: NDArray[np.float64]) -> float:
    """Q: what of the pairs' effects is neither the one's nor the other's alone, squared."""
    alone = pairs.mean(axis=1, keepdims=True) + pairs.mean(axis=0) - pairs.mean()
    both = pairs - alone
    both = both + both.T
    np.fill_diagonal(both, 0.0)
    return float(np.square(both).sum() / 2)
