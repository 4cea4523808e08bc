"""Migrations with data in every table: down step by step, up again, and nothing is lost on the way.

Rows are made up from what the database says of itself (types, references, checks), so a new
table or column is filled without a change here.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, inspect, text

from featurestore import schema

N_ROWS = 2
KNOWN = {"task": "tissue"}  # the one task that every version of the schema knows
_COLUMNS = """
SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
       a.attidentity <> '' OR a.attgenerated <> '' OR a.atthasdef, c.relkind = 'p'
  FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid
 WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
   AND NOT c.relispartition AND a.attnum > 0 AND NOT a.attisdropped
   AND c.relname <> 'alembic_version'
 ORDER BY c.relname, a.attnum
"""
_CONSTRAINTS = """
SELECT c.contype::text, c.conrelid::regclass::text, c.confrelid::regclass::text,
       pg_get_expr(c.conbin, c.conrelid),
       ARRAY(SELECT attname::text FROM unnest(c.conkey) WITH ORDINALITY AS k(n, at)
               JOIN pg_attribute ON attrelid = c.conrelid AND attnum = k.n ORDER BY at),
       ARRAY(SELECT attname::text FROM unnest(c.confkey) WITH ORDINALITY AS k(n, at)
               JOIN pg_attribute ON attrelid = c.confrelid AND attnum = k.n ORDER BY at)
  FROM pg_constraint AS c JOIN pg_class AS t ON t.oid = c.conrelid
 WHERE c.connamespace = 'public'::regnamespace AND c.contype IN ('c', 'f')
   AND NOT t.relispartition AND c.conparentid = 0
