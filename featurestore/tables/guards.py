"""What the guards against leakage found, and the fingerprints that one of them looks at."""

from __future__ import annotations

from typing import Any

from pgvector.sqlalchemy import BIT
from sqlalchemy import CheckConstraint, ForeignKey, Text, UniqueConstraint
from sqlalchemy.dialects.postgresql import ARRAY, DOUBLE_PRECISION, JSONB, REAL
from sqlalchemy.orm import Mapped, mapped_column

from featurestore.tables.base import Base, Key, Now, Sha256, is_sha256, not_empty
from featurestore.tables.tissue import Tile


class GuardResult(Base):
    """What one guard found of one thing that it looked at; looking again replaces it."""

    __tablename__ = "guard_results"
    __table_args__ = (
        UniqueConstraint("study", "guard", "target", "part"),
        not_empty("study"),
        not_empty("guard"),
        not_empty("target"),
        is_sha256("inputs_sha256"),
        CheckConstraint("severity IN ('blocking', 'warning')", name="severity_known"),
        CheckConstraint("(measured IS NULL) = (unit IS NULL)", name="unit_told"),
        CheckConstraint("passed IS NOT NULL OR summary <> ''", name="unchecked_explained"),
        {"comment": "One row a study, guard and thing it looked at: what it found last"},
    )

    guard_result_id: Mapped[Key]
    study: Mapped[str] = mapped_column(Text, comment="Name of the study")
    guard: Mapped[str] = mapped_column(Text, comment="near_duplicate_hash, artefact_label, …")
    target: Mapped[str] = mapped_column(
        Text, comment="What was looked at: an asset of the study, a task or an encoder"
    )
    part: Mapped[str] = mapped_column(
        Text, comment="Which of several measurements of the guard; empty where it has one"
    )
    passed: Mapped[bool | None] = mapped_column(
        comment="False: a leak was found; NULL: it could not be looked for, see summary"
    )
    severity: Mapped[str] = mapped_column(
        Text, comment="blocking: a leak stops the study; warning: it is reported"
    )
    measured: Mapped[float | None] = mapped_column(
        DOUBLE_PRECISION, comment="The number found, in the column unit"
    )
    unit: Mapped[str | None] = mapped_column(Text, comment="Unit of measured and threshold")
    threshold: Mapped[float | None] = mapped_column(
        DOUBLE_PRECISION, comment="Where the number begins to be a leak; NULL where none does alone"
    )
    summary: Mapped[str] = mapped_column(Text, comment="What was found, in one sentence")
    details: Mapped[dict[str, Any]] = mapped_column(
        JSONB, comment="Everything else: pairs of tiles, chance, p-values, counts"
    )
    dataset_digest: Mapped[str | None] = mapped_column(
        Text, index=True, comment="Digest of the data set that was looked at; NULL where none was"
    )
    inputs_sha256: Mapped[Sha256] = mapped_column(
        comment="SHA-256 over everything that was looked at: the same need not be looked at again"
    )
    run_id: Mapped[str | None] = mapped_column(Text, comment="Dagster run; NULL from a notebook")
    created_at: Mapped[Now]


class TileFingerprint(Base):
    """What a tile looks like at a glance, whichever encoders there are."""

    __tablename__ = "tile_fingerprints"
    __table_args__ = (
        CheckConstraint("cardinality(mean_rgb) = 3", name="three_channels"),
        {"comment": "Perceptual hashes of tiles (featurestore/perceptual_hash.py)"},
    )

    tile_id: Mapped[int] = mapped_column(ForeignKey(Tile.tile_id), primary_key=True)
    hash: Mapped[Any] = mapped_column(
        BIT(256),
        nullable=True,
        comment="Signs of the lowest frequencies; NULL where the tile is too plain to be told",
    )
    mean_rgb: Mapped[list[float]] = mapped_column(
        ARRAY(REAL), comment="Mean of red, green and blue, 0-255"
    )
