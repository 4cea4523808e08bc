"""Restoration of a backup into an empty database, proved before it is committed.

``pg_restore`` writes the dump as a script, and ``psql`` runs it in one transaction, at whose end
every table's digest is compared with the manifest. Whatever fails, the database is as it was.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from psycopg import Connection
from sqlalchemy import URL

from featurestore.backup import DUMP, FILES, Backup, OnStep, failures_told, read_backup
from featurestore.errors import StoreError
from featurestore.postgres_programs import (
    call_arguments,
    find_program,
    last_words,
    open_connection,
    run,
)
from featurestore.table_digests import comparison

# What stands in a database before anything is restored into it.
_OCCUPIED = """
SELECT n.nspname || '.' || c.relname FROM pg_class AS c JOIN pg_namespace AS n
    ON n.oid = c.relnamespace
 WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
   AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass
                      AND objid = c.oid AND deptype = 'e')
 ORDER BY 1 LIMIT 1
"""


def restore_backup(
    folder: Path, url: URL, *, files: Path, on_step: OnStep = lambda _step: None
) -> Backup:
    """Restore a backup into an empty database; everything or nothing.

    Parameters
    ----------
    folder : Path
    url : sqlalchemy.URL
        A database without any table.
    files : Path
        Where its weights are put; those that are there stay.

    Raises
    ------
    InputError
        If the backup cannot be used (see :func:`read_backup`).
    StoreError
        If the database is not empty, is of an older Postgres, or what came out of it is not what
        the backup says.
    """
    on_step("checking the backup")
    backup = read_backup(folder)
    with failures_told("restored"), open_connection(url) as connection:
        _require_empty(connection, backup)
        on_step("copying weights")
        with _copied(folder, backup, files):
            on_step("restoring the database and comparing every table's digest")
            _restore(folder, backup, connection, url)
    return backup


def _restore(folder: Path, backup: Backup, connection: Connection[Any], url: URL) -> None:
    """Feed the dump and the comparison to psql, which commits at the end of both or not at all."""
    where, environment = call_arguments(url)
    pg_restore, psql = (find_program(name, connection) for name in ("pg_restore", "psql"))
    is_old = connection.info.server_version < 170_000
    schemas = {row[0] for row in connection.execute("SELECT nspname FROM pg_namespace")}
    check = comparison(connection, backup.tables).encode()
    connection.rollback()
    listed = run([pg_restore, "--list", folder / DUMP], environment)
    with tempfile.TemporaryDirectory(prefix="ffpe-restore-") as scratch:
        contents, errors = Path(scratch) / "contents", Path(scratch) / "errors"
        contents.write_text("\n".join(_wanted(listed, schemas)))
        script: list[str | Path] = [
            pg_restore, "--no-owner", "--no-privileges", f"--use-list={contents}", "--file=-",
            folder / DUMP,
        ]  # fmt: skip
        apply: list[str | Path] = [
            psql, "--no-psqlrc", "--quiet", "--output=/dev/null",
            "--set=ON_ERROR_STOP=1", f"--dbname={where}", "--file=-",
        ]  # fmt: skip
        with (
            errors.open("wb") as told,
            subprocess.Popen(
                script, stdout=subprocess.PIPE, stderr=told, env=environment
            ) as source,
            subprocess.Popen(apply, stdin=subprocess.PIPE, stderr=told, env=environment) as target,
        ):
            try:
                _feed(source, target, check, is_old=is_old)
            except BaseException:
                target.kill()  # what it was given so far must not be committed
                source.kill()
                raise
        if source.returncode or target.returncode:
            raise StoreError(
                f"{folder} could not be restored, and the database is as it was: "
                f"{last_words(errors.read_text(errors='replace'))}"
            )


def _feed(
    source: subprocess.Popen[bytes], target: subprocess.Popen[bytes], check: bytes, *, is_old: bool
) -> None:
    """Pass a script on, and the comparison after it if the script came to its end."""
    assert source.stdout is not None  # noqa: S101
    assert target.stdin is not None  # noqa: S101
    head = source.stdout.read(1 << 16)
    if is_old:  # whose servers do not know this setting
        head = head.replace(b"SET transaction_timeout = 0;\n", b"")
    try:
        # Not psql's --single-transaction: that commits what it has got where this process dies.
        target.stdin.write(b"BEGIN;\n" + head)
        shutil.copyfileobj(source.stdout, target.stdin, 1 << 20)
        if source.wait() == 0:
            target.stdin.write(check + b"COMMIT;\n")
            target.stdin.close()
        else:
            target.kill()
    except BrokenPipeError:
        source.kill()  # psql ended, and has said why
        with suppress(BrokenPipeError):
            target.stdin.close()
    target.wait()


def _wanted(listed: str, schemas: set[str]) -> Iterator[str]:
    """The entries of a dump's contents that are restored."""
    for line in listed.splitlines():
        schema_name = re.search(r" SCHEMA - (\S+) ", line)
        is_there = schema_name is not None and schema_name[1] in schemas
        # Only its owner may comment on an extension, who on a managed server is somebody else.
        if not is_there and " COMMENT - EXTENSION " not in line:
            yield line


def _require_empty(connection: Connection[Any], backup: Backup) -> None:
    occupied = connection.execute(_OCCUPIED).fetchone()
    if occupied is not None:
        raise StoreError(
            f"the database is not empty: it has {occupied[0]}; a backup is restored into a fresh "
            "one: name another FFPE_HOME, or a new database in FFPE_DATABASE_URL"
        )
    found = connection.info.server_version // 10_000
    if found < backup.postgres:
        raise StoreError(
            f"the database is Postgres {found}, the backup is of Postgres {backup.postgres}; "
            "restore it into that or a newer one"
        )


@contextmanager
def _copied(folder: Path, backup: Backup, files: Path) -> Iterator[None]:
    """The backup's files in their place; those that are new go again where the block fails."""
    new = []
    try:
        for path in backup.files:
            target = files / Path(path).relative_to(FILES) if path != DUMP else None
            if target is None or target.exists():
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            new.append(target)
            shutil.copyfile(folder / path, target)
        yield
    except BaseException:
        for target in new:
            target.unlink(missing_ok=True)
        raise
