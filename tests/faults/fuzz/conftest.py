"""Fuzzing: valid files are damaged, read in another process, and what came of it is judged.

Every input must end in one of two ways within its limits of time and memory: accepted, with
everything that went in accounted for, or refused by an error of the package's own that says
something. Inputs are drawn by hypothesis from a fixed seed, so that every run sees the same.
``FFPE_FUZZ`` multiplies their number (and changes the seed), for a longer look.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

SEED = 20_221_001
MORE = int(os.environ.get("FFPE_FUZZ", "1"))
SECONDS = 60  # of the clock: machines are shared
CPU_SECONDS = 10.0
MEMORY_BYTES = 1 << 30  # that reading one input may add

# How many damaged files each test reads: together more than ten thousand.
N_INPUTS = {
    "test_images": 2200,
    "test_what_files_tell_of_themselves": 800,
    "test_one_of_the_images_of_a_folder": 400,
    "test_a_table_of_patients": 400,
    "test_slides": 400,
    "test_matrices_of_expression": 800,
    "test_samples_of_gdc": 500,
    "test_the_sheet_of_gdc": 200,
    "test_tables_of_mutations": 600,
    "test_a_maf_among_others": 200,
    "test_clinical_tables": 800,
    "test_gene_sets": 900,
    "test_study_files": 900,
    "test_hdf5": 800,
    "test_archives_of_numpy": 600,
    "test_coordinates_and_what_is_told_of_them": 150,
    "test_archives_of_torch": 300,
}

BINARY = ("flip", "integer", "header", "truncate", "delete", "repeat", "insert", "splice")
TEXT = (*BINARY, "cell", "cell", "cell", "column", "line", "encoding", "newlines", "packed")

Damages = list[tuple[str, int, int, int]]


class Worker:
    """A process that reads what it is told to; a new one takes its place when it dies."""

    def __init__(self, *modules: str) -> None:
        self._modules = modules
        self._process: subprocess.Popen[str] | None = None

    def ask(self, **question: Any) -> dict[str, Any]:
        process = self._process = self._process or self._start()
        assert process.stdin is not None
        process.stdin.write(json.dumps(question) + "\n")
        process.stdin.flush()
        answer = self._answer(process)
        if not answer:
            status = self.close()
            # Killed here it hung; otherwise it died by itself, by a signal if negative.
            return {"died": "hangs" if status == -9 else f"exit status {status}"}
        return json.loads(answer)

    def _start(self) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("worker.py")), *self._modules],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert json.loads(self._answer(process) or "null") == "ready"
        return process

    def _answer(self, process: subprocess.Popen[str]) -> str:
        ready, _, _ = select.select([process.stdout], [], [], SECONDS)
        assert process.stdout is not None
        return process.stdout.readline() if ready else ""

    def close(self) -> int:
        if self._process is None:
            return 0
        with self._process as process:  # closes its pipes and waits for it
            process.kill()
        self._process = None
        return process.returncode


@pytest.fixture(scope="session")
def text_kinds() -> tuple[str, ...]:
    """Kinds of damage for text."""
    return TEXT


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    """Reads in another process, which has the readers' libraries but not torch."""
    worker = Worker("orchestration.study", "featurestore.sources.slides", "h5py")
    yield worker
    worker.close()


@pytest.fixture(scope="module")
def torch_worker() -> Iterator[Worker]:
    """The same with torch, which alone reads its own archives."""
    worker = Worker("models.feature_tensors", "torch", "torch._weights_only_unpickler")
    yield worker
    worker.close()


def judged(answer: dict[str, Any]) -> str:
    """How an input ended; fails if not in one of the two ways."""
    assert "died" not in answer, f"the process {answer['died']}"
    assert "escaped" not in answer, f"{answer['escaped']}: {answer['message']}"
    assert answer["seconds"] < CPU_SECONDS, f"took {answer['seconds']:.1f} s of processor time"
    assert answer["bytes"] < MEMORY_BYTES, f"took {answer['bytes'] >> 20} MiB of memory"
    if "refused" in answer:
        says_something(answer["message"])
        return "refused"
    named = set()
    for item, stage, reason in answer["rejects"]:
        storable(item)
        says_something(reason)
        assert item, "a reject without an item"
        assert stage
        named.add((item, reason))
    for text in answer["texts"]:
        storable(text)
    if answer["n_in"]:
        n_known = answer["n_accepted"] + len({item for item, _ in named})
        assert n_known >= answer["n_in"], f"lost without a word: {answer}"
    return "rejected" if named else "accepted"


def storable(text: str) -> None:
    """Text that Postgres takes: UTF-8 without NUL."""
    assert "\0" not in text, repr(text)
    text.encode()


def says_something(reason: str) -> None:
    storable(reason)
    assert len(reason) > 20, reason
    assert len(reason) < 5000, f"{len(reason)} characters: {reason[:300]}"


@pytest.fixture(scope="session")
def n_inputs() -> dict[str, int]:
    """How many inputs each test reads."""
    return N_INPUTS


@pytest.fixture(scope="session")
def judge() -> Callable[[dict[str, Any]], str]:
    """How an input ended: see :func:`judged`."""
    return judged


Fuzz = Callable[..., Counter[str]]


@pytest.fixture
def fuzz(worker: Worker, request: pytest.FixtureRequest) -> Fuzz:
    """Damage files and read them, as often as :data:`N_INPUTS` says: see :func:`run`."""
    n = N_INPUTS[request.node.name] * MORE

    def run(
        reader: str,
        bases: Sequence[Path],
        write: Path,
        *,
        kinds: Sequence[str] = BINARY,
        read: Path | None = None,
        by: Worker = worker,
        also: Callable[[dict[str, Any]], None] = lambda _answer: None,
    ) -> Counter[str]:
        """Read damaged versions of some files; how each ended, by name.

        Parameters
        ----------
        reader : str
            Name of a reader of ``worker.py``.
        bases : sequence of Path
            Valid files.
        write : Path
            Where the damaged one is put.
        read : Path, optional
            What the reader is given, if not the damaged file: the folder that it lies in.
        also : callable
            Judges the answer further.
        """
        ended: Counter[str] = Counter()
        number = st.integers(0, 65535)
        damage = st.tuples(st.sampled_from(kinds), number, number, number)

        @seed(SEED + MORE - 1)
        @settings(
            max_examples=n,
            database=None,
            deadline=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        )
        @given(
            base=st.sampled_from([str(file) for file in bases]),
            other=st.sampled_from([str(file) for file in bases]),
            damages=st.lists(damage, min_size=1, max_size=4),
        )
        def one(base: str, other: str, damages: Damages) -> None:
            answer = by.ask(
                reader=reader,
                base=base,
                other=other,
                damages=damages,
                write=str(write),
                read=str(read or write),
                as_nobody=False,
            )
            ended[judged(answer)] += 1
            also(answer)

        one()
        assert ended.total() >= n, f"only {ended.total()} inputs of {n}: {ended}"
        return ended

    return run
