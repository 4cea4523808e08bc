"""How many genes does one encoder predict better, and how many would it if they were equal?

The null distribution comes from exchanging the two encoders' finished predictions, patient
by patient: if neither encoder is better, the labels of a patient's two predictions carry no
information. A patient is exchanged in all repeats and for all genes at once, so genes that
are expressed together move together; a binomial count, which takes genes as independent,
has too narrow a null distribution. Permuting patients against values would answer another
question (is anything predictable?) and flipping the signs of splits would take splits that
share their patients as independent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.cores import on_every_core
from analysis.patients import PatientCohort, PatientResult
from featurestore.errors import CohortError

_STREAM = 1_000_033  # keeps these random streams apart from those of folds and permutations


@dataclass(frozen=True)
class BetterCount:
    """Genes that one encoder predicts better than another, and the same by chance.

    Attributes
    ----------
    n_genes, n_better_b : int
        Genes counted, and those whose mean score over the splits is higher with B.
    null_counts : ndarray of shape (n_swaps,), int64
        ``n_better_b`` under each exchange.
    null_median, null_low, null_high : float
        Median and central 95 % of it.
    p_swap : float
        Two-sided p of ``n_better_b``: twice the smaller tail, at most 1.
    """

    n_genes: int
    n_better_b: int
    null_counts: NDArray[np.int64]
    null_median: float
    null_low: float
    null_high: float
    p_swap: float


def count_better(
    cohort: PatientCohort,
    result: PatientResult,
    encoder_a: str,
    encoder_b: str,
    *,
    genes: Sequence[str] | None = None,
    n_swaps: int = 1000,
    on_progress: Callable[[int, int], None] | None = None,
    n_jobs: int | None = None,
) -> BetterCount:
    """Count the genes that B predicts better, with the null distribution of the count.

    The score is that of :data:`analysis.patients.METRIC_OF_TASK`. Before predictions are
    exchanged they are put on one scale within each split, which changes no score: standardised
    for Pearson's r, ranked for the AUROC. Each exchange takes a random half of the patients.

    Assumptions: patients are independent, and under the null hypothesis the pair of a
    patient's predictions is as likely as the exchanged pair. Trained models are taken as
    they are, so the chance that lies in the training patients counts only in part.

    Parameters
    ----------
    cohort, result
        What was evaluated, and the result.
    encoder_a, encoder_b : str
        Names of two encoders of the result.
    genes : sequence of str, optional
        Genes to count, as a rule those predictable with at least one of the two; by
        default all that were evaluated.
    n_swaps : int
        Exchanges drawn; at least 100. The seed is the result's.
    on_progress, n_jobs
        As in :func:`analysis.expression.evaluate_expression`, by repeat.

    Returns
    -------
    BetterCount

    Raises
    ------
    CohortError
        An encoder or gene is not of the result, no gene is given, or exchanges are too few.

    References
    ----------
    Edgington & Onghena, Randomization Tests, 4th ed., 2007 (paired exchange); Phipson &
    Smyth, Stat Appl Genet Mol Biol 9:39, 2010 (the added one).
    """
    chosen = tuple(result.targets if genes is None else genes)
    _check(result, encoder_a, encoder_b, chosen, n_swaps)
    positions = [result.targets.index(gene) for gene in chosen]
    observed = cohort.targets[list(chosen)].to_numpy(dtype=np.float64)
    folds = np.stack([result.folds[gene] for gene in chosen], axis=2)
    a, b = (result.predictions[name][:, :, positions] for name in (encoder_a, encoder_b))
    rng = np.random.default_rng(np.random.SeedSequence(result.seed, spawn_key=(_STREAM,)))
    signs = np.ones((1 + n_swaps, len(observed)))
    # The first row exchanges nothing: it gives the observed count by the same computation.
    signs[1:] = rng.integers(0, 2, size=(n_swaps, len(observed))) * 2 - 1
    of_repeat = _swapped_r if result.task == "expression" else _swapped_auroc

    def run(repeat: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        return of_repeat(observed, folds[repeat], a[repeat], b[repeat], signs, result.n_folds)

    total = np.zeros((len(signs), len(chosen)))
    n_defined = np.zeros(len(chosen), dtype=np.int64)
    repeats = list(range(result.n_repeats))
    for differences, n_of_repeat in on_every_core(
        run, repeats, n_jobs=n_jobs, on_progress=on_progress
    ):
        total += differences
        n_defined += n_of_repeat
    # Equal scores differ by rounding only; they are better with neither.
    counts = (total > 1e-9 * np.maximum(n_defined, 1)).sum(axis=1)
    return _summary(len(chosen), int(counts[0]), counts[1:].astype(np.int64))


def _summary(n_genes: int, n_better: int, null: NDArray[np.int64]) -> BetterCount:
    tails = [
        (1 + int(tail.sum())) / (1 + len(null)) for tail in (null >= n_better, null <= n_better)
    ]
    low, median, high = np.quantile(null, [0.025, 0.5, 0.975])
    return BetterCount(
        n_genes=n_genes,
        n_better_b=n_better,
        null_counts=null,
        null_median=float(median),
        null_low=float(low),
        null_high=float(high),
        p_swap=min(1.0, 2 * min(tails)),
    )


def _swapped_r(
    observed: NDArray[np.float64],
    fold_of: NDArray[np.int8],
    a: NDArray[np.float32],
    b: NDArray[np.float32],
    signs: NDArray[np.float64],
    n_folds: int,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Sum over folds of r of B minus r of A under every exchange, and folds where defined.

    With s = 1 where a patient keeps its predictions and -1 where they are exchanged, A's
    prediction is (a + b)/2 + s (a - b)/2 and B's the same with -s; so the sums that make up
    r are linear in s, and all exchanges are one matrix product.
    """
    total = np.zeros((len(signs), observed.shape[1]))
    n_defined = np.zeros(observed.shape[1], dtype=np.int64)
    for fold in range(n_folds):
        rows = np.flatnonzero((fold_of == fold).any(axis=1))
        known = fold_of[rows] == fold
        n = np.maximum(known.sum(axis=0), 1)
        y, z_a, z_b = (_standardised(x[rows], known, n) for x in (observed, a, b))
        defined = (y != 0).any(axis=0)
        n_defined += defined
        s = signs[:, rows]
        r = []
        parts = [(y * z_a, y * z_b), (z_a, z_b), (np.square(z_a), np.square(z_b))]
        even = [(of_a + of_b).sum(axis=0) / 2 for of_a, of_b in parts]
        odd = [s @ ((of_a - of_b) / 2) for of_a, of_b in parts]
        for sign in (1, -1):
            product, mean, square = (e + sign * o for e, o in zip(even, odd, strict=True))
            spread = np.maximum(square - np.square(mean) / n, 0)
            # Standardised: y has a sum of squares of n.
            scale = np.sqrt(spread * n)
            r.append(np.divide(product, scale, out=np.zeros_like(product), where=scale > 1e-9))
        total += np.where(defined, r[1] - r[0], 0.0)
    return total, n_defined


