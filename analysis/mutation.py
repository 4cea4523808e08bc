"""Task 3: how well an encoder's features predict whether a gene is mutated.

Each gene has folds of its own, stratified by its mutations, and the weighted logistic
regression of :mod:`analysis.logistic`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from analysis.cores import on_every_core
from analysis.logistic import PENALTIES, LogisticPrediction, fit_predict
from analysis.metrics import one_vs_rest_auroc
from analysis.patients import (
    PatientCohort,
    PatientResult,
    check_cohort,
    leakage_note,
    score_rows,
)
from analysis.splits import SITE_NOISE, repeated_folds
from featurestore.errors import CohortError, Reject

if TYPE_CHECKING:
    import pandas as pd

TASK = "mutation"
METRICS = ("auroc", "auprc", "brier")


@dataclass(frozen=True, kw_only=True)
class MutationSettings:
    """How the encoders are judged.

    Attributes
    ----------
    n_folds, n_repeats : int
        Folds of each cross-validation, and how often it is repeated with new folds.
    seed : int
        Seed of all folds.
    penalties : tuple of float
        Penalties to choose from, relative to the number of features; see
        :func:`analysis.logistic.fit_predict`.
    min_per_fold : int
        A gene needs so many mutated, and so many wild-type, patients per fold.
    """

    n_folds: int = 5
    n_repeats: int = 50
    seed: int
    penalties: tuple[float, ...] = PENALTIES
    min_per_fold: int = 2


def evaluate_mutation(
    cohort: PatientCohort,
    settings: MutationSettings,
    *,
    on_progress: Callable[[int, int], None] | None = None,
    n_jobs: int | None = None,
) -> PatientResult:
    """Judge every encoder by repeated stratified cross-validation on identical splits.

    Folds are dealt gene by gene among the sequenced patients, stratified by the gene's
    mutations; where the cohort has groups, whole groups are dealt. Metrics of each split:
    see :func:`split_scores`.

    Parameters
    ----------
    cohort : PatientCohort
        Targets are 1 (mutated), 0 (not) or NaN (not sequenced, left out for this gene).
    settings : MutationSettings
    on_progress : callable, optional
        Called as ``on_progress(n_done, n_total)`` after each split of each encoder and gene.
    n_jobs : int, optional
        Splits worked on at a time; by default one a core. The numbers do not depend on it.

    Returns
    -------
    PatientResult
        Genes are rejected that are mutated, or wild-type, in too few patients (or groups)
        for the folds.

    Raises
    ------
    CohortError
        The cohort is inconsistent, a status is not 0, 1 or NaN, or no gene can be evaluated.
    """
    check_cohort(cohort)
    if settings.min_per_fold < 1:
        raise CohortError(f"min_per_fold must be at least 1, got {settings.min_per_fold}")
    folds, rejects = _deal(cohort, settings)
    targets = tuple(folds)
    status = cohort.targets[list(targets)].to_numpy(dtype=np.float64)
    n, n_repeats, n_folds = len(status), settings.n_repeats, settings.n_folds
    work = [
        (encoder, gene, repeat, fold)
        for encoder in cohort.features
        for gene in range(len(targets))
        for repeat in range(n_repeats)
        for fold in range(n_folds)
    ]

    def run(item: tuple[str, int, int, int]) -> LogisticPrediction:
        encoder, gene, repeat, fold = item
        of_patient = folds[targets[gene]][repeat]
        train, test = (of_patient >= 0) & (of_patient != fold), of_patient == fold
        x = cohort.features[encoder]
        return fit_predict(
            x[train], status[train, gene] == 1, x[test], penalties=settings.penalties
        )

    predictions = {
        encoder: np.full((n_repeats, n, len(targets)), np.nan, dtype=np.float32)
        for encoder in cohort.features
    }
    scores = {
        encoder: np.empty((n_repeats, n_folds, len(targets), len(METRICS)))
        for encoder in cohort.features
    }
    n_not_converged = dict.fromkeys(cohort.features, 0)
    found = on_every_core(run, work, n_jobs=n_jobs, on_progress=on_progress)
    for (encoder, gene, repeat, fold), predicted in zip(work, found, strict=True):
        test = folds[targets[gene]][repeat] == fold
        kept = predicted.probabilities.astype(np.float32)
        predictions[encoder][repeat, test, gene] = kept
        scores[encoder][repeat, fold, gene] = split_scores(status[test, gene] == 1, kept)
        n_not_converged[encoder] += not predicted.converged
    return PatientResult(
        task=TASK,
        targets=targets,
        folds=folds,
        scores=_score_frame(scores, folds, n_folds),
        predictions=predictions,
        n_not_converged=n_not_converged,
        rejects=rejects,
        n_folds=n_folds,
        n_repeats=n_repeats,
        seed=settings.seed,
        leakage_checked=True,
        leakage_note=leakage_note(cohort),
    )


def split_scores(mutated: NDArray[np.bool_], probabilities: NDArray[np.floating]) -> list[float]:
    """AUROC, average precision and Brier score over one split's test patients.

    The AUROC is the Mann-Whitney statistic; the average precision is scikit-learn's, the
    sum over thresholds of precision times the step in recall; the Brier score is the mean
    squared difference of probability and status, so here less is better.

    Parameters
    ----------
    mutated : ndarray of shape (n_test,), bool
    probabilities : ndarray of shape (n_test,)

    Returns
    -------
    list of float
        In the order of ``METRICS``. The first two are NaN where all test patients are of
        one class.
    """
    from sklearn.metrics import average_precision_score

    p = probabilities.astype(np.float64)
    brier = float(np.square(p - mutated).mean())
    if mutated.all() or not mutated.any():
        return [np.nan, np.nan, brier]
    auroc = one_vs_rest_auroc(mutated.astype(np.int64), np.column_stack([-p, p]))[1]
    return [float(auroc), float(average_precision_score(mutated, p)), brier]


def _deal(
    cohort: PatientCohort, settings: MutationSettings
) -> tuple[dict[str, NDArray[np.int8]], tuple[Reject, ...]]:
    """Folds of every gene that can be evaluated, and the others with the reason."""
    folds, rejects = {}, []
    for gene in cohort.targets.columns:
        status = cohort.targets[gene].to_numpy(dtype=np.float64)
        known = ~np.isnan(status)
        odd = np.setdiff1d(status[known], [0.0, 1.0])
        if odd.size:
            raise CohortError(f"{gene}: got a mutation status of {odd[0]:g}, expected 0, 1 or NaN")
        groups = None if cohort.groups is None else cohort.groups[known]
        reason = _too_few(status[known] == 1, groups, settings)
        if reason is None:
            of_gene = np.full((settings.n_repeats, len(status)), -1, dtype=np.int8)
            of_gene[:, known] = repeated_folds(
                status[known],
                n_folds=settings.n_folds,
                n_repeats=settings.n_repeats,
                seed=settings.seed,
                groups=groups,
                order_noise=SITE_NOISE,
            )
            reason = _one_sided(of_gene, status, settings.n_folds)
        if reason is None:
            folds[str(gene)] = of_gene
        else:
            rejects.append(Reject(str(gene), TASK, reason))
    if not folds:
        raise CohortError(
            f"none of {len(rejects)} genes can be evaluated; the first, {rejects[0].item}: "
            f"{rejects[0].reason}"
        )
    return folds, tuple(rejects)


def _too_few(
    mutated: NDArray[np.bool_], groups: NDArray[Any] | None, settings: MutationSettings
) -> str | None:
    """Why a gene has too few patients of a kind, or None."""
    needed = settings.min_per_fold * settings.n_folds
    for kind, members in (("mutated", mutated), ("wild-type", ~mutated)):
        n = int(members.sum())
        if n < needed:
            return (
                f"{n} of {len(mutated)} sequenced patients are {kind}; expected at least {needed} "
                f"({settings.min_per_fold} a fold, {settings.n_folds} folds). Leave the gene out "
                "or use fewer folds"
            )
        n_groups = n if groups is None else len(set(groups[members].tolist()))
        if n_groups < settings.n_folds:
            return (
                f"the {n} {kind} patients come from {n_groups} groups, fewer than the "
                f"{settings.n_folds} folds that keep groups whole"
            )
    return None


def _one_sided(folds: NDArray[np.int8], status: NDArray[np.float64], n_folds: int) -> str | None:
    """Why whole groups leave no usable splits, or None."""
    n_mutated, n_wild = (
        np.array([[np.sum((row == f) & (status == kind)) for f in range(n_folds)] for row in folds])
        for kind in (1, 0)
    )
    both = (n_mutated > 0) & (n_wild > 0)
    if (n_mutated.sum(axis=1, keepdims=True) == n_mutated).any():
        return "whole groups put all mutated patients into one fold, so none is left to train on"
    if (n_wild.sum(axis=1, keepdims=True) == n_wild).any():
        return "whole groups put all wild-type patients into one fold, so none is left to train on"
    if both.sum() < 2:
        return f"{int(both.sum())} of {both.size} splits have a mutated and a wild-type patient"
    return None


def _score_frame(
    scores: dict[str, NDArray[np.float64]], folds: dict[str, NDArray[np.int8]], n_folds: int
) -> pd.DataFrame:
    import pandas as pd

    of_gene = np.stack(list(folds.values()), axis=2)
    n_test = np.stack([(of_gene == fold).sum(axis=1) for fold in range(n_folds)], axis=1)
    n_train = (of_gene >= 0).sum(axis=1)[:, None] - n_test
    frames = [
        score_rows(encoder, tuple(folds), METRICS, values, n_train, n_test)
        for encoder, values in scores.items()
    ]
    return pd.concat(frames, ignore_index=True)
