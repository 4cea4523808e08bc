"""The clock set back by a day between runs: nothing is done again, skipped, or shown as it was."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.orm import Session

from featurestore import schema
from featurestore.embedded import EmbeddedPostgres
from featurestore.embeddings import Coverage, coverage
from featurestore.engine import connect
from featurestore.processes import working_in
from featurestore.result_frames import comparisons_frame
from featurestore.sources.synthetic import write_tissue
from featurestore.study_datasets import study_dataset
from orchestration import currency
from orchestration.home import Home
from orchestration.registry import pointer_of
from orchestration.study import Study, read_study
from tests.faults.content import content, differences
from tests.faults.forks import REPOSITORY, Forks

STUDY = """
name = "clock"
[tissue]
tiles = "tiles"
folds = 3
repeats = {repeats}
"""
# Everything that a program may ask for the time of day; other clocks go on as they are.
SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/time.h>
#include <time.h>
#define BACK 86400
int clock_gettime(clockid_t id, struct timespec *t) {
    int (*real)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(id, t);
    if (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE) t->tv_sec -= BACK;
    return result;
}
int gettimeofday(struct timeval *restrict t, void *restrict zone) {
    int (*real)(struct timeval *, void *) = dlsym(RTLD_NEXT, "gettimeofday");
    int result = real(t, zone);
    t->tv_sec -= BACK;
    return result;
}
time_t time(time_t *t) {
    time_t (*real)(time_t *) = dlsym(RTLD_NEXT, "time");
    time_t now = real(0) - BACK;
    if (t) *t = now;
    return now;
}
"""
OWNER = """
import sys
from pathlib import Path
from featurestore.embedded import EmbeddedPostgres

server = EmbeddedPostgres(Path(sys.argv[1]))
sys.stdout.write(server.acquire() + "\\n")
sys.stdout.flush()
sys.stdin.read()
server.release()
"""


@pytest.fixture
def set_back(server_folder: Path) -> dict[str, str]:
    """An environment in which it is a day earlier, for Postgres as well."""
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("the clock is set back by a small library, which takes Linux and a C compiler")
    source, library = server_folder / "back.c", server_folder / "back.so"
    source.write_text(SHIM)
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"], check=True
    )
    library.chmod(0o755)
    return {"LD_PRELOAD": str(library)}


@contextmanager
def server(folder: Path, environment: dict[str, str]) -> Iterator[str]:
    """A server whose clock is that of an environment."""
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(folder)],
        cwd=REPOSITORY,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)} | environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert owner.stdout is not None
    try:
        yield owner.stdout.readline().strip()
    finally:
        owner.communicate(timeout=120)


def hours_behind(url: str) -> float:
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT extract(epoch FROM now())::float8").fetchone()
    assert row is not None
    return (time.time() - row[0]) / 3600


def covered(home: Home, study: Study, encoder: str = "mean-rgb") -> Coverage:
    with Session(home.engine) as session:
        version_id = pointer_of(session, study, encoder).model_version_id
        dataset_id = study_dataset(session, study.name, "tissue_tiles").dataset_id
        return coverage(session, version_id, dataset_id, study.name)


@pytest.mark.slow
def test_a_clock_that_is_set_back_between_runs_changes_nothing(
    set_back: dict[str, str],
    server_folder: Path,
    tmp_path: Path,
    tiny_encoder: str,
    forks: Forks,
) -> None:
    folder = server_folder / "postgres"
    write_tissue(tmp_path / "tiles", n_per_class=5, seed=1, tile_px=72)
    path = tmp_path / "study.toml"
    path.write_text(STUDY.format(repeats=2) + tiny_encoder)
    broken, gone, *_ = sorted((tmp_path / "tiles").glob("*/*.png"))
    aside = tmp_path / "aside.png"

    def do(url: str, *stages: str) -> None:
        for stage in stages:
            where = {"folder": str(tmp_path / "home"), "study": str(path), "url": url}
            assert forks.wait(forks.start(stage=stage, **where)) == 0

    @contextmanager
    def home(url: str) -> Iterator[Home]:
        found = Home(tmp_path / "home", database_url=url)
        yield found
        found.close()

    with server(folder, {}) as url:
        assert abs(hours_behind(url)) < 0.1
        engine = connect(url)
        schema.upgrade(engine)
        engine.dispose()
        do(url, "ingest")
        broken.rename(aside)
        do(url, "embed", "tissue")
        with home(url) as now:
            study = read_study(path)
            assert covered(now, study) == Coverage(n_tiles=45, n_embedded=44, n_rejected=1)
            before = content(now.engine)

    with server(folder, set_back) as url, home(url) as now:
        assert 23.9 < hours_behind(url) < 24.1
        # Nothing is done again.
        assert covered(now, study).n_missing == 0
        do(url, "embed", "tissue")
        assert differences(before, content(now.engine)) == []
        # A tile that is there again is not skipped for what the ledger said of it tomorrow.
        aside.rename(broken)
        os.utime(broken)
        assert "tissue_tiles" in currency.stale_sources(now, study)
        do(url, "ingest")
        assert covered(now, study).n_missing == 1
        do(url, "embed")
        assert covered(now, study) == Coverage(n_tiles=45, n_embedded=45, n_rejected=0)
        # One that is left out today is explained, though its folder was read tomorrow.
        path.write_text(path.read_text().replace('name = "clock"', 'name = "other"'))
        other = read_study(path)
        do(url, "ingest")
        with psycopg.connect(url) as connection:
            connection.execute("UPDATE datasets SET read_at = read_at + interval '1 day'")
            connection.execute("TRUNCATE search_codes, search_pending, embeddings")
        gone.unlink()
        do(url, "embed")
        found = covered(now, other)
        assert (found.n_missing, found.n_rejected) == (0, 1)
        # What is shown is what was asked for last, not what has the latest date.
        path.write_text(STUDY.format(repeats=3) + tiny_encoder)
        do(url, "embed", "tissue")
        with Session(now.engine) as session:
            shown = comparisons_frame(session, "clock")
        assert set(shown["n_repeats"]) == {3}


def test_a_server_in_use_outlives_a_process_with_another_clock(
    set_back: dict[str, str], server_folder: Path
) -> None:
    """By their start times, told by that clock, its users would all be strangers."""
    folder = server_folder / "postgres"
    mine = EmbeddedPostgres(folder)
    url = mine.acquire()
    with server(folder, set_back) as theirs:
        assert theirs == url
    with psycopg.connect(url) as connection:
        connection.execute("SELECT 1")
    mine.release()
    assert working_in(folder / "data", "postgres") == []
