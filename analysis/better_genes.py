"""The counts that papers report of genes, for every pair of encoders, with what chance gives."""

from __future__ import annotations

from collections.abc import Callable, Collection
from itertools import combinations
from typing import TYPE_CHECKING

from analysis.encoder_swap import count_better
from analysis.patients import PatientCohort, PatientResult
from analysis.predictable import Predictability, predictable_with_either

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    "encoder_a", "encoder_b", "genes", "n_genes", "n_better_b", "null_median", "null_low",
    "null_high", "p_swap",
)  # fmt: skip


def better_genes(
    cohort: PatientCohort,
    result: PatientResult,
    *,
    predictability: Predictability | None = None,
    baselines: Collection[str] = (),
    n_swaps: int = 1000,
    on_progress: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """Of n genes, m are better with the second encoder; and how many if nothing were there.

    Parameters
    ----------
    cohort, result
        What was evaluated, and the result.
    predictability : Predictability, optional
        Of the same result: genes are then counted once over all of them, and once over those
        predictable with either encoder.
    baselines : collection of str
        Encoders that are not compared among each other.
    n_swaps : int
        As in :func:`analysis.encoder_swap.count_better`.
    on_progress : callable, optional
        Called as ``on_progress(n_done, n_total)`` after each pair.

    Returns
    -------
    DataFrame
        One row a pair and choice of genes (``all`` or ``predictable``), with the columns
        ``COLUMNS``; a choice that holds no gene has no row.
    """
    import pandas as pd

    rows = []
    pairs = [p for p in combinations(result.predictions, 2) if set(p) - set(baselines)]
    for n_done, (a, b) in enumerate(pairs, 1):
        chosen = {"all": list(result.targets)}
        if predictability is not None:
            found = set(predictable_with_either(predictability, a, b))
            chosen["predictable"] = [gene for gene in result.targets if gene in found]
        for genes, targets in chosen.items():
            if targets:
                counted = count_better(cohort, result, a, b, genes=targets, n_swaps=n_swaps)
                rows.append((a, b, genes, *(getattr(counted, name) for name in COLUMNS[3:])))
        if on_progress is not None:
            on_progress(n_done, len(pairs))
    return pd.DataFrame(rows, columns=list(COLUMNS))
