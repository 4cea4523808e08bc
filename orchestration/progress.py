"""Progress that a person can read: what, how many of how many, how fast, how long still."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

# Library functions report through a plain callable of this form.
OnProgress = Callable[[int, int], None]


class ProgressReporter(Protocol):
    """Told of work as it goes on."""

    def __call__(self, what: str, done: int, total: int, *, unit: str = "tiles") -> None:
        """Say that ``done`` of ``total`` units of ``what`` are done."""


class LogProgress:
    """Progress as log lines, at most one for every tenth of the work.

    Parameters
    ----------
    log : logging.Logger
        Each line of Dagster's logger is a row in its database, hence the restraint.
    """

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._started: dict[str, float] = {}
        self._tenths: dict[str, int] = {}

    def __call__(self, what: str, done: int, total: int, *, unit: str = "tiles") -> None:
        """Log a line when another tenth is done."""
        tenth = 10 * done // max(total, 1)
        if tenth < self._tenths.get(what, 0):  # the same is done once more
            del self._started[what], self._tenths[what]
        started = self._started.setdefault(what, time.monotonic())
        if tenth == self._tenths.get(what, 0):
            return
        self._tenths[what] = tenth
        rate = done / max(time.monotonic() - started, 1e-3)
        left_seconds = (total - done) / max(rate, 1e-9)
        self._log.info(
            "%s: %d of %d %s, %.0f %s/s, %.0f s left",
            what, done, total, unit, rate, unit, left_seconds,
        )  # fmt: skip


class _Rate(ProgressColumn):
    """Units a second, or nothing before the first is done."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        unit = task.fields["unit"]
        return Text("" if speed is None else f"{speed:,.0f} {unit}/s", style="green")


class ConsoleProgress:
    """Progress bars on standard error; use it as a context manager."""

    def __init__(self, console: Console) -> None:
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            _Rate(),
            TimeRemainingColumn(compact=True),
            console=console,
        )
        self._tasks: dict[str, TaskID] = {}
        self._plain = None if console.is_terminal else console

    def __enter__(self) -> ConsoleProgress:
        """Start drawing."""
        if self._plain is None:
            self._bars.start()
        return self

    def __exit__(self, *_error: object) -> None:
        """Leave the last state of the bars on the screen."""
        if self._plain is None:
            self._bars.stop()

    def __call__(self, what: str, done: int, total: int, *, unit: str = "tiles") -> None:
        """Move the bar of ``what``, or print a line where there is no terminal."""
        if what not in self._tasks:
            self._tasks[what] = self._bars.add_task(what, total=total, unit=unit)
        task = self._tasks[what]
        if done < self._bars.tasks[task].completed:  # the same is done once more
            self._bars.reset(task, total=total)
        before = self._bars.tasks[task].completed
        self._bars.update(task, completed=done, total=total)
        if self._plain is not None and _crossed_a_quarter(before, done, total):
            speed = self._bars.tasks[task].finished_speed or self._bars.tasks[task].speed
            left = self._bars.tasks[task].time_remaining
            pace = "" if not speed else f", {speed:,.0f} {unit}/s, {left or 0:.0f} s left"
            self._plain.print(f"{what}: {done} of {total} {unit}{pace}", highlight=False)


def _crossed_a_quarter(before: float, done: int, total: int) -> bool:
    return int(4 * before / max(total, 1)) != int(4 * done / max(total, 1))
