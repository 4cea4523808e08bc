"""Owns delimited text: plain or gzipped, tab or comma, comments ahead, told by content.

Every reader of molecular and clinical tables starts with :func:`read_head` and decides by what
it finds there, never by a file's name.
"""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import pandas as pd

from featurestore.errors import SourceError
from featurestore.model_versions import content_sha256
from featurestore.sources.file_kinds import is_file, is_folder, is_text

_GZIP = b"\x1f\x8b"
_NOT_TEXT = {
    b"PK\x03\x04": "a zip or Excel file",
    b"\xff\xfe": "UTF-16 text",
    b"\xfe\xff": "UTF-16 text",
    b"%PDF": "a PDF",
}
_LITTER = frozenset({"manifest.txt", "annotations.txt", "thumbs.db", "desktop.ini"})
_N_ROWS = 30
_LONGEST_LINE = 1 << 24  # characters; the widest tables have some hundred thousand
_MOST_INFLATED, _SMALL_BYTES = 20, 1 << 25  # tables of numbers shrink to a fifth
BROKEN = (OSError, EOFError, UnicodeDecodeError, zlib.error, csv.Error, pd.errors.ParserError)
"""What reading a damaged or mislabelled table raises."""


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


class _Bytes(io.RawIOBase):
    """The bytes of a table, unpacked; ends by an error where no table goes on.

    NUL is no character of any table, pandas ends a cell there without a word, and Postgres takes
    none. A few bytes of gzip can unpack to more than any memory holds.
    """

    def __init__(self, path: Path) -> None:
        self._packed = is_gzipped(path)
        self._inner = gzip.open(path) if self._packed else path.open("rb")  # noqa: SIM115
        self._left = max(_SMALL_BYTES, _MOST_INFLATED * path.stat().st_size)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        chunk = self._inner.read(len(buffer))
        if b"\0" in chunk:
            raise csv.Error("it holds NUL bytes, as damaged files and UTF-16 do")
        self._left -= len(chunk)
        if self._packed and self._left < 0:
            raise csv.Error(
                f"it unpacks to more than {_MOST_INFLATED} times its size; unpack it yourself if "
                "that is right"
            )
        buffer[: len(chunk)] = chunk
        return len(chunk)

    def close(self) -> None:
        self._inner.close()
        super().close()


def open_bytes(path: Path) -> io.BufferedReader:
    """Open a table as bytes, unpacking gzip.

    What is read from it may raise any of :data:`BROKEN`.
    """
    return io.BufferedReader(_Bytes(path), 1 << 18)


def open_text(path: Path) -> TextIO:
    """Open a table as UTF-8 text, unpacking gzip.

    Raises
    ------
    SourceError
        If it is no text by its first bytes, or absent.
    """
    start = _first_bytes(path)
    for magic, kind in _NOT_TEXT.items():
        if start.startswith(magic):
            raise SourceError(
                f"{path} is {kind}; expected text in UTF-8, plain or gzipped: export it as such"
            )
    return io.TextIOWrapper(open_bytes(path), encoding="utf-8-sig")


def _first_bytes(path: Path) -> bytes:
    try:
        # A pipe would be waited for without end, and a device has no end.
        if path.exists() and not is_file(path):
            raise SourceError(f"{path} is no regular file; expected a table; check the path")
        with path.open("rb") as file:
            return file.read(4)
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}; check the path") from error


def is_gzipped(path: Path) -> bool:
    """Whether the file is gzip by its first bytes."""
    return _first_bytes(path).startswith(_GZIP)


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
