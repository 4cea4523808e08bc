"""Text as tables come in it: plain or gzipped, opened so that damage and bombs end by an error."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from pathlib import Path
from typing import Any, TextIO

import pandas as pd

from featurestore.errors import SourceError
from featurestore.sources.file_kinds import is_file

_GZIP = b"\x1f\x8b"
_NOT_TEXT = {
    b"PK\x03\x04": "a zip or Excel file",
    b"\xff\xfe": "UTF-16 text",
    b"\xfe\xff": "UTF-16 text",
    b"%PDF": "a PDF",
}
_MOST_INFLATED, _SMALL_BYTES = 20, 1 << 25  # tables of numbers shrink to a fifth
BROKEN = (OSError, EOFError, UnicodeDecodeError, zlib.error, csv.Error, pd.errors.ParserError)
"""What reading a damaged or mislabelled table raises."""


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
