"""What a store holds, told by content: two stores are equal if these are, row for row.

Every table of :mod:`featurestore.tables` is read whole. A surrogate id is replaced by the
content of the row that it stands for, so that ids may differ; moments, run ids and measured
times are left out, since no two runs share them. Nothing else is.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Hashable
from typing import Any

import numpy as np
from sqlalchemy import Column, DateTime, Engine, Table, text
from sqlalchemy.orm import Session

from featurestore.tables import Base

_RUN_IDS = {"run_id", "dagster_run_id"}
# How long something took, not what came out of it.
_MEASURED = {"training_epochs": {"seconds"}, "retrieval_quality": {"p50_ms", "p95_ms"}}
# The ledger has a row a run: a tile that was refused twice was still left out once.
_ONCE = {"rejects"}

Rows = Counter[str]
_Contents = dict[tuple[str, Hashable], str]


def content(engine: Engine) -> dict[str, Rows]:
    """The rows of every table, each as text without its surrogate ids, with how often it is there.

    Under ``indexes`` stand those that each model version's vectors and codes have.
    """
    with Session(engine) as session:
        by_id: _Contents = {}
        found: dict[str, Rows] = {}
        for table in Base.metadata.sorted_tables:
            rows = Counter(_rows(session, table, by_id))
            found[table.name] = Counter(set(rows)) if table.name in _ONCE else rows
        found["indexes"] = Counter(_indexes(session, by_id))
    return found


def differences(expected: dict[str, Rows], got: dict[str, Rows]) -> list[str]:
    """What one store has and the other lacks, a line a table; empty if they are equal."""
    told = []
    for name in sorted(expected.keys() | got.keys()):
        lacking = expected.get(name, Counter()) - got.get(name, Counter())
        extra = got.get(name, Counter()) - expected.get(name, Counter())
        if lacking or extra:
            first = [next(iter(rows))[:300] for rows in (lacking, extra) if rows]
            told.append(
                f"{name}: {lacking.total()} rows lacking, {extra.total()} too many: {first}"
            )
    return told


def _rows(session: Session, table: Table, by_id: _Contents) -> list[str]:
    told, own_id = [], _identity(table)
    order = [] if own_id is None else [own_id]  # a parent before what refers to it
    for row in session.execute(table.select().order_by(*order)).mappings():
        values = {
            column.name: _value(column, row[column.name], by_id)
            for column in table.columns
            if _counts(column)
        }
        line = json.dumps(values, sort_keys=True, default=str)
        if own_id is not None:
            digest = hashlib.sha256(f"{table.name} {line}".encode()).hexdigest()
            by_id[table.name, row[own_id.name]] = digest
        told.append(line)
    return told


def _identity(table: Table) -> Column[Any] | None:
    return next((column for column in table.columns if column.identity is not None), None)


def _counts(column: Column[Any]) -> bool:
    return not (
        column.identity is not None
        or isinstance(column.type, DateTime)
        or column.name in _RUN_IDS
        or column.name in _MEASURED.get(column.table.name, ())
    )


def _value(column: Column[Any], value: Any, by_id: _Contents) -> Any:
    surrogate = _surrogate_of(column)
    if surrogate is not None and value is not None:
        return by_id[surrogate.table.name, value]
    if hasattr(value, "to_numpy"):
        value = value.to_numpy()
    if isinstance(value, np.ndarray):
        value = value.tobytes()
    return hashlib.sha256(value).hexdigest() if isinstance(value, bytes) else value


def _surrogate_of(column: Column[Any]) -> Column[Any] | None:
    """The identity column that a column refers to, maybe by way of others."""
    for key in column.foreign_keys:
        if key.column.identity is not None:
            return key.column
        further = None if key.column is column else _surrogate_of(key.column)
        if further is not None:
            return further
    return None


def _indexes(session: Session, by_id: _Contents) -> list[str]:
    told = []
    for (table, key), digest in by_id.items():
        if table == "model_versions":
            names = [f"embeddings_v{key}", f"search_codes_v{key}"]
            rows = session.execute(
                text("SELECT indexdef FROM pg_indexes WHERE tablename = ANY (:names)"),
                {"names": names},
            )
            told += [f"{digest} {row.indexdef.replace(f'_v{key}', '')}" for row in rows]
    return told
