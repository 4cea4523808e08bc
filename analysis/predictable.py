"""Which genes can be predicted from the images at all: a permutation test of the whole procedure.

Tests on finished out-of-fold predictions do not hold their level. Correlating averaged
predictions with the values finds too little, because every prediction contains the mean of
the other patients; a t-test of r over the splits finds too much, because splits share
patients, and where y_i enters the prediction of j, y_j enters that of i. On genes driven by
nothing (150 patients, 5 folds, 10 repeats), p < 0.05 came out in 1 % of genes by the first,
in 35 % by the second and in 8 % by the second with its variance corrected as in
:mod:`analysis.compare`. So here values are permuted before anything is fitted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from analysis.cores import on_every_core
from analysis.expression import TASK, ExpressionSettings, TargetBlock, split_scores, target_blocks
from analysis.multiplicity import q_values
from analysis.patients import PatientCohort, PatientResult
from analysis.ridge import predict, split_axes
from featurestore.errors import CohortError

if TYPE_CHECKING:
    import pandas as pd

_STREAM = 1_000_003  # keeps the permutations' random streams apart from those of the folds
_AT_A_TIME = 10  # permutations fitted at once, to bound memory


@dataclass(frozen=True)
class Predictability:
    """What a permutation test said of every encoder and gene.

    Attributes
    ----------
    table : DataFrame
        One row an encoder and gene: ``encoder``, ``target``, ``r`` (mean r within test folds,
        over the repeats that were tested), ``null_mean`` and ``null_sd`` of the same under
        permutation, ``p`` (one-sided), ``q`` (Benjamini-Hochberg over all genes of the
        encoder).
    n_permutations, n_repeats : int
        Permutations, and repeats of the cross-validation that r is a mean of.
    within_groups : bool
        True where values were permuted within groups only.
    """

    table: pd.DataFrame
    n_permutations: int
    n_repeats: int
    within_groups: bool


def predictability_test(
    cohort: PatientCohort,
    result: PatientResult,
    settings: ExpressionSettings,
    *,
    n_permutations: int = 100,
    n_repeats: int = 2,
    on_progress: Callable[[int, int], None] | None = None,
    n_jobs: int | None = None,
) -> Predictability:
    """Test, for every encoder and gene, whether the features predict the gene at all.

    The statistic is Pearson's r within the test patients of a fold, averaged over the folds
    of the first ``n_repeats`` repeats. Its null distribution comes from permuting the
    patients' values, all genes alike, and doing everything again on the same splits,
    the choice of the penalty included. Where the cohort has groups, values are permuted
    within groups: the question is then whether images predict more than the group does.

    Every gene's r is standardised by the mean and the standard deviation of its own null
    draws (each null draw by those of the others), and compared with the standardised null
    draws of all genes::

        p = (1 + draws at least as large) / (1 + draws)

    Assumptions: under the null hypothesis patients (of a group) are exchangeable, and the
    standardised null distribution is of one shape for all genes, which is what lets
    100 permutations give p-values below 0.01.

    Parameters
    ----------
    cohort, result, settings
        What :func:`analysis.expression.evaluate_expression` was given, and its result.
    n_permutations : int
        At least 20.
    n_repeats : int
        Repeats to test on; at most those of ``result``.
    on_progress : callable, optional
        Called as ``on_progress(n_done, n_total)`` after each split of each encoder.
    n_jobs : int, optional
        Splits worked on at a time; by default one a core. The numbers do not depend on it.

    Returns
    -------
    Predictability

    Raises
    ------
    CohortError
        The result is not of expression, or permutations or repeats are too few or too many.

    References
    ----------
    Ojala & Garriga, Permutation tests for studying classifier performance, JMLR 11:1833-1863,
    2010 (test 1). Benjamini & Hochberg, J R Stat Soc B 57:289-300, 1995. Phipson & Smyth,
    Permutation p-values should never be zero, Stat Appl Genet Mol Biol 9:39, 2010.
    """
    import pandas as pd

    _check(result, n_permutations, n_repeats)
    values = cohort.targets[list(result.targets)].to_numpy(dtype=np.float64)
    blocks = target_blocks(values)
    groups = np.zeros(len(values), dtype=np.intp)
    if cohort.groups is not None:
        groups = np.unique(cohort.groups, return_inverse=True)[1]
    # A gene known of fewer patients has -1 elsewhere, so the largest is the fold dealt.
    folds = np.max([result.folds[result.targets[block.columns[0]]] for block in blocks], axis=0)
    work = [
        (encoder, repeat, fold)
        for encoder in cohort.features
        for repeat in range(n_repeats)
        for fold in range(result.n_folds)
    ]
    orders = [_permutations(block.known, groups, n_permutations, result.seed) for block in blocks]

    def run(item: tuple[str, int, int]) -> NDArray[np.float64]:
        encoder, repeat, fold = item
        in_test = folds[repeat] == fold
        scores = np.empty((n_permutations, values.shape[1]))
        for block, order in zip(blocks, orders, strict=True):
            scores[:, block.columns] = _null_scores(
                cohort.features[encoder], values, in_test, block, order, settings
            )
        return scores

    found = list(on_every_core(run, work, n_jobs=n_jobs, on_progress=on_progress))
    observed = _observed(result, n_repeats)
    tables = []
    for encoder in cohort.features:
        draws = [scores for item, scores in zip(work, found, strict=True) if item[0] == encoder]
        tables.append(_table(encoder, result.targets, observed[encoder], _mean_defined(draws)))
    return Predictability(
        table=pd.concat(tables, ignore_index=True),
        n_permutations=n_permutations,
        n_repeats=n_repeats,
        within_groups=cohort.groups is not None,
    )


def _permutations(
    known: NDArray[np.bool_], groups: NDArray[np.intp], n_permutations: int, seed: int
) -> NDArray[np.intp]:
    """Orders of the known patients, within groups: (n_permutations, n_known).

    The same patient keys serve every block of genes, so genes are permuted alike as far as
    they are known of the same patients.
    """
    of_known = groups[known]
    place = np.argsort(of_known, kind="stable")
    orders = np.empty((n_permutations, len(of_known)), dtype=np.intp)
    for i, order in enumerate(orders):
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_STREAM, i)))
        order[place] = np.lexsort((rng.random(len(known))[known], of_known))
    return orders


def _null_scores(
    features: NDArray[np.float32],
    values: NDArray[np.float64],
    in_test: NDArray[np.bool_],
    block: TargetBlock,
    orders: NDArray[np.intp],
    settings: ExpressionSettings,
) -> NDArray[np.float64]:
    """Score of one split's test patients under every permutation: (n_permutations, n_columns)."""
    test = in_test[block.known]
    known, of_block = features[block.known], values[np.ix_(block.known, block.columns)]
    axes = split_axes(known[~test], known[test], n_components=settings.n_components)
    scores = np.empty((len(orders), of_block.shape[1]))
    for start in range(0, len(orders), _AT_A_TIME):
        some = orders[start : start + _AT_A_TIME]
        # (n_known, permutations x genes): to the ridge, permuted genes are just more genes.
        permuted = of_block[some].transpose(1, 0, 2).reshape(len(of_block), -1)
        predicted, _ = predict(axes, permuted[~test], penalties=settings.penalties)
        scores[start : start + len(some)] = split_scores(permuted[test], predicted)[0].reshape(
            len(some), -1
        )
    return scores


