"""Alembic's entry: runs migrations on the connection that :mod:`featurestore.schema` gives."""

from __future__ import annotations

import re
from typing import Any

from alembic import context
from sqlalchemy.schema import ForeignKeyConstraint, SchemaItem

from featurestore.tables import Base

_PARTITION = re.compile(r"embeddings_v\d+|search_codes_v\d+|expression_s\d+")


def _ours(item: SchemaItem, name: str | None, kind: str, reflected: bool, _other: Any) -> bool:
    # Partitions (a model version, a source) come and go with the data; their parents are schema.
    table = getattr(item, "table", None)
    names = [name or "", "" if table is None else table.name]
    if isinstance(item, ForeignKeyConstraint):
        # Postgres gives a key to a partitioned table one more to each of its partitions.
        names += [element.target_fullname for element in item.elements]
    return not (reflected and any(_PARTITION.match(candidate) for candidate in names))


def _run() -> None:
    connection = context.config.attributes.get("connection")
    if connection is None:
        raise RuntimeError("run migrations through `ffpe db upgrade`, which opens the database")
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        include_object=_ours,
        compare_type=True,
        compare_server_default=True,
    )
    with context.begin_transaction():
        context.run_migrations()


_run()
