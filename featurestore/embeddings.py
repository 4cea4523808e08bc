"""Embeddings: a partition a model version, bulk writes, how much is there, and matrices out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    and_,
    any_,
    case,
    exists,
    func,
    literal,
    select,
    text,
)
from sqlalchemy.orm import Session

from featurestore.copy_arrays import copy_arrays
from featurestore.errors import StoreError
from featurestore.tables import Dataset, DatasetTile, Embedding, RejectRow, Tile

EMBED_STAGE = "embed"
# Half precision ends here; larger features would be stored as infinity.
LARGEST_HALF = 65_504.0


@dataclass(frozen=True, slots=True)
class Coverage:
    """How far a data set is embedded under one model version, in numbers of tiles.

    Attributes
    ----------
    n_tiles, n_embedded : int
        All tiles of the data set, and those with an embedding.
    n_rejected : int
        Tiles without one whose reason stands in the ledger since the data set was last read.
    """

    n_tiles: int
    n_embedded: int
    n_rejected: int

    @property
    def n_missing(self) -> int:
        """Tiles with neither an embedding nor a reason."""
        return self.n_tiles - self.n_embedded - self.n_rejected


def partition_name(model_version_id: int) -> str:
    """Name of the table that holds the embeddings of one model version."""
    return f"embeddings_v{int(model_version_id)}"


def _lock(session: Session, model_version_id: int) -> None:
    # Two processes may embed the same version; they take turns for the length of a write.
    session.execute(
        select(func.pg_advisory_xact_lock(func.hashtext("embeddings"), int(model_version_id)))
    )


def ensure_partition(session: Session, model_version_id: int, dim: int) -> None:
    """Create a version's partition, which refuses vectors of any other dimension."""
    _lock(session, model_version_id)
    name = partition_name(model_version_id)
    # Identifiers and limits of DDL cannot be bound; both are integers of our own.
    session.execute(
        text(
            f"CREATE TABLE IF NOT EXISTS {name} PARTITION OF embeddings "
            f"(CONSTRAINT ck_{name}_dim CHECK (vector_dims(embedding) = {int(dim)})) "
            f"FOR VALUES IN ({int(model_version_id)})"
        )
    )


def write_embeddings(
    session: Session,
    model_version_id: int,
    tile_ids: NDArray[np.int64],
    vectors: NDArray[np.float32],
) -> int:
    """Write a batch; tiles that already have an embedding of this version are left as is.

    Parameters
    ----------
    session : sqlalchemy.orm.Session
        The caller commits, and with that the whole batch becomes visible at once.
    model_version_id : int
        A registered version.
    tile_ids : (n,) array
    vectors : (n, dim) array
        Finite, within half precision.

    Returns
    -------
    int
        Number of embeddings that are new.

    Raises
    ------
    StoreError
        If a feature is not finite or too large for half precision; nothing is written.
    psycopg.errors.CheckViolation
        If the dimension is not the version's (the database refuses it).
    """
    bad = ~(np.abs(vectors) <= LARGEST_HALF).all(axis=1)
    if bad.any():
        raise StoreError(
            f"{int(bad.sum())} of {len(vectors)} vectors hold NaN, infinite or too large features "
            f"(first: tile {int(tile_ids[bad][0])}); expected values below {LARGEST_HALF:g}. "
            "The encoder's weights or precision are unsuitable."
        )
    _lock(session, model_version_id)
    known = session.scalars(
        select(Embedding.tile_id).where(
            Embedding.model_version_id == model_version_id,
            # One parameter, however many tiles.
            Embedding.tile_id == any_(literal(tile_ids.tolist(), ARRAY(BigInteger))),
        )
    )
    new = ~np.isin(tile_ids, list(known))
    versions = np.full(int(new.sum()), model_version_id)
    return copy_arrays(
        session,
        partition_name(model_version_id),
        [("model_version_id", "int8"), ("tile_id", "int8"), ("embedding", "halfvec")],
        [(versions, tile_ids[new], vectors[new])],
    )


