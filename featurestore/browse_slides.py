"""Looking around on slides: which a data set has, where their files are, and classes on them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from featurestore.tables import Dataset, DatasetTile, Slide, Tile, TileClass


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
