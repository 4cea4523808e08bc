"""How time and memory grow with tiles, patients, genes and encoders.

::

    python benchmarks/growth.py --tiles 10000 100000 --figure docs/bench_growth

Tiles stream through what embeds them: pages of what is missing, decoding, a network, rows in
Postgres. The network is simulated (8 features), and every tile is one small image, so that a
million fit; the real network lies compiled in memory beside it and has computed a batch, since
that is what a run holds. Each point of patients, genes and encoders is a process of its own.
Time is CPU time.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from measure import Row, cpu_seconds, server_pids, show, write_rows
from numpy.typing import NDArray
from PIL import Image
from sqlalchemy.orm import Session
from store import benchmark_store, insert_tiles, register_version

from featurestore.embeddings import write_embeddings
from featurestore.missing_tiles import iter_missing
from featurestore.model_versions import ModelVersion
from featurestore.sources.images import pixel_sha256, read_rgb
from models.embed import embed
from models.encoders import EncoderSettings, describe, open_encoder
from models.tiles import TileRef
from orchestration.home import Home

DIM = 8
PX = 32
LIMIT_MB = 2_000
ANALYSIS = {
    "patients": (100, 200, 455),
    "genes": (50, 150, 498),
    "encoders": (1, 2, 4),
}
TYPICAL = {"patients": 200, "genes": 50, "encoders": 2}


def main() -> None:
    """Measure, draw and keep the row."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tiles", type=int, nargs="+", default=[10_000, 50_000, 100_000])
    parser.add_argument("--figure", type=Path, help="without suffix; .png and .svg are written")
    parser.add_argument("--point", nargs=2, metavar=("OF", "N"), help="one point, as JSON")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.point:
        print(json.dumps(analysed(arguments.point[0], int(arguments.point[1]))))
        return
    points = {"tiles": streamed(sorted(arguments.tiles))}
    for of, sizes in ANALYSIS.items():
        points[of] = [point(of, n) for n in sizes]
    if arguments.figure:
        draw(points, arguments.figure)
    first, last = points["tiles"][0], points["tiles"][-1]
    rows = [
        Row(
            piece="memory",
            what=f"resident size at {last['n']:,} tiles, CPU runtime in memory",
            value=f"{last['mb']:.0f} MB",
            baseline=f"at {first['n']:,} tiles",
            baseline_value=f"{first['mb']:.0f} MB",
            limited=last["mb"],
            bar=LIMIT_MB,
            note="bar: under 2 GB; the network is simulated, everything else is real",
        )
    ]
    show(rows)
    write_rows(rows, arguments.json)


class Simulated:
    """As quick as can be: the mean of eight stripes."""

    runtime = "numpy"
    batch_size = 32
    n_in_flight = 1

    def __init__(self, version: ModelVersion) -> None:
        self.version = version

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Encode as any encoder does."""
        stripes: NDArray[np.float32] = pixels.reshape(len(pixels), DIM, -1).mean(
            axis=2, dtype=np.float32
        )
        return stripes


def streamed(sizes: list[int]) -> list[dict[str, float]]:
    """CPU seconds and resident megabytes as tiles come by."""
    weights = Home.from_environment().weights
    version = describe(EncoderSettings(), folder=weights)
    real = open_encoder(version, folder=weights)
    real(np.zeros((32, version.input_px, version.input_px, 3), np.uint8))
    encoder = Simulated(replace(version, input_px=PX, dim=DIM))
    points = []
    with benchmark_store() as store, tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "tile.png"
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (PX, PX, 3), np.uint8)).save(file)
        digest = pixel_sha256(read_rgb(file))
        with Session(store.engine) as session, session.begin():
            version_id = register_version(session, "simulated", DIM)
            dataset_id = insert_tiles(session, sizes[-1])

        def tiles() -> Iterator[TileRef]:
            for tile in iter_missing(store.engine, version_id, dataset_id):
                yield TileRef(tile.tile_id, file, digest)

        started, n, wanted = cpu_seconds(server_pids(store.folder)), 0, iter(sizes)
        due = next(wanted)
        for batch in embed(encoder, tiles()):
            with Session(store.engine) as session, session.begin():
                n += write_embeddings(session, version_id, batch.tile_ids, batch.vectors)
            if n >= due:
                seconds = cpu_seconds(server_pids(store.folder)) - started
                points.append({"n": n, "seconds": seconds, "mb": resident_mb()})
                print(f"{n:,} tiles: {points[-1]['mb']:.0f} MB", flush=True)
                due = next(wanted, sizes[-1] + 1)
        assert n == sizes[-1]
    del real
    return points


def resident_mb() -> float:
    """Resident size of this process now."""
    return float(psutil.Process().memory_info().rss / 1e6)


def point(of: str, n: int) -> dict[str, float]:
    """One point of the analysis, in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, "--point", of, str(n)],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    print(f"{n} {of}: {result['seconds']:.1f} s, {result['mb']:.0f} MB", flush=True)
    return result


