"""Retrieval quality in the store: what it is measured on, and what was measured."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from featurestore.embeddings import matrix
from featurestore.tables import (
    Dataset,
    DatasetTile,
    Embedding,
    Patient,
    RetrievalQuality,
    StudyEncoder,
    Tile,
)

_BLOCK = 4_096


@dataclass(frozen=True)
class EmbeddedTiles:
    """The embedded tiles of a data set, by the digests of their pixels: a row a tile.

    Attributes
    ----------
    tile_ids : (n,) int array
    labels, patients, sites : (n,) object array
        None where unknown.
    """

    tile_ids: NDArray[np.int64]
    labels: NDArray[np.object_]
    patients: NDArray[np.object_]
    sites: NDArray[np.object_]


@dataclass(frozen=True, kw_only=True)
class Quality:
    """What was measured; the attributes are columns of ``retrieval_quality``."""

    n_tiles: int
    n_queries: int
    seed: int
    recall_at_10: float
    majority_accuracy_at_5: float | None
    map_at_5: float | None
    same_site_share: float | None
    same_site_by_chance: float | None
    patients_excluded: bool
    p50_ms: float
    p95_ms: float


def embedded_tile_frame(session: Session, model_version_id: int, dataset_id: int) -> EmbeddedTiles:
    """Tiles of a data set with an embedding of the version."""
    rows = session.execute(
        select(Tile.tile_id, DatasetTile.label, Tile.patient_id, Patient.tissue_source_site)
        .join(DatasetTile, DatasetTile.tile_id == Tile.tile_id)
        .join(Embedding, Embedding.tile_id == Tile.tile_id)
        .outerjoin(Patient, Patient.patient_id == Tile.patient_id)
        .where(DatasetTile.dataset_id == dataset_id, Embedding.model_version_id == model_version_id)
        .order_by(Tile.sha256)
    ).all()
    columns = list(zip(*rows, strict=True)) or [(), (), (), ()]
    labels, patients, sites = (np.array(column, dtype=object) for column in columns[1:])
    return EmbeddedTiles(np.array(columns[0], dtype=np.int64), labels, patients, sites)


def embedding_blocks(
    session: Session, model_version_id: int, tile_ids: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """Row numbers and embeddings of many tiles, a block at a time."""
    for start in range(0, len(tile_ids), _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, len(tile_ids)))
        yield rows, matrix(session, model_version_id, tile_ids[rows].tolist())


def write_quality(
    session: Session, model_version_id: int, dataset_id: int, quality: Quality
) -> None:
    """Keep what was measured, in place of what was before; the caller commits."""
    values = asdict(quality)
    statement = insert(RetrievalQuality).values(
        model_version_id=model_version_id, dataset_id=dataset_id, **values
    )
    keys = [RetrievalQuality.model_version_id, RetrievalQuality.dataset_id]
    session.execute(
        statement.on_conflict_do_update(
            index_elements=keys, set_=values | {"created_at": func.now()}
        )
    )


def quality_frame(session: Session, study: str) -> pd.DataFrame:
    """What was measured of a study's encoders: a row an encoder and data set."""
    measured = [c for c in RetrievalQuality.__table__.columns if c.name != "created_at"]
    rows = session.execute(
        select(StudyEncoder.encoder, Dataset.name.label("dataset"), *measured)
        .join(RetrievalQuality, RetrievalQuality.model_version_id == StudyEncoder.model_version_id)
        .join(Dataset, Dataset.dataset_id == RetrievalQuality.dataset_id)
        .where(StudyEncoder.study == study)
        .order_by(Dataset.dataset_id, StudyEncoder.encoder)
    ).all()
    return pd.DataFrame(rows, columns=["encoder", "dataset", *(c.name for c in measured)])
