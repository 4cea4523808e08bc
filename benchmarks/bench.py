"""Every piece of the bench, one after the other: the table in ``docs/bench.md`` and its JSON.

::

    make bench                    # about half an hour on two quiet cores
    make bench QUICK=1            # the same in a few minutes, on smaller samples
    make bench DATA=FOLDER        # on real tissue, where FOLDER holds crc5 and wsi

Each piece is a script of its own and runs in a process of its own; ``--only`` repeats some of
them and keeps the other rows.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import venv
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from measure import Row, machine, read_rows

from orchestration.home import Home

HERE = Path(__file__).parent
PEER = "hs2p[openslide]==6.1.0"
# Of each piece: what it is told by `make bench`, and in addition by QUICK=1.
PIECES: dict[str, tuple[list[str], list[str]]] = {
    "embedding": (["--tiles", "96", "--rounds", "5"], ["--tiles", "32", "--rounds", "3"]),
    "slides": (["--rounds", "5"], ["--rounds", "3"]),
    "finetuning": (["--rounds", "5"], ["--batches", "1", "--rounds", "3"]),
    "writing": (
        ["--rounds", "7", "--load", "100000"],
        ["--rows", "4096", "--rounds", "3", "--load", "20000"],
    ),
    "grid": (["--repeats", "4"], ["--repeats", "1"]),
    "startup": (["--rounds", "9"], ["--rounds", "5"]),
    "growth": (["--tiles", "10000", "100000", "1000000"], ["--tiles", "2000", "5000", "20000"]),
}
BEGIN, END = "<!-- table: made by `make bench` -->", "<!-- end of table -->"


def main() -> None:
    """Run the pieces and write table and JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder with crc5 and wsi")
    parser.add_argument("--out", type=Path, default=HERE.parent / "docs")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", nargs="+", choices=list(PIECES), default=list(PIECES))
    arguments = parser.parse_args()
    kept = arguments.out / "bench.json"
    pieces = json.loads(kept.read_text())["pieces"] if kept.exists() else {}
    for name in arguments.only:
        print(f"\n{name}", flush=True)
        rows = run(name, arguments)
        if rows is not None:
            pieces[name] = [asdict(row) | {"verdict": row.verdict} for row in rows]
        ordered = {one: pieces[one] for one in PIECES if one in pieces}
        kept.write_text(json.dumps({"machine": machine(), "pieces": ordered}, indent=1) + "\n")
        write_table(arguments.out / "bench.md", ordered)


def run(name: str, arguments: argparse.Namespace) -> list[Row] | None:
    """One piece in a process of its own; None where it failed, which it has said."""
    full, quick = PIECES[name]
    options = [*full, *(quick if arguments.quick else [])]
    if name in ("embedding", "slides") and arguments.data:
        options += ["--data", str(arguments.data)]
    if name == "slides" and (peer := peer_python()):
        options += ["--peer", str(peer)]
    if name == "growth":
        options += ["--figure", str(arguments.out / "bench_growth")]
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "rows.json"
        script = str(HERE / f"{name}.py")
        done = subprocess.run(
            [sys.executable, "-W", "ignore", script, *options, "--json", str(result)], check=False
        )
        return read_rows(result) if done.returncode == 0 else None


def peer_python() -> Path | None:
    """The interpreter of an environment with slide2vec's tiler, made on first use."""
    folder = Home.from_environment().folder / "cache" / "bench_peer"
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
    installed = subprocess.run(
        [str(python), "-m", "pip", "install", "--quiet", PEER], check=False, capture_output=True
    )
    return python if installed.returncode == 0 else None


def write_table(page: Path, pieces: dict[str, Sequence[dict[str, object]]]) -> None:
    """Put the table between its marks in the page."""
    of = machine()
    lines = [
        f"{of['cpu']}, {of['cores']} cores, {of['memory_gib']} GiB; has "
        f"{', '.join(of['flags'])}; has no {', '.join(of['flags_absent'])}.",  # type: ignore[arg-type]
        "",
        "| piece | what | ours | instead | | ratio | by CPU time | bar | | load |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    notes = []
    for row in (row for rows in pieces.values() for row in rows):
        if row["note"]:
            notes.append(str(row["note"]))
        mark = f" [{len(notes)}]" if row["note"] else ""
        bar = "" if row["bar"] is None else f"{row['bar']:g}"
        lines.append(
            f"| {row['piece']} | {row['what']}{mark} | {row['value']} | {row['baseline']} "
            f"| {row['baseline_value']} | {number(row['ratio'])} | {number(row['cpu_ratio'])} "
            f"| {bar} | {row['verdict']} | {row['load']:.0f} |"
        )
    lines += ["", *(f"[{i}] {note}  " for i, note in enumerate(notes, 1))]
    text = page.read_text() if page.exists() else f"# Bench\n\n{BEGIN}\n{END}\n"
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    page.write_text(before + "\n".join([BEGIN, *lines, END]) + after)


def number(value: object) -> str:
    """Two digits, or nothing."""
    return "" if value is None else f"{value:.2f}"


if __name__ == "__main__":
    main()
