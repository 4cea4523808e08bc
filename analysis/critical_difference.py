"""Many encoders over many targets: average ranks, and which of them cannot be told apart.

This is what a critical difference diagram draws. It says which encoder does better across
targets; how much better it is, the scores say.
"""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import CohortError

if TYPE_CHECKING:
    import pandas as pd

RANK_COLUMNS = (
    "encoder", "metric", "mean_rank", "mean_score", "critical_difference", "p_f", "n_targets",
)  # fmt: skip
MIN_TARGETS = 6
"""Fewer targets cannot rank even three encoders beyond chance, whatever the scores are."""


@dataclass(frozen=True)
class CriticalDifference:
    """Average ranks of encoders over targets.

    Attributes
    ----------
    ranks : Series
        Average rank of every encoder, 1 the best, best first.
    mean_scores : Series
        Mean score of every encoder over the targets, in the same order.
    critical_difference : float
        Encoders whose average ranks differ by less cannot be told apart (Nemenyi).
    groups : tuple of tuple of str
        Largest sets of encoders, each within one critical difference; encoders that stand
        in no set are alone.
    chi2, p_chi2 : float
        Friedman's statistic, corrected for ties, and its p.
    f, p_f : float
        Iman and Davenport's statistic and its p; the one to read, chi2 is conservative.
    n_targets : int
    alpha : float
        Level of the critical difference.
    """

    ranks: pd.Series[float]
    mean_scores: pd.Series[float]
    critical_difference: float
    groups: tuple[tuple[str, ...], ...]
    chi2: float
    p_chi2: float
    f: float
    p_f: float
    n_targets: int
    alpha: float


def critical_difference(scores: pd.DataFrame, *, alpha: float = 0.05) -> CriticalDifference:
    """Rank encoders within every target and compare their average ranks.

    Assumptions: targets are independent of each other. Tissues or cohorts are; genes of one
    cohort are not, since they share patients and are expressed together: over genes the
    ranks describe, and the p is too small. More of the metric is better; give the negative
    of one where less is.

    Parameters
    ----------
    scores : DataFrame of shape (n_targets, n_encoders)
        Mean score over the splits.
    alpha : float
        Level, between 0 and 1.

    Returns
    -------
    CriticalDifference

    Raises
    ------
    CohortError
        There are fewer than 3 encoders or 6 targets, a score is missing, or the encoders
        score alike on every target.

    References
    ----------
    Demšar, Statistical comparisons of classifiers over multiple data sets, JMLR 7:1-30,
    2006. Iman & Davenport, Commun Stat A 9:571-595, 1980. Friedman's statistic and the
    studentised range are scipy's.
    """
    import pandas as pd
    from scipy import stats

    _check(scores, alpha)
    values = scores.to_numpy(dtype=np.float64)
    n, k = values.shape
    average = stats.rankdata(-values, axis=1).mean(axis=0)
    if np.ptp(average) == 0 and (np.ptp(values, axis=1) == 0).all():
        raise CohortError("all encoders have the same score on every target; nothing to rank")
    chi2, p_chi2 = stats.friedmanchisquare(*values.T)
    spare = n * (k - 1) - chi2
    f = (n - 1) * chi2 / spare if spare > 0 else math.inf
    p_f = float(stats.f.sf(f, k - 1, (k - 1) * (n - 1)))
    width = _nemenyi_quantile(k, alpha) * math.sqrt(k * (k + 1) / (6 * n))
    order = np.argsort(average, kind="stable")
    names = [str(scores.columns[i]) for i in order]
    return CriticalDifference(
        ranks=pd.Series(average[order], index=names),
        mean_scores=pd.Series(values.mean(axis=0)[order], index=names),
        critical_difference=width,
        groups=_groups(names, average[order], width),
        chi2=float(chi2),
        p_chi2=float(p_chi2),
        f=float(f),
        p_f=p_f,
        n_targets=n,
        alpha=alpha,
    )


def encoder_ranks(scores: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Average ranks of encoders over the targets of a metric, as rows to be kept.

    Parameters
    ----------
    scores : DataFrame
        As an evaluation returns it: one row an encoder, target, metric and split. Targets
        without a score of every encoder, and the target "all", are passed over.
    metric : str
        One of which more is better.

    Returns
    -------
    DataFrame
        One row an encoder, best first, with the columns ``RANK_COLUMNS``; no row where there
        are too few encoders or targets to rank, see :func:`critical_difference`.
    """
    import pandas as pd

    chosen = scores[(scores["metric"] == metric) & (scores["target"] != "all")]
    means = chosen.pivot_table("value", "target", "encoder", sort=False).dropna()
    rows = []
    with suppress(CohortError):
        found = critical_difference(means)
        of_all = (found.critical_difference, found.p_f, found.n_targets)
        for encoder, rank, score in zip(
            found.ranks.index, found.ranks, found.mean_scores, strict=True
        ):
            rows.append((encoder, metric, rank, score, *of_all))
    return pd.DataFrame(rows, columns=list(RANK_COLUMNS))


@cache
def _nemenyi_quantile(k: int, alpha: float) -> float:
    """Quantile of the studentised range over √2; scipy integrates it anew each time."""
    from scipy.stats import studentized_range

    return float(studentized_range.ppf(1 - alpha, k, np.inf)) / math.sqrt(2)


def _groups(
    names: list[str], ranks: NDArray[np.float64], width: float
) -> tuple[tuple[str, ...], ...]:
    """Runs of neighbours within one width that are not part of a longer run."""
    found: list[tuple[int, int]] = []
    for first in range(len(names)):
        last = int(np.flatnonzero(ranks - ranks[first] < width)[-1])
        if last > first and (not found or last > found[-1][1]):
            found.append((first, last))
    return tuple(tuple(names[first : last + 1]) for first, last in found)


def _check(scores: pd.DataFrame, alpha: float) -> None:
    n, k = scores.shape
    if not 0 < alpha < 1:
        raise CohortError(f"alpha must be between 0 and 1, got {alpha}")
    if k < 3:
        raise CohortError(f"got {k} encoders, expected at least 3; compare two of them directly")
    if n < MIN_TARGETS:
        raise CohortError(
            f"got {n} targets, expected at least {MIN_TARGETS}: average ranks of fewer say nothing"
        )
    if scores.columns.has_duplicates:
        raise CohortError("an encoder stands in the table twice; give one column an encoder")
    missing = scores.isna()
    if missing.to_numpy().any():
        target = scores.index[missing.any(axis=1).to_numpy()][0]
        raise CohortError(
            f"target {target!r} has no score of every encoder; rank only targets that have"
        )