def _observed(result: PatientResult, n_repeats: int) -> dict[str, NDArray[np.float64]]:
    """Mean r of every gene over the splits that are tested, by encoder."""
    scores = result.scores
    chosen = scores[(scores["metric"] == "pearson_r") & (scores["repeat"] < n_repeats)]
    means = chosen.groupby(["encoder", "target"], sort=False)["value"].mean()
    return {
        encoder: means.loc[encoder].reindex(list(result.targets)).to_numpy()
        for encoder in result.predictions
    }


def _mean_defined(draws: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Mean over splits, without those where r is undefined; NaN where it is in all."""
    stack = np.stack(draws)
    n_defined = np.sum(~np.isnan(stack), axis=0)
    mean = np.full(n_defined.shape, np.nan)
    np.divide(np.nansum(stack, axis=0), n_defined, out=mean, where=n_defined > 0)
    return mean


def _table(
    encoder: str, targets: tuple[str, ...], r: NDArray[np.float64], null: NDArray[np.float64]
) -> pd.DataFrame:
    import pandas as pd

    mean, sd = np.nanmean(null, axis=0), np.nanstd(null, axis=0, ddof=1)
    p = pooled_p(r, null)
    return pd.DataFrame(
        {
            "encoder": encoder, "target": targets, "r": r,
            "null_mean": mean, "null_sd": sd, "p": p, "q": q_values(p),
        }
    )  # fmt: skip


def pooled_p(observed: NDArray[np.float64], null: NDArray[np.float64]) -> NDArray[np.float64]:
    """One-sided p of every gene against the standardised null draws of all genes.

    Parameters
    ----------
    observed : ndarray of shape (n_targets,)
    null : ndarray of shape (n_permutations, n_targets)
        NaN where undefined.

    Returns
    -------
    ndarray of shape (n_targets,), float64
        1 for a gene whose null draws do not vary: nothing is known of it.
    """
    n = np.sum(~np.isnan(null), axis=0)
    mean, variance = np.nanmean(null, axis=0), np.nanvar(null, axis=0, ddof=1)
    usable = (n > 2) & (variance > 0) & ~np.isnan(observed)
    mean, variance, n = mean[usable], variance[usable], n[usable]
    deviation = null[:, usable] - mean
    # Mean and variance of the other draws, from those of all.
    mean_of_others = -deviation / (n - 1)
    variance_of_others = ((n - 1) * variance - np.square(deviation) * n / (n - 1)) / (n - 2)
    draws = (deviation - mean_of_others) / np.sqrt(np.maximum(variance_of_others, 1e-300))
    pool = np.sort(draws[~np.isnan(draws)])
    z = (observed[usable] - mean) / np.sqrt(variance)
    p = np.ones(len(observed))
    p[usable] = (1 + len(pool) - np.searchsorted(pool, z, side="left")) / (1 + len(pool))
    return p


def predictable_with_either(
    found: Predictability, encoder_a: str, encoder_b: str, *, q: float = 0.05
) -> tuple[str, ...]:
    """Genes that at least one of two encoders predicts, in the order of the table.

    A gene's p is the smaller of the encoders' two, doubled (Bonferroni), and Benjamini and
    Hochberg's procedure runs over all genes. The choice treats both encoders alike: to
    count on genes predictable with B would favour B.

    Raises
    ------
    CohortError
        An encoder was not tested.
    """
    by_encoder = {
        name: rows.set_index("target")["p"] for name, rows in found.table.groupby("encoder")
    }
    for name in (encoder_a, encoder_b):
        if name not in by_encoder:
            raise CohortError(f"encoder {name!r} was not tested for predictability")
    smaller = by_encoder[encoder_a].combine(by_encoder[encoder_b], min)
    smaller = smaller.loc[by_encoder[encoder_a].index]
    passed = q_values(np.minimum(1, 2 * smaller.to_numpy())) <= q
    return tuple(smaller.index[passed])


def _check(result: PatientResult, n_permutations: int, n_repeats: int) -> None:
    if result.task != TASK:
        raise CohortError(f"the test is of expression; got a result of {result.task!r}")
    if n_permutations < 20:
        raise CohortError(f"expected at least 20 permutations, got {n_permutations}")
    if not 1 <= n_repeats <= result.n_repeats:
        raise CohortError(
            f"expected from 1 to {result.n_repeats} repeats (those of the result), got {n_repeats}"
        )
