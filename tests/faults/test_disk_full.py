"""A disk that fills up: one clear line, nothing half-written, and it goes on once there is room."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psycopg
import pytest
import torch
from PIL import Image
from sqlalchemy import Engine

from featurestore import schema
from featurestore.errors import WeightsError
from featurestore.new_folder import write_whole
from models.weight_store import load_weights, save_weights
from orchestration.currency import stale_analysis
from orchestration.home import Home
from orchestration.study import read_study
from tests.faults.forks import Forks

STUDY = """
name = "full"
[tissue]
tiles = "tiles"
folds = 3
repeats = 2
[[encoders]]
name = "imgnet-2048"
input_px = 40
"""


@pytest.fixture
def small_disk(server_folder: Path) -> Iterator[Path]:
    """A file system of its own, of 400 MB, which only root can mount."""
    folder = server_folder / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=400m", "tmpfs", str(folder)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip("a small disk can not be mounted here: that takes root's rights")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def study(tmp_path: Path) -> Path:
    rng = np.random.default_rng(1)
    for label in "ab":
        (tmp_path / "tiles" / label).mkdir(parents=True)
        for number in range(6):
            pixels = rng.integers(0, 255, (40, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "tiles" / label / f"{number}.png")
    (tmp_path / "study.toml").write_text(STUDY)
    return tmp_path / "study.toml"


@pytest.fixture
def ffpe(study: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    def run(home: Path, *options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "orchestration", "run", str(study), *options],
            env=os.environ | {"FFPE_HOME": str(home)},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    return run


def fill(folder: Path) -> Path:
    """Leave not a byte of the disk."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        size = 1 << 20
        while size:
            try:
                file.write(bytes(size))
            except OSError:
                size //= 2
    return filler


@pytest.mark.slow
def test_a_disk_that_fills_up_while_postgres_extends(
    small_disk: Path,
    xception_weights: Path,
    ffpe: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    folder = small_disk / "home"
    weights = Home(folder).weights
    for file in xception_weights.glob("*.safetensors"):
        shutil.copy(file, weights)
    assert ffpe(folder, "--select", "sources").returncode == 0
    filler = fill(small_disk)
    failed = ffpe(folder)
    assert failed.returncode == 1
    assert "No space left on device" in failed.stderr.strip().splitlines()[-1]
    assert "Traceback" not in failed.stderr

    filler.unlink()
    done = ffpe(folder)
    assert done.returncode == 0, done.stderr
    home = Home(folder)
    try:
        url = home.url.set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(url) as connection:
            row = connection.execute("SELECT count(*) FROM embeddings").fetchone()
        assert row == (3 * 12,)
    finally:
        home.close()


def test_weights_that_find_no_room_leave_nothing(small_disk: Path) -> None:
    folder = small_disk / "weights"
    folder.mkdir()
    state = {"layer.weight": torch.ones(1000, 1000)}
    filler = fill(small_disk)
    with pytest.raises(WeightsError, match=r"cannot be kept in .*weights.*(space|room)"):
        save_weights(state, folder)
    assert list(folder.iterdir()) == []
    filler.unlink()
    digest = save_weights(state, folder)
    assert torch.equal(load_weights(folder, digest)["layer.weight"], state["layer.weight"])


def test_a_figure_that_finds_no_room_leaves_the_one_before(small_disk: Path) -> None:
    path = small_disk / "figure.png"
    write_whole(path, b"before")
    filler = fill(small_disk)
    with pytest.raises(OSError, match="No space left on device"):
        write_whole(path, bytes(1 << 20))
    assert path.read_bytes() == b"before"
    assert {file.name for file in small_disk.iterdir()} == {"figure.png", "filler"}
    filler.unlink()
    write_whole(path, b"after")
    assert path.read_bytes() == b"after"


@pytest.mark.slow
def test_a_report_or_an_export_that_finds_no_room_leaves_nothing(
    small_disk: Path,
    study: Path,
    empty_engine: Engine,
    tmp_path: Path,
    tiny_encoder: str,
    forks: Forks,
) -> None:
    schema.upgrade(empty_engine)
    url = empty_engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    study.write_text(STUDY.partition("[[encoders]]")[0] + tiny_encoder)
    where = {"folder": str(tmp_path / "home"), "study": str(study), "url": url}
    for stage in ("ingest", "embed", "tissue"):
        assert forks.wait(forks.start(stage=stage, **where)) == 0
    home = Home(tmp_path / "home", database_url=url)
    # The comparison stands, its figure does not: that is what is left to do.
    assert stale_analysis(home, read_study(study)) == ["tissue_comparison"]
    home.comparison_figure("full").write_bytes(b"")
    assert stale_analysis(home, read_study(study)) == []
    home.close()

    output = tmp_path / "output"
    for command in (["report", str(study)], ["export", str(study), "--format", "csv"]):
        filler = fill(small_disk)

        def run(*arguments: str) -> int:
            return forks.wait(
                forks.ffpe(
                    *arguments,
                    output=output,
                    FFPE_HOME=str(tmp_path / "home"),
                    FFPE_DATABASE_URL=url,
                    COLUMNS="200",
                )
            )

        target = small_disk / command[0]
        assert run(*command, "--to", str(target)) == 1
        said = output.read_text()
        assert "No space left on device" in said.strip().splitlines()[-1]
        assert "Traceback" not in said
        assert [file.name for file in small_disk.iterdir()] == ["filler"]
        filler.unlink()
        if command[0] == "export":
            assert run(*command, "--to", str(target)) == 0, output.read_text()
            shutil.rmtree(target)
