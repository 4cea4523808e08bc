"""A process that has imported everything, and forks one that works for every request.

To import torch, scikit-learn and OpenVINO takes ten seconds, to fork a process that has done so
ten milliseconds: fifty kills of real processes then cost what they do, not what they import.
Nothing is computed before the fork, so that no library has threads that the fork would lose.

Run as a module it reads requests, one a line: a stage of :mod:`tests.faults.stages` or a command
line of ``ffpe``, which it answers with the id of the process that it forked; or the id of such a
process, which it answers with how that one ended. :class:`Forks` is the other end of it.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any, NoReturn

REPOSITORY = Path(__file__).parents[2]
IMPORTED = (
    "torch",
    "timm",
    "sklearn.linear_model",
    "scipy.optimize",
    "scipy.linalg",
    "joblib",
    "threadpoolctl",
    "pandas",
    "models.encoders",
    "models.embed",
    "analysis.tissue",
    "analysis.compare",
    "analysis.cohort",
    "analysis.expression",
    "analysis.mutation",
    "analysis.predictable",
    "analysis.better_genes",
    "analysis.multiplicity",
    "analysis.retrieval",
    "orchestration.cli",
    "orchestration.run",
    "models.finetune",
    "models.finetune_run",
    "tests.faults.stages",
)


class Forks:
    """The test's end: starts a process that works, and learns how it ended."""

    def __init__(self) -> None:
        self._server = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "tests.faults.forks"],
            cwd=REPOSITORY,
            env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._answer()  # everything is imported

    def ffpe(self, *arguments: str, output: Path, **environment: str) -> int:
        """Fork a process that is ``ffpe`` with these arguments."""
        output.write_bytes(b"")
        return self.start(ffpe=list(arguments), output=str(output), environment=environment)

    def start(self, **request: object) -> int:
        """Fork a process that does what :func:`tests.faults.stages.run_stage` is told."""
        self._last = int(self._ask(request))
        return self._last

    def wait(self, pid: int | None = None) -> int:
        """Wait for a process, the last one unless told; its exit code, or minus a signal."""
        return int(self._ask({"wait": pid or self._last}))

    def close(self) -> None:
        assert self._server.stdin is not None
        self._server.stdin.close()
        self._server.wait(timeout=30)
        assert self._server.stdout is not None
        self._server.stdout.close()

    def _ask(self, request: dict[str, object]) -> str:
        assert self._server.stdin is not None
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        return self._answer()

    def _answer(self) -> str:
        assert self._server.stdout is not None
        line = self._server.stdout.readline()
        assert line, "the process that forks has died"
        return line


def main() -> None:
    for name in IMPORTED:
        importlib.import_module(name)
    if importlib.util.find_spec("openvino") is not None:
        importlib.import_module("models.runtime")._openvino()
    _answer("ready")
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            _, status = os.waitpid(request["wait"], 0)
            _answer(os.waitstatus_to_exitcode(status))
            continue
        pid = os.fork()
        if pid == 0:
            _work(request)
        _answer(pid)


def _answer(what: object) -> None:
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


def _work(request: dict[str, Any]) -> None:
    if "ffpe" in request:
        _be_ffpe(**request)
    from tests.faults.stages import run_stage

    # Whatever is printed here would be taken for an answer.
    os.dup2(2, 1)
    try:
        run_stage(request.pop("stage"), **request)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def _be_ffpe(ffpe: list[str], output: str, environment: dict[str, str]) -> NoReturn:
    from orchestration.cli import main

    with open(output, "wb", buffering=0) as file:  # noqa: PTH123 - its descriptor is what counts
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.environ.update(environment)
    sys.argv = ["ffpe", *ffpe]
    # It ends as any interpreter does, with all that is done at exit.
    main()
    sys.exit(0)


if __name__ == "__main__":
    main()
