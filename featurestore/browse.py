"""Looking around in the store: what a person picks data sets, encoders and tiles from."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Select,
    column,
    exists,
    func,
    select,
    true,
    values,
)
from sqlalchemy.orm import Session

from featurestore.sources.slide_tiles import TilePlace
from featurestore.tables import (
    Dataset,
    DatasetTile,
    Embedding,
    ModelVersionRow,
    Patient,
    Slide,
    StudyEncoder,
    Tile,
)

_FEW = 5_000


@dataclass(frozen=True, slots=True)
class NamedVersion:
    """A model version and the names that studies give it."""

    model_version_id: int
    names: str
    network: str
    dim: int


@dataclass(frozen=True, slots=True)
class DataSetEntry:
    """A data set and how much of it is embedded by whom.

    Attributes
    ----------
    dataset_id : int
    name : str
    n_tiles, n_slides : int
        No slides: its tiles are files.
    labels : tuple of str
        Classes of its tiles; empty where they have none.
    """

    dataset_id: int
    name: str
    n_tiles: int
    n_slides: int
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TileFacts:
    """A tile with everything that is known of it, and where its pixels are.

    ``path`` is its own file, or that of its slide; then ``place`` says where on it.
    """

    tile_id: int
    sha256: str
    path: Path
    place: TilePlace | None
    dataset_id: int
    dataset: str
    label: str | None
    patient_id: str | None
    site: str | None
    slide_id: int | None
    slide: str | None
    width_px: int
    height_px: int
    mpp: float | None


def named_versions(session: Session, dataset_id: int | None = None) -> list[NamedVersion]:
    """Model versions that some study names, in order of name; with tiles of a data set if given."""
    names = func.string_agg(StudyEncoder.encoder.distinct(), ", ")
    query = (
        select(
            ModelVersionRow.model_version_id,
            names.label("names"),
            ModelVersionRow.network,
            ModelVersionRow.dim,
        )
        .join(StudyEncoder, StudyEncoder.model_version_id == ModelVersionRow.model_version_id)
        .group_by(ModelVersionRow.model_version_id)
        .order_by(ModelVersionRow.model_version_id)
    )
    if dataset_id is not None:
        query = query.where(_embeds(dataset_id))
    return [NamedVersion(*row) for row in session.execute(query)]


def _embeds(dataset_id: int) -> ColumnElement[bool]:
    return exists().where(
        Embedding.model_version_id == ModelVersionRow.model_version_id,
        Embedding.tile_id == DatasetTile.tile_id,
        DatasetTile.dataset_id == dataset_id,
    )


def data_set_ids(session: Session) -> list[int]:
    """Keys of the data sets of the store, the newest first."""
    return list(session.scalars(select(Dataset.dataset_id).order_by(Dataset.dataset_id.desc())))


def data_set(session: Session, dataset_id: int) -> DataSetEntry | None:
    """What a data set holds, or None if there is none; it never changes, so it may be kept."""
    found = session.get(Dataset, dataset_id)
    if found is None:
        return None
    n_slides, labels = session.execute(
        select(func.count(Tile.slide_id.distinct()), func.array_agg(DatasetTile.label.distinct()))
        .join(Tile, Tile.tile_id == DatasetTile.tile_id)
        .where(DatasetTile.dataset_id == dataset_id)
    ).one()
    classes = tuple(sorted(filter(None, labels or ())))
    return DataSetEntry(dataset_id, found.name, found.n_tiles, n_slides, classes)


def sample_tiles(
    session: Session,
    dataset_id: int,
    model_version_id: int | None,
    *,
    label: str | None = None,
    n: int = 60,
    seed: int = 0,
) -> Sequence[tuple[int, str | None]]:
    """Some tiles of a data set, drawn by the seed: (tile_id, label).

    With a model version, only tiles that it has embedded. All of them are drawn from where they
    are few; of many, those that follow random keys, so that a large data set is not read whole.
    """
    tiles = select(DatasetTile.tile_id, DatasetTile.label).where(
        DatasetTile.dataset_id == dataset_id
    )
    if label is not None:
        tiles = tiles.where(DatasetTile.label == label)
    if model_version_id is not None:
        tiles = tiles.join(Embedding, Embedding.tile_id == DatasetTile.tile_id).where(
            Embedding.model_version_id == model_version_id
        )
    some = session.execute(tiles.order_by(DatasetTile.tile_id).limit(_FEW + 1)).all()
    drawn = random.Random(seed)  # noqa: S311 - which tiles to look at is no secret
    if len(some) <= _FEW:
        return [(row.tile_id, row.label) for row in drawn.sample(some, min(n, len(some)))]
    ends = select(func.min(DatasetTile.tile_id), func.max(DatasetTile.tile_id))
    low, high = session.execute(ends.where(DatasetTile.dataset_id == dataset_id)).one()
    keys = [(drawn.randint(low, high),) for _ in range(2 * n)]
    pivots = values(column("key", BigInteger), name="pivots").data(keys)
    after = tiles.where(DatasetTile.tile_id >= pivots.c.key).order_by(DatasetTile.tile_id)
    found = after.limit(1).lateral("found")
    rows = session.execute(
        select(found.c.tile_id, found.c.label).select_from(pivots.join(found, true()))
    )
    return list(dict.fromkeys((row.tile_id, row.label) for row in rows))[:n]


def tile_facts(session: Session, tile_id: int) -> TileFacts | None:
    """What is known of a tile, from the newest data set that holds it; None if there is none."""
    row = session.execute(_facts().where(Tile.tile_id == tile_id).limit(1)).first()
    if row is None:
        return None
    place = None
    if row.slide_sha256 is not None:
        place = TilePlace(
            row.slide_sha256, row.slide_mpp, row.x_px, row.y_px, row.width_px, row.mpp, row.stain
        )
    return TileFacts(
        row.tile_id, row.sha256, Path(row.root, row.path), place, row.dataset_id, row.dataset,
        row.label, row.patient_id, row.site, row.slide_id, row.slide, row.width_px,
        row.height_px, row.mpp,
    )  # fmt: skip


def _facts() -> Select[*tuple[Any, ...]]:
    return (
        select(
            Tile.tile_id,
            Tile.sha256,
            Tile.patient_id,
            Tile.slide_id,
            Tile.x_px,
            Tile.y_px,
            Tile.width_px,
            Tile.height_px,
            Tile.mpp,
            Tile.stain,
            Slide.sha256.label("slide_sha256"),
            Slide.mpp.label("slide_mpp"),
            Slide.name.label("slide"),
            Patient.tissue_source_site.label("site"),
            Dataset.dataset_id,
            Dataset.name.label("dataset"),
            Dataset.root,
            DatasetTile.path,
            DatasetTile.label,
        )
        .join(DatasetTile, DatasetTile.tile_id == Tile.tile_id)
        .join(Dataset, Dataset.dataset_id == DatasetTile.dataset_id)
        .outerjoin(Slide, Slide.slide_id == Tile.slide_id)
        .outerjoin(Patient, Patient.patient_id == Tile.patient_id)
        .order_by(Dataset.read_at.desc(), Dataset.dataset_id.desc())
    )
