"""Maps: a data set's tiles laid out in two dimensions by the likeness of their features."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, ForeignKey, ForeignKeyConstraint, Text
from sqlalchemy.dialects.postgresql import REAL
from sqlalchemy.orm import Mapped, mapped_column

from featurestore.tables.base import Base, BigInt, Double, Now
from featurestore.tables.encoders import ModelVersionRow
from featurestore.tables.tissue import Dataset, Tile


class TileMap(Base):
    """How one map was made."""

    __tablename__ = "tile_maps"
    __table_args__ = (
        CheckConstraint("n_tiles > 0 AND n_tiles <= n_embedded", name="n_tiles_range"),
        CheckConstraint("n_neighbours > 0", name="n_neighbours_positive"),
        {"comment": "One row a data set and model version; its points are in tile_map_points"},
    )

    model_version_id: Mapped[int] = mapped_column(
        ForeignKey(ModelVersionRow.model_version_id, ondelete="CASCADE"), primary_key=True
    )
    dataset_id: Mapped[int] = mapped_column(
        ForeignKey(Dataset.dataset_id, ondelete="CASCADE"), primary_key=True
    )
    method: Mapped[str] = mapped_column(Text, comment="Program and version, e.g. umap-learn 0.5.12")
    seed: Mapped[BigInt] = mapped_column(comment="Seed of sample and layout")
    n_neighbours: Mapped[int] = mapped_column(comment="Neighbours that a tile is laid out by")
    min_distance: Mapped[Double] = mapped_column(comment="How near two points may come")
    n_embedded: Mapped[int] = mapped_column(comment="Embedded tiles of the data set then")
    n_tiles: Mapped[int] = mapped_column(comment="Tiles on the map: all, or a seeded sample")
    created_at: Mapped[Now]


class TileMapPoint(Base):
    """Where a tile lies on a map; only nearness means something."""

    __tablename__ = "tile_map_points"
    __table_args__ = (
        ForeignKeyConstraint(
            ["model_version_id", "dataset_id"],
            [TileMap.model_version_id, TileMap.dataset_id],
            name="fk_tile_map_points_map",
            ondelete="CASCADE",
        ),
        {"comment": "Points of maps; axes have no unit"},
    )

    model_version_id: Mapped[BigInt] = mapped_column(primary_key=True)
    dataset_id: Mapped[BigInt] = mapped_column(primary_key=True)
    tile_id: Mapped[int] = mapped_column(ForeignKey(Tile.tile_id), primary_key=True)
    x: Mapped[float] = mapped_column(REAL, comment="Without a unit")
    y: Mapped[float] = mapped_column(REAL, comment="Without a unit")
