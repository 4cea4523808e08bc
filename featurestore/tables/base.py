"""What every table is made of: column types, common rules, and names for constraints."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    Identity,
    MetaData,
    SmallInteger,
    Text,
    func,
)
from sqlalchemy.dialects.postgresql import DOUBLE_PRECISION
from sqlalchemy.orm import DeclarativeBase, mapped_column

Key = Annotated[int, mapped_column(BigInteger, Identity(always=True), primary_key=True)]
BigInt = Annotated[int, mapped_column(BigInteger)]
SmallInt = Annotated[int, mapped_column(SmallInteger)]
Double = Annotated[float, mapped_column(DOUBLE_PRECISION)]
Sha256 = Annotated[str, mapped_column(Text)]
Now = Annotated[
    datetime,
    mapped_column(
        DateTime(timezone=True),
        server_default=func.now(),
        nullable=False,
        comment="When the row was written",
    ),
]


def is_sha256(column: str) -> CheckConstraint:
    """The column holds a SHA-256 in hexadecimal."""
    return CheckConstraint(f"{column} ~ '^[0-9a-f]{{64}}$'", name=f"{column}_is_hex")


def not_empty(column: str) -> CheckConstraint:
    """The column is not the empty string."""
    return CheckConstraint(f"{column} <> ''", name=f"{column}_not_empty")


def plausible_mpp() -> CheckConstraint:
    """The column ``mpp`` is a resolution that a microscope can have."""
    # The same bounds as for slides: outside them a resolution is a typing error.
    return CheckConstraint("mpp BETWEEN 0.05 AND 10", name="mpp_plausible")


class Base(DeclarativeBase):
    """Declarative base; every constraint gets a name that an error message can be read by."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_N_label)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
