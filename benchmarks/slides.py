"""Tiles from slides: reading neighbours, and cutting slides against slide2vec's tiler.

Reading decodes a compressed block once, whoever asks for its pixels. It is held against one
``read_region`` a tile on a handle a thread, as the workers of a DataLoader do it, and against
reading without any memory of blocks::

    python benchmarks/slides.py --data FOLDER --peer PYTHON

``PYTHON`` is the interpreter of an environment that has slide2vec's tiler (``make bench`` makes
it: ``pip install 'hs2p[openslide]'``); it is handed the same slides. Without ``--data`` slides
are drawn.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import openslide
from measure import Row, Turns, show, write_rows

from featurestore.sources import slide_pixels
from featurestore.sources.slide_tiles import TilePlace
from featurestore.sources.slides import SlideInfo, inspect_slide
from featurestore.sources.synthetic_slides import draw_factors, write_cohort
from featurestore.sources.tiling import TilingSettings, tile_slide
from models.tiles import TileRef, read_batches

TILE_PX = 224
N_THREADS = 2
# In the file's own pixels: what is compared is reading, not resampling.
REAL = {"CMU-1-Small-Region.svs": 0.499, "TCGA-A9K0-sub-1.svs": 0.194,
        "TCGA-CR-7395-01A-01-TS1.svs": 0.25}  # fmt: skip
PEER = """
import json, sys, time
from pathlib import Path
from hs2p import SegmentationConfig, SlideSpec, TilingConfig, tile_slide
for line in sys.stdin:
    job = json.loads(line)
    started = time.perf_counter()
    result = tile_slide(
        SlideSpec(sample_id="slide", image_path=Path(job["path"]),
                  spacing_at_level_0=job["mpp"]),
        tiling=TilingConfig(backend="openslide", requested_spacing_um=job["mpp"],
            requested_tile_size_px=job["tile_px"], tolerance=0.07, overlap=0.0),
        segmentation=SegmentationConfig(method="hsv", downsample=16),
    )
    print(json.dumps([len(result.x), time.perf_counter() - started]), flush=True)
"""


def main() -> None:
    """Measure, print and keep the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder with wsi")
    parser.add_argument("--peer", type=Path, help="Python with hs2p")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        slides = slides_of(arguments.data, Path(scratch))
        rows = [row for slide in slides for row in reading(slide, arguments.rounds)]
        rows += tiling(slides, arguments.peer, arguments.rounds)
    show(rows)
    write_rows(rows, arguments.json)


def slides_of(data: Path | None, scratch: Path) -> list[SlideInfo]:
    """Real slides where there are any; a drawn one beside them."""
    write_cohort(scratch, factors=draw_factors(1, seed=3), seed=3, slide_px=2048)
    drawn = [(scratch, file.name, 0.5) for file in scratch.glob("*.tif")]
    real = [(data / "wsi", name, mpp) for name, mpp in REAL.items()] if data else []
    return [
        inspect_slide(root, name, patient_id="p", mpp_override=mpp) for root, name, mpp in
        [*real, *drawn]
    ]  # fmt: skip


def reading(slide: SlideInfo, n_rounds: int) -> list[Row]:
    """All tiles of a slide's grid, by threads as many as decode."""
    corners = [
        (x, y)
        for y in range(0, slide.height_px - TILE_PX + 1, TILE_PX)
        for x in range(0, slide.width_px - TILE_PX + 1, TILE_PX)
    ]
    places = [
        TilePlace(slide.sha256, slide.mpp, x, y, TILE_PX, slide.mpp, "none") for x, y in corners
    ]
    tiles = [TileRef(i, slide.file, place.sha256, place) for i, place in enumerate(places)]

    def ours() -> int:
        slide_pixels.forget()
        batches = read_batches(
            tiles, input_px=TILE_PX, interpolation="bicubic", n_threads=N_THREADS
        )
        return sum(len(batch.tile_ids) for batch in batches)

    def one_by_one(cache_bytes: int) -> int:
        handles = threading.local()

        def read(corner: tuple[int, int]) -> None:
            if not hasattr(handles, "mine"):
                handles.mine = openslide.OpenSlide(slide.file)
                handles.mine.set_cache(openslide.OpenSlideCache(cache_bytes))
            handles.mine.read_region(corner, 0, (TILE_PX, TILE_PX)).convert("RGB")

        with ThreadPoolExecutor(N_THREADS) as pool:
            return len(list(pool.map(read, corners)))

    default = 32 << 20
    turns = Turns(
        {"ours": ours, "before": lambda: one_by_one(default), "alone": lambda: one_by_one(0)},
        n_rounds=n_rounds,
    )
    codec = openslide.OpenSlide(slide.file).properties.get("tiff.ImageDescription", "")
    kind = "JPEG 2000" if "J2K" in codec else "JPEG"
    return [
        Row(
            piece="slides",
            what=f"neighbouring tiles, {slide.width_px} x {slide.height_px} px of {kind}",
            value=f"{turns.rate('ours'):.0f} tiles/s",
            baseline=baseline,
            baseline_value=f"{turns.rate(name):.0f} tiles/s",
            ratio=turns.ratio("ours", name),
            cpu_ratio=turns.ratio("ours", name, cpu=True),
            note=f"{len(tiles)} tiles, {N_THREADS} threads; ours checks digests and alpha, too",
        )
        for name, baseline in (
            ("before", "a read_region a tile, a handle a thread, as DataLoader workers"),
            ("alone", "the same without memory of blocks"),
        )
    ]


def tiling(slides: list[SlideInfo], peer: Path | None, n_rounds: int) -> list[Row]:
    """The same slides, cut at their own resolution by both tilers."""
    settings = [TilingSettings(mpp=slide.mpp, tile_px=TILE_PX, max_tiles=None) for slide in slides]

    def ours() -> int:
        slide_pixels.forget()
        results = map(tile_slide, slides, settings)
        return sum(sum(t.n_rejected.values()) + len(t.tiles) for t in results)

    if peer is None:
        started = time.perf_counter()
        rate = ours() / (time.perf_counter() - started)
        return [
            Row(
                piece="tiling",
                what="grid places looked at",
                value=f"{rate:.0f} places/s",
                note="no peer: give --peer",
            )
        ]
    with subprocess.Popen(
        [peer, "-W", "ignore", "-c", PEER],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    ) as process:  # fmt: skip
        n_peer = 0

        def theirs() -> int:
            nonlocal n_peer
            n_peer = 0
            for slide in slides:
                job = {"path": str(slide.file), "mpp": slide.mpp, "tile_px": TILE_PX}
                print(json.dumps(job), file=process.stdin, flush=True)
                n_peer += json.loads(process.stdout.readline())[0]
            return ours_n

        ours_n = ours()
        theirs()
        turns = Turns(
            {"ours": ours, "theirs": theirs}, n_rounds=n_rounds, pids=lambda: [process.pid]
        )
        process.stdin.close()
    kept = sum(len(tile_slide(s, one).tiles) for s, one in zip(slides, settings, strict=True))
    return [
        Row(
            piece="tiling",
            what="slides cut, every tile read and judged for blur and ink",
            value=f"{turns.rate('ours'):.0f} places/s, {kept} tiles kept",
            baseline="hs2p, slide2vec's tiler: tissue on an overview, no tile is read",
            baseline_value=f"{turns.rate('theirs'):.0f} places/s, {n_peer} tiles kept",
            ratio=turns.ratio("ours", "theirs"),
            cpu_ratio=turns.ratio("ours", "theirs", cpu=True),
            note=f"{len(slides)} slides",
        )
    ]


if __name__ == "__main__":
    main()