def has_embedding(model_version_id: int) -> ColumnElement[bool]:
    """Whether the tile of a data set's row has an embedding under a model version."""
    return exists().where(
        Embedding.model_version_id == model_version_id, Embedding.tile_id == DatasetTile.tile_id
    )


def _is_explained(study: str) -> ColumnElement[bool]:
    # As models.tiles.TileRef.item names a tile: by its file, and by its place on a slide.
    on_slide = func.concat(DatasetTile.path, "@", Tile.x_px, ",", Tile.y_px)
    return exists().where(
        RejectRow.study == study,
        RejectRow.stage == EMBED_STAGE,
        RejectRow.item == case((Tile.slide_id.is_(None), DatasetTile.path), else_=on_slide),
        RejectRow.created_at >= Dataset.read_at,
    )


def coverage(session: Session, model_version_id: int, dataset_id: int, study: str) -> Coverage:
    """Count what a study's data set has, lacks and has rejected under a model version."""
    embedded = has_embedding(model_version_id)
    counts = session.execute(
        select(
            func.count(),
            func.count().filter(embedded),
            func.count().filter(and_(~embedded, _is_explained(study))),
        )
        .select_from(DatasetTile)
        .join(Dataset, Dataset.dataset_id == DatasetTile.dataset_id)
        .join(Tile, Tile.tile_id == DatasetTile.tile_id)
        .where(DatasetTile.dataset_id == dataset_id)
    ).one()
    return Coverage(*counts)


def matrix(session: Session, model_version_id: int, tile_ids: Sequence[int]) -> NDArray[np.float32]:
    """Features of the given tiles as one (n, dim) matrix, rows in the order asked for.

    Raises
    ------
    StoreError
        If a tile has no embedding of this version.
    """
    vectors = read_vectors(
        session,
        "SELECT tile_id, embedding FROM embeddings"
        " WHERE model_version_id = %s AND tile_id = ANY (%s)",
        (model_version_id, list(tile_ids)),
    )
    absent = [tile_id for tile_id in tile_ids if tile_id not in vectors]
    if absent:
        raise StoreError(
            f"{len(absent)} of {len(tile_ids)} tiles have no embedding of model version "
            f"{model_version_id} (first: tile {absent[0]}): embed them first"
        )
    return np.stack([vectors[tile_id] for tile_id in tile_ids]).astype(np.float32)


def read_vectors(
    session: Session, query: str, parameters: Sequence[Any]
) -> dict[Any, NDArray[np.float16]]:
    """Vectors by key, from a query of both in psycopg's notation."""
    # In text, which the driver asks for by itself, numbers take a hundred times as long to read.
    connection: Any = session.connection().connection.driver_connection
    with connection.cursor(binary=True) as cursor:
        return {key: vector.to_numpy() for key, vector in cursor.execute(query, parameters)}


def embedded_tiles(session: Session, model_version_id: int, dataset_id: int) -> set[int]:
    """Ids of the data set's tiles that have an embedding of this version."""
    return set(
        session.scalars(
            select(DatasetTile.tile_id).where(
                DatasetTile.dataset_id == dataset_id, has_embedding(model_version_id)
            )
        )
    )


def n_embedded(session: Session, model_version_id: int, dataset_id: int) -> int:
    """Number of a data set's tiles that have an embedding of this version."""
    return session.execute(
        select(func.count())
        .select_from(DatasetTile)
        .where(DatasetTile.dataset_id == dataset_id, has_embedding(model_version_id))
    ).scalar_one()


def n_unsound(session: Session, model_version_id: int, dataset_id: int) -> int:
    """Number of a data set's embeddings whose norm is zero or not finite."""
    norm = func.l2_norm(Embedding.embedding)
    return session.execute(
        select(func.count())
        .select_from(Embedding)
        .join(DatasetTile, DatasetTile.tile_id == Embedding.tile_id)
        .where(
            Embedding.model_version_id == model_version_id,
            DatasetTile.dataset_id == dataset_id,
            # NaN and infinity the type itself refuses; a norm may still overflow.
            (norm == 0) | (norm == float("inf")),
        )
    ).scalar_one()
