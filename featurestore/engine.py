"""Connections to the store: from a URL to an engine that speaks vectors, and when one is lost."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
from pgvector.psycopg import register_vector
from sqlalchemy import URL, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, OperationalError

from featurestore.errors import StoreError

# What a driver calls it when the connection breaks or none is to be had, and what the server
# says when it ends a connection or does not take one yet. Of any other error of the database
# (a full disk, a lock not had in time) waiting is no cure.
_LOST = frozenset(
    {
        "OperationalError",
        "InterfaceError",
        "AdminShutdown",
        "CrashShutdown",
        "CannotConnectNow",
        "ConnectionException",
        "ConnectionDoesNotExist",
        "ConnectionFailure",
        "ConnectionTimeout",
        "SqlclientUnableToEstablishSqlconnection",
    }
)


def store_url(url: str | URL) -> URL:
    """Turn any Postgres URL into the one that SQLAlchemy needs for psycopg 3.

    Raises
    ------
    StoreError
        If it is not a Postgres URL. The password is never part of the message.
    """
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise StoreError(
            "the database URL cannot be parsed; expected postgresql://USER:PASSWORD@HOST/NAME"
        ) from error
    backend = parsed.drivername.partition("+")[0]
    if backend not in ("postgres", "postgresql"):
        raise StoreError(f"the store needs Postgres with pgvector, got a {backend!r} URL")
    return parsed.set(drivername="postgresql+psycopg")


def _prepare_connection(connection: Any, _record: object) -> None:
    # A database that was never migrated has no vector types yet; it must still connect.
    try:
        register_vector(connection)
    except psycopg.ProgrammingError:
        connection.rollback()
    # Of a client that was killed the server should not go on with the index it was building.
    try:
        connection.execute("SET client_connection_check_interval = '1s'")
        connection.commit()
    except psycopg.Error:
        connection.rollback()  # not every platform can watch a socket


def connect(url: str | URL) -> Engine:
    """Open an engine on the store and prove that the server answers.

    Parameters
    ----------
    url : str or sqlalchemy.URL
        Any Postgres URL.

    Raises
    ------
    StoreError
        If no server answers there; the message shows the URL without its password.
    """
    engine = create_engine(store_url(url), pool_pre_ping=True)
    event.listen(engine, "connect", _prepare_connection)
    try:
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))
    except OperationalError as error:
        engine.dispose()
        where = engine.url.render_as_string(hide_password=True)
        cause = str(error.orig).strip().splitlines()[0]
        raise StoreError(
            f"no database answers at {where}: {cause}. Start it, or correct "
            "FFPE_DATABASE_URL; without that variable ffpe starts its own Postgres."
        ) from error
    return engine


def is_lost(error: BaseException) -> bool:
    """Whether an error says that the connection to the database broke, or cannot be made now.

    Parameters
    ----------
    error : BaseException
        Of any driver or library: what it was raised from is what counts.
    """
    *_, innermost = _causes(error)
    from_driver = type(innermost).__module__.partition(".")[0] in ("psycopg", "psycopg2")
    return from_driver and names_lost_connection(type(innermost).__name__)


def names_lost_connection(name: str) -> bool:
    """Whether a class of a driver's errors, by its name, is that of a lost connection."""
    return name in _LOST


def _causes(error: BaseException) -> Iterator[BaseException]:
    following: BaseException | None = error
    while following is not None:
        yield following
        following = following.__cause__
