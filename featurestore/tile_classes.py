"""Tiles by class: what a fine-tuned encoder's classifier says, and data sets chosen by it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sqlalchemy import Select, exists, func, literal, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from featurestore.copy import copy_rows
from featurestore.datasets import WrittenDataset
from featurestore.errors import Reject, SourceError
from featurestore.ledger import reading_moment
from featurestore.model_versions import content_sha256
from featurestore.tables import (
    Dataset,
    DatasetTile,
    Embedding,
    Tile,
    TileClass,
    TileSelection,
)

SELECT_STAGE = "select"
_PAGE = 4_096


@dataclass(frozen=True, slots=True)
class TileRule:
    """Which tiles to keep: those whose probabilities of ``labels`` sum to the minimum or more.

    Attributes
    ----------
    model_version_id : int
        The fine-tuned version whose classifier is asked.
    labels : tuple of str
        Classes of the set that it was fine-tuned on.
    min_probability : float
        Above 0, up to 1.
    """

    model_version_id: int
    labels: tuple[str, ...]
    min_probability: float


def iter_unclassified(
    session: Session, model_version_id: int, dataset_id: int
) -> Iterator[NDArray[np.int64]]:
    """Ids of embedded tiles of a data set without class probabilities, a page at a time.

    Each page must be written with :func:`write_tile_classes` before the next is asked for.
    """
    while ids := session.scalars(_unclassified(model_version_id, dataset_id).limit(_PAGE)).all():
        yield np.asarray(ids, dtype=np.int64)


def n_unclassified(session: Session, model_version_id: int, dataset_id: int) -> int:
    """Number of embedded tiles of a data set without class probabilities."""
    missing = _unclassified(model_version_id, dataset_id).order_by(None).subquery()
    return session.execute(select(func.count()).select_from(missing)).scalar_one()


def _unclassified(model_version_id: int, dataset_id: int) -> Select[int]:
    return (
        select(Embedding.tile_id)
        .join(DatasetTile, DatasetTile.tile_id == Embedding.tile_id)
        .where(
            Embedding.model_version_id == model_version_id,
            DatasetTile.dataset_id == dataset_id,
            ~exists().where(
                TileClass.model_version_id == model_version_id,
                TileClass.tile_id == Embedding.tile_id,
            ),
        )
        .order_by(Embedding.tile_id)
    )


def write_tile_classes(
    session: Session,
    model_version_id: int,
    tile_ids: NDArray[np.int64],
    labels: Sequence[str],
    probabilities: NDArray[np.float32],
) -> int:
    """Write class probabilities of tiles that have none yet; the caller commits.

    Parameters
    ----------
    session : sqlalchemy.orm.Session
    model_version_id : int
        The fine-tuned version whose classifier gave them.
    tile_ids : (n,) array
    labels : sequence of str
        The classes, in the order of the columns.
    probabilities : (n, n_classes) array

    Returns
    -------
    int
        Number of rows, one a tile and class.
    """
    return copy_rows(
        session,
        TileClass.__tablename__,
        [
            ("model_version_id", "int8"),
            ("tile_id", "int8"),
            ("label", "text"),
            ("probability", "float4"),
        ],
        (
            (model_version_id, int(tile_id), label, float(p))
            for tile_id, row in zip(tile_ids, probabilities, strict=True)
            for label, p in zip(labels, row, strict=True)
        ),
    )


def class_counts(session: Session, model_version_id: int, dataset_id: int) -> pd.DataFrame:
    """How many tiles of a data set are most probably of each class: label, n_tiles."""
    by_tile = func.row_number().over(
        partition_by=TileClass.tile_id, order_by=(TileClass.probability.desc(), TileClass.label)
    )
    ranked = (
        select(TileClass.label, by_tile.label("rank"))
        .join(DatasetTile, DatasetTile.tile_id == TileClass.tile_id)
        .where(DatasetTile.dataset_id == dataset_id, TileClass.model_version_id == model_version_id)
        .subquery()
    )
    rows = session.execute(
        select(ranked.c.label, func.count())
        .where(ranked.c.rank == 1)
        .group_by(ranked.c.label)
        .order_by(ranked.c.label)
    ).all()
    return pd.DataFrame(rows, columns=["label", "n_tiles"])


def select_tiles(
    session: Session, parent_id: int, rule: TileRule, *, listing_sha256: str
) -> WrittenDataset:
    """Make those tiles of a data set of slides that follow a rule a data set of their own.

    The same tiles are the same data set, whichever rule chose them. The caller commits.

    Parameters
    ----------
    session : sqlalchemy.orm.Session
    parent_id : int
        The data set to choose from, with class probabilities.
    rule : TileRule
    listing_sha256 : str
        Digest of what the choice rests on.

    Returns
    -------
    WrittenDataset
        Its rejects are the slides of which no tile is left.

    Raises
    ------
    SourceError
        If no tile is left at all.
    """
    parent = session.get_one(Dataset, parent_id)
    kept = _kept(parent_id, rule).subquery()
    members = session.execute(
        select(Tile.sha256, Tile.patient_id).join(kept, kept.c.tile_id == Tile.tile_id)
    ).all()
    classes = " or ".join(rule.labels)
    if not members:
        raise SourceError(
            f"{parent.name}: none of its {parent.n_tiles} tiles is {classes} with a probability of "
            f"{rule.min_probability:g} or more; lower the bound or use all tiles"
        )
    dataset_id, digest = _write_dataset(session, parent, members, listing_sha256, classes)
    rows = select(literal(dataset_id), DatasetTile.tile_id, DatasetTile.path)
    session.execute(
        insert(DatasetTile)
        .from_select(
            ["dataset_id", "tile_id", "path"],
            rows.join(kept, kept.c.tile_id == DatasetTile.tile_id).where(
                DatasetTile.dataset_id == parent_id
            ),
        )
        .on_conflict_do_nothing()
    )
    _write_selection(session, parent_id, dataset_id, rule)
    rejects = _lost_slides(session, parent_id, dataset_id, rule)
    return WrittenDataset(dataset_id, digest, len(members), 0, rejects)


def _kept(parent_id: int, rule: TileRule) -> Select[int]:
    return (
        select(TileClass.tile_id)
        .join(DatasetTile, DatasetTile.tile_id == TileClass.tile_id)
        .where(
            DatasetTile.dataset_id == parent_id,
            TileClass.model_version_id == rule.model_version_id,
            TileClass.label.in_(rule.labels),
        )
        .group_by(TileClass.tile_id)
        .having(func.sum(TileClass.probability) >= rule.min_probability)
    )


def _write_dataset(
    session: Session,
    parent: Dataset,
    members: Sequence[Any],
    listing_sha256: str,
    classes: str,
) -> tuple[int, str]:
    # As featurestore.slides digests the tiles of slides, so that the same tiles are the same set.
    digest = content_sha256(sorted([row.sha256, row.patient_id] for row in members))
    values = {
        "digest": digest,
        "name": f"{parent.name} ({classes})",
        "root": parent.root,
        "listing_sha256": listing_sha256,
        "n_tiles": len(members),
        "read_at": reading_moment(),
    }
    dataset_id = session.execute(
        insert(Dataset)
        .values(values)
        .on_conflict_do_update(
            index_elements=[Dataset.digest],
            set_={name: values[name] for name in ("root", "read_at")},
        )
        .returning(Dataset.dataset_id)
    ).scalar_one()
    return dataset_id, digest


def _write_selection(session: Session, parent_id: int, dataset_id: int, rule: TileRule) -> None:
    statement = insert(TileSelection).values(
        parent_id=parent_id,
        dataset_id=dataset_id,
        model_version_id=rule.model_version_id,
        labels=sorted(rule.labels),
        min_probability=rule.min_probability,
    )
    session.execute(
        statement.on_conflict_do_update(
            constraint="uq_one_answer", set_={"dataset_id": statement.excluded.dataset_id}
        )
    )


def _lost_slides(
    session: Session, parent_id: int, dataset_id: int, rule: TileRule
) -> tuple[Reject, ...]:
    def paths(dataset: int) -> Select[str]:
        return select(DatasetTile.path).where(DatasetTile.dataset_id == dataset)

    rows = session.execute(
        select(DatasetTile.path, Tile.patient_id, func.count().label("n"))
        .join(Tile, Tile.tile_id == DatasetTile.tile_id)
        .where(DatasetTile.dataset_id == parent_id, DatasetTile.path.not_in(paths(dataset_id)))
        .group_by(DatasetTile.path, Tile.patient_id)
        .order_by(DatasetTile.path)
    )
    return tuple(
        Reject(
            row.path,
            SELECT_STAGE,
            f"none of its {row.n} tiles (patient {row.patient_id}) is {' or '.join(rule.labels)} "
            f"with a probability of {rule.min_probability:g} or more",
        )
        for row in rows
    )
