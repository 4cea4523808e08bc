"""Patients, what is to be predicted of them, and what came of it: tasks 2 and 3 share these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from analysis.metrics import SCORE_COLUMNS
from featurestore.errors import CohortError, Reject

if TYPE_CHECKING:
    import pandas as pd


METRIC_OF_TASK = {"expression": "pearson_r", "mutation": "auroc"}
"""By what a gene counts as predicted better."""


@dataclass(frozen=True)
class PatientCohort:
    """Patients with features of every encoder and the values to predict.

    Attributes
    ----------
    patient_ids : tuple of str, length n
        Distinct; every other member is in their order.
    features : mapping of str to ndarray of shape (n, d), float32
        One matrix an encoder; d may differ. A clinical or a colour baseline is one more
        encoder. The order of encoders is that of the results.
    targets : DataFrame of shape (n, n_targets), float
        A column a gene: log2(x + 1) expression, or 1 mutated and 0 not. NaN where the
        patient was not measured or not sequenced.
    groups : ndarray of shape (n,), or None
        What folds keep whole beside patients, as a rule the tissue source site; None for
        folds by patient alone.
    """

    patient_ids: tuple[str, ...]
    features: Mapping[str, NDArray[np.float32]]
    targets: pd.DataFrame
    groups: NDArray[Any] | None = None


@dataclass(frozen=True)
class PatientResult:
    """Scores and out-of-fold predictions of every encoder on one cohort.

    Attributes
    ----------
    task : str
        "expression" or "mutation".
    targets : tuple of str
        Genes that were evaluated, in the order of the cohort's columns.
    folds : dict of str to ndarray of shape (n_repeats, n), int8
        By gene: fold in which each patient was tested, the same for all encoders; -1 for a
        patient without a value of this gene, who was neither trained nor tested on.
    scores : DataFrame
        One row an encoder, repeat, fold, gene and metric, with the columns
        ``analysis.metrics.SCORE_COLUMNS``; ``value`` is NaN where undefined.
    predictions : dict of str to ndarray of shape (n_repeats, n, n_targets), float32
        By encoder: log2 expression, or probability of a mutation. NaN where the fold is -1.
    n_not_converged : dict of str to int
        By encoder: splits whose estimator stopped before it converged.
    rejects : tuple of Reject
        Genes that could not be evaluated, and why.
    n_folds, n_repeats, seed : int
        The cross-validation.
    leakage_checked : bool
        True: the unit is the patient, so that none is on two sides of a split.
    leakage_note : str
        The same in words, with what else was kept together.
    """

    task: str
    targets: tuple[str, ...]
    folds: dict[str, NDArray[np.int8]]
    scores: pd.DataFrame
    predictions: dict[str, NDArray[np.float32]]
    n_not_converged: dict[str, int]
    rejects: tuple[Reject, ...]
    n_folds: int
    n_repeats: int
    seed: int
    leakage_checked: bool
    leakage_note: str


def check_cohort(cohort: PatientCohort) -> None:
    """Refuse a cohort that would give wrong numbers rather than none.

    Raises
    ------
    CohortError
        Rows do not agree, patients or genes are named twice, features are missing or not
        finite, values are infinite, or a group is missing.
    """
    import pandas as pd

    n, targets = len(cohort.patient_ids), cohort.targets
    if len(set(cohort.patient_ids)) != n:
        raise CohortError("a patient stands in the cohort twice; give one row a patient")
    if len(targets) != n or (cohort.groups is not None and len(cohort.groups) != n):
        raise CohortError(f"targets and groups must have one row a patient for {n} patients")
    if n == 0 or not targets.shape[1]:
        raise CohortError(f"the cohort has {n} patients and {targets.shape[1]} genes")
    twice = targets.columns[targets.columns.duplicated()]
    if len(twice):
        raise CohortError(f"gene {twice[0]!r} stands in the cohort twice; give one column a gene")
    if np.isinf(targets.to_numpy(dtype=np.float64)).any():
        raise CohortError("a value is infinite; a value that was not measured is NaN")
    if cohort.groups is not None and pd.isna(cohort.groups).any():
        first = cohort.patient_ids[int(np.flatnonzero(pd.isna(cohort.groups))[0])]
        raise CohortError(f"patient {first} has no group; give it one or leave it out")
    if not cohort.features:
        raise CohortError("the cohort has no encoder; expected features of at least one")
    for encoder, matrix in cohort.features.items():
        if matrix.ndim != 2 or len(matrix) != n or matrix.shape[1] == 0:
            raise CohortError(
                f"{encoder}: got features of shape {matrix.shape}, expected ({n}, d); pool the "
                "tiles of every patient first"
            )
        bad = np.flatnonzero(~np.isfinite(matrix).all(axis=1))
        if len(bad):
            raise CohortError(
                f"{encoder}: features of {len(bad)} patients are not finite (the first is "
                f"{cohort.patient_ids[bad[0]]}); pool them again or leave them out"
            )


def leakage_note(cohort: PatientCohort) -> str:
    """What folds kept together, in words."""
    n = len(cohort.patient_ids)
    if cohort.groups is None:
        return f"every patient is one unit of the split (patients: {n})"
    n_groups = len(set(cohort.groups.tolist()))
    return (
        f"all patients of a group are in one fold (groups, as a rule tissue source sites: "
        f"{n_groups}; patients: {n})"
    )


def score_rows(
    encoder: str,
    targets: Sequence[str],
    metrics: Sequence[str],
    values: NDArray[np.float64],
    n_train: NDArray[np.integer],
    n_test: NDArray[np.integer],
) -> pd.DataFrame:
    """One encoder's scores as rows of a result's ``scores``.

    Parameters
    ----------
    encoder : str
    targets, metrics : sequence of str
    values : ndarray of shape (n_repeats, n_folds, n_targets, n_metrics)
    n_train, n_test : ndarray of shape (n_repeats, n_folds, n_targets)
        Patients with a value of the gene in each split.
    """
    import pandas as pd

    repeat, fold, target, metric = (axis.ravel() for axis in np.indices(values.shape))
    rows = {
        "encoder": np.full(values.size, encoder, dtype=object),
        "target": np.array(targets, dtype=object)[target],
        "metric": np.array(metrics, dtype=object)[metric],
        "repeat": repeat,
        "fold": fold,
        "value": values.ravel(),
        "n_train": np.repeat(n_train.ravel(), values.shape[-1]),
        "n_test": np.repeat(n_test.ravel(), values.shape[-1]),
    }
    return pd.DataFrame(rows, columns=list(SCORE_COLUMNS))
