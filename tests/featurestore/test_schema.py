"""The schema: migrations up and down, agreement with the tables, and the database's own rules."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from alembic import command
from sqlalchemy import Engine, inspect, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from featurestore import schema
from featurestore.embeddings import ensure_partition
from featurestore.engine import connect
from featurestore.errors import StoreError
from featurestore.tables import Base


def test_up_down_up_leaves_nothing_and_then_everything(empty_engine: Engine) -> None:
    schema.upgrade(empty_engine)
    assert set(Base.metadata.tables) <= set(inspect(empty_engine).get_table_names())
    schema.downgrade(empty_engine, "base")
    assert inspect(empty_engine).get_table_names() == ["alembic_version"]
    with empty_engine.connect() as connection:
        functions = connection.scalars(
            text("SELECT proname FROM pg_proc WHERE proname = 'refuse_update'")
        ).all()
    assert functions == []
    schema.upgrade(empty_engine)
    assert schema.current(empty_engine) == schema.head()


def test_migrations_agree_with_the_tables(engine: Engine) -> None:
    with engine.connect() as connection:
        command.check(schema.alembic_config(connection))


def test_partitions_that_come_with_data_are_no_difference(empty_engine: Engine) -> None:
    schema.upgrade(empty_engine)
    with Session(empty_engine) as session, session.begin():
        ensure_partition(session, 1, 3)
    with empty_engine.connect() as connection:
        command.check(schema.alembic_config(connection))


def test_every_table_and_constraint_is_named_and_every_table_commented(engine: Engine) -> None:
    for name in Base.metadata.tables:
        assert inspect(engine).get_table_comment(name)["text"]
    for table in Base.metadata.tables.values():
        assert all(constraint.name for constraint in table.constraints)
        assert all(len(str(constraint.name)) <= 63 for constraint in table.constraints)


def test_an_unmigrated_database_is_refused(empty_engine: Engine) -> None:
    with pytest.raises(StoreError, match="holds no ffpe schema.*ffpe db upgrade"):
        schema.require_current(empty_engine)


def test_an_older_or_newer_schema_is_refused(empty_engine: Engine) -> None:
    schema.upgrade(empty_engine)
    schema.require_current(empty_engine)
    with empty_engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StoreError, match="a newer ffpe made it"):
        schema.require_current(empty_engine)


def test_no_database_is_said_so_without_the_password() -> None:
    with pytest.raises(StoreError, match="no database answers at .*127.0.0.1:1/") as caught:
        connect("postgresql://someone:secret@127.0.0.1:1/nowhere?connect_timeout=2")
    assert "secret" not in str(caught.value)
    assert "FFPE_DATABASE_URL" in str(caught.value)


@pytest.mark.parametrize("url", ["mysql://localhost/x", "not a url"])
def test_a_url_of_something_else_is_refused(url: str) -> None:
    with pytest.raises(StoreError, match="Postgres|parsed"):
        connect(url)


@pytest.mark.parametrize(
    ("statement", "constraint"),
    [
        ("INSERT INTO patients (patient_id) VALUES ('')", "ck_patients_patient_id_not_empty"),
        (
            "INSERT INTO tiles (sha256, width_px, height_px) VALUES ('abc', 1, 1)",
            "ck_tiles_sha256_is_hex",
        ),
        (
            "INSERT INTO tiles (sha256, width_px, height_px, mpp)"
            " VALUES (repeat('a', 64), 1, 1, 352)",
            "ck_tiles_mpp_plausible",
        ),
        (
            "INSERT INTO embeddings VALUES (999999, 1, '[1,2]')",
            "no partition",
        ),
    ],
)
def test_the_database_refuses(session: Session, statement: str, constraint: str) -> None:
    with pytest.raises(DBAPIError, match=constraint):
        session.execute(text(statement))


def test_head_is_the_newest_migration(engine: Engine) -> None:
    with engine.connect() as connection:
        assert connection.scalar(select(text("version_num")).select_from(text("alembic_version")))
    assert schema.current(engine) == schema.head()


def test_several_processes_may_create_the_same_namespace_at_once(empty_engine: Engine) -> None:
    n_at_once = 8
    ready = threading.Barrier(n_at_once)

    def create(_: int) -> None:
        with empty_engine.connect():
            ready.wait(timeout=30)
        schema.ensure_namespace(empty_engine, "beside")

    for _ in range(5):
        with ThreadPoolExecutor(n_at_once) as pool:
            list(pool.map(create, range(n_at_once)))
        with empty_engine.begin() as connection:
            connection.execute(text("DROP SCHEMA beside"))
