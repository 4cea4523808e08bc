"""Postgres killed or shut down in the middle of a run: it goes on, or ends in one clear line."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text

from featurestore import schema
from featurestore.embedded import EmbeddedPostgres
from featurestore.engine import connect, is_lost
from featurestore.errors import OutageError, StoreError
from featurestore.processes import working_in
from featurestore.sources.synthetic import write_tissue
from orchestration.home import Home
from orchestration.outages import outlast
from tests.faults.content import Rows, content, differences
from tests.faults.forks import Forks

STUDY = """
name = "outage"
seed = 3
[tissue]
tiles = "tiles"
folds = 3
repeats = 20
"""


class Stage:
    """A server of its own, a study that took its tiles in, and what it comes to undisturbed."""

    def __init__(self, folder: Path, study: Path, forks: Forks) -> None:
        self.home, self.study, self.forks = folder / "home", study, forks
        self.server = EmbeddedPostgres(folder / "server" / "postgres")
        self.server.acquire()
        self.do("CREATE DATABASE quiet")
        engine = connect(self.url("quiet"))
        schema.upgrade(engine)
        engine.dispose()
        self.run("ingest", "quiet")
        self.do("CREATE DATABASE disturbed TEMPLATE quiet")
        self.rows: dict[str, dict[str, Rows]] = {}
        for name in ("embed", "tissue"):
            self.run(name, "quiet")
            self.rows[name] = self.content("quiet")

    def do(self, statement: str) -> None:
        engine = connect(self.url("postgres"))
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text(statement))
        engine.dispose()

    def url(self, database: str) -> str:
        return self.server.acquire().replace("/postgres?", f"/{database}?")

    def run(self, stage: str, database: str) -> None:
        self.start(stage, database)
        assert self.forks.wait() == 0

    def start(self, stage: str, database: str) -> None:
        where = {"folder": str(self.home), "url": self.url(database), "study": str(self.study)}
        self.forks.start(stage=stage, **where)

    def content(self, database: str) -> dict[str, Rows]:
        engine = connect(self.url(database))
        try:
            return content(engine)
        finally:
            engine.dispose()

    def end(self, number: int) -> None:
        end_server(self.server.folder, number)


def end_server(folder: Path, number: int) -> None:
    """Signal the server of a folder, and wait until nothing is left of it."""
    os.kill(int((folder / "data" / "postmaster.pid").read_text().split()[0]), number)
    until(lambda: not working_in(folder / "data", "postgres"))


def until(holds: object, seconds: float = 120) -> None:
    assert callable(holds)
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def n_embedded(url: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT count(*) FROM embeddings").fetchone()
    assert row is not None
    return int(row[0])


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: str) -> Path:
    folder = tmp_path_factory.mktemp("outage")
    write_tissue(folder / "tiles", n_per_class=30, seed=1, tile_px=72)
    (folder / "study.toml").write_text(STUDY + tiny_encoder)
    return folder / "study.toml"


@pytest.mark.slow
def test_an_outage_is_outlasted_or_ends_in_one_line(
    study: Path, server_folder: Path, forks: Forks, tmp_path: Path
) -> None:
    stage = Stage(server_folder, study, forks)
    url, output = stage.url("disturbed"), tmp_path / "output"
    where = {"FFPE_HOME": str(stage.home), "FFPE_DATABASE_URL": url, "COLUMNS": "200"}

    # It stays away: one line that says what to do, and nothing half-written.
    forks.ffpe("run", str(study), output=output, FFPE_DATABASE_WAIT="2", **where)
    until(lambda: "embeddings of tiny: " in output.read_text())
    stage.end(signal.SIGQUIT)
    assert forks.wait() == 1
    said = output.read_text()
    assert "Traceback" not in said.partition("embeddings of tiny: ")[2], said
    last = said.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert "went away and did not come back within 2 s" in last
    assert "the same command then goes on where it was" in last

    # It is killed and comes back: embedding goes on by itself.
    assert stage.url("disturbed") == url
    assert n_embedded(url) < 3 * 270
    stage.start("embed", "disturbed")
    before = n_embedded(url)
    until(lambda: n_embedded(url) > before)
    stage.end(signal.SIGKILL)
    time.sleep(1)
    stage.server.acquire()
    assert forks.wait() == 0
    assert differences(stage.rows["embed"], stage.content("disturbed")) == []

    # The same of a whole run, of which Dagster writes the history to the same server.
    forks.ffpe("run", str(study), "--select", "analysis", output=output, **where)
    until(lambda: "cross-validate: " in output.read_text())
    stage.end(signal.SIGQUIT)
    time.sleep(1)
    stage.server.acquire()
    assert forks.wait() == 0, output.read_text()
    told = differences(stage.rows["tissue"], stage.content("disturbed"))
    assert [line for line in told if not line.startswith("guard_results:")] == []
    with psycopg.connect(url) as connection:
        rows = connection.execute("SELECT status, count(*) FROM dagster.runs GROUP BY status")
        states = dict(rows.fetchall())
    assert set(states) <= {"SUCCESS", "FAILURE"}
    stage.server.release()


@pytest.mark.slow
def test_an_embedded_server_that_is_killed_is_started_again_by_who_needs_it(
    study: Path, server_folder: Path, forks: Forks
) -> None:
    folder = server_folder / "home"
    request = {"folder": str(folder), "study": str(study)}
    forks.start(stage="ingest", **request)
    assert forks.wait() == 0
    home = Home(folder)
    url = home.url.set(drivername="postgresql").render_as_string(hide_password=False)
    forks.start(stage="embed", **request)
    until(lambda: n_embedded(url) > 0)
    end_server(folder / "postgres", signal.SIGKILL)
    assert forks.wait() == 0
    assert n_embedded(url) == 3 * 270
    home.close()
    assert working_in(folder / "postgres" / "data", "postgres") == []


def test_only_lost_connections_are_waited_out(postgres_url: str, tmp_path: Path) -> None:
    home = Home(tmp_path, database_url=postgres_url, wait_seconds=5)
    calls: list[str] = []

    def ends_its_own_connection() -> str:
        calls.append("called")
        with home.engine.connect() as connection:
            if len(calls) < 3:
                connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
            return str(connection.execute(text("SELECT 'done'")).scalar_one())

    engine = connect(postgres_url)
    schema.upgrade(engine)
    engine.dispose()
    assert outlast(home, ends_its_own_connection) == "done"
    assert len(calls) == 3

    def asks_for_what_is_not_there() -> None:
        calls.append("called")
        with home.engine.connect() as connection:
            connection.execute(text("SELECT * FROM nowhere"))

    with pytest.raises(Exception, match="nowhere") as caught:
        outlast(home, asks_for_what_is_not_there)
    assert not is_lost(caught.value)
    assert len(calls) == 4

    def never_succeeds() -> None:
        calls.append("called")
        raise OutageError("server closed the connection")

    with pytest.raises(StoreError, match="went away 5 times"):
        outlast(home, never_succeeds)
    assert len(calls) == 9
    home.close()


def test_a_wait_that_is_no_number_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for told in ("soon", "-1", "nan", "inf"):
        monkeypatch.setenv("FFPE_DATABASE_WAIT", told)
        with pytest.raises(StoreError, match="FFPE_DATABASE_WAIT"):
            Home.from_environment()
