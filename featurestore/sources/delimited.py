"""Owns delimited text: tab or comma, comments ahead, told by content; see also ``packed_text``.

Every reader of molecular and clinical tables starts with :func:`read_head` and decides by what
it finds there, never by a file's name.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from featurestore.errors import SourceError
from featurestore.model_versions import content_sha256
from featurestore.sources.file_kinds import is_file, is_folder, is_text
from featurestore.sources.packed_text import BROKEN, is_gzipped, open_bytes, open_text

_LITTER = frozenset({"manifest.txt", "annotations.txt", "thumbs.db", "desktop.ini"})
_N_ROWS = 30
_LONGEST_LINE = 1 << 24  # characters; the widest tables have some hundred thousand


@dataclass(frozen=True)
class Head:
    """The beginning of a table.

    Attributes
    ----------
    path : Path
    comments : tuple of str
        Lines that start with ``#``, ahead of the header.
    separator : str
        Tab or comma; a table of one column has a tab.
    quoted : bool
        Whether quotes enclose cells; in a MAF they are characters like others.
    header : tuple of str
        Column names; a first one is added where R left it out.
    rows : tuple of tuple of str
        The first rows below.
    is_gzipped : bool
    n_ahead : int
        Lines up to the header, itself included.
    """

    path: Path
    comments: tuple[str, ...]
    separator: str
    quoted: bool
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    is_gzipped: bool
    n_ahead: int


def read_head(path: Path) -> Head:
    """Read a table's beginning.

    Raises
    ------
    SourceError
        If it is absent, empty or no text.
    """
    comments: list[str] = []
    lines: list[str] = []
    n_ahead = 0
    try:
        with open_text(path) as file:
            for line in iter(lambda: file.readline(_LONGEST_LINE), ""):
                if len(line) == _LONGEST_LINE:
                    raise csv.Error(f"it has a line of more than {_LONGEST_LINE} characters")
                n_ahead += not lines
                if not lines and line.startswith("#"):
                    comments.append(line.rstrip("\r\n"))
                elif line.strip() or lines:
                    lines.append(line.rstrip("\r\n"))
                if len(lines) > _N_ROWS:
                    break
    except BROKEN as error:
        raise broken(path, error) from error
    if not lines:
        raise SourceError(f"{path} holds no table: it has no line besides comments; export again")
    separator = "," if "," in lines[0] and "\t" not in lines[0] else "\t"
    quoted = separator == "," or lines[0].lstrip().startswith('"')
    try:
        cells = list(
            csv.reader(
                lines, delimiter=separator, quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
            )
        )
    except csv.Error as error:
        raise broken(path, error) from error
    header, rows = cells[0], [row for row in cells[1:] if row]
    if rows and all(len(row) == len(header) + 1 for row in rows):
        header = ["", *header]
    return Head(
        path,
        tuple(comments),
        separator,
        quoted,
        tuple(cell.strip() for cell in header),
        tuple(tuple(row) for row in rows),
        is_gzipped(path),
        n_ahead,
    )


def read_body(head: Head, columns: Sequence[int], **options: Any) -> pd.DataFrame:
    """Read some columns of a table below its header, by position.

    Parameters
    ----------
    head : Head
    columns : sequence of int
        Positions; they are the frame's column names.
    **options
        Further options of :func:`pandas.read_csv`.

    Raises
    ------
    SourceError
        If the table is damaged or a row has more cells than the header.
    ValueError
        If a cell does not fit the dtype asked for.
    """
    try:
        body: pd.DataFrame = read_csv(
            head.path,
            sep=head.separator,
            header=None,
            names=list(range(len(head.header))),
            index_col=False,
            usecols=list(columns),
            skiprows=head.n_ahead,
            quoting=csv.QUOTE_MINIMAL if head.quoted else csv.QUOTE_NONE,
            low_memory=False,
            **options,
        )
    except BROKEN as error:
        raise broken(head.path, error) from error
    return body[list(columns)]


def read_csv(path: Path, **options: Any) -> pd.DataFrame:
    """:func:`pandas.read_csv` on a table's bytes; raises any of :data:`BROKEN`, or ValueError."""
    with open_bytes(path) as file:
        table: pd.DataFrame = pd.read_csv(file, encoding="utf-8-sig", **options)
        return table


def read_text_columns(head: Head, columns: Sequence[int]) -> pd.DataFrame:
    """Read some columns as text; absent cells are empty strings."""
    frame = read_body(head, columns, dtype=str, keep_default_na=False)
    return pd.DataFrame({at: frame[at].fillna("").str.strip() for at in columns})


def require_even_rows(head: Head) -> None:
    """Refuse a table of which a row has more or fewer cells than the header.

    A file that was cut off, or a cell with a separator in it, would otherwise shift values.

    Raises
    ------
    SourceError
        Naming the line.
    """
    expected = len(head.header)
    try:
        with open_text(head.path) as file:
            for number, line in enumerate(file, 1):
                text = line.rstrip("\r\n")
                if number <= head.n_ahead or not text or text.startswith("#"):
                    continue  # tables put one behind the other keep their comments
                if head.quoted and '"' in text:
                    continue
                found = text.count(head.separator) + 1
                if found != expected and text.rstrip(head.separator).count(head.separator) != (
                    expected - 1
                ):
                    raise SourceError(
                        f"{head.path}: line {number} has {found} cells, the header has {expected}; "
                        "download or export the table again"
                    )
    except BROKEN as error:
        raise broken(head.path, error) from error


def column_named(head: Head, names: Sequence[str]) -> int | None:
    """Position of the first of ``names`` that the header has, in any case; else None."""
    lowered = [cell.lower() for cell in head.header]
    return next((lowered.index(name.lower()) for name in names if name.lower() in lowered), None)


def broken(path: Path, error: BaseException) -> SourceError:
    """The error for a table that cannot be read to its end."""
    return SourceError(
        f"{path} cannot be read ({error}); expected delimited text in UTF-8, plain or gzipped; "
        "download or export it again"
    )


def table_files(root: Path) -> list[Path]:
    """The files of a source, sorted: itself, or all under a folder but what GDC adds.

    Raises
    ------
    SourceError
        If there is nothing.
    """
    if is_file(root):
        return [root]
    if not is_folder(root):
        raise SourceError(f"{root} cannot be read: there is no such file or folder; check the path")
    files = [
        path
        for path in sorted(root.rglob("*"))
        if is_file(path)
        and path.name.lower() not in _LITTER
        and not any(part.startswith(".") or part == "logs" for part in path.relative_to(root).parts)
    ]
    if not files:
        raise SourceError(f"{root} holds no file; expected tables, plain or gzipped")
    for path in files:
        if not is_text(path.relative_to(root)):
            raise SourceError(f"{path}: its name is not valid UTF-8; rename it")
    return files


def tables_listing(root: Path, *beside: Path | None, **settings: str | None) -> str:
    """Digest that changes when a source may read differently; nothing is opened.

    Parameters
    ----------
    root : Path
        File or folder: names, sizes and modification times count.
    *beside : Path or None
        Tables that are read along with it, e.g. a sample sheet.
    **settings
        What else the reading depends on, e.g. the declared unit.
    """
    stamps: list[Any] = [
        [path.relative_to(root).as_posix(), *_stamp(path)] for path in table_files(root)
    ]
    stamps += [None if path is None else _stamp(path) for path in beside]
    return content_sha256([stamps, settings])


def _stamp(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:
        return -1, -1
    return status.st_size, status.st_mtime_ns
