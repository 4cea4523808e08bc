"""Maps of data sets: where each tile lies by the likeness of its features.

Laying out takes half a minute and a page must not, so maps are made once and kept.

Revision ID: 0009
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "tile_maps",
        sa.Column("model_version_id", sa.BigInteger(), nullable=False),
        sa.Column("dataset_id", sa.BigInteger(), nullable=False),
        sa.Column(
            "method",
            sa.Text(),
            nullable=False,
            comment="Program and version, e.g. umap-learn 0.5.12",
        ),
        sa.Column("seed", sa.BigInteger(), nullable=False, comment="Seed of sample and layout"),
        sa.Column(
            "n_neighbours",
            sa.Integer(),
            nullable=False,
            comment="Neighbours that a tile is laid out by",
        ),
        sa.Column(
            "min_distance",
            sa.DOUBLE_PRECISION(),
            nullable=False,
            comment="How near two points may come",
        ),
        sa.Column(
            "n_embedded",
            sa.Integer(),
            nullable=False,
            comment="Embedded tiles of the data set then",
        ),
        sa.Column(
            "n_tiles",
            sa.Integer(),
            nullable=False,
            comment="Tiles on the map: all, or a seeded sample",
        ),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When the row was written",
        ),
        sa.CheckConstraint(
            "n_tiles > 0 AND n_tiles <= n_embedded", name=op.f("ck_tile_maps_n_tiles_range")
        ),
        sa.CheckConstraint("n_neighbours > 0", name=op.f("ck_tile_maps_n_neighbours_positive")),
        sa.ForeignKeyConstraint(
            ["model_version_id"],
            ["model_versions.model_version_id"],
            name=op.f("fk_tile_maps_model_version_id_model_versions"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["dataset_id"],
            ["datasets.dataset_id"],
            name=op.f("fk_tile_maps_dataset_id_datasets"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("model_version_id", "dataset_id", name=op.f("pk_tile_maps")),
        comment="One row a data set and model version; its points are in tile_map_points",
    )
    op.create_table(
        "tile_map_points",
        sa.Column("model_version_id", sa.BigInteger(), nullable=False),
        sa.Column("dataset_id", sa.BigInteger(), nullable=False),
        sa.Column("tile_id", sa.BigInteger(), nullable=False),
        sa.Column("x", sa.REAL(), nullable=False, comment="Without a unit"),
        sa.Column("y", sa.REAL(), nullable=False, comment="Without a unit"),
        sa.ForeignKeyConstraint(
            ["model_version_id", "dataset_id"],
            ["tile_maps.model_version_id", "tile_maps.dataset_id"],
            name="fk_tile_map_points_map",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["tile_id"], ["tiles.tile_id"], name=op.f("fk_tile_map_points_tile_id_tiles")
        ),
        sa.PrimaryKeyConstraint(
            "model_version_id", "dataset_id", "tile_id", name=op.f("pk_tile_map_points")
        ),
        comment="Points of maps; axes have no unit",
    )


def downgrade() -> None:
    op.drop_table("tile_map_points")
    op.drop_table("tile_maps")
