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
from PIL import Image

from orchestration.home import Home

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