"""


@dataclass
class Table:
    types: dict[str, str] = field(default_factory=dict)
    needed: set[str] = field(default_factory=set)
    made_by_itself: set[str] = field(default_factory=set)
    is_partitioned: bool = False
    checks: list[tuple[str, list[str]]] = field(default_factory=list)
    references: list[tuple[list[str], str, list[str]]] = field(default_factory=list)


def tables_of(connection: Connection) -> dict[str, Table]:
    tables: dict[str, Table] = {}
    for name, column, kind, is_needed, is_made, is_partitioned in connection.execute(
        text(_COLUMNS)
    ):
        table = tables.setdefault(name, Table(is_partitioned=is_partitioned))
        table.types[column] = kind
        if is_needed:
            table.needed.add(column)
        if is_made:
            table.made_by_itself.add(column)
    for kind, name, other, expression, columns, keys in connection.execute(text(_CONSTRAINTS)):
        if kind == "c":
            tables[name].checks.append((expression, columns))
        else:
            tables[name].references.append((columns, other, keys))
    return tables


def in_order(tables: dict[str, Table]) -> Iterator[str]:
    """Each table after those that it refers to."""
    done: set[str] = set()
    while len(done) < len(tables):
        ready = [
            name
            for name, table in tables.items()
            if name not in done and {other for _, other, _ in table.references} <= done | {name}
        ]
        assert ready, f"they refer to each other: {set(tables) - done}"
        done |= set(ready)
        yield from ready


def candidates(table: Table, column: str, number: int) -> list[str | None]:
    """Values that a column may take, as text; the likeliest first."""
    kind = table.types[column]
    told = " ".join(check for check, columns in table.checks if column in columns)
    values: list[str | None]
    if column in KNOWN:
        values = [KNOWN[column]]
    elif kind == "text" or kind.startswith("character"):
        values = [
            f"x{number}",
            str(number) * 64,
            *re.findall(r"'([^']*)'::text", told),
            f"y{number}",
        ]
    elif kind.endswith("[]"):
        values = ["{1}", "{1,1,1}", "{}"]
    elif kind in ("json", "jsonb"):
        values = ["{}", "[]", "1"]
    elif kind == "boolean":
        values = ["true", "false"]
    elif kind == "bytea":
        begun = re.findall(r"'\\+x([0-9a-f]+)'::bytea", told)
        values = [rf"\x{start}00" for start in [*begun, *("00" * n for n in (3, 7, 15, 31, 0))]]
    elif kind.startswith(("halfvec", "vector")):
        n_dims = int((re.findall(r"\d+", kind) or ["3"])[0])
        values = [f"[{','.join(['1'] * n_dims)}]"]
    elif kind.startswith("bit"):
        values = ["0" * int((re.findall(r"\d+", kind) or ["1"])[0])]
    elif kind.startswith(("timestamp", "date")):
        values = ["2026-01-01"]
    else:
        values = [str(number), *re.findall(r"\d+(?:\.\d+)?", told), "0.5", "0", "100"]
    return values if column in table.needed else [*values, None]


def holds(connection: Connection, table: Table, check: str, row: dict[str, str | None]) -> bool:
    made = ", ".join(f'CAST(:{c} AS {table.types[c]}) AS "{c}"' for c in row)
    query = f"SELECT ({check}) IS NOT FALSE FROM (SELECT {made}) AS made"
    with connection.begin_nested() as attempt:
        try:
            return bool(connection.scalar(text(query.replace("::", r"\:\:")), row))
        except Exception:  # a candidate that is no value of its type, such as 0.5 of an integer
            attempt.rollback()
            return False


def parents(connection: Connection, table: Table) -> Iterator[dict[str, str | None]]:
    """Every choice of rows that a row may refer to, as values of its columns."""
    known = []
    for _, other, keys in table.references:
        query = (
            f"SELECT {', '.join(f'CAST({key} AS text)' for key in keys)} FROM {other} ORDER BY 1"
        )
        known.append(connection.execute(text(query)).all() or [(None,) * len(keys)])
    for chosen in product(*known):
        values: dict[str, str | None] = {}
        for (columns, _, _), key in zip(table.references, chosen, strict=True):
            for column, value in zip(columns, key, strict=True):
                if values.setdefault(column, value) != value:
                    break  # two references share a column, and differ
            else:
                continue
            break
        else:
            yield values


def made_up(
    connection: Connection, table: Table, number: int, given: dict[str, str | None]
) -> dict[str, str | None] | None:
    """A row that the table's checks allow, with some values given; None where there is none."""
    options = {
        column: candidates(table, column, number)
        for column in table.types
        if column not in table.made_by_itself
    }
    for column, value in given.items():
        options[column] = [value] if column in table.needed else [value, None]
    row = {column: values[0] for column, values in options.items()}
    checks = [(check, columns) for check, columns in table.checks if set(columns) <= set(row)]
    for position, (_, columns) in enumerate(checks):
        so_far = [c for c in checks[: position + 1] if set(c[1]) & set(columns)]
        for tried in product(*(options[column] for column in columns)):
            row |= dict(zip(columns, tried, strict=True))
            if all(holds(connection, table, check, row) for check, _ in so_far):
                break
        else:
            return None
    return row


def fill(engine: Engine) -> None:
    """Give every table that is empty its rows."""
    with engine.begin() as connection:
        tables = tables_of(connection)
        for name in in_order(tables):
            for number in range(1, N_ROWS + 1):
                if n_rows(connection, name) < number:
                    insert(connection, tables, name, number)


def n_rows(connection: Connection, name: str) -> int:
    return int(connection.scalar(text(f"SELECT count(*) FROM {name}")) or 0)


def insert(connection: Connection, tables: dict[str, Table], name: str, number: int) -> None:
    table = tables[name]
    for given in parents(connection, table):
        row = made_up(connection, table, number, given)
        if row is None:
            continue
        if table.is_partitioned:
            make_partition(connection, name, row)
        names = ", ".join(f'"{column}"' for column in row)
        values = ", ".join(f"CAST(:{column} AS {table.types[column]})" for column in row)
        command_text = f"INSERT INTO {name} ({names}) VALUES ({values}) ON CONFLICT DO NOTHING"
        connection.execute(text(command_text), row)
        if n_rows(connection, name) >= number:
            return
    pytest.fail(f"{name}: found no row {number} that the database takes")


