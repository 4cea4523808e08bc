"""Maps in the store: which tiles to lay out, writing where they lie, and reading them back."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from featurestore.copy_arrays import copy_arrays
from featurestore.embeddings import n_embedded
from featurestore.tables import (
    DatasetTile,
    Embedding,
    Patient,
    Tile,
    TileMap,
    TileMapPoint,
)

MAX_TILES = 20_000
"""More tiles than that no screen can show; a seeded sample is laid out."""

MAP_COLUMNS = ["tile_id", "x", "y", "label", "patient_id", "site"]


@dataclass(frozen=True, slots=True)
class MapSettings:
    """How a map is made; the same settings and tiles give the same map.

    Attributes
    ----------
    method : str
        Program and version.
    seed : int
    n_neighbours : int
        Neighbours that a tile is laid out by.
    min_distance : float
        How near two points may come.
    """

    method: str
    seed: int
    n_neighbours: int
    min_distance: float


def is_mapped(
    session: Session, model_version_id: int, dataset_id: int, settings: MapSettings
) -> bool:
    """Whether there is a map of these settings over as many tiles as are embedded now."""
    found = session.get(TileMap, (model_version_id, dataset_id))
    return (
        found is not None
        and all(getattr(found, name) == value for name, value in asdict(settings).items())
        and found.n_embedded == n_embedded(session, model_version_id, dataset_id)
    )


def tiles_to_map(
    session: Session, model_version_id: int, dataset_id: int, *, seed: int
) -> list[int]:
    """Ids of the tiles to lay out: all that are embedded, or a seeded sample of them."""
    drawn = func.md5(func.concat(str(seed), Tile.sha256))
    return list(
        session.scalars(
            select(Tile.tile_id)
            .join(DatasetTile, DatasetTile.tile_id == Tile.tile_id)
            .join(Embedding, Embedding.tile_id == Tile.tile_id)
            .where(
                Embedding.model_version_id == model_version_id,
                DatasetTile.dataset_id == dataset_id,
            )
            # By content, so that any database gives the same sample in the same order.
            .order_by(drawn, Tile.sha256)
            .limit(MAX_TILES)
        )
    )


def write_map(
    session: Session,
    model_version_id: int,
    dataset_id: int,
    settings: MapSettings,
    tile_ids: list[int],
    points: NDArray[np.float32],
) -> int:
    """Write a map in place of the one before; the caller commits.

    Parameters
    ----------
    session : sqlalchemy.orm.Session
    model_version_id, dataset_id : int
    settings : MapSettings
    tile_ids : list of int
    points : (n, 2) array
        Where each of the tiles lies.

    Returns
    -------
    int
        Number of points.
    """
    session.execute(
        delete(TileMap).where(
            TileMap.model_version_id == model_version_id, TileMap.dataset_id == dataset_id
        )
    )
    session.add(
        TileMap(
            model_version_id=model_version_id,
            dataset_id=dataset_id,
            n_embedded=n_embedded(session, model_version_id, dataset_id),
            n_tiles=len(tile_ids),
            **asdict(settings),
        )
    )
    session.flush()
    kinds = {"model_version_id": "int8", "dataset_id": "int8", "tile_id": "int8"}
    kinds |= {"x": "float4", "y": "float4"}
    ids = np.asarray(tile_ids, np.int64)
    keys = (np.full(len(ids), key) for key in (model_version_id, dataset_id))
    block = (*keys, ids, points[:, 0], points[:, 1])
    return copy_arrays(session, TileMapPoint.__tablename__, list(kinds.items()), [block])


def map_frame(session: Session, model_version_id: int, dataset_id: int) -> pd.DataFrame:
    """The points of a map, columns :data:`MAP_COLUMNS`; empty where there is none."""
    rows = session.execute(
        select(
            TileMapPoint.tile_id,
            TileMapPoint.x,
            TileMapPoint.y,
            DatasetTile.label,
            Tile.patient_id,
            Patient.tissue_source_site,
        )
        .join(Tile, Tile.tile_id == TileMapPoint.tile_id)
        .join(
            DatasetTile,
            (DatasetTile.tile_id == TileMapPoint.tile_id)
            & (DatasetTile.dataset_id == TileMapPoint.dataset_id),
        )
        .outerjoin(Patient, Patient.patient_id == Tile.patient_id)
        .where(
            TileMapPoint.model_version_id == model_version_id,
            TileMapPoint.dataset_id == dataset_id,
        )
        .order_by(TileMapPoint.tile_id)
    ).all()
    return pd.DataFrame(rows, columns=MAP_COLUMNS)
