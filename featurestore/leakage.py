"""Leakage that the store can tell by itself: tiles on both sides of a training."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import or_, select
from sqlalchemy.orm import Session, aliased

from featurestore.tables import Dataset, DatasetTile, Tile
from featurestore.versions import trained_on_digests


def tiles_trained_on(session: Session, model_version_id: int, dataset_id: int) -> Sequence[str]:
    """Tiles of a data set that a version, or any version it descends from, has seen.

    See :func:`shared_tiles` for what counts.
    """
    return shared_tiles(session, trained_on_digests(session, model_version_id), dataset_id)


def shared_tiles(session: Session, digests: Sequence[str], dataset_id: int) -> Sequence[str]:
    """Tiles of a data set that stand in other data sets too, themselves or by their patient.

    A tile counts if the very image is in one of the others, or if another tile of the same
    patient is.

    Parameters
    ----------
    session : sqlalchemy.orm.Session
    digests : sequence of str
        The other data sets.
    dataset_id : int

    Returns
    -------
    sequence of str
        Paths of the tiles within the data set, sorted.
    """
    if not digests:
        return []
    other_tile, other_member = aliased(Tile), aliased(DatasetTile)
    other = (
        select(other_tile.tile_id, other_tile.patient_id)
        .join(other_member, other_member.tile_id == other_tile.tile_id)
        .join(Dataset, Dataset.dataset_id == other_member.dataset_id)
        .where(Dataset.digest.in_(digests))
        .cte("other")
    )
    return list(
        session.scalars(
            select(DatasetTile.path)
            .join(Tile, Tile.tile_id == DatasetTile.tile_id)
            .where(
                DatasetTile.dataset_id == dataset_id,
                or_(
                    Tile.tile_id.in_(select(other.c.tile_id)),
                    Tile.patient_id.in_(select(other.c.patient_id)),
                ),
            )
            .order_by(DatasetTile.path)
        )
    )
