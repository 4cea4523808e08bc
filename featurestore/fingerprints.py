"""Fingerprints of tiles in the store: each tile is hashed once, whichever data sets it is in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pgvector import Bit
from sqlalchemy import ColumnElement, Engine, Text, exists, func, select, type_coerce
from sqlalchemy.orm import Session

from featurestore.copy import copy_rows
from featurestore.missing_tiles import MissingTile, iter_tiles
from featurestore.perceptual_hash import N_BITS
from featurestore.tables import DatasetTile, Tile, TileFingerprint

_COLUMNS = [("tile_id", "int8"), ("hash", "bit"), ("mean_rgb", "float4[]")]


@dataclass(frozen=True)
class Hashes:
    """The hashes of a data set's tiles.

    Attributes
    ----------
    tile_ids : ndarray of int64, shape (n,)
        Tiles that can be told by their hash, in ascending order.
    paths : list of str
        Their files (or slides, with the place), relative to the data set's folder.
    patients : list of str or None
        Their patients.
    bits : ndarray of bool, shape (n, N_BITS)
    n_plain, n_missing : int
        Tiles that are too plain to be told, and those that were never hashed.
    """

    tile_ids: NDArray[np.int64]
    paths: list[str]
    patients: list[str | None]
    bits: NDArray[np.bool_]
    n_plain: int
    n_missing: int


def iter_unhashed(engine: Engine, dataset_id: int) -> Iterator[MissingTile]:
    """Tiles of a data set without a fingerprint, by id; see :func:`embeddings.iter_tiles`."""
    return iter_tiles(engine, dataset_id, ~_has_fingerprint())


def n_unhashed(session: Session, dataset_id: int) -> int:
    """Number of a data set's tiles without a fingerprint."""
    return session.execute(
        select(func.count())
        .select_from(DatasetTile)
        .where(DatasetTile.dataset_id == dataset_id, ~_has_fingerprint())
    ).scalar_one()


def write_fingerprints(
    session: Session,
    tile_ids: Sequence[int],
    bits: NDArray[np.bool_],
    is_plain: NDArray[np.bool_],
    mean_rgb: NDArray[np.float32],
) -> int:
    """Write a batch of fingerprints; tiles that have one are left as is. The caller commits.

    Parameters
    ----------
    session : sqlalchemy.orm.Session
    tile_ids : sequence of int, length n
    bits : ndarray of bool, shape (n, N_BITS)
    is_plain : ndarray of bool, shape (n,)
        Of these no hash is kept.
    mean_rgb : ndarray of float32, shape (n, 3)

    Returns
    -------
    int
        Number of fingerprints that are new.
    """
    # Two processes may hash the same tiles; they take turns for the length of a write.
    session.execute(select(func.pg_advisory_xact_lock(func.hashtext("tile_fingerprints"))))
    known = set(
        session.scalars(
            select(TileFingerprint.tile_id).where(TileFingerprint.tile_id.in_(list(tile_ids)))
        )
    )
    return copy_rows(
        session,
        TileFingerprint.__tablename__,
        _COLUMNS,
        (
            (tile_id, None if plain else Bit(row), colour.tolist())
            for tile_id, row, plain, colour in zip(tile_ids, bits, is_plain, mean_rgb, strict=True)
            if tile_id not in known
        ),
    )


def hashes_of(session: Session, dataset_id: int) -> Hashes:
    """The hashes of a data set's tiles."""
    rows = session.execute(
        select(
            Tile.tile_id,
            DatasetTile.path,
            Tile.x_px,
            Tile.y_px,
            Tile.patient_id,
            # The driver has it as text, a character a bit.
            type_coerce(TileFingerprint.hash, Text).label("hash"),
            TileFingerprint.tile_id.is_(None).label("is_missing"),
        )
        .join(DatasetTile, DatasetTile.tile_id == Tile.tile_id)
        .outerjoin(TileFingerprint, TileFingerprint.tile_id == Tile.tile_id)
        .where(DatasetTile.dataset_id == dataset_id)
        .order_by(Tile.tile_id)
    ).all()
    told = [row for row in rows if row.hash is not None]
    n_missing = sum(row.is_missing for row in rows)
    characters = np.frombuffer("".join(row.hash for row in told).encode(), dtype=np.uint8)
    return Hashes(
        tile_ids=np.array([row.tile_id for row in told], dtype=np.int64),
        paths=[shown_path(row.path, row.x_px, row.y_px) for row in told],
        patients=[row.patient_id for row in told],
        bits=(characters == ord("1")).reshape(-1, N_BITS),
        n_plain=len(rows) - len(told) - n_missing,
        n_missing=n_missing,
    )


def mean_colours(session: Session, dataset_id: int) -> dict[int, list[float]]:
    """Mean red, green and blue (0-255) of a data set's tiles, by tile."""
    rows = session.execute(
        select(TileFingerprint.tile_id, TileFingerprint.mean_rgb)
        .join(DatasetTile, DatasetTile.tile_id == TileFingerprint.tile_id)
        .where(DatasetTile.dataset_id == dataset_id)
    )
    return {tile_id: list(colour) for tile_id, colour in rows}


def shown_path(path: str, x_px: int | None, y_px: int | None) -> str:
    """How a tile is named to the reader: by its file, or by its slide and place."""
    return path if x_px is None else f"{path}@{x_px},{y_px}"


def _has_fingerprint() -> ColumnElement[bool]:
    return exists().where(TileFingerprint.tile_id == DatasetTile.tile_id)
