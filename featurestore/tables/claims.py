"""Work that is shared out: blocks of tiles that wait for a process to embed them."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from featurestore.tables.base import Base, BigInt
from featurestore.tables.encoders import ModelVersionRow
from featurestore.tables.tissue import Dataset


class EmbeddingClaim(Base):
    """A block of tiles that waits; see :mod:`featurestore.claims`."""

    __tablename__ = "embedding_claims"
    __table_args__ = (
        CheckConstraint("block >= 0", name="block_not_negative"),
        CheckConstraint("first_tile_id <= last_tile_id", name="tiles_in_order"),
        {
            "comment": "Blocks of tiles that wait to be embedded: who works on one holds the "
            "lock of its row, and deletes it when the block is done"
        },
    )

    model_version_id: Mapped[int] = mapped_column(
        ForeignKey(ModelVersionRow.model_version_id, ondelete="CASCADE"),
        primary_key=True,
        comment="What embeds it",
    )
    dataset_id: Mapped[int] = mapped_column(
        ForeignKey(Dataset.dataset_id, ondelete="CASCADE"),
        primary_key=True,
        index=True,
        comment="Whose tiles they are",
    )
    block: Mapped[int] = mapped_column(
        primary_key=True, comment="Number of the block, from 0, in the order of tile_id"
    )
    first_tile_id: Mapped[BigInt] = mapped_column(comment="Its first tile")
    last_tile_id: Mapped[BigInt] = mapped_column(
        comment="Its last tile; it holds those of the data set in between"
    )
