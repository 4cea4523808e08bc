"""What a fine-tuned encoder's own classifier says of tiles, and tiles chosen by it."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, ForeignKey, Text, UniqueConstraint
from sqlalchemy.dialects.postgresql import ARRAY, REAL
from sqlalchemy.orm import Mapped, mapped_column

from featurestore.tables.base import Base, Double, Key, Now, not_empty
from featurestore.tables.encoders import ModelVersionRow
from featurestore.tables.tissue import Dataset, Tile


class TileClass(Base):
    """How probable a class is for a tile, by the classifier of a fine-tuned model version."""

    __tablename__ = "tile_classes"
    __table_args__ = (
        not_empty("label"),
        CheckConstraint("probability BETWEEN 0 AND 1", name="probability_range"),
        {"comment": "Class probabilities of tiles: one row a model version, tile and class"},
    )

    model_version_id: Mapped[int] = mapped_column(
        ForeignKey(ModelVersionRow.model_version_id), primary_key=True
    )
    tile_id: Mapped[int] = mapped_column(ForeignKey(Tile.tile_id), primary_key=True)
    label: Mapped[str] = mapped_column(
        Text, primary_key=True, comment="A class of the set that the version was fine-tuned on"
    )
    probability: Mapped[float] = mapped_column(
        REAL, comment="Softmax of the classifier, 0-1; a tile's classes sum to 1"
    )


class TileSelection(Base):
    """A data set that holds the tiles of another one which a classifier finds to be of a class."""

    __tablename__ = "tile_selections"
    __table_args__ = (
        UniqueConstraint(
            "parent_id", "model_version_id", "labels", "min_probability", name="uq_one_answer"
        ),
        CheckConstraint("cardinality(labels) > 0", name="labels_given"),
        CheckConstraint(
            "min_probability > 0 AND min_probability <= 1", name="min_probability_range"
        ),
        {"comment": "Data sets chosen from others by a classifier, and by what rule"},
    )

    selection_id: Mapped[Key]
    parent_id: Mapped[int] = mapped_column(
        ForeignKey(Dataset.dataset_id, ondelete="CASCADE"), comment="The data set chosen from"
    )
    dataset_id: Mapped[int] = mapped_column(
        ForeignKey(Dataset.dataset_id, ondelete="CASCADE"),
        index=True,
        comment="The data set of the tiles that were kept",
    )
    model_version_id: Mapped[int] = mapped_column(
        ForeignKey(ModelVersionRow.model_version_id), comment="Whose classifier chose"
    )
    labels: Mapped[list[str]] = mapped_column(
        ARRAY(Text), comment="Classes whose probabilities are summed"
    )
    min_probability: Mapped[Double] = mapped_column(comment="A tile is kept from this sum on, 0-1")
    created_at: Mapped[Now]
