"""Embedding end to end, against the bare network and against the loop that peers run.

End to end is what ``ffpe run`` does: tiles are read, checked against their digest, decoded,
resampled, computed and written to Postgres in batches that are committed one by one::

    python benchmarks/embedding.py --data FOLDER

The bare network computes random pixels that lie in memory. The plain loop is what TRIDENT and
CLAM run: timm, a torch DataLoader, and HDF5. Without ``--data`` tiles are drawn. What two
encoders gain from one decode pass is told from the CPU time of decoding and of the network.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import torch
import torchvision
from measure import Row, Turns, server_pids, show, timed, write_rows
from PIL import Image
from sqlalchemy.orm import Session
from store import BenchmarkStore, benchmark_store, register_version
from torch.utils.flop_counter import FlopCounterMode

from featurestore.datasets import write_dataset
from featurestore.embeddings import write_embeddings
from featurestore.missing_tiles import iter_missing
from featurestore.sources.synthetic import write_tissue
from featurestore.sources.tile_folders import read_tile_folder
from models.embed import embed
from models.encoders import Encoder, EncoderSettings, describe, open_encoder, open_network
from models.tiles import TileRef, read_batches
from orchestration.home import Home

BATCH = 32


def main() -> None:
    """Measure, print and keep the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder with crc5")
    parser.add_argument("--tiles", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with benchmark_store() as store, tempfile.TemporaryDirectory() as scratch:
        job = Job(store, arguments.data, arguments.tiles, Path(scratch))
        rows = [*end_to_end(job, arguments.rounds), decoding(job), on_a_gpu()]
    show(rows)
    write_rows(rows, arguments.json)


class Job:
    """The same tiles and the same weights for every way."""

    def __init__(self, store: BenchmarkStore, data: Path | None, n: int, scratch: Path) -> None:
        self.store, self.scratch = store, scratch
        root = data / "crc5" / "test" if data else scratch / "tissue"
        if data is None:
            write_tissue(root, n_per_class=-(-n // 9), seed=1)
        folder = read_tile_folder(root)
        with Session(store.engine) as session, session.begin():
            self.dataset_id = write_dataset(session, folder, mpp=None).dataset_id
        self.paths = [root / tile.path for tile in folder.tiles][:n]
        self.n_written = 0
        weights = Home.from_environment().weights
        self.version = describe(EncoderSettings(), folder=weights)
        self.encoder: Encoder = open_encoder(self.version, folder=weights)
        self.module = open_network(self.version, folder=weights)

    def tiles(self, version_id: int) -> list[TileRef]:
        """As the store knows them."""
        missing = iter_missing(self.store.engine, version_id, self.dataset_id)
        wanted = set(self.paths)
        return [
            TileRef(tile.tile_id, tile.path, tile.sha256) for tile in missing if tile.path in wanted
        ]

    def ours(self) -> int:
        """From files to committed rows, of a version that has none yet."""
        self.n_written += 1
        with Session(self.store.engine) as session, session.begin():
            version_id = register_version(session, f"round {self.n_written}", self.version.dim)
        n = 0
        for batch in embed(self.encoder, self.tiles(version_id)):
            with Session(self.store.engine) as session, session.begin():
                n += write_embeddings(session, version_id, batch.tile_ids, batch.vectors)
        return n

    def bare(self) -> int:
        """The network on random pixels."""
        rng = np.random.default_rng(0)
        px = self.version.input_px
        pixels = rng.integers(0, 256, (BATCH, px, px, 3), np.uint8)
        n = 0
        while n < len(self.paths):
            n += len(self.encoder(pixels[: len(self.paths) - n]))
        return n

    def rate_a_cpu_second(self) -> float:
        """The bare network's, in tiles."""
        turn = timed(self.bare)
        return turn.n / turn.cpu

    def plain(self) -> int:
        """Pillow, torchvision, DataLoader, timm in float32, and a growing HDF5 file."""
        size = self.version.input_px
        transform = torchvision.transforms.Compose(
            [
                torchvision.transforms.Resize((size, size)),
                torchvision.transforms.ToTensor(),
                torchvision.transforms.Normalize(self.version.mean, self.version.std),
            ]
        )
        loader = torch.utils.data.DataLoader(
            PlainTiles(self.paths, transform), batch_size=BATCH, num_workers=2
        )
        with h5py.File(self.scratch / "features.h5", "w") as file, torch.inference_mode():
            features = file.create_dataset(
                "features", (0, self.version.dim), "f4", maxshape=(None, self.version.dim),
                chunks=(1, self.version.dim),
            )  # fmt: skip
            for images in loader:
                vectors = self.module(images).numpy()
                features.resize(len(features) + len(vectors), axis=0)
                features[-len(vectors) :] = vectors
            return len(features)


class PlainTiles(torch.utils.data.Dataset[torch.Tensor]):
    """Tiles as a peer's data set has them."""

    def __init__(self, paths: list[Path], transform: Callable[[Image.Image], torch.Tensor]) -> None:
        self.paths, self.transform = paths, transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.transform(Image.open(self.paths[index]).convert("RGB"))


def end_to_end(job: Job, n_rounds: int) -> list[Row]:
    """Ours, the bare network and the plain loop in turns."""
    for warm in (job.bare, job.plain):
        warm()
    turns = Turns(
        {"ours": job.ours, "bare": job.bare, "plain": job.plain},
        n_rounds=n_rounds,
        pids=partial(server_pids, job.store.folder),
    )
    n = f"{len(job.paths)} tiles a round, {n_rounds} rounds"
    return [
        Row(
            piece="embedding",
            what=f"tiles in files to rows in Postgres ({job.encoder.runtime})",
            value=f"{turns.rate('ours'):.1f} tiles/s",
            baseline=baseline,
            baseline_value=f"{turns.rate(name):.1f} tiles/s",
            ratio=turns.ratio("ours", name),
            cpu_ratio=turns.ratio("ours", name, cpu=True),
            bar=bar,
            note=note,
        )
        for name, baseline, bar, note in (
            ("bare", "the bare network on random batches", 0.9, n),
            ("plain", "timm + DataLoader + HDF5 as TRIDENT and CLAM", 6.0, ceiling(job)),
        )
    ]


def ceiling(job: Job) -> str:
    """What the cores could do at most in float32, to judge the ratio by."""
    matrix = torch.randn(1536, 1536)
    turns = Turns({"gemm": lambda: len(matrix @ matrix)}, n_rounds=9)
    best = max(2 * 1536**3 / turn.cpu for turn in turns.turns["gemm"] if turn.cpu) / 1e9
    px = job.version.input_px
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        job.module(torch.zeros(1, 3, px, px))
    needed = counter.get_total_flops() / 1e9
    return (
        f"matrix products reach {best:.0f} GFLOP a CPU second here, the network needs "
        f"{needed:.1f} GFLOP a tile: at most {best / needed:.1f} tiles a CPU second in float32; "
        f"ours {job.rate_a_cpu_second():.1f}"
    )


def decoding(job: Job) -> Row:
    """What a second encoder saves by the first one's decoding."""
    tiles = job.tiles(0)
    reading = partial(
        read_batches, tiles, input_px=job.version.input_px, interpolation=job.version.interpolation
    )

    def decode() -> int:
        return sum(len(batch.tile_ids) for batch in reading())

    turns = Turns({"decode": decode, "bare": job.bare}, n_rounds=3)
    share = 1 / (1 + turns.ratio("decode", "bare", cpu=True))
    return Row(
        piece="embedding",
        what="two encoders over one decode pass",
        value=f"decoding is {share:.1%} of the CPU time",
        baseline="one pass an encoder",
        cpu_ratio=2 / (2 - share),
        note="on a CPU not worth waiting for the second encoder; embed_together does it on a GPU",
    )


def on_a_gpu() -> Row:
    """Against random tensors that lie on the GPU, where there is one."""
    return Row(
        piece="embedding",
        what="CUDA: bfloat16, channels last, compiled, pinned and overlapped copies",
        value="not measured: no GPU here",
        baseline="the network on random tensors on the GPU",
        bar=0.9,
    )


if __name__ == "__main__":
    main()
