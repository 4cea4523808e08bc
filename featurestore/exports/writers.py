"""Writing a table as Parquet or CSV, batch by batch."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from featurestore.exports.tables import (
    INTEGER,
    NUMBER,
    NUMBERS,
    TEXT,
    TRUTH,
    VECTOR,
    ExportTable,
    vectors_of,
)


def write_parquet(file: Path, table: ExportTable, batches: Iterable[Sequence[Any]]) -> int:
    """Write a table as Parquet, a row group a batch; vectors are lists of one fixed size.

    Returns
    -------
    int
        Number of rows.
    """
    import pyarrow as pa  # type: ignore[import-untyped]
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    types = {
        TEXT: pa.string(),
        INTEGER: pa.int64(),
        NUMBER: pa.float64(),
        TRUTH: pa.bool_(),
        NUMBERS: pa.list_(pa.float32()),
        VECTOR: pa.list_(pa.float32(), table.dim),
    }
    schema = pa.schema([(name, types[kind]) for name, kind in table.columns])
    text = [name for name, kind in table.columns if kind == TEXT]
    n_rows = 0
    with pq.ParquetWriter(file, schema, compression="zstd", use_dictionary=text) as writer:
        for batch in batches:
            arrays = []
            for position, (_, kind) in enumerate(table.columns):
                values = [row[position] for row in batch]
                if kind == VECTOR:
                    flat = pa.array(vectors_of(values, table.dim).ravel())
                    arrays.append(pa.FixedSizeListArray.from_arrays(flat, table.dim))
                else:
                    arrays.append(pa.array(values, types[kind]))
            writer.write_batch(pa.record_batch(arrays, schema=schema), row_group_size=len(batch))
            n_rows += len(batch)
    return n_rows


def write_csv(file: Path, table: ExportTable, batches: Iterable[Sequence[Any]]) -> int:
    """Write a table as CSV: a column a feature, an empty cell where a value is missing.

    Returns
    -------
    int
        Number of rows.
    """
    header: list[str] = []
    for name, kind in table.columns:
        header += [f"f{at}" for at in range(table.dim)] if kind == VECTOR else [name]
    n_rows = 0
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(header)
        for batch in batches:
            for row in _with_numbers(table, batch):
                cells: list[Any] = []
                for value, (_, kind) in zip(row, table.columns, strict=True):
                    cells += _cells(value, kind)
                writer.writerow(cells)
            n_rows += len(batch)
    return n_rows


def _with_numbers(table: ExportTable, batch: Sequence[Any]) -> Iterable[Sequence[Any]]:
    """Rows whose vectors are arrays."""
    if not table.dim:
        return batch
    # A table has one column of vectors, the last.
    vectors = vectors_of([row[-1] for row in batch], table.dim)
    return ([*row[:-1], vector] for row, vector in zip(batch, vectors, strict=True))


def _cells(value: Any, kind: str) -> list[Any]:
    if kind == VECTOR:
        # Half precision holds five digits at most; more would be noise of the conversion.
        return [f"{x:.6g}" for x in value.tolist()]
    if value is None:
        return [""]
    if kind == NUMBERS:
        # A number that was not predicted is null, as JSON knows no NaN.
        return [json.dumps([None if x is None or x != x else x for x in value])]  # noqa: PLR0124
    if kind == TRUTH:
        return ["true" if value else "false"]
    return [value]
