"""SIGKILL at random moments of every stage, again and again: the tables end as if undisturbed.

A moment is drawn from the time that the stage takes when nothing disturbs it, by a seed
(``FFPE_FAULT_SEED``). A kill that comes after the end does not count. While processes are
killed, a reader looks for anything half-written.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psycopg
import pytest
from sqlalchemy import Engine, func, select, text
from sqlalchemy.orm import Session

from featurestore import schema
from featurestore.embeddings import write_embeddings
from featurestore.engine import connect
from featurestore.sources.synthetic import write_tissue
from featurestore.tables import Embedding, ModelVersionRow, RejectRow, Tile
from orchestration.home import Home
from orchestration.run import run_study
from orchestration.study import read_study
from tests.faults.content import Rows, content, differences
from tests.faults.forks import Forks

pytestmark = pytest.mark.slow

SEED = int(os.environ.get("FFPE_FAULT_SEED", "6"))
KILLS = 10
STAGES = ("ingest", "embed", "index", "tissue", "genes")
N_EXTRA = 5_000

TISSUE = """
name = "tissue"
seed = 3
[tissue]
tiles = "tiles"
folds = 3
repeats = 4
"""
LUNG = """
name = "lung"
seed = 7
[luad]
slides = { synthetic = 24, seed = 3, slide_px = 512, n_planted = 4, n_null = 4 }
tile_px = 112
max_tiles_per_slide = 3
folds = 3
repeats = 4
n_permutations = 20
"""

# Each names rows that must never be seen; one statement sees the store at one moment.
NEVER = {
    "a study's tiles without the ledger of what was left out": """
        SELECT study FROM study_datasets WHERE asset = 'tissue_tiles' AND NOT EXISTS (
            SELECT FROM rejects WHERE rejects.study = study_datasets.study AND stage = 'ingest')""",
    "a data set without all of its tiles": """
        SELECT digest FROM datasets WHERE n_tiles <> (
            SELECT count(*) FROM dataset_tiles WHERE dataset_tiles.dataset_id = datasets.dataset_id)
        """,
    "an experiment without the scores of each of its encoders": """
        SELECT study, task, encoder FROM experiments JOIN experiment_encoders USING (experiment_id)
         WHERE NOT EXISTS (SELECT FROM cv_scores AS s
                            WHERE s.experiment_id = experiments.experiment_id
                              AND s.model_version_id = experiment_encoders.model_version_id)""",
    "an experiment without a score of every split": """
        SELECT experiment_id FROM cv_scores JOIN experiments USING (experiment_id)
         GROUP BY experiment_id, n_folds, n_repeats
        HAVING count(DISTINCT (repeat, fold)) <> n_folds * n_repeats""",
    "an experiment on tiles without a prediction of each": """
        SELECT e.experiment_id FROM experiments AS e
          JOIN experiment_encoders AS x USING (experiment_id)
          JOIN datasets ON datasets.digest = e.dataset_digest
         WHERE task = 'tissue' AND datasets.n_tiles * n_repeats <> (
            SELECT count(*) FROM cv_predictions AS p WHERE p.experiment_id = e.experiment_id
               AND p.model_version_id = x.model_version_id)""",
    "an experiment on genes without predictions": """
        SELECT experiment_id FROM experiments WHERE task IN ('expression', 'mutation')
           AND NOT EXISTS (SELECT FROM cv_gene_predictions AS p
                            WHERE p.experiment_id = experiments.experiment_id)""",
    "an experiment that is shown without its comparisons": """
        SELECT study, task FROM experiments WHERE is_current AND NOT EXISTS (
            SELECT FROM comparisons WHERE comparisons.experiment_id = experiments.experiment_id)""",
    "a vector that search would not find": """
        SELECT e.model_version_id, e.tile_id FROM embeddings AS e
          JOIN search_projections USING (model_version_id)
         WHERE l2_norm(e.embedding) > 0
           AND NOT EXISTS (SELECT FROM search_codes AS c WHERE c.tile_id = e.tile_id
                              AND c.model_version_id = e.model_version_id)
           AND NOT EXISTS (SELECT FROM search_pending AS p WHERE p.tile_id = e.tile_id
                              AND p.model_version_id = e.model_version_id)""",
    "patients of whom only some were pooled": """
        SELECT f.model_version_id FROM patient_features AS f
          JOIN dataset_tiles AS d ON d.dataset_id = f.dataset_id JOIN tiles USING (tile_id)
         GROUP BY f.model_version_id, f.dataset_id
        HAVING count(DISTINCT f.patient_id) <> count(DISTINCT tiles.patient_id)""",
}


class Reader(threading.Thread):
    """Looks at a database over and over, and keeps what it should never have seen."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self.seen: list[str] = []
        self.n_looks = 0
        self._url, self._over = url, threading.Event()

    def __enter__(self) -> Reader:
        self.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._over.set()
        self.join(timeout=60)

    def run(self) -> None:
        with psycopg.connect(self._url, autocommit=True) as connection:
            while not self._over.is_set():
                for what, query in NEVER.items():
                    rows = connection.execute(query).fetchall()
                    if rows:
                        self.seen.append(f"{what}: {rows[:3]}")
                self.n_looks += 1
                self._over.wait(0.1)


