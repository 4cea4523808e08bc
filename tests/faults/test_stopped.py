"""Ctrl-C and SIGTERM: a command ends within five seconds wherever it is, and can go on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from featurestore.processes import working_in
from featurestore.sources.synthetic import write_tissue
from orchestration.home import Home
from orchestration.stopping import GRACE_SECONDS
from tests.faults.forks import REPOSITORY, Forks

STOP_SECONDS = 5.0
STUDY = """
name = "stopped"
seed = 5
[finetune]
tiles = "train"
epochs = [1, 3]
unfreeze = "layer4"
batch_size = 8
[tissue]
tiles = "test"
folds = 3
repeats = 10
"""
FINETUNED = """
[[encoders]]
name = "ftx"
finetuned_from = "tiny"
"""


def slowness() -> float:
    """How many times as long as it computes something takes here, on a machine that is shared."""
    started, computed = time.monotonic(), time.process_time()
    while time.process_time() - computed < 0.2:
        sum(range(10_000))
    return max(1.0, (time.monotonic() - started) / 0.2)


@pytest.fixture
def study(tmp_path: Path, tiny_encoder: str) -> Path:
    write_tissue(tmp_path / "train", n_per_class=10, seed=1, tile_px=72)
    write_tissue(tmp_path / "test", n_per_class=20, seed=2, tile_px=72)
    (tmp_path / "study.toml").write_text(STUDY + tiny_encoder + FINETUNED)
    return tmp_path / "study.toml"


def run_states(folder: Path) -> list[str]:
    """How Dagster's history says that every run ended."""
    home = Home(folder)
    try:
        url = home.url.set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(url) as connection:
            rows = connection.execute("SELECT status FROM dagster.runs ORDER BY id").fetchall()
        return [status for (status,) in rows]
    finally:
        home.close()


def open_runs(folder: Path) -> int:
    return len({"NOT_STARTED", "STARTING", "STARTED"}.intersection(run_states(folder)))


def server_runs(folder: Path) -> bool:
    return bool(working_in(folder / "postgres" / "data", "postgres"))


@pytest.mark.slow
def test_a_run_stops_in_time_at_every_stage_and_goes_on(
    study: Path, server_folder: Path, forks: Forks, tmp_path: Path
) -> None:
    folder, output = server_folder / "home", tmp_path / "output"

    def run(group: str) -> int:
        where = {"FFPE_HOME": str(folder), "COLUMNS": "200"}
        return forks.ffpe("run", str(study), "--select", group, output=output, **where)

    def stop_at(group: str, sign: str, number: int) -> None:
        pid = run(group)
        wait_for(lambda: sign in output.read_text(), f"{sign!r} of {group}", output)
        factor, started = slowness(), time.monotonic()
        os.kill(pid, number)
        code = forks.wait()
        seconds = time.monotonic() - started
        said = output.read_text()
        assert code == 128 + number, said
        assert said.strip().splitlines()[-1].startswith("stopped by "), said
        assert "the same command goes on where it was" in said
        assert "Traceback" not in said
        assert seconds < STOP_SECONDS * factor
        if seconds < GRACE_SECONDS:  # else it was cut short, and the next one tidies up
            assert not server_runs(folder)
            assert open_runs(folder) == 0

    def finish(group: str) -> None:
        run(group)
        assert forks.wait() == 0, output.read_text()
        assert open_runs(folder) == 0

    stop_at("sources", "read finetune_tiles", signal.SIGINT)
    finish("sources")
    stop_at("models", "step 2", signal.SIGTERM)  # torch trains
    finish("models")
    stop_at("features", "embeddings of tiny", signal.SIGINT)  # OpenVINO or torch computes
    home = Home(folder)
    url = home.url.set(drivername="postgresql").render_as_string(hide_password=False)
    forks.start(stage="embed", folder=str(folder), url=url, study=str(study))
    assert forks.wait() == 0
    home.close()
    stop_at("analysis", "cross-validate", signal.SIGTERM)  # scikit-learn fits on threads
    finish("analysis")
    assert not server_runs(folder)
    assert run_states(folder).count("CANCELED") + run_states(folder).count("FAILURE") == 4


def wait_for(seen: Callable[[], bool], what: str, output: Path) -> None:
    deadline = time.monotonic() + 200
    while not seen():
        never = f"never saw {what}: {output.read_text()}"
        assert time.monotonic() < deadline, never
        assert "error: " not in never, never
        time.sleep(0.02)


STUBBORN = """
import sys, threading, time
from concurrent.futures import ThreadPoolExecutor
from orchestration.stopping import last_words, stoppable

def work():
    while True:  # nobody can interrupt it
        sum(range(100_000))

def speak():
    sys.stderr.write("last words\\n")
    if "mute" in sys.argv:
        time.sleep(60)

with stoppable(), last_words(speak), ThreadPoolExecutor(2) as pool:
    future = pool.submit(work)
    sys.stdout.write("computing\\n")
    sys.stdout.flush()
    future.result()
"""


def stubborn(*arguments: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", STUBBORN, *arguments],
        cwd=REPOSITORY,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "computing\n"
    return process


@pytest.mark.parametrize("how", ["speaks", "mute"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_threads_that_cannot_be_interrupted_are_not_waited_for(how: str, number: int) -> None:
    process = stubborn(how)
    factor, started = slowness(), time.monotonic()
    process.send_signal(number)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 128 + number
    assert said.splitlines()[0] == "last words"
    assert said.splitlines()[1].startswith("stopped by ")
    assert time.monotonic() - started < STOP_SECONDS * factor


def test_told_twice_it_does_not_wait() -> None:
    process = stubborn("speaks")
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    factor, started = slowness(), time.monotonic()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=120)
    assert process.returncode == 130
    assert time.monotonic() - started < 1.5 * factor
