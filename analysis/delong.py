"""DeLong's test of two correlated areas under the ROC curve, by ranks."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featurestore.errors import CohortError

MIN_OF_A_CLASS = 10
"""With fewer patients of a class the normal approximation is not to be trusted."""


@dataclass(frozen=True, slots=True)
class DeLong:
    """Areas of two encoders on the same patients.

    Attributes
    ----------
    auroc_a, auroc_b : float
        Area under each encoder's curve.
    difference : float
        ``auroc_b - auroc_a``.
    standard_error : float
        Of the difference.
    ci_low, ci_high : float
        Confidence interval of the difference.
    z, p : float
        The difference in units of its standard error, and the two-sided p of a normal.
    n_positive, n_negative : int
        Patients of either class.
    """

    auroc_a: float
    auroc_b: float
    difference: float
    standard_error: float
    ci_low: float
    ci_high: float
    z: float
    p: float
    n_positive: int
    n_negative: int


def delong_test(
    positive: ArrayLike, a: ArrayLike, b: ArrayLike, *, confidence: float = 0.95
) -> DeLong:
    """Compare the areas of two scores of the same patients.

    The structural components of a patient (the share of the other class that it is ranked
    right against) come from midranks instead of from all pairs, with the same result.

    Assumptions: patients are independent; each has one score an encoder; scores are of
    models that did not see the patient, and that are taken as they are. Averaged over the
    repeats of a cross-validation, scores meet that only about: every one comes from a model
    trained on other patients of the same test.

    Parameters
    ----------
    positive : array-like of shape (n,)
        1 or True where the patient has what is to be told.
    a, b : array-like of shape (n,)
        Score of each encoder, more for the positive; as a rule the mean out-of-fold
        prediction over the repeats.
    confidence : float
        Coverage of the interval, between 0 and 1.

    Returns
    -------
    DeLong
        Where both encoders order all patients alike, the difference is 0 and p is 1.

    Raises
    ------
    CohortError
        The shapes differ, a score is not finite, a status is neither 0 nor 1, or a class has
        fewer than 10 patients.

    References
    ----------
    DeLong, DeLong & Clarke-Pearson, Biometrics 44:837-845, 1988. Sun & Xu, IEEE Signal
    Process Lett 21:1389-1393, 2014 (by ranks).
    """
    from scipy.stats import norm

    status, scores = _checked(positive, a, b, confidence)
    n_1, n_0 = int(status.sum()), int((~status).sum())
    of_positive, of_negative = _components(status, scores)
    areas = of_positive.mean(axis=1)
    contrast = np.array([-1.0, 1.0])
    # One row an encoder; the covariance of both encoders is where the pairing comes in.
    covariance = np.cov(of_positive) / n_1 + np.cov(of_negative) / n_0
    variance = float(contrast @ covariance @ contrast)
    difference = float(areas[1] - areas[0])
    # Equal orders leave rounding only.
    standard_error = math.sqrt(variance) if variance > 1e-20 else 0.0
    half_width = standard_error * float(norm.ppf((1 + confidence) / 2))
    if standard_error == 0:
        z = 0.0 if abs(difference) < 1e-12 else math.copysign(math.inf, difference)
    else:
        z = difference / standard_error
    return DeLong(
        auroc_a=float(areas[0]),
        auroc_b=float(areas[1]),
        difference=difference,
        standard_error=standard_error,
        ci_low=difference - half_width,
        ci_high=difference + half_width,
        z=z,
        p=float(2 * norm.sf(abs(z))),
        n_positive=n_1,
        n_negative=n_0,
    )


def _components(
    status: NDArray[np.bool_], scores: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Share of the other class below each positive, and above each negative, ties one half."""
    from scipy.stats import rankdata

    n_1, n_0 = int(status.sum()), int((~status).sum())
    among_all = rankdata(scores, axis=1)
    among_positive = rankdata(scores[:, status], axis=1)
    among_negative = rankdata(scores[:, ~status], axis=1)
    of_positive = (among_all[:, status] - among_positive) / n_0
    of_negative = 1 - (among_all[:, ~status] - among_negative) / n_1
    return of_positive, of_negative


def _checked(
    positive: ArrayLike, a: ArrayLike, b: ArrayLike, confidence: float
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    status = np.asarray(positive, dtype=np.float64)
    columns = [np.asarray(x, dtype=np.float64) for x in (a, b)]
    if status.ndim != 1 or any(x.shape != status.shape for x in columns):
        raise CohortError(
            f"got a status of shape {status.shape} and scores of shape {columns[0].shape} and "
            f"{columns[1].shape}; each patient needs one status and one score an encoder (the "
            "mean over repeats)"
        )
    if not 0 < confidence < 1:
        raise CohortError(f"confidence must be between 0 and 1, got {confidence}")
    odd = status[~np.isin(status, [0.0, 1.0])]
    if odd.size:
        raise CohortError(f"got a status of {odd[0]:g}, expected 0 or 1; leave out the others")
    if not all(np.isfinite(x).all() for x in columns):
        raise CohortError("a score is not finite; leave out patients who were not predicted")
    n_1, n_0 = int(status.sum()), int((status == 0).sum())
    if min(n_1, n_0) < MIN_OF_A_CLASS:
        raise CohortError(
            f"got {n_1} patients with and {n_0} without, expected at least {MIN_OF_A_CLASS} of "
            "each for a normal approximation; use the patient bootstrap or add patients"
        )
    return status == 1, np.stack(columns)