@dataclass(frozen=True)
class Undisturbed:
    """A stage that nothing disturbed: the database before it, what it led to, and how fast."""

    study: Path
    before: str
    rows: dict[str, Rows]
    seconds: float


class Bench:
    """Databases to run stages on, and the processes that run them."""

    def __init__(self, url: str, folder: Path, forks: Forks) -> None:
        self.folder, self.forks = folder, forks
        self._admin = connect(url)
        self._n = 0

    def sql(self, statement: str) -> None:
        with self._admin.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text(statement))

    def create(self, template: str = "template1") -> str:
        """A database like another one; its name."""
        self._n += 1
        name = f"killed_{os.getpid()}_{self._n}"
        self.sql(f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    def drop(self, name: str) -> None:
        self.sql(f"DROP DATABASE {name} WITH (FORCE)")

    def url(self, name: str) -> str:
        url = self._admin.url.set(database=name, drivername="postgresql")
        return url.render_as_string(hide_password=False)

    @contextmanager
    def open(self, name: str) -> Iterator[Engine]:
        engine = connect(self.url(name))
        yield engine
        engine.dispose()

    def start(self, stage: str, study: Path, database: str) -> int:
        return self.forks.start(
            stage=stage, folder=str(self.folder), url=self.url(database), study=str(study)
        )

    def finish(self, stage: str, study: Path, database: str) -> float:
        """Run a stage to its end; the seconds it took."""
        started = time.monotonic()
        self.start(stage, study, database)
        assert self.forks.wait() == 0
        return time.monotonic() - started

    def content(self, name: str) -> dict[str, Rows]:
        with self.open(name) as engine:
            return content(engine)

    def close(self) -> None:
        for number in range(1, self._n + 1):
            self.sql(f"DROP DATABASE IF EXISTS killed_{os.getpid()}_{number} WITH (FORCE)")
        self._admin.dispose()


@pytest.fixture(scope="module")
def bench(
    postgres_url: str, tmp_path_factory: pytest.TempPathFactory, forks: Forks
) -> Iterator[Bench]:
    bench = Bench(postgres_url, tmp_path_factory.mktemp("home"), forks)
    yield bench
    bench.close()


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: str) -> dict[str, Path]:
    """A study of tissue with two files that are no tiles, and one of a lung cohort."""
    folder = tmp_path_factory.mktemp("studies")
    write_tissue(folder / "tiles", n_per_class=30, seed=1, tile_px=72)
    classes = sorted(path for path in (folder / "tiles").iterdir() if path.is_dir())
    (classes[0] / "empty.png").write_bytes(b"")
    (classes[1] / "text.png").write_text("no image")
    paths = {"tissue": folder / "tissue.toml", "lung": folder / "lung.toml"}
    paths["tissue"].write_text(TISSUE + tiny_encoder)
    paths["lung"].write_text(LUNG + tiny_encoder)
    return paths


@pytest.fixture(scope="module")
def undisturbed(bench: Bench, studies: dict[str, Path]) -> dict[str, Undisturbed]:
    found: dict[str, Undisturbed] = {}
    database = bench.create()
    with bench.open(database) as engine:
        schema.upgrade(engine)
    empty = bench.create(database)

    def go(stage: str, study: Path, database: str) -> None:
        before = bench.create(database)
        seconds = bench.finish(stage, study, database)
        found[stage] = Undisturbed(study, before, bench.content(database), seconds)

    for stage in ("ingest", "embed"):
        go(stage, studies["tissue"], database)
    more = bench.create(database)
    with bench.open(more) as engine:
        fill(engine)
    go("index", studies["tissue"], more)
    go("tissue", studies["tissue"], database)
    home = Home(bench.folder, database_url=bench.url(empty))
    lung = read_study(studies["lung"])
    quiet = lambda *_args, **_options: None  # noqa: E731
    run_study(home, lung, groups=("sources",), progress=quiet, on_launch=quiet)
    home.close()
    bench.finish("embed", studies["lung"], empty)
    go("genes", studies["lung"], empty)
    return found


