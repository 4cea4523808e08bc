"""Ratios of the bench are those of its rounds, and a bar is held against the right figure."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def measure(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import measure

    return measure


def test_ways_take_turns_at_being_first(measure):
    order = []

    def way(name: str):
        return lambda: order.append(name) or 1

    measure.Turns({"a": way("a"), "b": way("b"), "c": way("c")}, n_rounds=3)
    assert "".join(order) == "abcbcacab"


def test_a_ratio_is_the_median_of_the_rounds(measure):
    turns = measure.Turns({}, n_rounds=0)
    # A neighbour came in the third round, and was there for both but not for equally long.
    turns.turns = {
        "quick": [measure.Turn(wall, 1.0, 10) for wall in (1.0, 1.0, 9.0)],
        "slow": [measure.Turn(wall, 3.0, 10) for wall in (2.0, 2.2, 4.0)],
    }

    assert turns.ratio("quick", "slow") == pytest.approx(2)
    assert turns.ratio("quick", "slow", cpu=True) == pytest.approx(3)
    assert turns.rate("slow") == pytest.approx(10 / 2.2)


def test_cpu_time_does_not_see_waiting(measure):
    turn = measure.timed(lambda: time.sleep(0.2) or 1)
    assert turn.cpu < 0.1 < turn.wall


@pytest.mark.parametrize(
    ("figures", "verdict"),
    [
        ({"ratio": 0.91, "bar": 0.9}, "pass"),
        ({"ratio": 0.89, "bar": 0.9}, "short"),
        ({"bar": 0.9}, "not measured"),
        ({"limited": 1_500, "bar": 2_000}, "pass"),
        ({"limited": 2_100, "bar": 2_000}, "short"),
        ({"ratio": 3.0}, ""),
    ],
)
def test_a_bar_is_a_floor_of_ratios_and_a_ceiling_of_what_is_limited(measure, figures, verdict):
    assert measure.Row(piece="p", what="w", value="v", **figures).verdict == verdict


def test_rows_come_back_as_they_were_kept(measure, tmp_path: Path):
    rows = [measure.Row(piece="p", what="w", value="v", ratio=1.5, note="n")]
    measure.write_rows(rows, tmp_path / "rows.json")
    assert measure.read_rows(tmp_path / "rows.json") == rows
