"""Tiles that a data set still lacks something of, and where their pixels are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Engine, Select, select
from sqlalchemy.orm import Session

from featurestore.embeddings import has_embedding
from featurestore.sources.slide_tiles import TilePlace
from featurestore.tables import Dataset, DatasetTile, Slide, Tile

_PAGE = 1_000


@dataclass(frozen=True, slots=True)
class MissingTile:
    """A tile that lacks an embedding (or a hash), and where its pixels are.

    ``path`` is the tile's own file, or that of its slide; then ``place`` says where on it.
    """

    tile_id: int
    sha256: str
    path: Path
    place: TilePlace | None = None


def iter_missing(
    engine: Engine,
    model_version_id: int,
    dataset_id: int,
    *,
    within: tuple[int, int] | None = None,
) -> Iterator[MissingTile]:
    """Tiles of a data set without an embedding, as :func:`iter_tiles` gives them.

    ``within`` narrows it to the tiles from one id to another, both included.
    """
    missing = ~has_embedding(model_version_id)
    if within is not None:
        missing &= DatasetTile.tile_id.between(*within)
    return iter_tiles(engine, dataset_id, missing)


def iter_tiles(
    engine: Engine, dataset_id: int, wanted: ColumnElement[bool]
) -> Iterator[MissingTile]:
    """Tiles of a data set that a condition holds for, page by page, in the order of their ids.

    Each page is a short read of its own, so that memory stays flat and no transaction is
    held open while the network runs.
    """
    after = 0
    while True:
        with Session(engine) as session:
            rows = session.execute(_places(dataset_id, wanted, after)).all()
        for row in rows:
            place = None
            if row.slide_sha256 is not None:
                place = TilePlace(
                    row.slide_sha256, row.slide_mpp, row.x_px, row.y_px, row.width_px, row.mpp,
                    row.stain,
                )  # fmt: skip
            yield MissingTile(row.tile_id, row.sha256, Path(row.root, row.path), place)
        if len(rows) < _PAGE:
            return
        after = rows[-1].tile_id


def _places(dataset_id: int, wanted: ColumnElement[bool], after: int) -> Select[*tuple[Any, ...]]:
    return (
        select(
            Tile.tile_id,
            Tile.sha256,
            Tile.x_px,
            Tile.y_px,
            Tile.width_px,
            Tile.mpp,
            Tile.stain,
            Slide.sha256.label("slide_sha256"),
            Slide.mpp.label("slide_mpp"),
            Dataset.root,
            DatasetTile.path,
        )
        .join(DatasetTile, DatasetTile.tile_id == Tile.tile_id)
        .join(Dataset, Dataset.dataset_id == DatasetTile.dataset_id)
        .outerjoin(Slide, Slide.slide_id == Tile.slide_id)
        .where(
            Dataset.dataset_id == dataset_id,
            Tile.tile_id > after,
            wanted,
        )
        .order_by(Tile.tile_id)
        .limit(_PAGE)
    )
