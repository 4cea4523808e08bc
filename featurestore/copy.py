"""Bulk loading: rows into a table through Postgres' binary COPY.

Everything that writes more than a handful of rows goes through :func:`copy_rows`. COPY
knows no conflict rule, so callers either copy into a staging table and insert from there,
or make sure beforehand that the rows are new.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from psycopg import sql
from sqlalchemy.orm import Session


def copy_rows(
    session: Session,
    table: str,
    columns: Sequence[tuple[str, str]],
    rows: Iterable[Sequence[Any]],
) -> int:
    """Copy ``rows`` into ``table`` within the session's transaction.

    Parameters
    ----------
    session : sqlalchemy.orm.Session
        An open session; nothing is committed here.
    table : str
        Name of an existing table, quoted by this function.
    columns : sequence of (str, str)
        Column name and Postgres type of each value, in the order of the rows.
    rows : iterable of sequence
        One sequence of values a row; consumed lazily.

    Returns
    -------
    int
        Number of rows copied.
    """
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(
        sql.Identifier(table), sql.SQL(", ").join(sql.Identifier(name) for name, _ in columns)
    )
    connection: Any = session.connection().connection.driver_connection
    n_rows = 0
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        copy.set_types([kind for _, kind in columns])
        for row in rows:
            copy.write_row(row)
            n_rows += 1
    return n_rows
