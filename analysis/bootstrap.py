"""The difference of two encoders with an interval over patients: the paired patient bootstrap.

Patients are drawn with replacement, and the score of the study (the mean over the splits) is
computed again from the finished out-of-fold predictions, of both encoders on the same draw.
Nothing is fitted again: the chance that lies in who was tested is covered, the chance that
lies in who was trained on only in part. How far that matters is measured by
``benchmarks/calibration.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featurestore.errors import CohortError

MIN_PATIENTS = 20
"""Fewer patients have too few distinct draws for a 95 % interval to mean anything."""

_STREAM = 1_000_081  # keeps these random streams apart from those of folds and permutations
_Scorer = Callable[
    [NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]],
    tuple[NDArray[np.float64], NDArray[np.float64]],
]


@dataclass(frozen=True, slots=True)
class BootstrapDifference:
    """One score of two encoders, with the spread over drawn patients.

    Attributes
    ----------
    mean_a, mean_b : float
        Mean score of each encoder over the splits.
    a_low, a_high, b_low, b_high : float
        Percentile interval of each encoder's score.
    difference : float
        ``mean_b - mean_a``.
    ci_low, ci_high : float
        Percentile interval of the difference.
    standard_error : float
        Standard deviation of the difference over the draws.
    p : float
        Two-sided: twice the smaller share of draws on one side of zero, at most 1. It says
        the same as the interval.
    n_patients, n_draws : int
    """

    mean_a: float
    a_low: float
    a_high: float
    mean_b: float
    b_low: float
    b_high: float
    difference: float
    ci_low: float
    ci_high: float
    standard_error: float
    p: float
    n_patients: int
    n_draws: int


def bootstrap_difference(
    observed: ArrayLike,
    folds: NDArray[np.integer],
    a: NDArray[np.floating],
    b: NDArray[np.floating],
    *,
    metric: str,
    seed: int,
    patients: ArrayLike | None = None,
    n_draws: int = 2000,
    confidence: float = 0.95,
) -> BootstrapDifference:
    """Compare two encoders by drawing patients and scoring their predictions again.

    A patient that is drawn twice counts twice in every repeat, so what repeats share stays
    shared, and repeats cost the interval nothing and gain it nothing.

    Assumptions: patients are independent of each other (of one another's site, too); the
    predictions are of models that did not see the patient; trained models are taken as they
    are.

    Parameters
    ----------
    observed : array-like of shape (n,)
        Value, mutation status (0 or 1) or class of every row.
    folds : ndarray of shape (n_repeats, n)
        Fold in which each row was tested; -1 where it was left out. A score is taken in
        every fold of every repeat; all zeros gives one score a repeat over all rows.
    a, b : ndarray of shape (n_repeats, n)
        Out-of-fold predictions of each encoder: a value, a probability, or a class.
    metric : str
        "pearson_r", "auroc" or "accuracy".
    seed : int
        The draws are ``PCG64(SeedSequence(seed, spawn_key=(1000081,)))``.
    patients : array-like of shape (n,), optional
        Patient of every row, where a row is a tile; by default every row is a patient.
    n_draws : int
        At least 200.
    confidence : float
        Coverage of the interval, between 0 and 1.

    Returns
    -------
    BootstrapDifference

    Raises
    ------
    CohortError
        There are fewer than two repeats or 20 patients, the encoders were not predicted on
        the same rows, the metric is unknown, or no split defines it.

    References
    ----------
    Efron & Tibshirani, An Introduction to the Bootstrap, 1993, ch. 13 (percentile interval)
    and ch. 8 (drawing whole units). Phipson & Smyth, Stat Appl Genet Mol Biol 9:39, 2010
    (the added one).
    """
    y = np.asarray(observed, dtype=np.float64)
    rows = _check(y, folds, a, b, metric, n_draws, confidence)
    units, codes = np.unique(
        np.arange(len(y))[rows] if patients is None else np.asarray(patients)[rows],
        return_inverse=True,
    )
    if len(units) < MIN_PATIENTS:
        raise CohortError(
            f"got {len(units)} patients, expected at least {MIN_PATIENTS} for a bootstrap over "
            "patients; report the scores without an interval or add patients"
        )
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_STREAM,)))
    weights = np.zeros((1 + n_draws, len(y)))
    # The first row draws everybody once: it gives the observed scores by the same computation.
    weights[0, rows] = 1
    counts = rng.multinomial(len(units), np.full(len(units), 1 / len(units)), size=n_draws)
    weights[1:, rows] = counts[:, codes]
    mean_a, mean_b = _mean_scores(y, folds, a, b, weights, _SCORERS[metric])
    usable = ~np.isnan(mean_a[1:])
    difference, draws = float(mean_b[0] - mean_a[0]), (mean_b - mean_a)[1:][usable]
    if np.isnan(difference) or len(draws) < n_draws / 2:
        raise CohortError(
            f"{metric} is undefined in every split, or in most draws; a split needs patients of "
            "both kinds, or values that differ"
        )
    tail = (1 - confidence) / 2
    of_a, of_b, of_both = (
        np.quantile(x, [tail, 1 - tail]) for x in (mean_a[1:][usable], mean_b[1:][usable], draws)
    )
    sides = [int((draws <= 0).sum()), int((draws >= 0).sum())]
    return BootstrapDifference(
        mean_a=float(mean_a[0]),
        a_low=float(of_a[0]),
        a_high=float(of_a[1]),
        mean_b=float(mean_b[0]),
        b_low=float(of_b[0]),
        b_high=float(of_b[1]),
        difference=difference,
        ci_low=float(of_both[0]),
        ci_high=float(of_both[1]),
        standard_error=float(draws.std(ddof=1)),
        p=min(1.0, 2 * (1 + min(sides)) / (1 + len(draws))),
        n_patients=len(units),
        n_draws=len(draws),
    )


def _mean_scores(
    y: NDArray[np.float64],
    folds: NDArray[np.integer],
    a: NDArray[np.floating],
    b: NDArray[np.floating],
    weights: NDArray[np.float64],
    scorer: _Scorer,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean score of both encoders over the splits, under every row of weights."""
    totals = np.zeros((2, len(weights)))
    n_defined = np.zeros(len(weights))
    for repeat, fold_of in enumerate(folds):
        for fold in np.unique(fold_of[fold_of >= 0]):
            tested = np.flatnonzero(fold_of == fold)
            scores = scorer(
                weights[:, tested],
                y[tested],
                a[repeat, tested].astype(np.float64),
                b[repeat, tested].astype(np.float64),
            )
            defined = ~(np.isnan(scores[0]) | np.isnan(scores[1]))
            n_defined += defined
            totals += np.where(defined, scores, 0.0)
    means = np.full(totals.shape, np.nan)
    np.divide(totals, n_defined, out=means, where=n_defined > 0)
    return means[0], means[1]


def _weighted_r(
    weights: NDArray[np.float64],
    y: NDArray[np.float64],
    a: NDArray[np.float64],
    b: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Pearson's r under weights; 0 where only the predictions do not vary, as in a study."""
    # Centred first: sums of squares of numbers far from zero would cancel.
    y, a, b = (x - x.mean() for x in (y, a, b))
    columns = [np.ones_like(y), y, y * y, a, a * a, y * a, b, b * b, y * b]
    n, s_y, s_yy, s_a, s_aa, s_ya, s_b, s_bb, s_yb = (weights @ np.stack(columns, axis=1)).T
    n = np.maximum(n, 1)
    spread_y = s_yy - s_y**2 / n
    varies = spread_y > 1e-12 * np.maximum(y @ y, 1e-300)
    scores = []
    for s, ss, product, x in ((s_a, s_aa, s_ya, a), (s_b, s_bb, s_yb, b)):
        spread = ss - s**2 / n
        predicts = varies & (spread > 1e-12 * np.maximum(x @ x, 1e-300))
        r = np.where(varies, 0.0, np.nan)
        scale = np.sqrt(np.where(predicts, spread_y * spread, 1.0))
        np.divide(product - s_y * s / n, scale, out=r, where=predicts)
        scores.append(r)
    return scores[0], scores[1]


def _weighted_auroc(
    weights: NDArray[np.float64],
    y: NDArray[np.float64],
    a: NDArray[np.float64],
    b: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Share of weighted pairs that are in the right order, ties counting one half."""
    mutated = y == 1
    of_mutated, of_wild_type = weights[:, mutated], weights[:, ~mutated]
    n_pairs = of_mutated.sum(axis=1) * of_wild_type.sum(axis=1)
    scores = []
    for x in (a, b):
        won = (np.sign(x[mutated][:, None] - x[~mutated]) + 1) / 2
        n_won = np.einsum("ij,ij->i", of_mutated @ won, of_wild_type)
        area = np.full(len(weights), np.nan)
        np.divide(n_won, n_pairs, out=area, where=n_pairs > 0)
        scores.append(area)
    return scores[0], scores[1]


def _weighted_accuracy(
    weights: NDArray[np.float64],
    y: NDArray[np.float64],
    a: NDArray[np.float64],
    b: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weighted share of rows whose class was predicted."""
    n = weights.sum(axis=1)
    right = weights @ np.stack([a == y, b == y], axis=1).astype(np.float64)
    shares = np.full(right.shape, np.nan)
    np.divide(right, n[:, None], out=shares, where=n[:, None] > 0)
    return shares[:, 0], shares[:, 1]


_SCORERS: dict[str, _Scorer] = {
    "pearson_r": _weighted_r,
    "auroc": _weighted_auroc,
    "accuracy": _weighted_accuracy,
}


def _check(
    y: NDArray[np.float64],
    folds: NDArray[np.integer],
    a: NDArray[np.floating],
    b: NDArray[np.floating],
    metric: str,
    n_draws: int,
    confidence: float,
) -> NDArray[np.intp]:
    """Refuse what the bootstrap cannot judge; the rows that were tested."""
    if metric not in _SCORERS:
        raise CohortError(f"metric {metric!r} is unknown; expected {', '.join(_SCORERS)}")
    if not 0 < confidence < 1:
        raise CohortError(f"confidence must be between 0 and 1, got {confidence}")
    if n_draws < 200:
        raise CohortError(f"expected at least 200 draws, got {n_draws}")
    if folds.ndim != 2 or not folds.shape[1:] == y.shape or not folds.shape == a.shape == b.shape:
        raise CohortError(
            f"got folds of shape {folds.shape} and predictions of shape {a.shape} and {b.shape} "
            f"for {y.size} rows; both encoders need one prediction a repeat and row"
        )
    if len(folds) < 2:
        raise CohortError(
            f"got {len(folds)} repeat(s), expected at least 2: with one deal of the folds, its "
            "chance cannot be told from a difference"
        )
    tested = folds >= 0
    if not (tested == tested[0]).all():
        raise CohortError("a row is tested in some repeats only; predict it in all or in none")
    rows = np.flatnonzero(tested[0])
    if np.isnan(a[:, rows]).any() or np.isnan(b[:, rows]).any() or np.isnan(y[rows]).any():
        raise CohortError("a row that was tested has no value or no prediction of an encoder")
    if metric == "auroc" and np.setdiff1d(y[rows], [0.0, 1.0]).size:
        raise CohortError("the AUROC is of a status of 0 or 1; got another value")
    return rows
