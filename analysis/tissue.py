"""Task 1: how well an encoder's features tell tissue classes apart, and which does better.

Every encoder is judged by the same linear classifier on the same splits; see
:mod:`analysis.splits`, :mod:`analysis.crossval` and :mod:`analysis.compare`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from analysis.crossval import cross_validate
from analysis.metrics import ALL, score_splits
from analysis.splits import patient_groups, repeated_folds
from featurestore.errors import CohortError

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class TissueCohort:
    """Tiles with a class, and every encoder's features of them.

    Attributes
    ----------
    tile_ids : ndarray of shape (n,), int64
        The store's ids; every other array is in their order.
    labels : ndarray of shape (n,), integer
        Class of every tile, as an index into ``classes``.
    classes : tuple of str
        Names of the classes.
    patients : ndarray of shape (n,), object, or None
        Patient of every tile, None where unknown; or None where no tile has one.
    features : mapping of str to ndarray of shape (n, d), float32
        One matrix an encoder; d may differ. The order of encoders is that of the results.
    """

    tile_ids: NDArray[np.int64]
    labels: NDArray[np.integer]
    classes: tuple[str, ...]
    patients: NDArray[np.object_] | None
    features: Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True, kw_only=True)
class TissueSettings:
    """How the encoders are judged.

    Attributes
    ----------
    n_folds, n_repeats : int
        Folds of each cross-validation, and how often it is repeated with new folds.
    seed : int
        Seed of all folds.
    c : float
        Inverse strength of the classifier's L2 penalty on standardised features; see
        :func:`analysis.softmax_regression.fit_splits`.
    """

    n_folds: int = 5
    n_repeats: int = 50
    seed: int
    c: float = 0.1


@dataclass(frozen=True)
class TilePredictions:
    """One encoder's out-of-fold predictions.

    Attributes
    ----------
    predicted : ndarray of shape (n_repeats, n), int16
        Most probable class of every tile in every repeat.
    probabilities : ndarray of shape (n_repeats, n, n_classes), float32
        Class probabilities; every score is computed from these very numbers.
    n_not_converged : int
        Splits whose classifier stopped before it converged.
    """

    predicted: NDArray[np.int16]
    probabilities: NDArray[np.float32]
    n_not_converged: int


@dataclass(frozen=True)
class TissueResult:
    """Scores and out-of-fold predictions of every encoder on one cohort.

    Attributes
    ----------
    cohort : TissueCohort
        What was judged.
    settings : TissueSettings
        How.
    folds : ndarray of shape (n_repeats, n), int8
        Fold in which each tile was tested; the same for all encoders.
    scores : DataFrame
        One row an encoder, repeat, fold and score, with the columns ``encoder``,
        ``target`` ("all" or a class), ``metric``, ``repeat``, ``fold``, ``value`` (NaN
        where undefined), ``n_train`` and ``n_test``.
    predictions : dict of str to TilePredictions
        By encoder.
    leakage_checked : bool
        Whether it is known that no patient is on two sides of a split.
    leakage_note : str
        On what that rests, or why it is not known.
    """

    cohort: TissueCohort
    settings: TissueSettings
    folds: NDArray[np.int8]
    scores: pd.DataFrame
    predictions: dict[str, TilePredictions]
    leakage_checked: bool
    leakage_note: str


def evaluate_tissue(
    cohort: TissueCohort,
    settings: TissueSettings,
    *,
    on_progress: Callable[[int, int], None] | None = None,
    n_jobs: int | None = None,
) -> TissueResult:
    """Judge every encoder by repeated stratified cross-validation on identical splits.

    Tiles of one patient are kept in one fold. Where only some tiles carry a patient, each
    of the others is dealt by itself, and the result is not marked as checked.

    Parameters
    ----------
    cohort : TissueCohort
        Tiles, classes, patients and features.
    settings : TissueSettings
        Folds, repeats, seed and the classifier's penalty.
    on_progress : callable, optional
        Called as ``on_progress(n_done, n_total)`` after each split of each encoder.
    n_jobs : int, optional
        Splits worked on at a time; by default one a core. The numbers do not depend on it.

    Returns
    -------
    TissueResult

    Raises
    ------
    CohortError
        The cohort is inconsistent, its features are not finite, or a class has too few
        tiles or patients for the folds.
    """
    _check(cohort, settings)
    groups, leakage_checked, leakage_note = patient_groups(cohort.patients, len(cohort.labels))
    names = np.asarray(cohort.classes)
    folds = repeated_folds(
        names[cohort.labels],
        n_folds=settings.n_folds,
        n_repeats=settings.n_repeats,
        seed=settings.seed,
        groups=groups,
    )
    out_of_fold = cross_validate(
        cohort.features,
        cohort.labels,
        folds,
        n_classes=len(cohort.classes),
        c=settings.c,
        n_jobs=n_jobs,
        on_progress=on_progress,
    )
    predictions = {
        encoder: TilePredictions(
            predicted=found.probabilities.argmax(axis=2).astype(np.int16),
            probabilities=found.probabilities,
            n_not_converged=found.n_not_converged,
        )
        for encoder, found in out_of_fold.items()
    }
    return TissueResult(
        cohort=cohort,
        settings=settings,
        folds=folds,
        scores=score_splits(
            cohort.labels,
            cohort.classes,
            folds,
            {encoder: found.probabilities for encoder, found in predictions.items()},
        ),
        predictions=predictions,
        leakage_checked=leakage_checked,
        leakage_note=leakage_note,
    )


def _check(cohort: TissueCohort, settings: TissueSettings) -> None:
    """Refuse a cohort that would give wrong numbers rather than none."""
    n, classes = len(cohort.tile_ids), cohort.classes
    if not settings.c > 0:
        raise CohortError(f"c must be positive, got {settings.c}")
    if not cohort.features:
        raise CohortError("the cohort has no encoder; expected features of at least one")
    if ALL in classes or len(set(classes)) != len(classes):
        raise CohortError(f"class names must be distinct and none may be {ALL!r}, got {classes}")
    if len(cohort.labels) != n or (cohort.patients is not None and len(cohort.patients) != n):
        raise CohortError(f"labels and patients must be one a tile for {n} tiles")
    if n == 0 or cohort.labels.min() < 0 or cohort.labels.max() >= len(classes):
        raise CohortError(f"expected labels from 0 to {len(classes) - 1} for at least one tile")
    empty = np.flatnonzero(np.bincount(cohort.labels, minlength=len(classes)) == 0)
    if len(empty):
        raise CohortError(f"class {classes[empty[0]]!r} has 0 tiles; leave it out or add tiles")
    for encoder, matrix in cohort.features.items():
        if matrix.ndim != 2 or len(matrix) != n or matrix.shape[1] == 0:
            raise CohortError(
                f"{encoder}: got features of shape {matrix.shape}, expected ({n}, d); embed every "
                "tile of the cohort first"
            )
        bad = np.flatnonzero(~np.isfinite(matrix).all(axis=1))
        if len(bad):
            raise CohortError(
                f"{encoder}: features of {len(bad)} tiles are not finite (the first is tile "
                f"{cohort.tile_ids[bad[0]]}); embed them again"
            )
