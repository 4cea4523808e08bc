"""What the database says of itself: tables, views, columns, units, rules and references.

Read from Postgres' own catalogue, so that nothing here can be older than the schema.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, text

from featurestore import schema

# Partitions are data, and Alembic's own table and what extensions bring is nobody's business.
_RELATIONS = text(
    """
    SELECT oid, relname AS name, relkind IN ('v', 'm') AS is_view,
           obj_description(oid, 'pg_class') AS comment,
           CASE relkind WHEN 'p' THEN pg_get_partkeydef(oid) END AS partitioned_by
      FROM pg_class
     WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm')
       AND NOT relispartition AND relname <> 'alembic_version'
       AND NOT EXISTS (SELECT 1 FROM pg_depend WHERE objid = pg_class.oid AND deptype = 'e')
     ORDER BY relname
    """
)
_COLUMNS = text(
    """
    SELECT attrelid AS oid, attname AS name, format_type(atttypid, atttypmod) AS type,
           NOT attnotnull AS nullable, col_description(attrelid, attnum) AS comment
      FROM pg_attribute
     WHERE attrelid = ANY(:oids) AND attnum > 0 AND NOT attisdropped
     ORDER BY attrelid, attnum
    """
)
_CONSTRAINTS = text(
    """
    SELECT conrelid AS oid, conname AS name, contype AS kind, pg_get_constraintdef(oid) AS rule,
           confrelid::regclass::text AS referred,
           ARRAY(SELECT attname::text FROM unnest(conkey) WITH ORDINALITY AS k (number, place)
                   JOIN pg_attribute ON attrelid = conrelid AND attnum = number
                  ORDER BY place) AS columns
      FROM pg_constraint
     WHERE conrelid = ANY(:oids) AND contype IN ('p', 'u', 'c', 'f') AND conparentid = 0
     ORDER BY conrelid, strpos('pufc', contype::text), conname
    """
)
_OTHER_RULES = text(
    """
    SELECT indrelid AS oid, relname AS name, pg_get_indexdef(indexrelid) AS rule
      FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
     WHERE indrelid = ANY(:oids) AND indisunique
       AND NOT EXISTS (SELECT 1 FROM pg_constraint WHERE conindid = indexrelid)
     UNION ALL
    SELECT tgrelid, tgname, pg_get_triggerdef(oid) FROM pg_trigger
     WHERE tgrelid = ANY(:oids) AND NOT tgisinternal
     ORDER BY 1, 2
    """
)
_READS = text(
    """
    SELECT DISTINCT ev_class AS oid, refobjid::regclass::text AS name
      FROM pg_rewrite
      JOIN pg_depend ON objid = pg_rewrite.oid AND classid = 'pg_rewrite'::regclass
                    AND refclassid = 'pg_class'::regclass
     WHERE ev_class = ANY(:oids) AND refobjid <> ev_class
     ORDER BY 1, 2
    """
)
_FUNCTIONS = text(
    """
    SELECT proname || '(' || pg_get_function_arguments(oid) || ')' AS name,
           pg_get_function_result(oid) AS result, obj_description(oid, 'pg_proc') AS comment
      FROM pg_proc
     WHERE pronamespace = 'public'::regnamespace AND prorettype <> 'trigger'::regtype
       AND NOT EXISTS (SELECT 1 FROM pg_depend WHERE objid = pg_proc.oid AND deptype = 'e')
     ORDER BY 1
    """
)


@dataclass(frozen=True, slots=True)
class Column:
    """A column; ``nullable`` is None where the database does not know, as in views."""

    name: str
    type: str
    nullable: bool | None
    comment: str
    is_key: bool
    refers_to: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rule:
    """A constraint, unique index or trigger, as Postgres writes it."""

    name: str
    rule: str


@dataclass(frozen=True, slots=True)
class Reference:
    """A foreign key: columns of this table that name a row of another."""

    columns: tuple[str, ...]
    referred: str


@dataclass(frozen=True, slots=True)
class Relation:
    """A table or a view.

    Attributes
    ----------
    name, comment : str
    is_view : bool
    partitioned_by : str or None
        As in ``LIST (model_version_id)``.
    columns : tuple of Column
    rules : tuple of Rule
    references : tuple of Reference
    reads : tuple of str
        Tables and views that a view is made from.
    """

    name: str
    comment: str
    is_view: bool
    partitioned_by: str | None
    columns: tuple[Column, ...]
    rules: tuple[Rule, ...]
    references: tuple[Reference, ...]
    reads: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Function:
    """A function for SQL users, with its arguments."""

    name: str
    result: str
    comment: str


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The schema ``public`` as it is, and the migration that it is at."""

    revision: str
    tables: tuple[Relation, ...]
    views: tuple[Relation, ...]
    functions: tuple[Function, ...]


def read_catalogue(engine: Engine) -> Catalogue:
    """Read the whole schema in one transaction."""
    with engine.connect() as connection:
        # Names come out as ::regclass writes them, without the schema that is searched first.
        found = connection.execute(_RELATIONS).mappings().all()
        oids = [row["oid"] for row in found]
        columns, constraints, others, reads = (
            _by_relation(connection, query, oids)
            for query in (_COLUMNS, _CONSTRAINTS, _OTHER_RULES, _READS)
        )
        functions = connection.execute(_FUNCTIONS).mappings().all()
    relations = [
        _relation(row, columns[oid], constraints[oid], others[oid], reads[oid])
        for oid, row in zip(oids, found, strict=True)
    ]
    return Catalogue(
        schema.current(engine) or "",
        tuple(relation for relation in relations if not relation.is_view),
        tuple(relation for relation in relations if relation.is_view),
        tuple(Function(row["name"], row["result"], row["comment"] or "") for row in functions),
    )


def _by_relation(
    connection: Connection, query: Any, oids: list[int]
) -> defaultdict[int, list[dict[str, Any]]]:
    rows: defaultdict[int, list[dict[str, Any]]] = defaultdict(list)
    for row in connection.execute(query, {"oids": oids}).mappings():
        rows[row["oid"]].append(dict(row))
    return rows


def _relation(
    row: Any,
    columns: list[dict[str, Any]],
    constraints: list[dict[str, Any]],
    others: list[dict[str, Any]],
    reads: list[dict[str, Any]],
) -> Relation:
    keys = {name for found in constraints if found["kind"] == "p" for name in found["columns"]}
    references = tuple(
        Reference(tuple(found["columns"]), found["referred"])
        for found in constraints
        if found["kind"] == "f"
    )
    return Relation(
        name=row["name"],
        comment=row["comment"] or "",
        is_view=row["is_view"],
        partitioned_by=row["partitioned_by"],
        columns=tuple(
            Column(
                name=column["name"],
                type=column["type"],
                nullable=None if row["is_view"] else column["nullable"],
                comment=column["comment"] or "",
                is_key=column["name"] in keys,
                refers_to=tuple(
                    sorted({r.referred for r in references if column["name"] in r.columns})
                ),
            )
            for column in columns
        ),
        rules=tuple(Rule(found["name"], found["rule"]) for found in [*constraints, *others]),
        references=references,
        reads=tuple(found["name"] for found in reads),
    )
