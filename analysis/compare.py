"""Whether two encoders differ: paired tests over the splits of a repeated cross-validation.

The splits of a repeated cross-validation share most of their training tiles, so their
scores are far from independent. A paired t-test that takes them as independent (the naive
one) finds differences where there are none; it is given here only beside the corrected
one, because it is what papers report.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featurestore.errors import CohortError

if TYPE_CHECKING:
    import pandas as pd

COMPARISON_COLUMNS = (
    "task", "target", "metric", "encoder_a", "encoder_b", "mean_a", "mean_b", "difference",
    "standard_error", "ci_low", "ci_high", "t_naive", "p_naive", "t_corrected", "p_corrected",
    "n_splits", "n_repeats", "n_folds", "leakage_checked", "leakage_note",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Comparison:
    """One score of two encoders on the same splits.

    Attributes
    ----------
    mean_a, mean_b : float
        Mean score of each encoder over the splits.
    difference : float
        ``mean_b - mean_a``: positive where the second encoder scores higher.
    standard_error : float
        Of the difference, from the corrected variance.
    ci_low, ci_high : float
        Confidence interval of the difference, from the same.
    t_naive, p_naive : float
        Paired t-test over splits as if they were independent; two-sided. Too small a p.
    t_corrected, p_corrected : float
        Corrected resampled t-test; two-sided.
    n_splits : int
        Splits on which both scores are defined; degrees of freedom are one less.
    """

    mean_a: float
    mean_b: float
    difference: float
    standard_error: float
    ci_low: float
    ci_high: float
    t_naive: float
    p_naive: float
    t_corrected: float
    p_corrected: float
    n_splits: int


def compare_scores(
    a: ArrayLike,
    b: ArrayLike,
    n_train: ArrayLike,
    n_test: ArrayLike,
    *,
    confidence: float = 0.95,
) -> Comparison:
    """Compare two encoders' scores on the same splits, naively and corrected.

    With d the J differences, the corrected statistic is::

        t = mean(d) / sqrt((1/J + n_test/n_train) · var(d)),  J − 1 degrees of freedom

    where var has J − 1 in its denominator; the naive one lacks the term n_test/n_train.
    The interval is mean(d) ± t(confidence, J − 1) times the same square root.

    Assumptions: all splits are of one cohort, of about one size (the mean ratio is used
    where folds differ by some tiles), and the test is of the mean score over training
    sets of this size. The correction takes the correlation between splits to be
    n_test / (n_train + n_test); it is an approximation, and no unbiased one exists.

    Parameters
    ----------
    a, b : array-like of shape (n_splits,)
        Scores of the first and the second encoder, in the same order of splits. A split
        where either is NaN is left out of both.
    n_train, n_test : array-like of shape (n_splits,) or int
        Tiles (or patients) trained and tested on in each split.
    confidence : float
        Coverage of the interval, between 0 and 1.

    Returns
    -------
    Comparison
        Where all differences are zero, both t are 0 and both p are 1. Where they are one
        constant other than zero, there is no variance to judge it by: t is infinite with
        the sign of the difference, p is 0, its limit, and the interval is the difference.

    Raises
    ------
    CohortError
        The encoders have different numbers of splits, fewer than two splits remain, or
        the sizes of the splits cannot be those of one cohort.

    References
    ----------
    Nadeau & Bengio, Inference for the generalization error, Machine Learning 52:239-281,
    2003. Bouckaert & Frank, Evaluating the replicability of significance tests for
    comparing learning algorithms, PAKDD 2004 (for repeated cross-validation).
    """
    if not 0 < confidence < 1:
        raise CohortError(f"confidence must be between 0 and 1, got {confidence}")
    scores_a, scores_b = _paired(a, b)
    ratio = _test_train_ratio(n_train, n_test, len(scores_a))
    defined = ~(np.isnan(scores_a) | np.isnan(scores_b))
    n_splits = int(defined.sum())
    if n_splits < 2:
        raise CohortError(
            f"both scores are defined on {n_splits} of {len(scores_a)} splits, expected at least "
            "2; use more folds or repeats, or a score that every split defines"
        )
    scores_a, scores_b, ratio = scores_a[defined], scores_b[defined], ratio[defined]
    differences = scores_b - scores_a
    difference, variance = float(differences.mean()), _variance(differences)
    if variance == 0:
        difference = float(differences[0])
    se_naive = math.sqrt(variance / n_splits)
    se_corrected = math.sqrt(variance * (1 / n_splits + float(ratio.mean())))
    t_naive, p_naive = _t_test(difference, se_naive, n_splits - 1)
    t_corrected, p_corrected = _t_test(difference, se_corrected, n_splits - 1)
    half_width = se_corrected * _t_quantile((1 + confidence) / 2, n_splits - 1)
    return Comparison(
        mean_a=float(scores_a.mean()),
        mean_b=float(scores_b.mean()),
        difference=difference,
        standard_error=se_corrected,
        ci_low=difference - half_width,
        ci_high=difference + half_width,
        t_naive=t_naive,
        p_naive=p_naive,
        t_corrected=t_corrected,
        p_corrected=p_corrected,
        n_splits=n_splits,
    )


def in_words(found: Comparison) -> str:
    """One line: the effect with its interval, then the corrected p, then the paper's.

    The naive p is never said alone, nor without what is wrong with it.
    """
    return (
        f"{found.difference:+.4f} (interval {found.ci_low:+.4f} to {found.ci_high:+.4f}); "
        f"corrected p = {found.p_corrected:.2g}; what the paper did, a paired t-test over "
        f"{found.n_splits} splits as if independent: p = {found.p_naive:.2g}, too small"
    )


def compare_encoders(
    scores: pd.DataFrame,
    *,
    n_folds: int,
    n_repeats: int,
    leakage_checked: bool,
    leakage_note: str,
    task: str = "tissue",
) -> pd.DataFrame:
    """Compare every pair of encoders, in their given order, by every score.

    Parameters
    ----------
    scores : DataFrame
        As an evaluation returns it, or as the store gives it back: one row an encoder,
        repeat, fold, target and metric.
    n_folds, n_repeats : int
        The cross-validation that the scores are of.
    leakage_checked : bool
        Whether it is known that no patient is on two sides of a split.
    leakage_note : str
        On what that rests, or why it is not known.
    task : str
        "tissue", "expression" or "mutation"; written into every row.

    Returns
    -------
    DataFrame
        One row a pair, target and metric, with the columns ``COMPARISON_COLUMNS``;
        ``difference`` is ``encoder_b`` minus ``encoder_a``. See :class:`Comparison`.

    Raises
    ------
    CohortError
        The encoders were not scored on the same splits.
    """
    import pandas as pd

    rows = []
    # By position, not by frame: a study of genes has thousands of these groups.
    splits = scores[["repeat", "fold", "n_train", "n_test"]].to_numpy()
    values = scores["value"].to_numpy(dtype=np.float64)
    by_key: dict[tuple[str, str, str], NDArray[np.intp]] = scores.groupby(
        ["encoder", "target", "metric"], sort=False
    ).indices  # type: ignore[assignment]  # pandas-stubs: Hashable keys
    questions = list(dict.fromkeys((target, metric) for _, target, metric in by_key))
    for encoder_a, encoder_b in combinations(scores["encoder"].unique(), 2):
        for target, metric in questions:
            a, b = by_key[encoder_a, target, metric], by_key[encoder_b, target, metric]
            if not np.array_equal(splits[a], splits[b]):
                raise CohortError(
                    f"{encoder_a} and {encoder_b} were not scored on the same splits "
                    f"({metric} of {target}); evaluate them together"
                )
            found = compare_scores(values[a], values[b], splits[a, 2], splits[a, 3])
            rows.append(
                {
                    "task": task,
                    "target": target,
                    "metric": metric,
                    "encoder_a": encoder_a,
                    "encoder_b": encoder_b,
                    **asdict(found),
                    "n_repeats": n_repeats,
                    "n_folds": n_folds,
                    "leakage_checked": leakage_checked,
                    "leakage_note": leakage_note,
                }
            )
    return pd.DataFrame(rows, columns=list(COMPARISON_COLUMNS))


def _paired(a: ArrayLike, b: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    scores_a, scores_b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if scores_a.ndim != 1 or scores_a.shape != scores_b.shape:
        raise CohortError(
            f"got scores of shape {scores_a.shape} and {scores_b.shape}; both encoders need one "
            "score on each of the same splits"
        )
    if np.isinf(scores_a).any() or np.isinf(scores_b).any():
        raise CohortError("a score is infinite; a score that is undefined in a split is NaN")
    return scores_a, scores_b


def _test_train_ratio(n_train: ArrayLike, n_test: ArrayLike, n_splits: int) -> NDArray[np.float64]:
    """n_test / n_train of every split, after a check that the splits are of one cohort."""
    train, test = np.asarray(n_train, dtype=np.float64), np.asarray(n_test, dtype=np.float64)
    for name, sizes in (("n_train", train), ("n_test", test)):
        if sizes.shape not in ((), (n_splits,)):
            raise CohortError(f"got {name} of shape {sizes.shape} for {n_splits} splits")
        if not (sizes > 0).all():
            raise CohortError(f"{name} must be positive in every split, got {sizes.min():g}")
    total = np.broadcast_to(train + test, (n_splits,))
    if n_splits and total.min() != total.max():
        raise CohortError(
            f"the splits are not of one cohort: n_train + n_test goes from {total.min():g} to "
            f"{total.max():g}; compare scores of one cross-validation only"
        )
    return np.broadcast_to(test / train, (n_splits,))


def _variance(differences: NDArray[np.float64]) -> float:
    """Sample variance; exactly 0 where the differences are equal but for rounding."""
    spread = float(np.ptp(differences))
    if spread <= 8 * np.finfo(np.float64).eps * max(1.0, float(np.abs(differences).max())):
        return 0.0
    return float(differences.var(ddof=1))


def _t_test(difference: float, standard_error: float, df: int) -> tuple[float, float]:
    """The statistic and its two-sided p."""
    from scipy.stats import t as student

    if standard_error == 0:
        # Rounding alone can leave equal scores a last bit apart.
        if abs(difference) <= 8 * np.finfo(np.float64).eps:
            return 0.0, 1.0
        return math.copysign(math.inf, difference), 0.0
    t = difference / standard_error
    return t, float(2 * student.sf(abs(t), df))


def _t_quantile(q: float, df: int) -> float:
    from scipy.stats import t as student

    return float(student.ppf(q, df))
