"""Blocks of tiles that wait to be embedded, so that many processes can share a data set.

Who works on a block holds the lock of its row, so a dead process's blocks are free at once.

Revision ID: 0011
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "embedding_claims",
        sa.Column("model_version_id", sa.BigInteger(), nullable=False, comment="What embeds it"),
        sa.Column("dataset_id", sa.BigInteger(), nullable=False, comment="Whose tiles they are"),
        sa.Column(
            "block",
            sa.Integer(),
            nullable=False,
            comment="Number of the block, from 0, in the order of tile_id",
        ),
        sa.Column("first_tile_id", sa.BigInteger(), nullable=False, comment="Its first tile"),
        sa.Column(
            "last_tile_id",
            sa.BigInteger(),
            nullable=False,
            comment="Its last tile; it holds those of the data set in between",
        ),
        sa.CheckConstraint("block >= 0", name=op.f("ck_embedding_claims_block_not_negative")),
        sa.CheckConstraint(
            "first_tile_id <= last_tile_id", name=op.f("ck_embedding_claims_tiles_in_order")
        ),
        sa.ForeignKeyConstraint(
            ["model_version_id"],
            ["model_versions.model_version_id"],
            name=op.f("fk_embedding_claims_model_version_id_model_versions"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["dataset_id"],
            ["datasets.dataset_id"],
            name=op.f("fk_embedding_claims_dataset_id_datasets"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint(
            "model_version_id", "dataset_id", "block", name=op.f("pk_embedding_claims")
        ),
        comment="Blocks of tiles that wait to be embedded: who works on one holds the "
        "lock of its row, and deletes it when the block is done",
    )
    op.create_index(op.f("ix_embedding_claims_dataset_id"), "embedding_claims", ["dataset_id"])


def downgrade() -> None:
    op.drop_table("embedding_claims")
