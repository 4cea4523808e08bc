"""The sentences of a study of genes: of n predictable genes, m are better with encoder B.

Every count that papers report stands here beside what it would be by chance.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from analysis.encoder_swap import METRIC_OF_TASK, BetterCount, count_better
from analysis.patients import PatientCohort, PatientResult
from analysis.predictable import Predictability, predictable_with_either, q_values
from featurestore.errors import CohortError

if TYPE_CHECKING:
    import pandas as pd

Q_LEVEL = 0.05


@dataclass(frozen=True)
class Verdict:
    """What one pair of encoders comes to over all genes of a task.

    Attributes
    ----------
    task, metric, encoder_a, encoder_b : str
        "Better" is a higher mean of ``metric`` over the splits.
    n_genes : int
        Genes evaluated.
    predictable : tuple of str
        Genes predictable with either encoder at ``Q_LEVEL``; all genes evaluated, where
        predictability was not tested.
    predictability_tested : bool
    n_p05 : dict of str to int
        By encoder, genes with an uncorrected p of predictability below 0.05: what papers
        count. About 5 % of all genes come by chance. Empty where not tested.
    n_q05 : dict of str to int
        The same after Benjamini-Hochberg over all genes. Empty where not tested.
    better : BetterCount or None
        Of ``predictable``, those better with B, and the same if the encoders were equal.
        None where no gene is predictable.
    n_significant_b, n_significant_a : int
        Of ``predictable``, those better with B (with A) by the corrected test, at a
        Benjamini-Hochberg q of at most ``Q_LEVEL`` over them.
    n_naive_b, n_naive_a : int
        The same by the naive test at p < 0.05: what papers report; far too many.
    """

    task: str
    metric: str
    encoder_a: str
    encoder_b: str
    n_genes: int
    predictable: tuple[str, ...]
    predictability_tested: bool
    n_p05: dict[str, int]
    n_q05: dict[str, int]
    better: BetterCount | None
    n_significant_b: int
    n_significant_a: int
    n_naive_b: int
    n_naive_a: int

    def __str__(self) -> str:
        """Say it in two or three sentences."""
        kind = "predictable genes" if self.predictability_tested else "mutated genes"
        if self.better is None:
            return (
                f"Of {self.n_genes} genes, none is predictable from either {self.encoder_a} or "
                f"{self.encoder_b} (q ≤ {Q_LEVEL})."
            )
        n, found = len(self.predictable), self.better
        text = (
            f"Of {n} {kind}, {found.n_better_b} ({found.n_better_b / n:.0%}) are predicted better "
            f"with {self.encoder_b} than with {self.encoder_a} ({self.metric}); if the encoders "
            f"were equal, it would be {found.null_low:.0f} to {found.null_high:.0f} in 95 % of "
            f"cases (p = {found.p_swap:.2g}). By the corrected test with q ≤ {Q_LEVEL}, "
            f"{self.n_significant_b} are better and {self.n_significant_a} worse; by the naive "
            f"test with p < 0.05 it would be {self.n_naive_b} and {self.n_naive_a}."
        )
        if not self.predictability_tested:
            return text
        counts = ", ".join(
            f"{self.n_p05[name]} from {name} ({self.n_q05[name]} after correction)"
            for name in (self.encoder_a, self.encoder_b)
        )
        return (
            f"{text} Of {self.n_genes} genes, predictable at an uncorrected p < 0.05: {counts}; "
            f"about {0.05 * self.n_genes:.0f} would be by chance."
        )


def reach_verdict(
    cohort: PatientCohort,
    result: PatientResult,
    comparisons: pd.DataFrame,
    encoder_a: str,
    encoder_b: str,
    *,
    predictability: Predictability | None = None,
    n_swaps: int = 1000,
    on_progress: Callable[[int, int], None] | None = None,
    n_jobs: int | None = None,
) -> Verdict:
    """Count, for one pair of encoders, what papers count, and what chance would give.

    Parameters
    ----------
    cohort, result
        What was evaluated, and the result.
    comparisons : DataFrame
        :func:`analysis.compare.compare_encoders` of the result's scores.
    encoder_a, encoder_b : str
        A pair in the order of ``comparisons``.
    predictability : Predictability, optional
        Of the same result: restricts the counts to genes predictable with either encoder.
    n_swaps, on_progress, n_jobs
        As in :func:`analysis.encoder_swap.count_better`.

    Returns
    -------
    Verdict

    Raises
    ------
    CohortError
        The pair is not in ``comparisons``.
    """
    metric = METRIC_OF_TASK[result.task]
    pair = comparisons[
        (comparisons["metric"] == metric)
        & (comparisons["encoder_a"] == encoder_a)
        & (comparisons["encoder_b"] == encoder_b)
    ]
    if pair.empty:
        raise CohortError(f"{encoder_a} and {encoder_b} were not compared by {metric}")
    genes, n_p05, n_q05 = result.targets, {}, {}
    if predictability is not None:
        genes = predictable_with_either(predictability, encoder_a, encoder_b, q=Q_LEVEL)
        for name in (encoder_a, encoder_b):
            of_encoder = predictability.table[predictability.table["encoder"] == name]
            n_p05[name] = int((of_encoder["p"] < 0.05).sum())
            n_q05[name] = int((of_encoder["q"] <= Q_LEVEL).sum())
    chosen = pair[pair["target"].isin(genes)]
    counts = dict.fromkeys(("corrected_b", "corrected_a", "naive_b", "naive_a"), 0)
    better = None
    if genes:
        significant = q_values(chosen["p_corrected"].to_numpy()) <= Q_LEVEL
        naive = (chosen["p_naive"] < 0.05).to_numpy()
        up, down = ((sign * chosen["difference"] > 0).to_numpy() for sign in (1, -1))
        counts = {
            "corrected_b": int((significant & up).sum()),
            "corrected_a": int((significant & down).sum()),
            "naive_b": int((naive & up).sum()),
            "naive_a": int((naive & down).sum()),
        }
        better = count_better(
            cohort, result, encoder_a, encoder_b,
            genes=genes, n_swaps=n_swaps, on_progress=on_progress, n_jobs=n_jobs,
        )  # fmt: skip
    return Verdict(
        task=result.task,
        metric=metric,
        encoder_a=encoder_a,
        encoder_b=encoder_b,
        n_genes=len(result.targets),
        predictable=tuple(genes),
        predictability_tested=predictability is not None,
        n_p05=n_p05,
        n_q05=n_q05,
        better=better,
        n_significant_b=counts["corrected_b"],
        n_significant_a=counts["corrected_a"],
        n_naive_b=counts["naive_b"],
        n_naive_a=counts["naive_a"],
    )


def add_q_values(comparisons: pd.DataFrame) -> pd.DataFrame:
    """Add ``q_corrected``: Benjamini-Hochberg over the targets of each metric and pair.

    Parameters
    ----------
    comparisons : DataFrame
        As :func:`analysis.compare.compare_encoders` gives it.

    Returns
    -------
    DataFrame
        A copy with one more column.
    """
    keys = ["task", "metric", "encoder_a", "encoder_b"]
    q = comparisons.groupby(keys, sort=False)["p_corrected"].transform(
        lambda p: q_values(p.to_numpy())
    )
    return comparisons.assign(q_corrected=q)
