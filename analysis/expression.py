"""Task 2: how well an encoder's features predict the expression of genes.

All genes of a split are fitted at once by :mod:`analysis.ridge`, each with a penalty chosen
inside the training patients.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from analysis.cores import on_every_core
from analysis.patients import (
    PatientCohort,
    PatientResult,
    check_cohort,
    leakage_note,
    score_rows,
)
from analysis.ridge import PENALTIES, predict, split_axes
from analysis.splits import unstratified_folds
from featurestore.errors import CohortError, Reject

if TYPE_CHECKING:
    import pandas as pd

TASK = "expression"
METRICS = ("pearson_r", "r_squared")


@dataclass(frozen=True, kw_only=True)
class ExpressionSettings:
    """How the encoders are judged.

    Attributes
    ----------
    n_folds, n_repeats : int
        Folds of each cross-validation, and how often it is repeated with new folds.
    seed : int
        Seed of all folds.
    penalties : tuple of float
        Ridge penalties to choose from, relative to the number of features; see
        :func:`analysis.ridge.predict`.
    n_components : int, optional
        Principal components of the standardised features to keep, fitted inside the
        training patients; by default all.
    """

    n_folds: int = 5
    n_repeats: int = 50
    seed: int
    penalties: tuple[float, ...] = PENALTIES
    n_components: int | None = None


@dataclass(frozen=True)
class TargetBlock:
    """Genes that are known of the same patients.

    Attributes
    ----------
    columns : ndarray of int
        Their positions among the genes that are evaluated.
    known : ndarray of shape (n,), bool
        Patients with a value.
    """

    columns: NDArray[np.intp]
    known: NDArray[np.bool_]


def evaluate_expression(
    cohort: PatientCohort,
    settings: ExpressionSettings,
    *,
    on_progress: Callable[[int, int], None] | None = None,
    n_jobs: int | None = None,
) -> PatientResult:
    """Judge every encoder by repeated cross-validation on identical splits.

    The folds are those of :func:`analysis.splits.unstratified_folds`, with whole groups
    where the cohort has groups. A patient without a value of a gene is left out for that
    gene only. Metrics: Pearson's r and R² of the test patients; see :func:`split_scores`.

    Parameters
    ----------
    cohort : PatientCohort
        Targets are expression values, as a rule log2(x + 1).
    settings : ExpressionSettings
    on_progress : callable, optional
        Called as ``on_progress(n_done, n_total)`` after each split of each encoder.
    n_jobs : int, optional
        Splits worked on at a time; by default one a core. The numbers do not depend on it.

    Returns
    -------
    PatientResult
        Genes are rejected that vary in too few patients for the folds, or that are known
        of too few patients for one of them.

    Raises
    ------
    CohortError
        The cohort is inconsistent, too small for the folds, or no gene can be evaluated.
    """
    check_cohort(cohort)
    n, n_repeats, n_folds = len(cohort.patient_ids), settings.n_repeats, settings.n_folds
    _check_settings(settings)
    folds = unstratified_folds(
        n, n_folds=n_folds, n_repeats=n_repeats, seed=settings.seed, groups=cohort.groups
    )
    kept, rejects = _usable(cohort.targets, folds, n_folds)
    targets = tuple(kept.columns)
    values = kept.to_numpy(dtype=np.float64)
    blocks = target_blocks(values)
    splits = [(repeat, fold) for repeat in range(n_repeats) for fold in range(n_folds)]
    work = [(encoder, *split) for encoder in cohort.features for split in splits]

    def run(item: tuple[str, int, int]) -> NDArray[np.float32]:
        encoder, repeat, fold = item
        in_test = folds[repeat] == fold
        return _predict_split(cohort.features[encoder], values, in_test, blocks, settings)

    predictions = {
        encoder: np.full((n_repeats, *values.shape), np.nan, dtype=np.float32)
        for encoder in cohort.features
    }
    scores = {
        encoder: np.empty((n_repeats, n_folds, len(targets), len(METRICS)))
        for encoder in cohort.features
    }
    found = on_every_core(run, work, n_jobs=n_jobs, on_progress=on_progress)
    for (encoder, repeat, fold), predicted in zip(work, found, strict=True):
        in_test = folds[repeat] == fold
        predictions[encoder][repeat, in_test] = predicted
        scores[encoder][repeat, fold] = split_scores(values[in_test], predicted).T
    known = ~np.isnan(values)
    n_test = np.array([[known[row == f].sum(axis=0) for f in range(n_folds)] for row in folds])
    n_train = known.sum(axis=0) - n_test
    return PatientResult(
        task=TASK,
        targets=targets,
        folds=_folds_of(targets, blocks, folds),
        scores=_concat(
            [
                score_rows(encoder, targets, METRICS, of_encoder, n_train, n_test)
                for encoder, of_encoder in scores.items()
            ]
        ),
        predictions=predictions,
        n_not_converged=dict.fromkeys(cohort.features, 0),
        rejects=rejects,
        n_folds=n_folds,
        n_repeats=n_repeats,
        seed=settings.seed,
        leakage_checked=True,
        leakage_note=leakage_note(cohort),
    )


def split_scores(
    observed: NDArray[np.floating], predicted: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Pearson's r and R² of every gene over one split's test patients.

    R² is 1 − Σ(y − ŷ)² / Σ(y − ȳ)² with ȳ the mean of the test patients. Both are NaN where
    the observed values do not vary. Where only the predictions do not vary, r is 0: left
    out, the splits in which an encoder finds nothing would raise its mean.

    Parameters
    ----------
    observed, predicted : ndarray of shape (n_test, n_targets)
        NaN in the same places.

    Returns
    -------
    ndarray of shape (2, n_targets), float64
        In the order of ``METRICS``.
    """
    known = ~np.isnan(observed)
    n_known = known.sum(axis=0)
    y, y_hat = (np.where(known, values, 0.0).astype(np.float64) for values in (observed, predicted))
    squared_error = np.square(y - y_hat).sum(axis=0)
    varies = [
        np.ptp(np.where(known, values, values[known.argmax(axis=0), np.arange(known.shape[1])]), 0)
        > 0
        for values in (y, y_hat)
    ]
    y, y_hat = (
        np.where(known, values - values.sum(axis=0) / np.maximum(n_known, 1), 0.0)
        for values in (y, y_hat)
    )
    square, square_hat = np.square(y).sum(axis=0), np.square(y_hat).sum(axis=0)
    scores = np.full((len(METRICS), observed.shape[1]), np.nan)
    product = (y * y_hat).sum(axis=0)
    both = varies[0] & varies[1]
    scores[0, varies[0]] = 0.0
    np.divide(product, np.sqrt(square * square_hat), out=scores[0], where=both)
    np.divide(squared_error, square, out=scores[1], where=varies[0])
    scores[1] = 1 - scores[1]
    return scores


