"""Backup of a whole store into a folder, with a digest of everything that is in it.

A backup is a folder: ``database.dump`` (of ``pg_dump``: every schema of the database, Dagster's
run history with it), ``files/`` (weights, without which nothing can be embedded any more) and
``manifest.json``, which says what every table and file held. All of the database is of one
moment, whatever is written meanwhile. A backup appears whole or not at all. How it comes back
is in :mod:`featurestore.restoration`.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from hashlib import file_digest
from pathlib import Path, PurePosixPath
from typing import Any

from psycopg import Connection
from sqlalchemy import URL

from featurestore import schema
from featurestore.errors import InputError, StoreError
from featurestore.model_versions import content_sha256
from featurestore.new_folder import new_folder
from featurestore.postgres_programs import call_arguments, find_program, open_connection, run
from featurestore.table_digests import TableDigest, table_digests

MANIFEST = "manifest.json"
DUMP = "database.dump"
FILES = "files"
_FORMAT = 1
_ADVICE = "nothing was restored; take another backup"

OnStep = Callable[[str], None]


@dataclass(frozen=True)
class Backup:
    """What a backup holds.

    Attributes
    ----------
    revision : str or None
        Migration that the schema is at; None where the database holds no store.
    created_at : str
    postgres : int
        Major version of the server.
    tables : mapping of str to TableDigest
        By ``schema.table``.
    files : mapping of str to str
        SHA-256 by path within the backup, the dump's own with them.
    n_bytes : int
        Size of those files.
    """

    revision: str | None
    created_at: str
    postgres: int
    tables: Mapping[str, TableDigest]
    files: Mapping[str, str]
    n_bytes: int

    @property
    def n_rows(self) -> int:
        """Rows of all tables."""
        return sum(table.n_rows for table in self.tables.values())


def write_backup(
    url: URL, folder: Path, *, files: Path, on_step: OnStep = lambda _step: None
) -> Backup:
    """Back a store up into a new folder.

    Parameters
    ----------
    url : sqlalchemy.URL
        The database. It may be written to meanwhile.
    folder : Path
        Where the backup is put; it must not exist.
    files : Path
        Folder of files that belong to the store: its weights.
    on_step : callable
        Called with what is done next, in words.

    Raises
    ------
    InputError
        If the folder exists.
    StoreError
        If the database or the files cannot be read to the end, or the disk is full; the folder
        is not there then.
    """
    where, environment = call_arguments(url)
    with (
        failures_told("backed up"),
        new_folder(folder, marker=MANIFEST, what="backup", force=False) as made,
        _snapshot(url) as (connection, snapshot),
    ):
        on_step("writing the database")
        run(
            [find_program("pg_dump", connection), "--format=custom", "--compress=gzip:1",
             f"--snapshot={snapshot}", f"--file={made / DUMP}", f"--dbname={where}"],
            environment,
        )  # fmt: skip
        on_step("computing the digest of every table")
        tables = table_digests(connection)
        revision = _revision(connection, tables)
        on_step("copying weights")
        shutil.copytree(files, made / FILES, ignore=shutil.ignore_patterns(".*"))
        found = {path: _sha256(made / path) for path in _listed(made)}
        n_bytes = sum((made / path).stat().st_size for path in found)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        backup = Backup(
            revision, now, connection.info.server_version // 10_000, tables, found, n_bytes
        )
        _write_manifest(made / MANIFEST, backup)
    return backup


def read_backup(folder: Path) -> Backup:
    """Read a backup's manifest and hold every file against it.

    Raises
    ------
    InputError
        If there is no backup, it is damaged, altered or incomplete, or of a newer ffpe.
    """
    try:
        told = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        content = told["content"]
        if told["sha256"] != content_sha256(content) or content.pop("format") != _FORMAT:
            raise ValueError("its own checksum does not fit")
        tables = {name: TableDigest(**table) for name, table in content.pop("tables").items()}
        backup = Backup(tables=tables, **content)
        for path in (DUMP, *backup.files):
            parts = PurePosixPath(path).parts
            if path not in backup.files or (path != DUMP and (parts[0] != FILES or ".." in parts)):
                raise ValueError(f"it cannot hold {path}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise InputError(
            f"{folder / MANIFEST} is no manifest of a backup, or was altered ({error}); expected a "
            f"folder that `ffpe db backup` wrote; {_ADVICE}"
        ) from error
    if backup.revision is not None and backup.revision not in schema.revisions():
        raise InputError(
            f"{folder} is a backup of schema {backup.revision!r}, which this ffpe does not know: a "
            "newer ffpe made it. Upgrade ffpe."
        )
    for path, sha256 in backup.files.items():
        if not (folder / path).is_file():
            raise InputError(f"{folder} is incomplete: {path} is missing; {_ADVICE}")
        if _sha256(folder / path) != sha256:
            raise InputError(
                f"{folder / path} was altered or cut off: its SHA-256 is not {sha256}; {_ADVICE}"
            )
    return backup


@contextmanager
def _snapshot(url: URL) -> Iterator[tuple[Connection[Any], str]]:
    """A transaction that sees one moment for as long as the block lasts, and the moment's name."""
    with open_connection(url) as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        row = connection.execute("SELECT pg_export_snapshot()").fetchone()
        assert row is not None  # noqa: S101
        yield connection, str(row[0])


@contextmanager
def failures_told(what: str) -> Iterator[None]:
    """Say of a disk's or a file's failure that nothing is left of the attempt."""
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"the store could not be {what}: {error}; nothing is left of the attempt. Is the disk "
            "full?"
        ) from error


def _revision(connection: Connection[Any], tables: Mapping[str, TableDigest]) -> str | None:
    if "public.alembic_version" not in tables:
        return None
    row = connection.execute("SELECT version_num FROM public.alembic_version").fetchone()
    return None if row is None else str(row[0])


def _listed(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*")
                  if path.is_file())  # fmt: skip


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return file_digest(stream, "sha256").hexdigest()


def _write_manifest(file: Path, backup: Backup) -> None:
    content = {"format": _FORMAT, **asdict(backup)}
    told = {"sha256": content_sha256(content), "content": content}
    with file.open("w", encoding="utf-8") as stream:
        json.dump(told, stream, indent=1, sort_keys=True)
        stream.flush()
        os.fsync(stream.fileno())