def make_partition(connection: Connection, name: str, row: dict[str, str | None]) -> None:
    key = str(
        connection.scalar(text("SELECT pg_get_partkeydef(CAST(:n AS regclass))"), {"n": name})
    )
    value = row[key.removeprefix("LIST (").removesuffix(")")]
    part = f"{name}_{'s' if name == 'expression' else 'v'}{value}"  # as the product names them
    connection.execute(
        text(f"CREATE TABLE IF NOT EXISTS {part} PARTITION OF {name} FOR VALUES IN ({value})")
    )


Content = dict[str, tuple[dict[str, str], list[dict[str, Any]]]]


def content(engine: Engine) -> Content:
    """Types and rows of every table."""
    with engine.connect() as connection:
        return {
            name: (
                table.types,
                [dict(row) for row in connection.execute(text(f"SELECT * FROM {name}")).mappings()],
            )
            for name, table in tables_of(connection).items()
        }


def assert_kept(before: Content, after: Content, where: str, *, may_forget: bool = False) -> None:
    """Every table that is on both sides has its rows, in the columns that are on both sides."""
    for name in before.keys() & after.keys():
        (old_types, old), (new_types, new) = before[name], after[name]
        shared = [c for c in old_types if new_types.get(c) == old_types[c]]
        was, now = (Counter(repr([row[c] for c in shared]) for row in side) for side in (old, new))
        assert now <= was, f"{where}: {name} has other rows"
        assert may_forget or now == was, f"{where}: {name} has lost rows"


def revisions() -> list[tuple[str, bool]]:
    """Every migration from the first on, and whether its downgrade deletes what it must."""
    scripts = ScriptDirectory.from_config(schema.alembic_config())
    return [
        (script.revision, "DELETE FROM" in Path(script.path).read_text())
        for script in scripts.walk_revisions()
    ][::-1]


def test_down_step_by_step_with_data_in_every_table(empty_engine: Engine) -> None:
    every = revisions()
    schema.upgrade(empty_engine)
    fill(empty_engine)
    before = content(empty_engine)
    assert all(rows for _, rows in before.values()), {n for n, (_, r) in before.items() if not r}
    targets = [revision for revision, _ in every[-2::-1]] + ["base"]
    for (_, may_forget), revision in zip(every[::-1], targets, strict=True):
        schema.downgrade(empty_engine, revision)
        after = content(empty_engine)
        assert_kept(before, after, f"down to {revision}", may_forget=may_forget)
        before = after
    assert inspect(empty_engine).get_table_names() == ["alembic_version"]


def test_up_from_every_migration_with_data_in_every_table(empty_engine: Engine) -> None:
    """A release stands at one of them, and so does whoever upgrades from it."""
    before: Content = {}
    at = "base"
    for revision, _ in revisions():
        schema.upgrade(empty_engine, revision)
        assert_kept(before, content(empty_engine), f"up to {revision}")
        # What the older schema could hold, it holds again after a look at the newer one.
        schema.downgrade(empty_engine, at)
        assert_kept(before, content(empty_engine), f"back to {at}")
        schema.upgrade(empty_engine, revision)
        assert_kept(before, content(empty_engine), f"up to {revision} again")
        fill(empty_engine)
        before, at = content(empty_engine), revision
    assert all(len(rows) >= N_ROWS for _, rows in before.values())
    with empty_engine.connect() as connection:
        command.check(schema.alembic_config(connection))


def test_a_lost_row_would_be_seen(empty_engine: Engine) -> None:
    schema.upgrade(empty_engine)
    fill(empty_engine)
    before = content(empty_engine)
    with empty_engine.begin() as connection:
        connection.execute(text("DELETE FROM rejects WHERE reject_id = 1"))
    with pytest.raises(AssertionError, match="rejects has lost rows"):
        assert_kept(before, content(empty_engine), "here")
    with empty_engine.begin() as connection:
        connection.execute(text("UPDATE genes SET symbol = 'other' WHERE symbol = 'x1'"))
    with pytest.raises(AssertionError, match="genes has other rows"):
        assert_kept(before, content(empty_engine), "here", may_forget=True)
