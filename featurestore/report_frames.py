"""What a report shows beside its results: experiments, models, gene tables, maps.

Everything is of the study's current experiments and comes from the database alone; results
themselves are in :mod:`featurestore.result_frames` and :mod:`featurestore.gene_results`,
predictions in :mod:`featurestore.prediction_frames`, the cohort in
:mod:`featurestore.cohort_frames`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
from sqlalchemy import and_, func, select
from sqlalchemy.orm import Session

from featurestore.tables import (
    CvScore,
    Dataset,
    Experiment,
    ExperimentEncoder,
    ModelVersionRow,
    MolecularSource,
    StudyDataset,
    StudyEncoder,
    TileMap,
    TrainingEpoch,
)


def current_experiments(session: Session, study: str) -> Sequence[Experiment]:
    """The experiments that a study shows now, by task."""
    return session.scalars(
        select(Experiment)
        .where(Experiment.study == study, Experiment.is_current)
        .order_by(Experiment.task)
    ).all()


def encoder_scores_frame(session: Session, study: str) -> pd.DataFrame:
    """Mean and spread of each encoder's scores over all classes, split by split.

    Columns task, encoder, metric, mean, sd, n_splits, n_not_converged; where a task has no
    target ``all`` it has no row.
    """
    rows = session.execute(
        select(
            Experiment.task,
            ExperimentEncoder.encoder,
            CvScore.metric,
            func.avg(CvScore.value).label("mean"),
            func.stddev_samp(CvScore.value).label("sd"),
            func.count(CvScore.value).label("n_splits"),
            ExperimentEncoder.n_not_converged,
        )
        .join(ExperimentEncoder, ExperimentEncoder.experiment_id == Experiment.experiment_id)
        .join(CvScore, _of_encoder(CvScore))
        .where(Experiment.study == study, Experiment.is_current, CvScore.target == "all")
        .group_by(
            Experiment.task,
            ExperimentEncoder.encoder,
            ExperimentEncoder.position,
            ExperimentEncoder.n_not_converged,
            CvScore.metric,
        )
        .order_by(Experiment.task, CvScore.metric, ExperimentEncoder.position)
    )
    found = _frame(rows)
    return found[found["n_splits"] > 0].reset_index(drop=True)


def models_frame(session: Session, study: str) -> pd.DataFrame:
    """Model versions of the current experiments, in the order of the study's encoders.

    Columns encoder, network, dim, input_px, mpp, precision, pooling, weights_sha256,
    weights_source, licence, trained_on, trained_on_digest, training, parent_sha256, sha256,
    model_version_id, is_current (whether the study's name still stands for it).
    """
    parent = select(ModelVersionRow.model_version_id, ModelVersionRow.sha256).subquery()
    names = (
        "network", "dim", "input_px", "mpp", "precision", "pooling", "weights_sha256",
        "weights_source", "licence", "trained_on", "trained_on_digest", "training", "sha256",
    )  # fmt: skip
    rows = session.execute(
        select(
            ExperimentEncoder.encoder,
            *(getattr(ModelVersionRow, name) for name in names),
            parent.c.sha256.label("parent_sha256"),
            ModelVersionRow.model_version_id,
            func.bool_or(StudyEncoder.model_version_id.is_not(None)).label("is_current"),
        )
        .join(Experiment, Experiment.experiment_id == ExperimentEncoder.experiment_id)
        .join(
            ModelVersionRow, ModelVersionRow.model_version_id == ExperimentEncoder.model_version_id
        )
        .outerjoin(parent, parent.c.model_version_id == ModelVersionRow.parent_id)
        .outerjoin(
            StudyEncoder,
            and_(
                StudyEncoder.study == Experiment.study,
                StudyEncoder.encoder == ExperimentEncoder.encoder,
                StudyEncoder.model_version_id == ExperimentEncoder.model_version_id,
            ),
        )
        .where(Experiment.study == study, Experiment.is_current)
        .group_by(ExperimentEncoder.encoder, ModelVersionRow.model_version_id, parent.c.sha256)
        .order_by(func.min(ExperimentEncoder.position), ModelVersionRow.model_version_id)
    )
    return _frame(rows)


def gene_tables_frame(session: Session, study: str) -> pd.DataFrame:
    """Molecular tables of the current experiments: task, name, root, unit, n_patients, digest."""
    rows = session.execute(
        select(
            Experiment.task,
            MolecularSource.name,
            MolecularSource.root,
            MolecularSource.unit,
            MolecularSource.n_patients,
            MolecularSource.digest,
        )
        .join(MolecularSource, MolecularSource.digest == Experiment.settings["source"].astext)
        .where(Experiment.study == study, Experiment.is_current)
        .order_by(Experiment.task)
    )
    return _frame(rows)


def training_frames(session: Session, study: str) -> dict[str, pd.DataFrame]:
    """Course of the fine-tuning of each encoder that has one, epoch by epoch."""
    columns = [
        getattr(TrainingEpoch, name)
        for name in (
            "step", "epoch", "train_loss", "train_accuracy", "validation_loss",
            "validation_accuracy",
        )
    ]  # fmt: skip
    frames = {}
    for row in models_frame(session, study).to_dict(orient="records"):
        epochs = session.execute(
            select(*columns)
            .where(TrainingEpoch.model_version_id == row["model_version_id"])
            .order_by(TrainingEpoch.step, TrainingEpoch.epoch)
        )
        frame = _frame(epochs)
        if len(frame):
            frames[row["encoder"]] = frame
    return frames


def maps_frame(session: Session, study: str) -> pd.DataFrame:
    """Maps of the study's data sets by its current encoders.

    Columns asset, dataset, encoder, n_tiles, n_embedded, method, seed, model_version_id,
    dataset_id.
    """
    rows = session.execute(
        select(
            StudyDataset.asset,
            Dataset.name.label("dataset"),
            ExperimentEncoder.encoder,
            TileMap.n_tiles,
            TileMap.n_embedded,
            TileMap.method,
            TileMap.seed,
            TileMap.model_version_id,
            TileMap.dataset_id,
        )
        .distinct()
        .add_columns(ExperimentEncoder.position)
        .join(Dataset, Dataset.dataset_id == TileMap.dataset_id)
        .join(StudyDataset, StudyDataset.dataset_id == TileMap.dataset_id)
        .join(ExperimentEncoder, ExperimentEncoder.model_version_id == TileMap.model_version_id)
        .join(Experiment, Experiment.experiment_id == ExperimentEncoder.experiment_id)
        .where(
            StudyDataset.study == study,
            Experiment.study == study,
            Experiment.is_current,
        )
        .order_by(StudyDataset.asset, ExperimentEncoder.position, ExperimentEncoder.encoder)
    )
    found = _frame(rows).drop(columns="position")
    return found.drop_duplicates(["asset", "encoder"]).reset_index(drop=True)


def _of_encoder(model: Any) -> Any:
    return and_(
        ExperimentEncoder.experiment_id == model.experiment_id,
        ExperimentEncoder.model_version_id == model.model_version_id,
    )


def _frame(result: Any, columns: list[str] | None = None) -> pd.DataFrame:
    return pd.DataFrame(result.all(), columns=columns or list(result.keys()))
