"""What a study's sources came to: a pointer to the data set that each of them last read."""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from featurestore.errors import StoreError
from featurestore.tables import Dataset, StudyDataset


def point_dataset(
    session: Session, study: str, asset: str, dataset_id: int, *, listing_sha256: str
) -> None:
    """Let a study's source stand for a data set from now on; the caller commits."""
    values = {"dataset_id": dataset_id, "listing_sha256": listing_sha256}
    statement = insert(StudyDataset).values(study=study, asset=asset, **values)
    session.execute(
        statement.on_conflict_do_update(
            index_elements=[StudyDataset.study, StudyDataset.asset],
            set_={**values, "updated_at": func.now()},
        )
    )


def study_dataset(session: Session, study: str, asset: str) -> Dataset:
    """The data set that a study's source last read.

    Files may have changed since: what is embedded is checked tile by tile, and what has to
    be read again is for :func:`is_as_read` to say.

    Raises
    ------
    StoreError
        If it was never read.
    """
    dataset = session.scalars(
        select(Dataset)
        .join(StudyDataset, StudyDataset.dataset_id == Dataset.dataset_id)
        .where(StudyDataset.study == study, StudyDataset.asset == asset)
    ).first()
    if dataset is None:
        raise StoreError(f"{study}/{asset} was not read yet: materialise it first")
    return dataset


def is_as_read(session: Session, study: str, asset: str, listing_sha256: str) -> bool:
    """Whether a source's files are still those that it last read."""
    return listing_sha256 == session.scalar(
        select(StudyDataset.listing_sha256).where(
            StudyDataset.study == study, StudyDataset.asset == asset
        )
    )
