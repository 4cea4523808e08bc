"""Fixtures that every room shares: a real Postgres, migrated, and the real data if present."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import settings
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from featurestore import schema
from featurestore.embedded import EmbeddedPostgres
from featurestore.engine import connect

REPOSITORY = Path(__file__).parents[1]

# Machines are shared and noisy: how long an example takes says nothing about the code.
settings.register_profile("ffpe", deadline=None)
settings.load_profile("ffpe")


@contextmanager
def _server_folder() -> Iterator[Path]:
    # Not pytest's own: every pytest that starts takes the others' rights on that one away,
    # and as root the server runs as another user.
    with TemporaryDirectory(prefix="ffpe-test-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """An embedded Postgres of this test process."""
    with _server_folder() as folder:
        server = EmbeddedPostgres(folder / "postgres")
        yield server.acquire()
        server.release()


@pytest.fixture
def server_folder() -> Iterator[Path]:
    """A folder that an embedded Postgres may be started in."""
    with _server_folder() as folder:
        yield folder


@pytest.fixture(scope="session")
def engine(postgres_url: str) -> Iterator[Engine]:
    """A migrated database whose content tests must not rely on being empty."""
    engine = connect(postgres_url)
    schema.upgrade(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def session(engine: Engine) -> Iterator[Session]:
    """A session whose every change, commits included, is undone after the test."""
    with engine.connect() as connection:
        transaction = connection.begin()
        with Session(connection, join_transaction_mode="create_savepoint") as session:
            yield session
        transaction.rollback()


@pytest.fixture
def empty_engine(postgres_url: str, request: pytest.FixtureRequest) -> Iterator[Engine]:
    """A fresh database without any schema, dropped after the test."""
    with _new_database(postgres_url, request.node.nodeid) as engine:
        yield engine


@pytest.fixture(scope="module")
def module_engine(postgres_url: str, request: pytest.FixtureRequest) -> Iterator[Engine]:
    """A fresh database without any schema that the tests of a module share."""
    with _new_database(postgres_url, request.node.nodeid) as engine:
        yield engine


@contextmanager
def _new_database(postgres_url: str, whose: str) -> Iterator[Engine]:
    name = f"test_{abs(hash(whose)):x}"
    admin = connect(postgres_url)
    with admin.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    engine = connect(admin.url.set(database=name))
    yield engine
    engine.dispose()
    with admin.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the real data; skips where there is none."""
    folder = Path(os.environ.get("FFPE_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("the real tissue images are not here; set FFPE_TEST_DATA to their folder")
    return folder


@pytest.fixture(scope="session")
def xception_weights() -> Path:
    """A weights folder that holds Xception's ImageNet weights, fetched once and kept."""
    from featurestore.errors import WeightsError
    from models.weights import find_weights

    cache = Path(os.environ.get("FFPE_TEST_CACHE", REPOSITORY / ".ffpe" / "cache" / "tests"))
    folder = cache / "weights"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        find_weights("legacy_xception", folder=folder)
    except WeightsError as error:
        pytest.skip(f"no source of Xception weights can be reached from here: {error}")
    return folder
