"""Read-only roles, tested by trying what a reader must not do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import psycopg
import pytest
from psycopg import sql
from psycopg.errors import InsufficientPrivilege, QueryCanceled, ReadOnlySqlTransaction
from sqlalchemy import Engine, select, text
from sqlalchemy.orm import Session

from featurestore import schema, versions
from featurestore.embeddings import partition_name, write_embeddings
from featurestore.engine import connect
from featurestore.errors import StoreError
from featurestore.readers import Reader, grant_reader, write_access
from featurestore.tables import ModelVersionRow, StudyEncoder, Tile

ODD_NAMES = [
    "Dr. O'Hara",
    'quote"d',
    'x"; DROP TABLE tiles CASCADE; --',
    "x' SUPERUSER; --",
    "{role} %s %(x)s :name",
    "ä" * 31,
    "SELECT",
]

FORBIDDEN = [
    "INSERT INTO patients (patient_id) VALUES ('P')",
    "INSERT INTO rejects (study, stage, item, reason) VALUES ('s', 'x', 'y', 'z')",
    "UPDATE slides SET mpp = 1",
    "DELETE FROM comparisons",
    "TRUNCATE rejects",
    "MERGE INTO patients USING genes ON false WHEN NOT MATCHED THEN"
    " INSERT (patient_id) VALUES ('P')",
    "SELECT * FROM tiles FOR UPDATE",
    "DO $$ BEGIN LOCK TABLE tiles IN EXCLUSIVE MODE; END $$",
    "CREATE TABLE mine (x int)",
    "CREATE TEMPORARY TABLE mine (x int)",
    "CREATE TABLE mine AS SELECT * FROM tiles",
    "SELECT * INTO mine FROM tiles",
    "CREATE VIEW mine AS SELECT 1",
    "CREATE SCHEMA mine",
    "CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "ALTER EXTENSION vector UPDATE",
    "CREATE ROLE another",
    "CREATE DATABASE another",
    "DROP TABLE rejects",
    "DROP VIEW left_out",
    "ALTER TABLE tiles ADD COLUMN x int",
    "CREATE INDEX ON tiles (mpp)",
    "COMMENT ON TABLE tiles IS 'mine'",
    "ALTER ROLE reader SUPERUSER",
    "SET ROLE postgres",
    "SET SESSION AUTHORIZATION postgres",
    "COPY patients (patient_id) FROM PROGRAM 'echo P'",
    "COPY tiles TO PROGRAM 'cat'",
    "COPY tiles TO '/tmp/tiles'",
    "COPY patients (patient_id) FROM '/etc/hostname'",
    "SELECT pg_read_file('postgresql.conf')",
    "SELECT lo_create(0)",
    "SELECT lo_creat(-1)",
    "SELECT lo_from_bytea(0, 'x')",
    "SELECT lo_import('/etc/hostname')",
    "SELECT nextval('rejects_reject_id_seq')",
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'postgres'"
    " AND pid <> pg_backend_pid()",
    "ALTER SYSTEM SET work_mem = '1GB'",
]


@pytest.fixture
def store(filled_engine: Engine) -> Iterator[Engine]:
    """A filled store; roles outlive databases, so those that a test makes are removed."""
    query = "SELECT rolname FROM pg_roles"
    with filled_engine.connect() as connection:
        before = set(connection.scalars(text(query)))
    yield filled_engine
    filled_engine.dispose()
    with raw(filled_engine) as connection:
        for (name,) in connection.execute(query).fetchall():
            if name not in before:
                role = sql.Identifier(name)
                connection.execute(sql.SQL("DROP OWNED BY {}").format(role))
                connection.execute(sql.SQL("DROP ROLE {}").format(role))


def raw(engine: Engine, user: str | None = None) -> psycopg.Connection:
    """A plain connection, as any client would open it."""
    host = engine.url.host or engine.url.query.get("host")
    return psycopg.connect(
        host=str(host), dbname=engine.url.database, user=user or engine.url.username,
        autocommit=True,
    )  # fmt: skip


def grant(engine: Engine, name: str = "reader", **options: str) -> Reader:
    with Session(engine) as session, session.begin():
        return grant_reader(session, name, **options)


def test_a_reader_reads_everything(store: Engine) -> None:
    assert grant(store) == Reader("reader", is_new=True, can_still=())
    with raw(store, "reader") as reader:
        names = reader.execute(
            "SELECT oid::regclass::text FROM pg_class WHERE relkind IN ('r', 'p', 'v')"
            " AND relnamespace = 'public'::regnamespace"
        ).fetchall()
        assert len(names) > 40
        for (name,) in names:
            reader.execute(sql.SQL("SELECT * FROM {} LIMIT 1").format(sql.Identifier(name)))
        assert reader.execute(
            "SELECT count(*) FROM study_patient_genes WHERE study = 'luad' AND gene = 'CD8A'"
        ).fetchone() == (6,)
        assert reader.execute("SELECT '[1,2]'::vector <=> '[1,2]'::vector").fetchone() == (0,)


def test_a_reader_changes_nothing_even_after_it_has_opened_its_session(store: Engine) -> None:
    grant(store)
    not_refused = []
    with raw(store, "reader") as reader:
        # As the session comes, and after the reader has undone what it can undo.
        for read_only in ("on", "off"):
            reader.execute(f"SET default_transaction_read_only = {read_only}")
            for statement in FORBIDDEN:
                try:
                    reader.execute(statement)
                except InsufficientPrivilege:
                    continue
                except ReadOnlySqlTransaction:
                    if read_only == "on":
                        continue
                not_refused.append((read_only, statement))
        # Postgres only warns of this one.
        reader.execute("GRANT ALL ON tiles TO reader")
    assert not_refused == []
    with Session(store) as session:
        assert write_access(session, "reader") == ()


def test_the_reader_s_session_starts_read_only_and_with_a_timeout(store: Engine) -> None:
    grant(store, timeout="250ms")
    with raw(store, "reader") as reader:
        assert reader.execute("SHOW transaction_read_only").fetchone() == ("on",)
        assert reader.execute("SHOW statement_timeout").fetchone() == ("250ms",)
        with pytest.raises(QueryCanceled):
            reader.execute("SELECT pg_sleep(30)")
    with raw(store) as owner:
        assert owner.execute("SHOW statement_timeout").fetchone() == ("0",)
        assert owner.execute("SHOW transaction_read_only").fetchone() == ("off",)


def test_what_comes_after_the_grant_is_read_through_its_parent_and_by_itself(
    store: Engine,
) -> None:
    grant(store)
    with Session(store) as session, session.begin():
        first = session.scalars(select(ModelVersionRow.model_version_id)).first()
        another = replace(versions.load(session, first or 0), network="another")
        version_id = versions.register(session, another)
        tile_id = session.scalars(select(Tile.tile_id)).first()
        write_embeddings(
            session, version_id, np.array([tile_id]), np.ones((1, 3), dtype=np.float32)
        )
        session.execute(text("CREATE TABLE later AS SELECT 1 AS x"))
    with raw(store, "reader") as reader:
        for table in ("embeddings", partition_name(version_id)):
            query = sql.SQL("SELECT count(*) FROM {} WHERE model_version_id = {}")
            found = reader.execute(query.format(sql.Identifier(table), sql.Literal(version_id)))
            assert found.fetchone() == (1,)
        assert reader.execute("SELECT x FROM later").fetchone() == (1,)
        reader.execute("SET default_transaction_read_only = off")
        with pytest.raises(InsufficientPrivilege):
            reader.execute(
                sql.SQL("DELETE FROM {}").format(sql.Identifier(partition_name(version_id)))
            )


def test_dagster_s_tables_stay_closed(store: Engine) -> None:
    schema.ensure_namespace(store, "dagster")
    with store.begin() as connection:
        connection.execute(text("CREATE TABLE dagster.runs (x int)"))
    grant(store)
    with raw(store, "reader") as reader, pytest.raises(InsufficientPrivilege):
        reader.execute("SELECT * FROM dagster.runs")


def test_granting_twice_is_granting_once_and_the_timeout_may_change(store: Engine) -> None:
    assert grant(store).is_new
    assert not grant(store, timeout="5min").is_new
    with raw(store, "reader") as reader:
        assert reader.execute("SHOW statement_timeout").fetchone() == ("5min",)
        assert reader.execute("SELECT count(*) FROM tiles").fetchone() == (14,)


def test_ffpe_itself_still_imports_after_a_grant(store: Engine, tmp_path) -> None:
    grant(store)
    with Session(store) as session, session.begin():
        session.execute(text("CREATE TEMPORARY TABLE incoming (x int) ON COMMIT DROP"))
        assert session.scalar(text("SELECT count(*) FROM study_encoders")) == 2
        session.execute(StudyEncoder.__table__.delete())


def test_odd_names_are_names_and_nothing_else(store: Engine) -> None:
    for name in ODD_NAMES:
        assert grant(store, name) == Reader(name, is_new=True, can_still=())
        assert not grant(store, name).is_new
        with raw(store, name) as reader:
            assert reader.execute("SELECT current_user").fetchone() == (name,)
            assert reader.execute("SELECT count(*) FROM tiles").fetchone() == (14,)
            reader.execute("SET default_transaction_read_only = off")
            with pytest.raises(InsufficientPrivilege):
                reader.execute("DELETE FROM tiles")


@pytest.mark.parametrize("name", ["", "x" * 64, "ä" * 32, "a\0b", "pg_reader", "public", "none"])
def test_names_that_cannot_be_are_refused(session: Session, name: str) -> None:
    with pytest.raises(StoreError, match="name"):
        grant_reader(session, name)


@pytest.mark.parametrize(
    "timeout", ["", "0", "0s", "60", "-1s", "1s; DROP TABLE tiles", "1 s", "1d"]
)
def test_timeouts_that_are_none_are_refused(session: Session, timeout: str) -> None:
    with pytest.raises(StoreError, match="--timeout"):
        grant_reader(session, "reader", timeout=timeout)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        ("CREATE ROLE reader SUPERUSER", "is a superuser"),
        ("CREATE ROLE reader CREATEROLE", "may create roles"),
        ("CREATE ROLE reader IN ROLE pg_write_all_data", "is a member of pg_write_all_data"),
        ("CREATE ROLE reader; GRANT INSERT ON rejects TO reader", "write to 1 tables"),
        ("CREATE ROLE reader; ALTER TABLE rejects OWNER TO reader", "such as rejects"),
        ("CREATE ROLE reader; GRANT UPDATE (mpp) ON slides TO reader", "such as slides"),
        (
            "CREATE ROLE reader; GRANT USAGE ON SEQUENCE rejects_reject_id_seq TO reader",
            "use up numbers of rejects_reject_id_seq",
        ),
        ("CREATE ROLE reader; GRANT CREATE ON SCHEMA public TO reader", "schema public"),
    ],
)
def test_a_role_that_may_write_is_not_quietly_made_a_reader(
    session: Session, make: str, told: str
) -> None:
    session.execute(text(make))
    with pytest.raises(StoreError, match=f"'reader' exists and .*{told}"):
        grant_reader(session, "reader")
    settings = "SELECT count(*) FROM pg_db_role_setting WHERE setrole = 'reader'::regrole"
    assert session.scalar(text(settings)) == 0


def test_ffpe_s_own_role_is_refused(session: Session) -> None:
    with pytest.raises(StoreError, match="the role that ffpe itself works as"):
        grant_reader(session, str(session.scalar(text("SELECT current_user"))))


def test_a_password_is_kept_as_a_verifier_only(store: Engine) -> None:
    grant(store, password="s3cret-of-the-reader")
    stored = "SELECT rolpassword FROM pg_authid WHERE rolname = 'reader'"
    with raw(store) as owner:
        (kept,) = owner.execute(stored).fetchone() or ("",)
        assert kept.startswith("SCRAM-SHA-256$")
        assert "s3cret" not in kept
        grant(store)
        assert owner.execute(stored).fetchone() == (kept,)


def test_an_owner_who_is_no_superuser_is_told_what_it_cannot_take_away(store: Engine) -> None:
    database = sql.Identifier(str(store.url.database))
    with raw(store) as admin:
        admin.execute("CREATE ROLE keeper LOGIN CREATEROLE")
        admin.execute(sql.SQL("ALTER DATABASE {} OWNER TO keeper").format(database))
        admin.execute("ALTER SCHEMA public OWNER TO keeper")
        for (name,) in admin.execute(
            "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p', 'v')"
            " AND relnamespace = 'public'::regnamespace"
        ).fetchall():
            table = sql.Identifier(name)
            admin.execute(sql.SQL("ALTER TABLE {} OWNER TO keeper").format(table))
    keeper = connect(store.url.set(username="keeper"))
    found = grant(keeper)
    keeper.dispose()
    assert found == Reader("reader", is_new=True, can_still=("may create large objects",))
    with Session(store) as session:
        assert write_access(session, "reader") == found.can_still
    with raw(store, "reader") as reader:
        assert reader.execute("SELECT count(*) FROM left_out").fetchone() == (5,)
    with raw(store) as admin:
        admin.execute(sql.SQL("ALTER DATABASE {} OWNER TO CURRENT_USER").format(database))
        admin.execute("REASSIGN OWNED BY keeper TO CURRENT_USER")
