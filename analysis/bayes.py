"""How probable is it that one encoder is better, and that the difference is too small to matter?

A p-value answers neither. The Bayesian correlated t-test rests on the same correction as the
corrected resampled t-test of :mod:`analysis.compare` and says it in probabilities.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from numpy.typing import ArrayLike

from analysis.compare import compare_scores
from featurestore.errors import CohortError


@dataclass(frozen=True, slots=True)
class Posterior:
    """What the scores say of the difference B minus A.

    Attributes
    ----------
    difference : float
        Posterior mean, which is the mean difference over the splits.
    low, high : float
        Central credible interval.
    rope : float
        Half width of the region of practical equivalence.
    p_a_better, p_equivalent, p_b_better : float
        Posterior probability of a difference below ``-rope``, within, and above ``rope``.
        They add up to 1.
    """

    difference: float
    low: float
    high: float
    rope: float
    p_a_better: float
    p_equivalent: float
    p_b_better: float


def correlated_posterior(
    a: ArrayLike,
    b: ArrayLike,
    n_train: ArrayLike,
    n_test: ArrayLike,
    *,
    n_repeats: int,
    rope: float,
    credibility: float = 0.95,
) -> Posterior:
    """Posterior of the difference of two encoders scored on the same splits.

    With d the J differences and a flat prior, the difference is distributed as Student's t
    with J − 1 degrees of freedom about mean(d), with the scale
    ``sqrt((1/J + n_test/n_train) · var(d))``.

    Assumptions: those of :func:`analysis.compare.compare_scores`: all splits are of one
    cohort, and two splits are correlated by n_test / (n_train + n_test). What counts as
    equivalent is a choice, to be made before the scores are seen.

    Parameters
    ----------
    a, b, n_train, n_test
        As for :func:`analysis.compare.compare_scores`.
    n_repeats : int
        Repeats of the cross-validation; at least 2.
    rope : float
        Differences up to this size do not matter in practice, in units of the score; 0.01 is
        usual for accuracy. 0 leaves no region.
    credibility : float
        Of the interval, between 0 and 1.

    Returns
    -------
    Posterior
        Where all differences are equal, all probability is at that difference.

    Raises
    ------
    CohortError
        There is one repeat only, the region is negative, or the scores are refused by
        ``compare_scores``.

    References
    ----------
    Corani & Benavoli, Machine Learning 100:285-304, 2015 (the test). Benavoli, Corani, Demšar
    & Zaffalon, Time for a change, JMLR 18:1-36, 2017 (the region).
    """
    if n_repeats < 2:
        raise CohortError(
            f"got {n_repeats} repeat(s), expected at least 2: the variance of one deal of the "
            "folds does not show what another deal would give; repeat the cross-validation"
        )
    found = compare_scores(a, b, n_train, n_test, confidence=credibility)
    return posterior(
        found.difference,
        found.standard_error,
        df=found.n_splits - 1,
        rope=rope,
        credibility=credibility,
    )


def posterior(
    difference: float,
    standard_error: float,
    *,
    df: float = math.inf,
    rope: float,
    credibility: float = 0.95,
) -> Posterior:
    """Posterior of a difference that was estimated with a standard error, under a flat prior.

    Student's t with ``df`` degrees of freedom (infinite: the normal distribution) about the
    difference, scaled by its standard error. Assumes that the estimate is distributed so.

    Parameters
    ----------
    difference, standard_error : float
        As a test that holds gives them, e.g. :func:`analysis.jackknife.jackknife_difference`.
    df : float
        Degrees of freedom of the standard error.
    rope, credibility
        As for :func:`correlated_posterior`.

    Raises
    ------
    CohortError
        The region or the standard error is negative.
    """
    from scipy.stats import t as student

    if not (math.isfinite(rope) and rope >= 0):
        raise CohortError(f"the region of equivalence must not be negative, got {rope}")
    if not standard_error >= 0:
        raise CohortError(f"a standard error must not be negative, got {standard_error}")
    half_width = standard_error * float(student.ppf((1 + credibility) / 2, df))
    if standard_error == 0:  # no spread: all probability is at one point
        below, above = float(difference < -rope), float(difference > rope)
    else:
        below = float(student.cdf((-rope - difference) / standard_error, df))
        above = float(student.sf((rope - difference) / standard_error, df))
    return Posterior(
        difference=difference,
        low=difference - half_width,
        high=difference + half_width,
        rope=float(rope),
        p_a_better=below,
        # Rounding must not give a point of no width some probability.
        p_equivalent=0.0 if rope == 0 and standard_error > 0 else max(0.0, 1 - below - above),
        p_b_better=above,
    )