def _standardised(
    values: NDArray[np.floating], known: NDArray[np.bool_], n: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Mean 0 and mean square 1 over the known rows of every column; 0 elsewhere."""
    x = np.where(known, values, 0.0).astype(np.float64)
    x = np.where(known, x - x.sum(axis=0) / n, 0.0)
    size = np.sqrt(np.square(x).sum(axis=0) / n)
    largest = np.abs(np.where(known, values, 0.0)).max(axis=0)
    # Below this a column is constant but for the rounding of its mean.
    varies = size > 1e-12 * np.maximum(largest, 1e-300)
    np.divide(x, size, out=x, where=varies)
    x[:, ~varies] = 0
    return x


def _swapped_auroc(
    observed: NDArray[np.float64],
    fold_of: NDArray[np.int8],
    a: NDArray[np.float32],
    b: NDArray[np.float32],
    signs: NDArray[np.float64],
    n_folds: int,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """As :func:`_swapped_r`, for the AUROC.

    The AUROC is a mean over pairs of a mutated and a wild-type patient, so it is bilinear
    in s; what is quadratic is common to both encoders and cancels in their difference.
    """
    from scipy.stats import rankdata

    total = np.zeros((len(signs), observed.shape[1]))
    n_defined = np.zeros(observed.shape[1], dtype=np.int64)
    for gene in range(observed.shape[1]):
        for fold in range(n_folds):
            rows = np.flatnonzero(fold_of[:, gene] == fold)
            mutated = observed[rows, gene] == 1
            if mutated.all() or not mutated.any():
                continue
            n_defined[gene] += 1
            ranks = [rankdata(x[rows, gene]) for x in (a, b)]
            # won[i][j]: pairs won when the mutated patient has encoder i, the other one j.
            won = [
                [(np.sign(p[mutated][:, None] - w[~mutated]) + 1) / 2 for w in ranks] for p in ranks
            ]
            of_mutated = (won[0][0] + won[0][1] - won[1][0] - won[1][1]).mean(axis=1)
            of_wild_type = (won[0][0] - won[0][1] + won[1][0] - won[1][1]).mean(axis=0)
            linear = np.empty(len(rows))
            linear[mutated] = of_mutated / (4 * mutated.sum())
            linear[~mutated] = of_wild_type / (4 * (~mutated).sum())
            total[:, gene] -= 2 * signs[:, rows] @ linear
    return total, n_defined


def _check(
    result: PatientResult, encoder_a: str, encoder_b: str, genes: tuple[str, ...], n_swaps: int
) -> None:
    for name in (encoder_a, encoder_b):
        if name not in result.predictions:
            raise CohortError(
                f"encoder {name!r} was not evaluated; expected two of "
                f"{', '.join(map(repr, result.predictions))}"
            )
    unknown = [gene for gene in genes if gene not in set(result.targets)]
    if unknown or not genes:
        named = f"gene {unknown[0]!r} was not evaluated" if unknown else "no gene is given"
        raise CohortError(f"{named}; give genes of the result")
    if n_swaps < 100:
        raise CohortError(f"expected at least 100 exchanges, got {n_swaps}")
