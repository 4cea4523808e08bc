"""How long ``ffpe --help`` takes, and whether the Dagster code server keeps torch out of memory.

::

    python benchmarks/startup.py
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from measure import Row, Turns, show, write_rows

STUDY = Path(__file__).parents[1] / "studies" / "demo.toml"
LOADED = """
import sys, psutil
from orchestration.definitions import defs
defs()
print(int("torch" in sys.modules), psutil.Process().memory_info().rss // 2**20)
"""


def main() -> None:
    """Measure, print and keep the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    turns = Turns(
        {
            "help": lambda: run("-m", "orchestration", "--help"),
            "python": lambda: run("-c", "pass"),
        },
        n_rounds=arguments.rounds,
    )
    cpu = sorted(turn.cpu for turn in turns.turns["help"])[arguments.rounds // 2]
    wall = 1 / turns.rate("help")
    with tempfile.TemporaryDirectory() as home:
        printed = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", LOADED],
            env=environment(home), check=True, capture_output=True, text=True,
        ).stdout.split()  # fmt: skip
    rows = [
        Row(
            piece="start-up",
            what="ffpe --help",
            value=f"{wall:.2f} s, of CPU {cpu:.2f} s",
            baseline="python -c pass",
            baseline_value=f"{1 / turns.rate('python'):.2f} s",
            limited=cpu,
            bar=0.5,
            note="the bar is held against CPU time, which neighbours on the machine do not change",
        ),
        Row(
            piece="start-up",
            what="torch in the code server's memory",
            value=f"{'yes' if int(printed[0]) else 'no'}; {printed[1]} MiB resident",
            limited=float(printed[0]),
            bar=0.0,
        ),
    ]
    show(rows)
    write_rows(rows, arguments.json)


def run(*arguments: str) -> int:
    """Start Python once."""
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return 1


def environment(home: str) -> dict[str, str]:
    """A home of its own, and the demo study."""
    return os.environ | {"FFPE_HOME": home, "FFPE_STUDIES": str(STUDY)}


if __name__ == "__main__":
    main()
