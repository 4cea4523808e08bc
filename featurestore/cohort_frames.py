"""The flow of a study's cohort: what came in, what was embedded, evaluated and left out."""

from __future__ import annotations

from typing import Any

import pandas as pd
from sqlalchemy import and_, column, func, literal, select, table
from sqlalchemy.orm import Session

from featurestore.tables import (
    CvGenePrediction,
    CvPrediction,
    Dataset,
    DatasetTile,
    Embedding,
    Experiment,
    ExperimentEncoder,
    PatientFeature,
    StudyDataset,
    Tile,
)

_LEFT_OUT = table(
    "left_out", *map(column, ("study", "stage", "kind", "item", "reason", "reason_pattern"))
)


def inputs_frame(session: Session, study: str) -> pd.DataFrame:
    """Data sets that a study's sources last came to.

    Columns asset, name, root, digest, dataset_id, n_tiles, n_slides, n_patients, n_labels.
    """
    rows = session.execute(
        select(
            StudyDataset.asset,
            Dataset.name,
            Dataset.root,
            Dataset.digest,
            Dataset.dataset_id,
            func.count().label("n_tiles"),
            func.count(Tile.slide_id.distinct()).label("n_slides"),
            func.count(Tile.patient_id.distinct()).label("n_patients"),
            func.count(DatasetTile.label.distinct()).label("n_labels"),
        )
        .join(Dataset, Dataset.dataset_id == StudyDataset.dataset_id)
        .join(DatasetTile, DatasetTile.dataset_id == Dataset.dataset_id)
        .join(Tile, Tile.tile_id == DatasetTile.tile_id)
        .where(StudyDataset.study == study)
        .group_by(StudyDataset.asset, Dataset.dataset_id)
        .order_by(StudyDataset.asset)
    )
    return _frame(rows)


def embedded_frame(session: Session, study: str) -> pd.DataFrame:
    """How many tiles and patients of each current experiment an encoder has features of.

    Columns task, encoder, n_tiles (of the data set), n_embedded, n_patients (pooled; 0 for
    tissue, whose tiles are not pooled).
    """
    tiles = (
        select(
            Experiment.experiment_id,
            ExperimentEncoder.model_version_id,
            func.count().label("n_tiles"),
            func.count(Embedding.tile_id).label("n_embedded"),
        )
        .join(ExperimentEncoder, ExperimentEncoder.experiment_id == Experiment.experiment_id)
        .join(Dataset, Dataset.digest == Experiment.dataset_digest)
        .join(DatasetTile, DatasetTile.dataset_id == Dataset.dataset_id)
        .outerjoin(
            Embedding,
            and_(
                Embedding.model_version_id == ExperimentEncoder.model_version_id,
                Embedding.tile_id == DatasetTile.tile_id,
            ),
        )
        .where(Experiment.study == study, Experiment.is_current)
        .group_by(Experiment.experiment_id, ExperimentEncoder.model_version_id)
        .subquery()
    )
    n_patients = (
        select(func.count(PatientFeature.patient_id.distinct()))
        .join(Dataset, Dataset.dataset_id == PatientFeature.dataset_id)
        .where(
            Dataset.digest == Experiment.dataset_digest,
            PatientFeature.model_version_id == ExperimentEncoder.model_version_id,
        )
        .scalar_subquery()
    )
    rows = session.execute(
        select(
            Experiment.task,
            ExperimentEncoder.encoder,
            tiles.c.n_tiles,
            tiles.c.n_embedded,
            n_patients.label("n_patients"),
        )
        .join(tiles, tiles.c.experiment_id == Experiment.experiment_id)
        .join(
            ExperimentEncoder,
            and_(
                ExperimentEncoder.experiment_id == tiles.c.experiment_id,
                ExperimentEncoder.model_version_id == tiles.c.model_version_id,
            ),
        )
        .order_by(Experiment.task, ExperimentEncoder.position)
    )
    return _frame(rows)


def evaluated_frame(session: Session, study: str) -> pd.DataFrame:
    """Units and targets that were evaluated: columns task, n_tiles, n_patients, n_targets.

    Tiles for tissue, patients and genes for genes; of the first encoder, since all see the
    same ones.
    """
    frames = []
    for model, units in (
        (CvPrediction, (CvPrediction.tile_id, CvPrediction.patient_id)),
        (CvGenePrediction, (None, CvGenePrediction.patient_id)),
    ):
        of_first = and_(
            ExperimentEncoder.experiment_id == Experiment.experiment_id,
            ExperimentEncoder.position == 0,
        )
        counts = [
            (literal(0) if unit is None else func.count(unit.distinct())).label(name)
            for unit, name in zip(units, ("n_tiles", "n_patients"), strict=True)
        ]
        frames.append(
            _frame(
                session.execute(
                    select(Experiment.task, *counts, func.count(model.target.distinct()))
                    .join(ExperimentEncoder, of_first)
                    .join(model, _of_encoder(model))
                    .where(Experiment.study == study, Experiment.is_current)
                    .group_by(Experiment.task)
                    .order_by(Experiment.task)
                ),
                ["task", "n_tiles", "n_patients", "n_targets"],
            )
        )
    return pd.concat([frame for frame in frames if len(frame)] or frames[:1], ignore_index=True)


def left_out_frame(session: Session, study: str) -> pd.DataFrame:
    """What was left out, by stage, kind and reason: the number of items, and one of them.

    Columns stage, kind, reason (of the example), n_items, example. The ledger is never
    tidied: what was mended since is still in it.
    """
    columns = _LEFT_OUT.c
    rows = session.execute(
        select(
            columns.stage,
            columns.kind,
            func.min(columns.reason).label("reason"),
            func.count(columns.item.distinct()).label("n_items"),
            func.min(columns.item).label("example"),
        )
        .where(columns.study == study)
        .group_by(columns.stage, columns.kind, columns.reason_pattern)
        .order_by(columns.stage, func.count().desc(), columns.kind, columns.reason_pattern)
    )
    return _frame(rows)


def _of_encoder(model: Any) -> Any:
    return and_(
        ExperimentEncoder.experiment_id == model.experiment_id,
        ExperimentEncoder.model_version_id == model.model_version_id,
    )


def _frame(result: Any, columns: list[str] | None = None) -> pd.DataFrame:
    return pd.DataFrame(result.all(), columns=columns or list(result.keys()))
