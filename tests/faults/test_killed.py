"""Killed at a random moment of embedding, a study goes on where it was and ends the same."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import psycopg
import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from featurestore.embeddings import matrix
from featurestore.sources.synthetic import write_tissue
from featurestore.tables import ModelVersionRow, Tile
from orchestration.home import Home
from tests.faults.content import content, differences

STUDY = """
name = "killed"
[tissue]
tiles = "tiles"
folds = 3
repeats = 2
[[encoders]]
name = "imgnet-2048"
input_px = 72
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("killed")
    write_tissue(folder / "tiles", n_per_class=30, seed=1, tile_px=72)
    (folder / "study.toml").write_text(STUDY)
    return folder / "study.toml"


def start(home: Path, study: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "orchestration", "run", str(study)],
        env=os.environ | {"FFPE_HOME": str(home)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def vectors(home: Home) -> dict[str, np.ndarray]:
    """All Xception vectors, by the tile's digest."""
    with Session(home.engine) as session:
        version_id = session.scalars(
            select(ModelVersionRow.model_version_id).where(
                ModelVersionRow.network == "legacy_xception"
            )
        ).one()
        rows = session.execute(select(Tile.tile_id, Tile.sha256)).all()
        found = matrix(session, version_id, [row.tile_id for row in rows])
    return {row.sha256: vector for row, vector in zip(rows, found, strict=True)}


@pytest.mark.slow
def test_a_killed_run_goes_on_and_ends_as_if_nothing_had_happened(
    study: Path, server_folder: Path, xception_weights: Path
) -> None:
    homes = {name: server_folder / name for name in ("quiet", "killed")}
    for folder in homes.values():
        weights = Home(folder).weights
        for file in xception_weights.glob("*.safetensors"):
            shutil.copy(file, weights)
    assert start(homes["quiet"], study).wait(timeout=300) == 0

    seen: list[int] = []
    for _ in range(2):
        process = start(homes["killed"], study)
        n_before = seen[-1] if seen else 0
        n_now = wait_for_more(homes["killed"], n_before, process)
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=60)
        seen.append(n_now)
    assert start(homes["killed"], study).wait(timeout=300) == 0

    quiet, killed = (Home(folder) for folder in homes.values())
    try:
        expected, found = vectors(quiet), vectors(killed)
        assert expected.keys() == found.keys()
        assert len(found) == 270
        for digest, vector in expected.items():
            np.testing.assert_array_equal(found[digest], vector)
        assert differences(content(quiet.engine), content(killed.engine)) == []
    finally:
        quiet.close()
        killed.close()


def wait_for_more(folder: Path, n_before: int, process: subprocess.Popen[bytes]) -> int:
    """Wait until more embeddings are committed than before, but not all of them."""
    home = Home(folder)
    deadline = time.monotonic() + 240
    try:
        while time.monotonic() < deadline and process.poll() is None:
            n_now = n_embeddings(home)
            if n_now > n_before:
                assert n_now < 270, "it was killed too late to prove anything"
                return n_now
            time.sleep(0.05)
    finally:
        home.close()
    pytest.fail("the run ended, or nothing was embedded in time")


def n_embeddings(home: Home) -> int:
    """Embeddings as another session sees them; 0 while the server or its tables are not there."""
    if not (home.folder / "postgres" / "data" / "postmaster.pid").exists():
        return 0
    url = home.url.set(drivername="postgresql").render_as_string(hide_password=False)
    with suppress(psycopg.Error), psycopg.connect(url) as connection:
        row = connection.execute("SELECT count(*) FROM embeddings").fetchone()
        return int(row[0]) if row else 0
    return 0
