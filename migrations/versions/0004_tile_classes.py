"""Classes of tiles by a fine-tuned encoder, and data sets chosen by them.

A patient's tumour tells more of its genes than the fat beside it, so a study may pool tumour
tiles alone. Which tiles those are, and who said so, must be as traceable as everything else.

Going back removes probabilities and rules; the chosen data sets stay, as sets of tiles.

Revision ID: 0004
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "tile_classes",
        sa.Column("model_version_id", sa.BigInteger(), nullable=False),
        sa.Column("tile_id", sa.BigInteger(), nullable=False),
        sa.Column(
            "label",
            sa.Text(),
            nullable=False,
            comment="A class of the set that the version was fine-tuned on",
        ),
        sa.Column(
            "probability",
            sa.REAL(),
            nullable=False,
            comment="Softmax of the classifier, 0-1; a tile's classes sum to 1",
        ),
        sa.CheckConstraint("label <> ''", name=op.f("ck_tile_classes_label_not_empty")),
        sa.CheckConstraint(
            "probability BETWEEN 0 AND 1", name=op.f("ck_tile_classes_probability_range")
        ),
        sa.ForeignKeyConstraint(
            ["model_version_id"],
            ["model_versions.model_version_id"],
            name=op.f("fk_tile_classes_model_version_id_model_versions"),
        ),
        sa.ForeignKeyConstraint(
            ["tile_id"], ["tiles.tile_id"], name=op.f("fk_tile_classes_tile_id_tiles")
        ),
        sa.PrimaryKeyConstraint(
            "model_version_id", "tile_id", "label", name=op.f("pk_tile_classes")
        ),
        comment="Class probabilities of tiles: one row a model version, tile and class",
    )
    op.create_table(
        "tile_selections",
        sa.Column("selection_id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("parent_id", sa.BigInteger(), nullable=False, comment="The data set chosen from"),
        sa.Column(
            "dataset_id",
            sa.BigInteger(),
            nullable=False,
            comment="The data set of the tiles that were kept",
        ),
        sa.Column(
            "model_version_id", sa.BigInteger(), nullable=False, comment="Whose classifier chose"
        ),
        sa.Column(
            "labels",
            postgresql.ARRAY(sa.Text()),
            nullable=False,
            comment="Classes whose probabilities are summed",
        ),
        sa.Column(
            "min_probability",
            sa.DOUBLE_PRECISION(),
            nullable=False,
            comment="A tile is kept from this sum on, 0-1",
        ),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When the row was written",
        ),
        sa.CheckConstraint("cardinality(labels) > 0", name=op.f("ck_tile_selections_labels_given")),
        sa.CheckConstraint(
            "min_probability > 0 AND min_probability <= 1",
            name=op.f("ck_tile_selections_min_probability_range"),
        ),
        sa.ForeignKeyConstraint(
            ["parent_id"],
            ["datasets.dataset_id"],
            name=op.f("fk_tile_selections_parent_id_datasets"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["dataset_id"],
            ["datasets.dataset_id"],
            name=op.f("fk_tile_selections_dataset_id_datasets"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["model_version_id"],
            ["model_versions.model_version_id"],
            name=op.f("fk_tile_selections_model_version_id_model_versions"),
        ),
        sa.PrimaryKeyConstraint("selection_id", name=op.f("pk_tile_selections")),
        sa.UniqueConstraint(
            "parent_id", "model_version_id", "labels", "min_probability", name="uq_one_answer"
        ),
        comment="Data sets chosen from others by a classifier, and by what rule",
    )
    op.create_index(op.f("ix_tile_selections_dataset_id"), "tile_selections", ["dataset_id"])


def downgrade() -> None:
    op.drop_table("tile_selections")
    op.drop_table("tile_classes")
