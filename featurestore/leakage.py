"""Leakage that the store can tell by itself: tiles on both sides of a training."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import or_, select
from sqlalchemy.orm import Session, aliased

from featurestore.tables import Dataset, DatasetTile, Tile
from featurestore.versions import trained_on_digests


def tiles_trained_on(session: Session, model_version_id: int, dataset_id: int) -> Sequence[str]:
    """Tiles of a data set that a version has seen in training, itself or through a patient.

    A tile counts if the very image was in a data set that the version, or any version it
    descends from, was trained on; or if another tile of the same patient was.

    Returns
    -------
    sequence of str
        Paths of the tiles within the data set, sorted.
    """
    digests = trained_on_digests(session, model_version_id)
    if not digests:
        return []
    seen_tile, seen_member = aliased(Tile), aliased(DatasetTile)
    seen = (
        select(seen_tile.tile_id, seen_tile.patient_id)
        .join(seen_member, seen_member.tile_id == seen_tile.tile_id)
        .join(Dataset, Dataset.dataset_id == seen_member.dataset_id)
        .where(Dataset.digest.in_(digests))
        .cte("seen")
    )
    return list(
        session.scalars(
            select(DatasetTile.path)
            .join(Tile, Tile.tile_id == DatasetTile.tile_id)
            .where(
                DatasetTile.dataset_id == dataset_id,
                or_(
                    Tile.tile_id.in_(select(seen.c.tile_id)),
                    Tile.patient_id.in_(select(seen.c.patient_id)),
                ),
            )
            .order_by(DatasetTile.path)
        )
    )
