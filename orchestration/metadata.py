"""How results look in Dagster's interface: tables and pictures as metadata."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
from PIL import Image


def picture(png: bytes, title: str) -> dg.MetadataValue[Any]:
    """A PNG that the interface draws in place."""
    data = base64.b64encode(png).decode()
    return dg.MetadataValue.md(f"![{title}](data:image/png;base64,{data})")


def picture_file(path: Path, title: str) -> dg.MetadataValue[Any]:
    """A picture on disk, drawn in place at the width of a thumbnail."""
    buffer = io.BytesIO()
    with Image.open(path) as image:
        image.thumbnail((480, 480))
        image.convert("RGB").save(buffer, format="JPEG", quality=80)
    data = base64.b64encode(buffer.getvalue()).decode()
    return dg.MetadataValue.md(f"![{title}](data:image/jpeg;base64,{data})")


def table(frame: pd.DataFrame) -> dg.MetadataValue[Any]:
    """A table that the interface draws with sortable columns.

    Numbers keep four significant digits, which is what a reader can use.
    """
    records = [
        dg.TableRecord({str(name): _cell(value) for name, value in row.items()})
        for row in frame.to_dict(orient="records")
    ]
    columns = [dg.TableColumn(str(name), _type(frame[name])) for name in frame.columns]
    return dg.MetadataValue.table(records, schema=dg.TableSchema(columns))


def stored(table_name: str, n_rows: int, **columns: str) -> dict[str, Any]:
    """Dagster's own keys for what an asset left in the database."""
    metadata: dict[str, Any] = {
        "dagster/table_name": table_name,
        "dagster/row_count": n_rows,
    }
    if columns:
        metadata["dagster/column_schema"] = dg.TableSchema(
            [dg.TableColumn(name, kind) for name, kind in columns.items()]
        )
    return metadata


def _cell(value: object) -> str | int | float | bool | None:
    if isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return float(f"{value:.4g}")
    return str(value)


def _type(column: pd.Series[Any]) -> str:
    if pd.api.types.is_bool_dtype(column):
        return "bool"
    if pd.api.types.is_integer_dtype(column):
        return "int"
    return "float" if pd.api.types.is_float_dtype(column) else "string"