def target_blocks(values: NDArray[np.float64]) -> list[TargetBlock]:
    """Put together the genes (columns) that are known of the same patients (rows)."""
    known = ~np.isnan(values)
    patterns: dict[bytes, list[int]] = {}
    for column in range(values.shape[1]):
        patterns.setdefault(known[:, column].tobytes(), []).append(column)
    return [
        TargetBlock(np.array(columns, dtype=np.intp), known[:, columns[0]])
        for columns in patterns.values()
    ]


def _predict_split(
    features: NDArray[np.float32],
    values: NDArray[np.float64],
    in_test: NDArray[np.bool_],
    blocks: list[TargetBlock],
    settings: ExpressionSettings,
) -> NDArray[np.float32]:
    predicted = np.full((int(in_test.sum()), values.shape[1]), np.nan, dtype=np.float32)
    for block in blocks:
        train, test = block.known & ~in_test, block.known & in_test
        axes = split_axes(features[train], features[test], n_components=settings.n_components)
        of_block, _ = predict(
            axes, values[np.ix_(train, block.columns)], penalties=settings.penalties
        )
        predicted[np.ix_(block.known[in_test], block.columns)] = of_block
    return predicted


def _usable(
    targets: pd.DataFrame, folds: NDArray[np.int8], n_folds: int
) -> tuple[pd.DataFrame, tuple[Reject, ...]]:
    """Leave out, by name, the genes that these folds cannot judge."""
    rejects, kept = [], []
    for gene in targets.columns:
        values = targets[gene].to_numpy(dtype=np.float64)
        reason = _why_unusable(values, folds, n_folds)
        if reason is None:
            kept.append(gene)
        else:
            rejects.append(Reject(str(gene), TASK, reason))
    if not kept:
        raise CohortError(
            f"none of {len(rejects)} genes can be evaluated; the first, {rejects[0].item}: "
            f"{rejects[0].reason}"
        )
    return targets[kept], tuple(rejects)


def _why_unusable(values: NDArray[np.float64], folds: NDArray[np.int8], n_folds: int) -> str | None:
    known = ~np.isnan(values)
    n_known = int(known.sum())
    smallest = min(int(np.bincount(row[known], minlength=n_folds).min()) for row in folds)
    if smallest < 2:
        return (
            f"known of {n_known} of {len(values)} patients, so that a fold has {smallest} of them; "
            "expected at least 2 in every fold"
        )
    commonest = int(np.unique(values[known], return_counts=True)[1].max())
    if n_known - commonest < n_folds:
        return (
            f"{commonest} of {n_known} patients have the same value; expected at least {n_folds} "
            f"patients (one a fold) with another one"
        )
    return None


def _folds_of(
    targets: tuple[str, ...], blocks: list[TargetBlock], folds: NDArray[np.int8]
) -> dict[str, NDArray[np.int8]]:
    """Folds by gene; genes that are known of the same patients share one array."""
    by_position = {}
    for block in blocks:
        of_block = np.where(block.known, folds, np.int8(-1))
        by_position.update(dict.fromkeys(block.columns.tolist(), of_block))
    return {gene: by_position[position] for position, gene in enumerate(targets)}


def _check_settings(settings: ExpressionSettings) -> None:
    if settings.n_components is not None and settings.n_components < 1:
        raise CohortError(f"n_components must be at least 1, got {settings.n_components}")
    if not settings.penalties or not min(settings.penalties) > 0:
        raise CohortError(f"expected positive penalties, got {settings.penalties}")


def _concat(frames: list[pd.DataFrame]) -> pd.DataFrame:
    import pandas as pd

    return pd.concat(frames, ignore_index=True)
