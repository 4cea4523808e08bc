"""Connections to the store: from a URL to an engine that speaks vectors."""

from __future__ import annotations

from typing import Any

import psycopg
from pgvector.psycopg import register_vector
from sqlalchemy import URL, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, OperationalError

from featurestore.errors import StoreError


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


def _register_vector(connection: Any, _record: object) -> None:
    # A database that was never migrated has no vector types yet; it must still connect.
    try:
        register_vector(connection)
    except psycopg.ProgrammingError:
        connection.rollback()


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
    event.listen(engine, "connect", _register_vector)
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
