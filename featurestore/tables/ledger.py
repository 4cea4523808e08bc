"""What was left out."""

from __future__ import annotations

from sqlalchemy import Index, Text
from sqlalchemy.orm import Mapped, mapped_column

from featurestore.tables.base import Base, Key, Now


class RejectRow(Base):
    """The ledger: everything that was left out, where and why."""

    __tablename__ = "rejects"
    __table_args__ = (
        Index(
            "uq_rejects_once",
            "study",
            "stage",
            "item",
            "reason",
            "run_id",
            unique=True,
            postgresql_nulls_not_distinct=True,
        ),
        {"comment": "What was left out, at which stage, why, and in which run"},
    )

    reject_id: Mapped[Key]
    study: Mapped[str] = mapped_column(Text, comment="Name of the study")
    stage: Mapped[str] = mapped_column(Text, comment="ingest, embed, …")
    item: Mapped[str] = mapped_column(Text, comment="File, tile, patient or gene")
    reason: Mapped[str] = mapped_column(Text, comment="Why, and what to do about it")
    run_id: Mapped[str | None] = mapped_column(Text, comment="Dagster run; NULL from a notebook")
    created_at: Mapped[Now]
