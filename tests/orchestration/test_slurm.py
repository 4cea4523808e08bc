"""The Slurm script, run by bash with the variables that Slurm sets. No Slurm runs here."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from featurestore.tables import Embedding, EmbeddingClaim
from orchestration.home import Home
from orchestration.naming import GROUPS
from orchestration.run import run_study
from orchestration.study import read_study

SCRIPT = Path(__file__).parents[2] / "deploy" / "embed.sbatch"

# Says what it was called with, and lives until it is told to stop.
ECHO = """#!/bin/bash
echo "$@ threads=$OMP_NUM_THREADS" >> "$SAID"
trap 'echo stopped >> "$SAID"; exit 143' TERM
if [ "$1" = embed ] && [ -n "${LINGER:-}" ]; then sleep 60 & wait $!; fi
exit "${STATUS:-0}"
"""


@pytest.fixture
def said(tmp_path: Path) -> Path:
    """What was called: ``ffpe`` and ``scontrol`` write there."""
    for name in ("ffpe", "scontrol"):
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(ECHO)
        program.chmod(0o755)
    return tmp_path / "said"


def slurm(number: int, count: int, first: int = 1, **more: str) -> dict[str, str]:
    """The variables of one job of an array, and of the cluster."""
    return {
        "SLURM_JOB_ID": "4242",
        "SLURM_ARRAY_JOB_ID": "4200",
        "SLURM_ARRAY_TASK_ID": str(number),
        "SLURM_ARRAY_TASK_COUNT": str(count),
        "SLURM_ARRAY_TASK_MIN": str(first),
        "SLURM_ARRAY_TASK_MAX": str(first + count - 1),
        "SLURM_ARRAY_TASK_STEP": "1",
        "SLURM_CPUS_PER_TASK": "2",
        "FFPE_DATABASE_URL": "postgresql://nobody@127.0.0.1/none",
        "FFPE_HOME": "/nowhere",
        **more,
    }


def environment(said: Path, variables: dict[str, str]) -> dict[str, str]:
    path = f"{said.parent / 'bin'}:{os.environ['PATH']}"
    return {"PATH": path, "SAID": str(said), **variables}


def script(
    said: Path, variables: dict[str, str], *arguments: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", str(SCRIPT), *arguments],
        env=environment(said, variables),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_it_is_a_script_that_bash_can_read() -> None:
    subprocess.run(["bash", "-n", str(SCRIPT)], check=True)
    if program := shutil.which("shellcheck"):
        subprocess.run([program, str(SCRIPT)], check=True)


@pytest.mark.parametrize(
    ("variables", "shard"),
    [
        (slurm(1, 8), "1/8"),
        (slurm(8, 8), "8/8"),
        (slurm(0, 8, first=0), "1/8"),
        (slurm(7, 8, first=0), "8/8"),
        (slurm(5, 4, SLURM_ARRAY_TASK_STEP="2"), "3/4"),
        (slurm(7, 2, first=3, FFPE_SHARDS="16"), "7/16"),
    ],
)
def test_a_job_of_an_array_is_a_shard(said: Path, variables: dict[str, str], shard: str) -> None:
    done = script(said, variables, "crc.toml", "--encoder", "ftx")
    assert done.returncode == 0, done.stderr
    assert said.read_text() == f"embed crc.toml --encoder ftx --shard {shard} threads=2\n"


def test_it_fails_as_the_command_does(said: Path) -> None:
    assert script(said, slurm(1, 2, STATUS="1"), "crc.toml").returncode == 1


@pytest.mark.parametrize("name", ["FFPE_DATABASE_URL", "FFPE_HOME"])
def test_what_all_nodes_must_share_has_to_be_named(said: Path, name: str) -> None:
    refused = script(said, {**slurm(1, 2), name: ""}, "crc.toml")
    assert refused.returncode != 0
    assert name in refused.stderr
    assert not said.exists()
    assert script(said, slurm(1, 2)).returncode == 2


@pytest.mark.parametrize(
    ("sent", "status", "then"),
    [(signal.SIGUSR1, 0, "requeue 4200_3 threads=2\n"), (signal.SIGTERM, 143, "")],
)
def test_told_to_end_it_stops_and_out_of_time_it_is_requeued(
    said: Path, sent: signal.Signals, status: int, then: str
) -> None:
    # Where the tests run in the background, Dagster has them ignore SIGTERM as they do SIGINT,
    # and a shell cannot trap what it was started to ignore.
    process = subprocess.Popen(
        ["bash", str(SCRIPT), "crc.toml"],
        env=environment(said, slurm(3, 4, LINGER="1")),
        preexec_fn=lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL),  # noqa: PLW1509
    )
    deadline = time.monotonic() + 30
    while not said.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(0.2)
    process.send_signal(sent)
    assert process.wait(timeout=30) == status
    assert said.read_text() == f"embed crc.toml --shard 3/4 threads=2\nstopped\n{then}"


@pytest.mark.slow
def test_an_array_of_jobs_embeds_a_study(home: Home, small_folder: Path) -> None:
    study = read_study(small_folder / "study.toml")
    for group in GROUPS[:2]:
        run_study(
            home,
            study,
            groups=(group,),
            progress=lambda *_args, **_options: None,
            on_launch=lambda _: None,
        )
    shared = os.environ | {
        "FFPE_COMMAND": f"{sys.executable} -m orchestration",
        "FFPE_HOME": str(home.folder),
        "FFPE_DATABASE_URL": str(home.database_url),
    }
    for number in (1, 2):
        job = subprocess.run(
            ["bash", str(SCRIPT), str(study.path), "--encoder", "mean-rgb"],
            env={**slurm(number, 2), **shared},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert job.returncode == 0, job.stderr
        assert f"shard {number}/2 of colour is done" in " ".join(job.stderr.split())
    with Session(home.engine) as session:
        assert session.scalar(select(func.count()).select_from(Embedding)) == 12
        assert session.scalar(select(func.count()).select_from(EmbeddingClaim)) == 0
