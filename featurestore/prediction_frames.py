"""Out-of-fold predictions out of the store, as curves and calibration need them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sqlalchemy import and_, select
from sqlalchemy.orm import Session

from featurestore.tables import (
    CvGenePrediction,
    CvPrediction,
    Experiment,
    ExperimentEncoder,
    Tile,
)

_GENE_COLUMNS = ["target", "patient_id", "observed", "predicted", "folds"]


def gene_predictions_frame(
    session: Session, experiment_id: int, encoder: str, genes: Sequence[str] | None = None
) -> pd.DataFrame:
    """One encoder's predictions: columns target, patient_id, observed, predicted, folds.

    ``predicted`` and ``folds`` hold one number a repeat. Without ``genes``, of all of them.
    """
    statement = (
        select(*(getattr(CvGenePrediction, name) for name in _GENE_COLUMNS))
        .join(ExperimentEncoder, _of_encoder(CvGenePrediction))
        .where(
            CvGenePrediction.experiment_id == experiment_id, ExperimentEncoder.encoder == encoder
        )
        .order_by(CvGenePrediction.target, CvGenePrediction.patient_id)
    )
    if genes is not None:
        statement = statement.where(CvGenePrediction.target.in_(genes))
    return pd.DataFrame(session.execute(statement).all(), columns=_GENE_COLUMNS)


def tile_probabilities(
    session: Session, experiment_id: int, encoder: str
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]]:
    """Repeat by repeat: tile ids, observed classes and class probabilities of one encoder.

    A repeat at a time, since a study may hold millions of predictions. Repeats without
    probabilities are left out.
    """
    statement = (
        select(CvPrediction.tile_id, CvPrediction.observed, CvPrediction.probabilities)
        .join(ExperimentEncoder, _of_encoder(CvPrediction))
        .where(
            CvPrediction.experiment_id == experiment_id,
            ExperimentEncoder.encoder == encoder,
            CvPrediction.probabilities.is_not(None),
        )
        .order_by(CvPrediction.tile_id)
    )
    n_repeats = session.get_one(Experiment, experiment_id).n_repeats
    for repeat in range(n_repeats):
        rows = session.execute(statement.where(CvPrediction.repeat == repeat)).all()
        if rows:
            ids, observed, probabilities = zip(*rows, strict=True)
            yield (
                np.array(ids, np.int64),
                np.array(observed).astype(np.int64),
                np.array(probabilities, np.float32),
            )


def tile_patients(session: Session, experiment_id: int) -> dict[int, str | None]:
    """Whose each predicted tile is; None where the source names no patient."""
    rows = session.execute(
        select(Tile.tile_id, Tile.patient_id).where(
            Tile.tile_id.in_(
                select(CvPrediction.tile_id).where(CvPrediction.experiment_id == experiment_id)
            )
        )
    )
    return {row.tile_id: row.patient_id for row in rows}


def _of_encoder(model: Any) -> Any:
    return and_(
        ExperimentEncoder.experiment_id == model.experiment_id,
        ExperimentEncoder.model_version_id == model.model_version_id,
    )
