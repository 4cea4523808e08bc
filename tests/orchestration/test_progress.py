"""Progress as lines: a tenth or a quarter at a time, and anew when the same is done once more."""

from __future__ import annotations

import io
import logging
import re
import time

import pytest
from rich.console import Console

from orchestration.progress import ConsoleProgress, LogProgress


def seconds_left(line: str) -> int:
    found = re.search(r"(\d+) s left", line)
    assert found, line
    return int(found[1])


def test_a_second_round_of_the_same_work_is_timed_anew() -> None:
    written = io.StringIO()
    with ConsoleProgress(Console(file=written, width=200)) as progress:
        for done in (1, 50, 100):
            progress("look", done, 100)
        for done in range(1, 26):  # 75 are left, at less than 50 a second
            time.sleep(0.02)
            progress("look", done, 100)
    lines = written.getvalue().splitlines()
    assert [line.split(" tiles")[0] for line in lines] == [
        "look: 50 of 100", "look: 100 of 100", "look: 25 of 100",
    ]  # fmt: skip
    assert seconds_left(lines[-1]) >= 1


def test_the_log_has_a_line_a_tenth_and_times_a_second_round_anew(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("orchestration.progress.time.monotonic", lambda: now)
    progress = LogProgress(logging.getLogger("ffpe.test"))
    with caplog.at_level(logging.INFO, "ffpe.test"):
        for _ in range(2):
            progress("look", 0, 100)
            for done in range(5, 101, 5):
                now += 0.5
                progress("look", done, 100)
            now += 1_000.0  # something else is done between the rounds
    assert len(caplog.messages) == 20
    assert caplog.messages[0] == caplog.messages[10] == (
        "look: 10 of 100 tiles, 10 tiles/s, 9 s left"
    )  # fmt: skip
