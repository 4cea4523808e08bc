"""How benchmarks measure on a shared machine: in turns, by wall clock and by CPU time.

Absolute figures of a machine that others use say little. Candidate and baseline therefore run
in turns, round by round, and what counts is the median of the rounds' ratios. CPU time, of the
processes and of what they started, stands beside the wall clock: it does not see the neighbours.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table.

    Attributes
    ----------
    piece, what : str
        The benchmark, and what it measured.
    value : str
        The candidate's own figure with its unit.
    baseline, baseline_value : str
        What a user would run instead, and its figure.
    ratio, cpu_ratio : float or None
        Candidate to baseline, larger is better; by wall clock and by CPU time.
    bar : float or None
        What ``ratio`` should reach; or what ``limited`` may not exceed.
    limited : float or None
        A figure that has an upper limit instead of a ratio.
    note : str
        What a reader must know: sizes, extrapolations, why it is short.
    """

    piece: str
    what: str
    value: str
    baseline: str = ""
    baseline_value: str = ""
    ratio: float | None = None
    cpu_ratio: float | None = None
    bar: float | None = None
    limited: float | None = None
    note: str = ""
    load: float = field(default_factory=lambda: os.getloadavg()[0])

    @property
    def verdict(self) -> str:
        """``pass``, ``short`` or, where there is no bar or no figure, nothing."""
        if self.bar is None:
            return ""
        if self.limited is not None:
            return "pass" if self.limited <= self.bar else "short"
        if self.ratio is None:
            return "not measured"
        return "pass" if self.ratio >= self.bar else "short"


@dataclass(frozen=True)
class Turn:
    """What one run took, in seconds, for how many items."""

    wall: float
    cpu: float
    n: int


class Turns:
    """Runs of several ways to do the same, in turns.

    Parameters
    ----------
    ways : dict of callable
        Each does its work and returns how many items that were.
    n_rounds : int
    pids : callable, optional
        Processes whose CPU time counts beside that of this one, such as the server's.
    """

    def __init__(
        self,
        ways: dict[str, Callable[[], int]],
        *,
        n_rounds: int,
        pids: Callable[[], Sequence[int]] = list,
    ) -> None:
        self.turns: dict[str, list[Turn]] = {name: [] for name in ways}
        for number in range(n_rounds):
            names = list(ways)
            # Whoever comes first in a round meets caches that others have warmed: take turns.
            for name in names[number % len(names) :] + names[: number % len(names)]:
                self.turns[name].append(timed(ways[name], pids))

    def rate(self, name: str) -> float:
        """Median of items a second by the wall clock."""
        return statistics.median(turn.n / turn.wall for turn in self.turns[name])

    def ratio(self, candidate: str, baseline: str, *, cpu: bool = False) -> float:
        """Median over the rounds of the candidate's rate over the baseline's."""

        def cost(turn: Turn) -> float:
            return (turn.cpu if cpu else turn.wall) / turn.n

        rounds = zip(self.turns[candidate], self.turns[baseline], strict=True)
        return statistics.median(cost(other) / cost(mine) for mine, other in rounds)


def timed(way: Callable[[], int], pids: Callable[[], Sequence[int]] = list) -> Turn:
    """Run once."""
    cpu, wall = cpu_seconds(pids()), time.perf_counter()
    n = way()
    return Turn(time.perf_counter() - wall, cpu_seconds(pids()) - cpu, n)


def cpu_seconds(pids: Sequence[int] = ()) -> float:
    """CPU time of this process, of its ended children, and of the given processes."""
    total = 0.0
    for pid in [os.getpid(), *pids]:
        try:
            times = psutil.Process(pid).cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total


def server_pids(folder: Path) -> list[int]:
    """The processes of the Postgres server whose data is in a folder."""
    first = (folder / "data" / "postmaster.pid").read_text().split("\n")[0]
    server = psutil.Process(int(first))
    return [server.pid, *(child.pid for child in server.children())]


def machine() -> dict[str, object]:
    """What these figures come from."""
    flags, model = set(), platform.processor()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "flags":
            flags = set(value.split())
        elif key.strip() == "model name":
            model = value.strip()
    telling = ("avx2", "fma", "avx512f", "avx512_bf16", "avx_vnni", "avx512_vnni", "amx_bf16")
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "flags": [flag for flag in telling if flag in flags],
        "flags_absent": [flag for flag in telling if flag not in flags],
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "python": platform.python_version(),
    }


def show(rows: Sequence[Row]) -> None:
    """Print rows as they will stand in the table."""
    for row in rows:
        against = f" | {row.baseline}: {row.baseline_value}" if row.baseline else ""
        ratios = [
            f"{name} {ratio:.2f}"
            for name, ratio in (("ratio", row.ratio), ("by CPU time", row.cpu_ratio))
            if ratio is not None
        ]
        bar = f" | bar {row.bar:g}: {row.verdict}" if row.bar is not None else ""
        print(f"{row.what}: {row.value}{against} | {', '.join(ratios)}{bar}", flush=True)


def write_rows(rows: Sequence[Row], path: Path | None) -> None:
    """Keep rows for the table, if anybody wants them."""
    if path is not None:
        path.write_text(json.dumps([asdict(row) for row in rows], indent=1))


def read_rows(path: Path) -> list[Row]:
    """Rows that a piece has kept."""
    return [Row(**row) for row in json.loads(path.read_text())]
