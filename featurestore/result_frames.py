"""Results out of the store, as frames and matrices."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sqlalchemy import and_, func, select
from sqlalchemy.orm import Session, aliased

from featurestore.results import COMPARISON_COLUMNS, SCORE_COLUMNS
from featurestore.tables import Comparison, CvPrediction, CvScore, Experiment, ExperimentEncoder


def scores_frame(session: Session, experiment_id: int) -> pd.DataFrame:
    """Scores per split, columns encoder, target, metric, repeat, fold, value, n_train, n_test."""
    columns = [
        ExperimentEncoder.encoder,
        *(getattr(CvScore, name) for name, _ in SCORE_COLUMNS[2:]),
    ]
    rows = session.execute(
        select(*columns)
        .join(
            ExperimentEncoder,
            and_(
                ExperimentEncoder.experiment_id == CvScore.experiment_id,
                ExperimentEncoder.model_version_id == CvScore.model_version_id,
            ),
        )
        .where(CvScore.experiment_id == experiment_id)
        .order_by(
            ExperimentEncoder.position,
            CvScore.target != "all",
            CvScore.target,
            CvScore.metric,
            CvScore.repeat,
            CvScore.fold,
        )
    ).all()
    frame = pd.DataFrame(rows, columns=[column.key for column in columns])
    return frame.astype({"value": float})


def not_converged(session: Session, experiment_id: int) -> dict[str, int]:
    """Splits whose estimator did not converge, by encoder, in the order of the study file."""
    rows = session.execute(
        select(ExperimentEncoder.encoder, ExperimentEncoder.n_not_converged)
        .where(ExperimentEncoder.experiment_id == experiment_id)
        .order_by(ExperimentEncoder.position)
    )
    return {row.encoder: row.n_not_converged for row in rows}


def confusion_counts(session: Session, experiment_id: int) -> dict[str, NDArray[np.int64]]:
    """Confusion matrices over all repeats, by encoder: rows observed, columns predicted."""
    n_classes = len(session.get_one(Experiment, experiment_id).classes or [])
    rows = session.execute(
        select(
            ExperimentEncoder.encoder,
            CvPrediction.observed,
            CvPrediction.predicted,
            func.count().label("n"),
        )
        .join(
            ExperimentEncoder,
            and_(
                ExperimentEncoder.experiment_id == CvPrediction.experiment_id,
                ExperimentEncoder.model_version_id == CvPrediction.model_version_id,
            ),
        )
        .where(CvPrediction.experiment_id == experiment_id)
        .group_by(
            ExperimentEncoder.position,
            ExperimentEncoder.encoder,
            CvPrediction.observed,
            CvPrediction.predicted,
        )
        .order_by(ExperimentEncoder.position)
    )
    counts: dict[str, NDArray[np.int64]] = {}
    for row in rows:
        shape = (n_classes, n_classes)
        matrix = counts.setdefault(row.encoder, np.zeros(shape, dtype=np.int64))
        matrix[int(row.observed), int(row.predicted)] = row.n
    return counts


def comparisons_frame(session: Session, study: str) -> pd.DataFrame:
    """What a study shows now: one row a task, target, metric and pair of encoders.

    Columns are :data:`COMPARISON_COLUMNS`; the rows over all classes come first, and pairs in
    the order in which the study names its encoders.
    """
    columns = [getattr(Comparison, name) for name in COMPARISON_COLUMNS]
    first, second = aliased(ExperimentEncoder), aliased(ExperimentEncoder)
    rows = session.execute(
        select(*columns)
        .join(Experiment, Experiment.experiment_id == Comparison.experiment_id)
        .join(
            first,
            and_(
                first.experiment_id == Comparison.experiment_id,
                first.encoder == Comparison.encoder_a,
            ),
        )
        .join(
            second,
            and_(
                second.experiment_id == Comparison.experiment_id,
                second.encoder == Comparison.encoder_b,
            ),
        )
        .where(Experiment.study == study, Experiment.is_current)
        .order_by(
            Comparison.task,
            Comparison.target != "all",
            Comparison.target,
            Comparison.metric,
            first.position,
            second.position,
        )
    ).all()
    return pd.DataFrame(rows, columns=COMPARISON_COLUMNS)
