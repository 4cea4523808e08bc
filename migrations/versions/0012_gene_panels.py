"""Panels of tiles for the best-predicted genes, with pictures of their own.

A report is built from the database alone, when slides may long be gone: what a model looks at
can be shown then only if the tiles' pixels are kept beside their scores.

Revision ID: 0012
"""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "gene_panels",
        sa.Column("experiment_id", sa.BigInteger(), nullable=False),
        sa.Column("model_version_id", sa.BigInteger(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False, comment="Gene symbol"),
        sa.Column("metric", sa.Text(), nullable=False, comment="pearson_r or auroc"),
        sa.Column(
            "mean_score",
            sa.DOUBLE_PRECISION(),
            nullable=False,
            comment="Mean of the metric over the splits of the cross-validation; this model, "
            "fitted on all patients, has none of its own",
        ),
        sa.Column(
            "penalty",
            sa.DOUBLE_PRECISION(),
            nullable=False,
            comment="Of the squared weights, relative to the number of features; chosen on all "
            "patients",
        ),
        sa.Column(
            "mean_prediction",
            sa.DOUBLE_PRECISION(),
            nullable=False,
            comment="Prediction for the mean of all patients, in the unit of "
            "gene_panel_tiles.score",
        ),
        sa.Column(
            "n_patients",
            sa.Integer(),
            nullable=False,
            comment="Patients that the model is fitted on",
        ),
        sa.Column(
            "n_tiles",
            sa.BigInteger(),
            nullable=False,
            comment="Their tiles, all of which were ranked",
        ),
        sa.Column(
            "n_unreadable",
            sa.Integer(),
            nullable=False,
            comment="Tiles passed over because their pixels could not be read again; rejects "
            "has them",
        ),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When the row was written",
        ),
        sa.CheckConstraint(
            "metric IN ('pearson_r', 'auroc')", name=op.f("ck_gene_panels_metric_known")
        ),
        sa.CheckConstraint("penalty > 0", name=op.f("ck_gene_panels_penalty_positive")),
        sa.CheckConstraint(
            "n_patients > 0 AND n_tiles > 0", name=op.f("ck_gene_panels_model_of_something")
        ),
        sa.CheckConstraint(
            "n_unreadable >= 0", name=op.f("ck_gene_panels_n_unreadable_not_negative")
        ),
        sa.ForeignKeyConstraint(
            ["experiment_id", "model_version_id"],
            ["experiment_encoders.experiment_id", "experiment_encoders.model_version_id"],
            name="fk_gene_panels_experiment_encoder",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint(
            "experiment_id", "model_version_id", "target", name=op.f("pk_gene_panels")
        ),
        comment="One row a best-predicted gene: the model whose tiles are in gene_panel_tiles",
    )
    op.create_table(
        "gene_panel_tiles",
        sa.Column("experiment_id", sa.BigInteger(), nullable=False),
        sa.Column("model_version_id", sa.BigInteger(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False, comment="Gene symbol"),
        sa.Column("side", sa.Text(), nullable=False, comment="high or low"),
        sa.Column("rank", sa.SmallInteger(), nullable=False, comment="From 1, the most extreme"),
        sa.Column("tile_id", sa.BigInteger(), nullable=False),
        sa.Column(
            "score",
            sa.DOUBLE_PRECISION(),
            nullable=False,
            comment="What the model predicts of the tile alone: log2(x + 1) expression, or log "
            "odds of a mutation; its mean over a patient's tiles is the patient's prediction",
        ),
        sa.Column("thumbnail", sa.LargeBinary(), nullable=False, comment="The tile as JPEG"),
        sa.Column(
            "thumbnail_px",
            sa.SmallInteger(),
            nullable=False,
            comment="Side of the thumbnail in pixels",
        ),
        sa.CheckConstraint("side IN ('high', 'low')", name=op.f("ck_gene_panel_tiles_side_known")),
        sa.CheckConstraint("rank > 0", name=op.f("ck_gene_panel_tiles_rank_positive")),
        sa.CheckConstraint(
            "thumbnail_px > 0", name=op.f("ck_gene_panel_tiles_thumbnail_px_positive")
        ),
        sa.CheckConstraint(
            "substring(thumbnail, 1, 3) = '\\xffd8ff'",
            name=op.f("ck_gene_panel_tiles_thumbnail_is_jpeg"),
        ),
        sa.ForeignKeyConstraint(
            ["experiment_id", "model_version_id", "target"],
            ["gene_panels.experiment_id", "gene_panels.model_version_id", "gene_panels.target"],
            name="fk_gene_panel_tiles_panel",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["tile_id"], ["tiles.tile_id"], name=op.f("fk_gene_panel_tiles_tile_id_tiles")
        ),
        sa.PrimaryKeyConstraint(
            "experiment_id",
            "model_version_id",
            "target",
            "side",
            "rank",
            name=op.f("pk_gene_panel_tiles"),
        ),
        comment="Tiles with the highest and lowest scores of a panel, at most one a patient",
    )
    op.create_index(op.f("ix_gene_panel_tiles_tile_id"), "gene_panel_tiles", ["tile_id"])
    statements = Path(__file__).with_suffix(".sql").read_text(encoding="utf-8")
    # By the driver: to SQLAlchemy a colon in a text would be a parameter.
    op.get_bind().exec_driver_sql(statements.replace("%", "%%"))


def downgrade() -> None:
    op.execute("DROP VIEW study_gene_tiles")
    op.drop_table("gene_panel_tiles")
    op.drop_table("gene_panels")
