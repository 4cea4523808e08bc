"""How far copies of a tile are from it, and how near other tiles come: where thresholds may lie.

Takes two folders of tiles that share none (``ROOT/<class>/<image>``), makes changed copies of
some tiles of the first, and prints for each kind of change how many of 255 bits of the
perceptual hash differ, and the cosine similarity of the features. The last lines are the same
of each tile of the second folder and the tile of the first that is nearest to it: a threshold
must lie between::

    python benchmarks/near_duplicates.py crc5/train crc5/test --weights .ffpe/artifacts/weights
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from featurestore import perceptual_hash
from featurestore.sources.images import read_rgb
from models.augment import jitter_stain
from models.encoders import EncoderSettings, describe, open_encoder

Pixels = NDArray[np.uint8]
_RNG = np.random.default_rng(0)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("other", type=Path)
    parser.add_argument("--weights", type=Path, required=True, help="a folder of weights")
    parser.add_argument("--network", default="legacy_xception")
    parser.add_argument("--copies", type=int, default=100, help="tiles that copies are made of")
    parser.add_argument("--sheet", type=Path, help="a PNG of the nearest pairs")
    arguments = parser.parse_args()
    files, others = (
        sorted(file for file in root.glob("*/*") if file.is_file())
        for root in (arguments.folder, arguments.other)
    )
    settings = EncoderSettings(network=arguments.network)
    encoder = open_encoder(describe(settings, folder=arguments.weights), folder=arguments.weights)
    px = encoder.version.input_px

    def look(tiles: list[Pixels]) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        small = np.stack([_resized(tile, perceptual_hash.SMALL_PX) for tile in tiles])
        features = [
            encoder(np.stack([_resized(tile, px) for tile in tiles[start : start + 32]]))
            for start in range(0, len(tiles), 32)
        ]
        return perceptual_hash.hash_tiles(small)[0], np.concatenate(features)

    known, known_features = _by_block(files, look)
    tested, tested_features = _by_block(others, look)
    centre = known_features.mean(axis=0)
    chosen = _RNG.choice(len(files), min(arguments.copies, len(files)), replace=False)
    print(f"{'':12} {'bits that differ':>22} {'cosine':>22} {'centred cosine':>22}")
    print(f"{'':12} {'median   95 %    max':>22}" + f"{'median    5 %    min':>23}" * 2)
    for name, change in CHANGES.items():
        copies = [np.ascontiguousarray(change(read_rgb(files[i]))) for i in chosen]
        bits, features = look(copies)
        distances = [
            int(perceptual_hash.nearest(one[None], known[i][None])[0][0])
            for one, i in zip(bits, chosen, strict=True)
        ]
        originals = known_features[chosen]
        raw = _paired(features, originals)
        centred = _paired(features - centre, originals - centre)
        _print(name, np.array(distances), raw, centred)
    distances, nearest = perceptual_hash.nearest(tested, known)
    raw_all = _unit(tested_features) @ _unit(known_features).T
    centred_all = _unit(tested_features - centre) @ _unit(known_features - centre).T
    print(f"nearest of {len(files)} to each of {len(others)} others:")
    _print("others", distances, raw_all.max(axis=1), centred_all.max(axis=1))
    print("bits: min", np.sort(distances)[:5], "cosine: max", np.sort(raw_all.max(1))[-5:])
    print("centred cosine: max", np.sort(centred_all.max(1))[-10:])
    if arguments.sheet:
        by_hash = np.argsort(distances, kind="stable")[:6]
        by_features = np.argsort(-centred_all.max(axis=1), kind="stable")[:12]
        pairs = [(others[i], files[nearest[i]]) for i in by_hash]
        pairs += [(others[i], files[centred_all[i].argmax()]) for i in by_features]
        _sheet(pairs, arguments.sheet)
        for one, other in pairs:
            print(one.relative_to(arguments.other), other.relative_to(arguments.folder))


def _by_block(
    files: list[Path],
    look: Callable[[list[Pixels]], tuple[NDArray[np.bool_], NDArray[np.float32]]],
) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    blocks = [
        look([read_rgb(file) for file in files[start : start + 256]])
        for start in range(0, len(files), 256)
    ]
    bits, features = zip(*blocks, strict=True)
    return np.concatenate(bits), np.concatenate(features)


def _resized(rgb: Pixels, px: int) -> Pixels:
    if rgb.shape[0] == px:
        return rgb
    return np.asarray(Image.fromarray(rgb).resize((px, px), Image.Resampling.BILINEAR))


def _unit(features: NDArray[np.float32]) -> NDArray[np.float32]:
    return features / np.linalg.norm(features, axis=1, keepdims=True)


def _paired(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float32]:
    return (_unit(one) * _unit(other)).sum(axis=1)


def _print(name: str, bits: NDArray[np.int64], raw: NDArray, centred: NDArray) -> None:
    far = np.quantile(bits, [0.5, 0.95, 1])
    print(f"{name:12} {far[0]:8.0f}{far[1]:7.0f}{far[2]:7.0f}", end="")
    for cosines in (raw, centred):
        near = np.quantile(cosines, [0.5, 0.05, 0])
        print(f" {near[0]:8.3f}{near[1]:7.3f}{near[2]:7.3f}", end="")
    print()


def _jpeg(rgb: Pixels, quality: int) -> Pixels:
    stream = io.BytesIO()
    Image.fromarray(rgb).save(stream, "JPEG", quality=quality)
    return np.asarray(Image.open(stream))


def _cropped(rgb: Pixels, margin: int) -> Pixels:
    inner = Image.fromarray(rgb[margin:-margin, margin:-margin])
    return np.asarray(inner.resize(rgb.shape[1::-1], Image.Resampling.BICUBIC))


def _shifted(rgb: Pixels, px: int) -> Pixels:
    return np.pad(rgb, ((px, 0), (px, 0), (0, 0)), mode="reflect")[: len(rgb), : rgb.shape[1]]


def _brighter(rgb: Pixels) -> Pixels:
    return np.clip(rgb * 1.15 + 5, 0, 255).astype(np.uint8)


def _everything(rgb: Pixels) -> Pixels:
    turned = np.ascontiguousarray(np.rot90(_cropped(rgb, 4)[:, ::-1]))
    return _jpeg(jitter_stain(turned, _RNG, 0.1), 75)


CHANGES: dict[str, Callable[[Pixels], Pixels]] = {
    "flip": lambda rgb: rgb[:, ::-1],
    "turn": np.rot90,
    "JPEG 50": lambda rgb: _jpeg(rgb, 50),
    "JPEG 20": lambda rgb: _jpeg(rgb, 20),
    "brighter": _brighter,
    "stain 0.05": lambda rgb: jitter_stain(rgb, _RNG, 0.05),
    "stain 0.2": lambda rgb: jitter_stain(rgb, _RNG, 0.2),
    "shift 4 px": lambda rgb: _shifted(rgb, 4),
    "shift 16 px": lambda rgb: _shifted(rgb, 16),
    "crop 4 px": lambda rgb: _cropped(rgb, 4),
    "crop 8 px": lambda rgb: _cropped(rgb, 8),
    "crop 16 px": lambda rgb: _cropped(rgb, 16),
    "crop 32 px": lambda rgb: _cropped(rgb, 32),
    "all at once": _everything,
}


def _sheet(pairs: list[tuple[Path, Path]], file: Path) -> None:
    """Pairs side by side, three pairs a row."""
    px, gap = 160, 12
    rows = -(-len(pairs) // 3)
    sheet = Image.new("RGB", (3 * (2 * px + gap), rows * (px + gap)), "white")
    for number, pair in enumerate(pairs):
        for side, tile in enumerate(pair):
            image = Image.open(tile).convert("RGB").resize((px, px))
            x = (number % 3) * (2 * px + gap) + side * px
            sheet.paste(image, (x, (number // 3) * (px + gap)))
    sheet.save(file)


if __name__ == "__main__":
    main()
