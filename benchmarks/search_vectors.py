"""At least 100,000 real vectors of 2,048 features, made from the few thousand images at hand.

Every image is embedded for real by Xception: each tile as it is and in augmented views (quarter
turns, flips, mild changes of staining), and overlapping crops of the regions and slides. One
pass of the network gives thirteen vectors: its final feature map of 7 × 7 places is averaged as
a whole (the tile's own embedding), over seven smaller windows, which see a part of the tile
each, and over five pairs of its corners. So every vector is a pooling of real activations of
real tissue; the vectors of one pass resemble each other more than those of other tiles do,
which makes the neighbours of a query close together and hard to rank::

    python benchmarks/search_vectors.py --data FOLDER

writes ``.ffpe/cache/search_vectors/`` and goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import hashlib
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.augment import view_of
from models.encoders import EncoderSettings, describe, open_network
from models.runtime import PixelFunction, choose_runtime, compile_network
from orchestration.home import Home

TILE_PX = 224
STRIDE_PX = 112
STAIN_JITTER = 0.05
BATCH = 32
SHARD = 1_024
DIM = 2_048
# Rows and columns of the 7 × 7 feature map: the whole, four corners, the middle, two halves.
WINDOWS = (
    (0, 7, 0, 7),
    (0, 4, 0, 4),
    (0, 4, 3, 7),
    (3, 7, 0, 4),
    (3, 7, 3, 7),
    (1, 6, 1, 6),
    (0, 3, 0, 7),
    (4, 7, 0, 7),
)
# Pairs of those corners: the mean of two poolings is the pooling over both windows.
PAIRS = ((1, 2), (3, 4), (1, 3), (2, 4), (1, 4))
A_PASS = len(WINDOWS) + len(PAIRS)


def main() -> None:
    """Make the vectors, or what is still missing of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with crc5 and the rest")
    parser.add_argument("--n", type=int, default=106_496, help="vectors, at least")
    arguments = parser.parse_args()
    vectors = load_vectors(arguments.data, arguments.n)
    print(f"{len(vectors):,} vectors of {vectors.shape[1]} features")


def load_vectors(data: Path, n: int) -> NDArray[np.float16]:
    """At least ``n`` vectors, embedding what the cache lacks."""
    cache = Home.from_environment().folder / "cache" / "search_vectors"
    cache.mkdir(parents=True, exist_ok=True)
    crops = list(_crops(data))
    n_passes = -(-n // A_PASS)
    # All images as they are first, then all of them in a second view, and so on.
    plan = [(crop, view) for view in range(-(-n_passes // len(crops))) for crop in crops]
    encode = None
    shards = []
    for number, start in enumerate(range(0, n_passes, SHARD)):
        path = cache / f"{number:04d}.npy"
        if not path.exists():
            encode = encode or _encoder()
            made = _embed(plan[start : min(start + SHARD, n_passes)], encode, n_passes, start)
            np.save(path.with_suffix(".part.npy"), made)
            path.with_suffix(".part.npy").rename(path)
        shards.append(_with_pairs(np.load(path)))
    return np.concatenate(shards)


def _with_pairs(pooled: NDArray[np.float16]) -> NDArray[np.float16]:
    windows = pooled.reshape(-1, len(WINDOWS), DIM)
    pairs = [windows[:, one] / 2 + windows[:, other] / 2 for one, other in PAIRS]
    return np.concatenate([windows, np.stack(pairs, axis=1)], axis=1).reshape(-1, DIM)


def _crops(data: Path) -> Iterator[tuple[Path, int, int]]:
    for folder in ("crc5/test", "crc5/train", "nct_crc_he_7k_sample", "tcga_luad_tiles", "wsi"):
        for path in sorted((data / folder).rglob("*")):
            try:
                width, height = Image.open(path).size
            except OSError:
                continue
            for top in range(0, height - TILE_PX + 1, STRIDE_PX):
                for left in range(0, width - TILE_PX + 1, STRIDE_PX):
                    yield path, left, top


def _encoder() -> PixelFunction:
    home = Home.from_environment()
    version = describe(EncoderSettings(precision="float32"), folder=home.weights)
    network = open_network(version, folder=home.weights)
    network.forward = network.forward_features
    return compile_network(
        network, input_px=TILE_PX, mean=version.mean, std=version.std, precision="float32",
        runtime=choose_runtime(),
    )  # fmt: skip


def _embed(
    plan: list[tuple[tuple[Path, int, int], int]], encode: PixelFunction, n_passes: int, done: int
) -> NDArray[np.float16]:
    vectors = np.empty((len(plan), len(WINDOWS), DIM), np.float16)
    started = time.monotonic()
    for start in range(0, len(plan), BATCH):
        batch = plan[start : start + BATCH]
        maps = encode(np.stack([_pixels(*crop, view) for crop, view in batch]))
        for position, (top, bottom, left, right) in enumerate(WINDOWS):
            pooled = maps[:, :, top:bottom, left:right].mean(axis=(2, 3))
            vectors[start : start + len(batch), position] = pooled
    rate = len(plan) / (time.monotonic() - started)
    print(f"{done + len(plan):,} of {n_passes:,} passes, {rate:.0f} a second", flush=True)
    return vectors.reshape(-1, DIM)


def _pixels(path: Path, left: int, top: int, view: int) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        crop = image.convert("RGB").crop((left, top, left + TILE_PX, top + TILE_PX))
    rgb = np.asarray(crop)
    name = f"{path.parent.name}/{path.name}@{left},{top}"
    digest = hashlib.sha256(name.encode()).hexdigest()
    return view_of(rgb, view=view, sha256=digest, seed=7, stain_jitter=STAIN_JITTER)


if __name__ == "__main__":
    main()