def fill(engine: Engine) -> None:
    """Give the network's version as many vectors as its codes need several batches for."""
    rng = np.random.default_rng(SEED)
    with Session(engine) as session, session.begin():
        version = session.scalars(
            select(ModelVersionRow).where(ModelVersionRow.network == "test_resnet")
        ).one()
        session.execute(
            text(
                "INSERT INTO tiles (sha256, width_px, height_px)"
                " SELECT encode(sha256(n::text::bytea), 'hex'), 72, 72"
                " FROM generate_series(1, :n) AS n"
            ),
            {"n": N_EXTRA},
        )
        embedded = select(Embedding.tile_id).where(
            Embedding.model_version_id == version.model_version_id
        )
        ids = session.scalars(select(Tile.tile_id).where(Tile.tile_id.not_in(embedded))).all()
        vectors = rng.normal(size=(len(ids), version.dim)).astype(np.float32)
        write_embeddings(session, version.model_version_id, np.asarray(ids), vectors)


@pytest.mark.parametrize("stage", STAGES)
def test_killed_at_random_moments_a_stage_ends_as_if_undisturbed(
    stage: str,
    bench: Bench,
    undisturbed: dict[str, Undisturbed],
    record_property: pytest.RecordProperty,
) -> None:
    quiet = undisturbed[stage]
    rng = np.random.default_rng([SEED, STAGES.index(stage)])
    moments: list[float] = []
    n_late = n_looks = 0
    while len(moments) < KILLS:
        database = bench.create(quiet.before)
        with Reader(bench.url(database)) as reader:
            # Whoever goes on is killed as well, some times, before one is let through.
            for moment in rng.uniform(0, quiet.seconds, size=5):
                pid = bench.start(stage, quiet.study, database)
                time.sleep(moment)
                os.kill(pid, signal.SIGKILL)  # its id is its own until it is waited for
                code = bench.forks.wait(pid)
                assert code in (0, -signal.SIGKILL)
                if code == 0:
                    n_late += 1
                    break
                moments.append(round(float(moment), 3))
            bench.finish(stage, quiet.study, database)
        assert reader.seen == []
        n_looks += reader.n_looks
        assert differences(quiet.rows, bench.content(database)) == []
        bench.drop(database)
    assert n_looks > 0
    told = {"seed": SEED, "n_kills": len(moments), "n_late": n_late, "n_looks": n_looks}
    for name, value in told.items():
        record_property(name, value)
    sys.stdout.write(f"{stage}: {told}; it takes {quiet.seconds:.2f} s, killed after {moments} s\n")


@pytest.mark.parametrize("stage", ["embed", "index"])
def test_two_processes_at_once_end_as_one_would(
    stage: str, bench: Bench, undisturbed: dict[str, Undisturbed]
) -> None:
    quiet = undisturbed[stage]
    database = bench.create(quiet.before)
    with Reader(bench.url(database)) as reader:
        both = [bench.start(stage, quiet.study, database) for _ in range(2)]
        assert [bench.forks.wait(pid) for pid in both] == [0, 0]
    assert reader.seen == []
    assert differences(quiet.rows, bench.content(database)) == []
    bench.drop(database)


def test_the_comparison_sees_a_single_row(
    bench: Bench, undisturbed: dict[str, Undisturbed]
) -> None:
    quiet = undisturbed["tissue"]
    database = bench.create(quiet.before)
    bench.finish("tissue", quiet.study, database)
    expected = bench.content(database)
    for change, table in {
        "UPDATE cv_scores SET value = value + 1e-15 WHERE ctid = (SELECT min(ctid) FROM cv_scores)":
            "cv_scores",
        "DELETE FROM comparisons WHERE ctid = (SELECT min(ctid) FROM comparisons)": "comparisons",
        "DELETE FROM embeddings WHERE ctid = (SELECT min(ctid) FROM embeddings)": "embeddings",
        "DELETE FROM rejects": "rejects",
    }.items():  # fmt: skip
        with bench.open(database) as engine, Session(engine) as session:
            session.execute(text(change))
            session.commit()
        told = differences(expected, bench.content(database))
        assert any(line.startswith(f"{table}:") for line in told), (change, told)
    with bench.open(database) as engine, Session(engine) as session:
        assert session.scalar(select(func.count()).select_from(RejectRow)) == 0
