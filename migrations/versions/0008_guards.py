"""What the guards against leakage found, and perceptual hashes of tiles.

A leak that was looked for must be reportable from the database alone, found or not. Hashes are
kept so that each tile is hashed once, whichever data sets it is in.

Going back forgets both; the guards look again when their assets are materialised.

Revision ID: 0008
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from pgvector.sqlalchemy import BIT
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "guard_results",
        sa.Column("guard_result_id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("study", sa.Text(), nullable=False, comment="Name of the study"),
        sa.Column(
            "guard", sa.Text(), nullable=False, comment="near_duplicate_hash, artefact_label, …"
        ),
        sa.Column(
            "target",
            sa.Text(),
            nullable=False,
            comment="What was looked at: an asset of the study, a task or an encoder",
        ),
        sa.Column(
            "part",
            sa.Text(),
            nullable=False,
            comment="Which of several measurements of the guard; empty where it has one",
        ),
        sa.Column(
            "passed",
            sa.Boolean(),
            nullable=True,
            comment="False: a leak was found; NULL: it could not be looked for, see summary",
        ),
        sa.Column(
            "severity",
            sa.Text(),
            nullable=False,
            comment="blocking: a leak stops the study; warning: it is reported",
        ),
        sa.Column(
            "measured",
            sa.DOUBLE_PRECISION(),
            nullable=True,
            comment="The number found, in the column unit",
        ),
        sa.Column("unit", sa.Text(), nullable=True, comment="Unit of measured and threshold"),
        sa.Column(
            "threshold",
            sa.DOUBLE_PRECISION(),
            nullable=True,
            comment="Where the number begins to be a leak; NULL where none does alone",
        ),
        sa.Column("summary", sa.Text(), nullable=False, comment="What was found, in one sentence"),
        sa.Column(
            "details",
            postgresql.JSONB(),
            nullable=False,
            comment="Everything else: pairs of tiles, chance, p-values, counts",
        ),
        sa.Column(
            "dataset_digest",
            sa.Text(),
            nullable=True,
            comment="Digest of the data set that was looked at; NULL where none was",
        ),
        sa.Column(
            "inputs_sha256",
            sa.Text(),
            nullable=False,
            comment="SHA-256 over everything that was looked at: the same need not be looked at"
            " again",
        ),
        sa.Column("run_id", sa.Text(), nullable=True, comment="Dagster run; NULL from a notebook"),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When the row was written",
        ),
        sa.CheckConstraint("study <> ''", name=op.f("ck_guard_results_study_not_empty")),
        sa.CheckConstraint("guard <> ''", name=op.f("ck_guard_results_guard_not_empty")),
        sa.CheckConstraint("target <> ''", name=op.f("ck_guard_results_target_not_empty")),
        sa.CheckConstraint(
            "inputs_sha256 ~ '^[0-9a-f]{64}$'", name=op.f("ck_guard_results_inputs_sha256_is_hex")
        ),
        sa.CheckConstraint(
            "severity IN ('blocking', 'warning')", name=op.f("ck_guard_results_severity_known")
        ),
        sa.CheckConstraint(
            "(measured IS NULL) = (unit IS NULL)", name=op.f("ck_guard_results_unit_told")
        ),
        sa.CheckConstraint(
            "passed IS NOT NULL OR summary <> ''",
            name=op.f("ck_guard_results_unchecked_explained"),
        ),
        sa.PrimaryKeyConstraint("guard_result_id", name=op.f("pk_guard_results")),
        sa.UniqueConstraint(
            "study",
            "guard",
            "target",
            "part",
            name=op.f("uq_guard_results_study_guard_target_part"),
        ),
        comment="One row a study, guard and thing it looked at: what it found last",
    )
    op.create_index(op.f("ix_guard_results_dataset_digest"), "guard_results", ["dataset_digest"])
    op.create_table(
        "tile_fingerprints",
        sa.Column("tile_id", sa.BigInteger(), nullable=False),
        sa.Column(
            "hash",
            BIT(256),
            nullable=True,
            comment="Signs of the lowest frequencies; NULL where the tile is too plain to be told",
        ),
        sa.Column(
            "mean_rgb",
            postgresql.ARRAY(sa.REAL()),
            nullable=False,
            comment="Mean of red, green and blue, 0-255",
        ),
        sa.CheckConstraint(
            "cardinality(mean_rgb) = 3", name=op.f("ck_tile_fingerprints_three_channels")
        ),
        sa.ForeignKeyConstraint(
            ["tile_id"], ["tiles.tile_id"], name=op.f("fk_tile_fingerprints_tile_id_tiles")
        ),
        sa.PrimaryKeyConstraint("tile_id", name=op.f("pk_tile_fingerprints")),
        comment="Perceptual hashes of tiles (featurestore/perceptual_hash.py)",
    )


def downgrade() -> None:
    op.drop_table("tile_fingerprints")
    op.drop_table("guard_results")