def analysed(of: str, n: int) -> dict[str, float]:
    """Five repeats of the expression task."""
    import pandas as pd

    from analysis.expression import ExpressionSettings, evaluate_expression
    from analysis.patients import PatientCohort

    def cohort(patients: int, genes: int, encoders: int) -> PatientCohort:
        rng = np.random.default_rng(7)
        return PatientCohort(
            tuple(map(str, range(patients))),
            {
                f"e{i}": rng.normal(size=(patients, 2_048)).astype(np.float32)
                for i in range(encoders)
            },
            pd.DataFrame(rng.normal(size=(patients, genes))).add_prefix("g"),
        )

    settings = ExpressionSettings(n_repeats=5, seed=7)
    evaluate_expression(cohort(20, 2, 1), settings)  # loads what it needs
    asked = cohort(**(TYPICAL | {of: n}))
    started = cpu_seconds()
    evaluate_expression(asked, settings)
    return {"n": n, "seconds": cpu_seconds() - started, "mb": peak_mb()}


def peak_mb() -> float:
    """Largest resident size so far; what getrusage says includes the process that started us."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise RuntimeError("/proc/self/status does not tell VmHWM")


def draw(points: dict[str, list[dict[str, float]]], path: Path) -> None:
    """Time and memory against each size, as PNG and SVG."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams["svg.hashsalt"] = "ffpe"
    figure, axes = plt.subplots(2, len(points), figsize=(11, 5), sharex="col", layout="tight")
    rows: list[tuple[str, str, str, str]] = [
        ("seconds", "CPU time (s)", "#0072B2", "o"),  # Okabe & Ito: told apart by everybody
        ("mb", "resident memory (MB)", "#D55E00", "s"),
    ]
    for column, (of, series) in enumerate(points.items()):
        for row, (key, label, colour, marker) in enumerate(rows):
            axis: Any = axes[row][column]
            axis.plot([p["n"] for p in series], [p[key] for p in series], color=colour,
                      marker=marker)  # fmt: skip
            axis.set_ylim(0, 1.15 * max(p[key] for p in series))
            axis.spines[["top", "right"]].set_visible(False)
            if series[-1]["n"] >= 50 * series[0]["n"]:  # else the first labels cover each other
                axis.set_xscale("log")
                axis.minorticks_off()
                if key == "seconds":
                    axis.set_yscale("log")
                    axis.set_ylim(0.5 * series[0][key], 2 * series[-1][key])
            axis.set_xticks([p["n"] for p in series], [f"{p['n']:,}" for p in series], rotation=30)
            if column == 0:
                axis.set_ylabel(label)
        axes[1][column].set_xlabel(f"number of {of}")
    figure.suptitle(
        "Tiles: read, embedded (simulated network) and written. Others: 5 × 5 splits of ridge "
        "regression", fontsize=10,
    )  # fmt: skip
    for suffix in (".png", ".svg"):
        figure.savefig(
            path.with_suffix(suffix), dpi=150, metadata={"Date": None} if suffix == ".svg" else None
        )
    plt.close(figure)


if __name__ == "__main__":
    main()
