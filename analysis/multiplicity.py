"""Many genes, many encoders: what a p is worth that was looked for among others."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featurestore.errors import CohortError

if TYPE_CHECKING:
    import pandas as pd


def q_values(p: ArrayLike) -> NDArray[np.float64]:
    """Benjamini-Hochberg q-values: of what has q at most 0.05, about 5 % are false.

    Assumptions: the p-values hold, and are independent or positively dependent, as those of
    genes that are expressed together are.

    Parameters
    ----------
    p : array-like of shape (n,)
        Of one family of hypotheses.

    Returns
    -------
    ndarray of shape (n,), float64

    Raises
    ------
    CohortError
        A p is missing or not between 0 and 1.

    References
    ----------
    Benjamini & Hochberg, J R Stat Soc B 57:289-300, 1995; Benjamini & Yekutieli, Ann Stat
    29:1165-1188, 2001 (dependence). The computation is scipy's.
    """
    from scipy.stats import false_discovery_control

    return np.asarray(false_discovery_control(_checked(p)), dtype=np.float64)


def holm(p: ArrayLike) -> NDArray[np.float64]:
    """Holm's adjusted p-values: the chance of one false finding or more is at most the level.

    The i-th smallest p is multiplied by the number of hypotheses that are left, n - i + 1,
    and is never less than an earlier one. Assumes that the p-values hold, and nothing about
    how they depend on each other.

    Parameters
    ----------
    p : array-like of shape (n,)
        Of one family of hypotheses.

    Returns
    -------
    ndarray of shape (n,), float64

    Raises
    ------
    CohortError
        A p is missing or not between 0 and 1.

    References
    ----------
    Holm, Scand J Stat 6:65-70, 1979.
    """
    given = _checked(p)
    order = np.argsort(given)
    left = len(given) - np.arange(len(given))
    adjusted = np.empty(len(given))
    adjusted[order] = np.minimum(1, np.maximum.accumulate(left * given[order]))
    return adjusted


def add_q_values(comparisons: pd.DataFrame) -> pd.DataFrame:
    """Add ``q``: Benjamini-Hochberg of ``p`` over the targets of each metric and pair.

    Parameters
    ----------
    comparisons : DataFrame
        As :func:`analysis.reported.reported` gives it.

    Returns
    -------
    DataFrame
        A copy with one more column.
    """
    return _adjusted(comparisons, "q", ["task", "metric", "encoder_a", "encoder_b"], q_values)


def add_holm(comparisons: pd.DataFrame) -> pd.DataFrame:
    """Add ``p_holm``: Holm's adjustment of ``p`` over the pairs of each metric and target.

    Where one target is judged (tissue) and many encoders are, this is the column to read;
    where many genes are, the q-values are.

    Parameters
    ----------
    comparisons : DataFrame
        As :func:`analysis.reported.reported` gives it.

    Returns
    -------
    DataFrame
        A copy with one more column.
    """
    return _adjusted(comparisons, "p_holm", ["task", "metric", "target"], holm)


def _adjusted(
    comparisons: pd.DataFrame,
    column: str,
    keys: list[str],
    method: Callable[[ArrayLike], NDArray[np.float64]],
) -> pd.DataFrame:
    adjusted = comparisons.groupby(keys, sort=False)["p"].transform(lambda p: method(p.to_numpy()))
    return comparisons.assign(**{column: adjusted})


def _checked(p: ArrayLike) -> NDArray[np.float64]:
    given = np.asarray(p, dtype=np.float64)
    if given.ndim != 1 or not given.size:
        raise CohortError(f"expected a list of p-values, got an array of shape {given.shape}")
    bad = given[~((given >= 0) & (given <= 1))]
    if bad.size:
        raise CohortError(
            f"{bad.size} of {given.size} p-values are missing or not between 0 and 1 (the first "
            f"is {bad[0]:g}); leave out what was not tested"
        )
    return given
