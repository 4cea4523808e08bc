"""Results of genes: predictions by patient, predictability, and counts of better genes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sqlalchemy import and_, delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from featurestore.copy import copy_rows
from featurestore.tables import (
    BetterCount,
    CvGenePrediction,
    Experiment,
    ExperimentEncoder,
    Predictability,
)

_COLUMNS = [
    ("experiment_id", "int8"),
    ("model_version_id", "int8"),
    ("target", "text"),
    ("patient_id", "text"),
    ("observed", "float4"),
    ("predicted", "float4[]"),
    ("folds", "int2[]"),
]
BETTER_COLUMNS = [
    "task",
    "encoder_a",
    "encoder_b",
    "genes",
    "n_genes",
    "n_better_b",
    "null_median",
    "null_low",
    "null_high",
    "p_swap",
]
PREDICTABILITY_COLUMNS = ["encoder", "target", "r", "null_mean", "null_sd", "p", "q"]


@dataclass(frozen=True)
class GenePredictions:
    """Out-of-fold predictions of one encoder for every gene, patient and repeat.

    Attributes
    ----------
    patient_ids : sequence of str, length n
    targets : sequence of str
        Gene symbols.
    observed : (n, n_targets) array
        NaN where a patient has no value of a gene; such a pair gets no row.
    folds : mapping of str to (n_repeats, n) int array
        By gene.
    predicted : (n_repeats, n, n_targets) float array
    """

    patient_ids: Sequence[str]
    targets: Sequence[str]
    observed: NDArray[np.floating[Any]]
    folds: Mapping[str, NDArray[np.integer[Any]]]
    predicted: NDArray[np.floating[Any]]


def write_gene_predictions(
    session: Session, experiment_id: int, model_version_id: int, predictions: GenePredictions
) -> int:
    """Write every out-of-fold prediction of one encoder; returns the number of rows."""
    return copy_rows(
        session,
        CvGenePrediction.__tablename__,
        _COLUMNS,
        _rows(experiment_id, model_version_id, predictions),
    )


def _rows(
    experiment_id: int, model_version_id: int, predictions: GenePredictions
) -> Iterable[tuple[Any, ...]]:
    for position, gene in enumerate(predictions.targets):
        observed = predictions.observed[:, position]
        folds = predictions.folds[gene]
        for row in np.flatnonzero(~np.isnan(observed)).tolist():
            yield (
                experiment_id,
                model_version_id,
                gene,
                predictions.patient_ids[row],
                float(observed[row]),
                predictions.predicted[:, row, position].tolist(),
                folds[:, row].tolist(),
            )


def write_predictability(
    session: Session,
    experiment_id: int,
    version_ids: Mapping[str, int],
    table: pd.DataFrame,
    *,
    n_permutations: int,
) -> int:
    """Write which genes are predictable (columns :data:`PREDICTABILITY_COLUMNS`)."""
    rows: list[dict[Any, Any]] = table[PREDICTABILITY_COLUMNS].to_dict(orient="records")
    for row in rows:
        row["model_version_id"] = version_ids[row.pop("encoder")]
        row |= {"experiment_id": experiment_id, "n_permutations": n_permutations}
    session.execute(insert(Predictability), rows)
    return len(rows)


def predictability_frame(session: Session, experiment_id: int) -> pd.DataFrame:
    """Which genes are predictable, columns :data:`PREDICTABILITY_COLUMNS`."""
    rows = session.execute(
        select(
            ExperimentEncoder.encoder,
            *(getattr(Predictability, name) for name in PREDICTABILITY_COLUMNS[1:]),
        )
        .join(
            ExperimentEncoder,
            and_(
                ExperimentEncoder.experiment_id == Predictability.experiment_id,
                ExperimentEncoder.model_version_id == Predictability.model_version_id,
            ),
        )
        .where(Predictability.experiment_id == experiment_id)
        .order_by(ExperimentEncoder.position, Predictability.target)
    ).all()
    return pd.DataFrame(rows, columns=PREDICTABILITY_COLUMNS)


def predictable_counts(session: Session, study: str) -> pd.DataFrame:
    """How many genes a study shows as predictable, by task and encoder.

    Columns task, encoder, n_genes, n_predictable (q < 0.05), n_uncorrected (p < 0.05, as the
    paper counts).
    """
    columns = ["task", "encoder", "n_genes", "n_predictable", "n_uncorrected"]
    rows = session.execute(
        select(
            Experiment.task,
            ExperimentEncoder.encoder,
            func.count(),
            func.count().filter(Predictability.q < 0.05),
            func.count().filter(Predictability.p < 0.05),
        )
        .join(Experiment, Experiment.experiment_id == Predictability.experiment_id)
        .join(
            ExperimentEncoder,
            and_(
                ExperimentEncoder.experiment_id == Predictability.experiment_id,
                ExperimentEncoder.model_version_id == Predictability.model_version_id,
            ),
        )
        .where(Experiment.study == study, Experiment.is_current)
        .group_by(Experiment.task, ExperimentEncoder.encoder, ExperimentEncoder.position)
        .order_by(Experiment.task, ExperimentEncoder.position)
    ).all()
    return pd.DataFrame(rows, columns=columns)


def write_better_counts(session: Session, experiment_id: int, counts: pd.DataFrame) -> int:
    """Write counts (columns :data:`BETTER_COLUMNS` but the task) in place of those before."""
    session.execute(delete(BetterCount).where(BetterCount.experiment_id == experiment_id))
    rows: list[dict[Any, Any]] = counts[BETTER_COLUMNS[1:]].to_dict(orient="records")
    if rows:
        session.execute(
            insert(BetterCount), [{"experiment_id": experiment_id, **row} for row in rows]
        )
    return len(rows)


def better_counts_frame(session: Session, study: str) -> pd.DataFrame:
    """The sentences of what a study shows now, columns :data:`BETTER_COLUMNS`."""
    rows = session.execute(
        select(Experiment.task, *(getattr(BetterCount, name) for name in BETTER_COLUMNS[1:]))
        .join(Experiment, Experiment.experiment_id == BetterCount.experiment_id)
        .join(
            ExperimentEncoder,
            and_(
                ExperimentEncoder.experiment_id == BetterCount.experiment_id,
                ExperimentEncoder.encoder == BetterCount.encoder_a,
            ),
        )
        .where(Experiment.study == study, Experiment.is_current)
        .order_by(
            Experiment.task,
            ExperimentEncoder.position,
            BetterCount.encoder_b,
            BetterCount.genes.desc(),
        )
    ).all()
    return pd.DataFrame(rows, columns=BETTER_COLUMNS)
