"""Patient features: tile embeddings pooled in SQL, one vector a patient and model version."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pgvector.sqlalchemy import VECTOR
from sqlalchemy import cast, delete, func, literal, select, type_coerce
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session
from sqlalchemy.types import NullType, TypeEngine

from featurestore.embeddings import read_vectors
from featurestore.errors import StoreError
from featurestore.tables import DatasetTile, Embedding, Patient, PatientFeature, Tile

MEAN = "mean"


def pool_patients(session: Session, model_version_id: int, dataset_id: int) -> int:
    """Average the embeddings of every patient's tiles; what was pooled before is replaced.

    The caller commits.

    Returns
    -------
    int
        Number of patients.
    """
    session.execute(
        delete(PatientFeature).where(
            PatientFeature.dataset_id == dataset_id,
            PatientFeature.model_version_id == model_version_id,
        )
    )
    columns = [
        "dataset_id",
        "model_version_id",
        "pooling",
        "patient_id",
        "embedding",
        "n_tiles",
        "n_slides",
    ]
    pooled = (
        select(
            literal(dataset_id),
            literal(model_version_id),
            literal(MEAN),
            Tile.patient_id,
            func.avg(Embedding.embedding),
            func.count(),
            # A tile that is a file of its own counts as its own image.
            func.count(func.distinct(func.coalesce(Tile.slide_id, -Tile.tile_id))),
        )
        .join(DatasetTile, DatasetTile.tile_id == Embedding.tile_id)
        .join(Tile, Tile.tile_id == Embedding.tile_id)
        .where(
            DatasetTile.dataset_id == dataset_id,
            Embedding.model_version_id == model_version_id,
            Tile.patient_id.is_not(None),
        )
        .group_by(Tile.patient_id)
    )
    written = session.execute(
        insert(PatientFeature).from_select(columns, pooled).returning(PatientFeature.patient_id)
    )
    return len(written.all())


def n_embedded_tiles(session: Session, model_version_id: int, dataset_id: int) -> int:
    """Tiles of known patients that a pooling now would use."""
    return session.execute(
        select(func.count())
        .select_from(Embedding)
        .join(DatasetTile, DatasetTile.tile_id == Embedding.tile_id)
        .join(Tile, Tile.tile_id == Embedding.tile_id)
        .where(
            DatasetTile.dataset_id == dataset_id,
            Embedding.model_version_id == model_version_id,
            Tile.patient_id.is_not(None),
        )
    ).scalar_one()


def pooled_counts(session: Session, model_version_id: int, dataset_id: int) -> pd.DataFrame:
    """What was pooled: patient_id, tissue_source_site, n_tiles, n_slides, by patient."""
    rows = session.execute(
        select(
            PatientFeature.patient_id,
            Patient.tissue_source_site,
            PatientFeature.n_tiles,
            PatientFeature.n_slides,
        )
        .join(Patient, Patient.patient_id == PatientFeature.patient_id)
        .where(
            PatientFeature.dataset_id == dataset_id,
            PatientFeature.model_version_id == model_version_id,
        )
        .order_by(PatientFeature.patient_id)
    ).all()
    return pd.DataFrame(rows, columns=["patient_id", "tissue_source_site", "n_tiles", "n_slides"])


def patient_matrix(
    session: Session, model_version_id: int, dataset_id: int, patients: Sequence[str]
) -> NDArray[np.float32]:
    """Pooled features of the given patients as one (n, dim) matrix, in the order asked for.

    Raises
    ------
    StoreError
        If a patient has none.
    """
    vectors = read_vectors(
        session,
        "SELECT patient_id, embedding FROM patient_features"
        " WHERE dataset_id = %s AND model_version_id = %s AND patient_id = ANY (%s)",
        (dataset_id, model_version_id, list(patients)),
    )
    absent = [patient for patient in patients if patient not in vectors]
    if absent:
        raise StoreError(
            f"{len(absent)} of {len(patients)} patients have no features of model version "
            f"{model_version_id} (first: {absent[0]}): pool them first"
        )
    return np.stack([vectors[patient] for patient in patients]).astype(np.float32)


def unrounded_means(
    session: Session, model_version_id: int, dataset_id: int, patients: Sequence[str]
) -> NDArray[np.float64]:
    """Means over the given patients' tiles in the precision of the sums: (n, dim).

    Pooled features are kept in half precision; what is to be traced back to single tiles has
    to be their mean exactly. Sums of half-precision numbers in doubles do not round, so the
    order of the rows is no matter.

    Raises
    ------
    StoreError
        If a patient has no embedded tile.
    """
    raw: TypeEngine[Any] = NullType()
    rows = session.execute(
        select(Tile.patient_id, type_coerce(func.avg(cast(Embedding.embedding, VECTOR)), raw))
        .join(DatasetTile, DatasetTile.tile_id == Embedding.tile_id)
        .join(Tile, Tile.tile_id == Embedding.tile_id)
        .where(
            DatasetTile.dataset_id == dataset_id,
            Embedding.model_version_id == model_version_id,
            Tile.patient_id.in_(list(patients)),
        )
        .group_by(Tile.patient_id)
    )
    vectors = {patient: vector.to_numpy() for patient, vector in rows}
    absent = [patient for patient in patients if patient not in vectors]
    if absent:
        raise StoreError(
            f"{len(absent)} of {len(patients)} patients have no embedded tile of model version "
            f"{model_version_id} (first: {absent[0]}): embed them first"
        )
    return np.stack([vectors[patient] for patient in patients]).astype(np.float64)


def tiles_of_patient(
    session: Session, model_version_id: int, dataset_id: int, patient_id: str
) -> list[int]:
    """Ids of the tiles that a patient's features are the mean of, in order."""
    return list(
        session.scalars(
            select(Tile.tile_id)
            .join(DatasetTile, DatasetTile.tile_id == Tile.tile_id)
            .join(Embedding, Embedding.tile_id == Tile.tile_id)
            .where(
                Tile.patient_id == patient_id,
                DatasetTile.dataset_id == dataset_id,
                Embedding.model_version_id == model_version_id,
            )
            .order_by(Tile.tile_id)
        )
    )
