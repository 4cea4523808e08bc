"""Looking around in the store: what a person picks data sets, tiles and slides from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Select, exists, func, select
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
    TileClass,
)


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


@dataclass(frozen=True, slots=True)
class SlideEntry:
    """A slide of a data set and how many of its tiles are in there."""

    slide_id: int
    name: str
    patient_id: str
    width_px: int
    height_px: int
    mpp: float
    n_tiles: int


@dataclass(frozen=True, slots=True)
class HeatTile:
    """A tile on its slide, in pixels of level 0, and how probable a class is there."""

    tile_id: int
    x_px: int
    y_px: int
    side_px: float
    probability: float


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


def data_sets(session: Session) -> list[DataSetEntry]:
    """The data sets of the store, the newest first."""
    rows = session.execute(
        select(
            Dataset.dataset_id,
            Dataset.name,
            Dataset.n_tiles,
            func.count(Tile.slide_id.distinct()),
            func.array_agg(DatasetTile.label.distinct()),
        )
        .join(DatasetTile, DatasetTile.dataset_id == Dataset.dataset_id)
        .join(Tile, Tile.tile_id == DatasetTile.tile_id)
        .group_by(Dataset.dataset_id)
        .order_by(Dataset.dataset_id.desc())
    )
    return [
        DataSetEntry(dataset_id, name, n_tiles, n_slides, tuple(sorted(filter(None, labels))))
        for dataset_id, name, n_tiles, n_slides, labels in rows
    ]


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

    With a model version, only tiles that it has embedded.
    """
    drawn = func.md5(func.concat(str(seed), Tile.sha256))
    query = (
        select(Tile.tile_id, DatasetTile.label)
        .join(DatasetTile, DatasetTile.tile_id == Tile.tile_id)
        .where(DatasetTile.dataset_id == dataset_id)
        .order_by(drawn)
        .limit(n)
    )
    if model_version_id is not None:
        query = query.join(Embedding, Embedding.tile_id == Tile.tile_id).where(
            Embedding.model_version_id == model_version_id
        )
    if label is not None:
        query = query.where(DatasetTile.label == label)
    return [(tile_id, tile_label) for tile_id, tile_label in session.execute(query)]


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


def slides_in(session: Session, dataset_id: int, *, limit: int = 1_000) -> list[SlideEntry]:
    """The slides of a data set, by name."""
    rows = session.execute(
        select(
            Slide.slide_id,
            Slide.name,
            Slide.patient_id,
            Slide.width_px,
            Slide.height_px,
            Slide.mpp,
            func.count(),
        )
        .join(Tile, Tile.slide_id == Slide.slide_id)
        .join(DatasetTile, DatasetTile.tile_id == Tile.tile_id)
        .where(DatasetTile.dataset_id == dataset_id)
        .group_by(Slide.slide_id)
        .order_by(Slide.name)
        .limit(limit)
    )
    return [SlideEntry(*row) for row in rows]


def slide_file(session: Session, slide_id: int) -> tuple[Slide, Path] | None:
    """A slide and its file where it was last seen; None if the store has no such slide."""
    row = session.execute(
        select(Slide, Dataset.root, DatasetTile.path)
        .join(Tile, Tile.slide_id == Slide.slide_id)
        .join(DatasetTile, DatasetTile.tile_id == Tile.tile_id)
        .join(Dataset, Dataset.dataset_id == DatasetTile.dataset_id)
        .where(Slide.slide_id == slide_id)
        .order_by(Dataset.read_at.desc())
        .limit(1)
    ).first()
    return None if row is None else (row[0], Path(row.root, row.path))


def classes_on(session: Session, slide_id: int) -> list[tuple[int, str, float]]:
    """Classes that a slide's tiles were asked for: (model_version_id, label, mean probability)."""
    rows = session.execute(
        select(TileClass.model_version_id, TileClass.label, func.avg(TileClass.probability))
        .join(Tile, Tile.tile_id == TileClass.tile_id)
        .where(Tile.slide_id == slide_id)
        .group_by(TileClass.model_version_id, TileClass.label)
        .order_by(TileClass.model_version_id, TileClass.label)
    )
    return [(version_id, label, mean) for version_id, label, mean in rows]


def heat_tiles(
    session: Session, slide_id: int, model_version_id: int, label: str
) -> list[HeatTile]:
    """How probable a class is at each of a slide's tiles, by one classifier."""
    rows = session.execute(
        select(
            Tile.tile_id,
            Tile.x_px,
            Tile.y_px,
            Tile.width_px,
            Tile.mpp,
            Slide.mpp.label("slide_mpp"),
            TileClass.probability,
        )
        .join(Slide, Slide.slide_id == Tile.slide_id)
        .join(TileClass, TileClass.tile_id == Tile.tile_id)
        .where(
            Tile.slide_id == slide_id,
            TileClass.model_version_id == model_version_id,
            TileClass.label == label,
        )
        .order_by(Tile.y_px, Tile.x_px)
    )
    return [
        HeatTile(
            row.tile_id,
            row.x_px,
            row.y_px,
            row.width_px * row.mpp / row.slide_mpp,
            row.probability,
        )
        for row in rows
    ]
