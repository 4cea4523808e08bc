"""Bulk loading of arrays: millions of rows of numbers or vectors through Postgres' binary COPY.

:func:`featurestore.copy.copy_rows` turns every value into bytes by itself; here numpy lays out
the rows of a whole block at once, which is some twenty times as fast.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from psycopg import sql
from sqlalchemy.orm import Session

_SIGNATURE = b"PGCOPY\n\xff\r\n\0" + bytes(8)  # no flags, no header extension
_TRAILER = b"\xff\xff"
_FORMATS = {"int4": ">i4", "int8": ">i8", "float4": ">f4", "float8": ">f8"}


def copy_arrays(
    session: Session,
    table: str,
    columns: Sequence[tuple[str, str]],
    blocks: Iterable[Sequence[NDArray[Any]]],
) -> int:
    """Copy columns of numbers into ``table`` within the session's transaction.

    Parameters
    ----------
    session : sqlalchemy.orm.Session
        Nothing is committed here.
    table : str
        Name of an existing table, quoted by this function.
    columns : sequence of (str, str)
        Column name and Postgres type: int4, int8, float4, float8 or halfvec.
    blocks : iterable of sequence of arrays
        One array a column, all of one length, none with NULL; consumed lazily. Numbers are
        (n,), vectors (n, dim), rounded to the nearest half precision number.

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
        copy.write(_SIGNATURE)
        for arrays in blocks:
            rows = _rows([kind for _, kind in columns], arrays)
            copy.write(rows.view(np.uint8).data)
            n_rows += len(rows)
        copy.write(_TRAILER)
    return n_rows


def _rows(kinds: Sequence[str], arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Rows as COPY wants them: number of columns, then size and bytes of each value."""
    formats = [_format(kind, values) for kind, values in zip(kinds, arrays, strict=True)]
    fields: list[tuple[str, Any]] = [("n_columns", ">i2")]
    for position, form in enumerate(formats):
        fields += [(f"size_{position}", ">i4"), (f"value_{position}", form)]
    rows = np.empty(len(arrays[0]), np.dtype(fields))
    rows["n_columns"] = len(arrays)
    for position, (form, values) in enumerate(zip(formats, arrays, strict=True)):
        rows[f"size_{position}"] = form.itemsize
        value = rows[f"value_{position}"]
        if form.names is None:
            value[:] = values
        else:
            value["dim"], value["unused"], value["values"] = values.shape[1], 0, values
    return rows


def _format(kind: str, values: NDArray[Any]) -> np.dtype[Any]:
    if kind != "halfvec":
        return np.dtype(_FORMATS[kind])
    # As halfvec_recv of pgvector reads it.
    return np.dtype([("dim", ">i2"), ("unused", ">i2"), ("values", ">f2", values.shape[1])])
