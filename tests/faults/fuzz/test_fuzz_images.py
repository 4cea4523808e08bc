"""Damaged images, folders of tiles, and slides: nothing of it may end the process."""

from __future__ import annotations

import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from featurestore.sources.synthetic import tissue_tile

APERIO = (
    "Aperio Image Library v11.2.1\r\n512x256 [0,0 512x256] (128x128) JPEG/RGB Q=30"
    "|AppMag = 20|MPP = 0.5"
)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """One valid image of each format, as small as a tile may be, and oddities that are refused."""
    folder = tmp_path_factory.mktemp("images")
    tile = Image.fromarray(tissue_tile("TUM", 0, seed=1, tile_px=40))
    for suffix, options in {
        "png": {}, "jpg": {"quality": 90}, "bmp": {}, "webp": {},
        "lzw.tif": {"compression": "tiff_lzw"}, "jpeg.tif": {"compression": "jpeg"},
        "raw.tif": {}, "deflate.tif": {"compression": "tiff_adobe_deflate"},
        "progressive.jpg": {"progressive": True},
    }.items():  # fmt: skip
        tile.save(folder / f"rgb.{suffix}", **options)
    tile.convert("P").save(folder / "palette.png")
    tile.convert("RGBA").save(folder / "alpha.png")
    tile.convert("CMYK").save(folder / "cmyk.jpg")
    tile.save(folder / "pages.tif", save_all=True, append_images=[tile])
    exif = Image.Exif()
    exif[0x0112] = 6
    tile.save(folder / "turned.jpg", exif=exif)
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Small slides of the two kinds of TIFF that OpenSlide knows, in several compressions."""
    folder = tmp_path_factory.mktemp("slides")
    rgb = np.concatenate([tissue_tile(c, 0, seed=1, tile_px=256) for c in ("TUM", "STR")], axis=1)
    for name, compression, description in (
        ("generic.tif", "jpeg", None), ("deflate.tif", "deflate", None), ("lzw.tif", "lzw", None),
        ("aperio.svs", "jpeg", APERIO), ("j2k.svs", "jpeg2000", APERIO),
    ):  # fmt: skip
        with tifffile.TiffWriter(folder / name) as tiff:
            for level in range(2):
                tiff.write(
                    rgb[:: 1 + level, :: 1 + level], photometric="rgb", compression=compression,
                    tile=(128, 128), subfiletype=level, metadata=None,
                    description=description if level == 0 else None,
                    resolution=(2e4, 2e4), resolutionunit="CENTIMETER",
                )  # fmt: skip
    with tifffile.TiffFile(folder / "j2k.svs", mode="r+b") as tiff:
        for page in tiff.pages:
            page.tags["Compression"].overwrite(33005)  # Aperio's own number for JPEG 2000
    return sorted(folder.iterdir())


def test_images(fuzz, images: list[Path], tmp_path: Path) -> None:
    ended = fuzz("image", images, tmp_path / "tile.png")
    assert ended["accepted"] > 100, ended
    assert ended["refused"] > 500, ended


def test_what_files_tell_of_themselves(fuzz, images: list[Path], tmp_path: Path) -> None:
    ended = fuzz("facts", images, tmp_path / "tile.png")
    assert ended["accepted"] == ended.total()


def test_one_of_the_images_of_a_folder(fuzz, images: list[Path], tmp_path: Path) -> None:
    """Each image of the folder is a tile or has a row of its own in the ledger."""
    folder = tmp_path / "tiles"
    for label in "ab":
        (folder / label).mkdir(parents=True)
        tile = tissue_tile("STR", ord(label), seed=2, tile_px=40)
        Image.fromarray(tile).save(folder / label / "good.png")
    ended = fuzz("tiles", images, folder / "a" / "bad.png", read=folder)
    assert not ended["refused"], ended
    assert ended["rejected"] > 100, ended


def test_a_table_of_patients(fuzz, text_kinds, images: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "tiles"
    (folder / "a").mkdir(parents=True)
    for image in images:
        shutil.copy(image, folder / "a")
    base = tmp_path / "patients.csv"
    base.write_text("file,patient,note\n" + "".join(
        f"a/{image.name},p{i},x\n" for i, image in enumerate(images)))  # fmt: skip
    ended = fuzz("tiles", [base], folder / "patients.csv", kinds=text_kinds, read=folder)
    assert ended["refused"] > 50, ended
    assert ended["rejected"] > 50, ended


def test_slides(fuzz, slides: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "slides"
    folder.mkdir()
    write = folder / "TCGA-05-4244-01Z-00-DX1.svs"
    ended = fuzz("slide", slides, write, read=folder)
    assert ended["accepted"] + ended["rejected"] > 20, ended
    assert ended["refused"] > 200, ended


@pytest.mark.parametrize(
    ("base", "tag", "value", "says"),
    [
        ("lzw.tif", "TileWidth", 268_435_584, "268435584 × 128 px; expected at most"),
        ("lzw.tif", "TileByteCounts", 4_294_932_754, "4294932754 bytes; expected less than"),
    ],
)
def test_headers_that_ask_for_more_than_the_machine_has(
    worker, slides: list[Path], tmp_path: Path, base: str, tag: str, value: int, says: str
) -> None:
    """The first of them ended the process by OpenSlide's own hand; found by fuzzing."""
    folder = tmp_path / "slides"
    folder.mkdir()
    file = folder / "TCGA-05-4244-01Z-00-DX1.svs"
    shutil.copy(next(slide for slide in slides if slide.name == base), file)
    with tifffile.TiffFile(file, mode="r+b") as tiff:
        found = tiff.pages[0].tags[tag]
        offset, is_short = found.valueoffset, found.dtype == 3
        entry = found.offset
    with file.open("r+b") as stream:
        if is_short:  # the entry says what kind of number it holds
            stream.seek(entry + 2)
            stream.write(struct.pack("<H", 4))
        stream.seek(offset)
        stream.write(struct.pack("<I", value))
    answer = worker.ask(reader="slide", damages=None, read=str(folder), as_nobody=False)
    assert says in answer.get("message", ""), answer
    assert answer["bytes"] < 200 << 20, answer


def test_a_slide_larger_than_any_glass(worker, tmp_path: Path) -> None:
    """The overview of a slide is as large as the slide is said to be."""
    folder = tmp_path / "slides"
    folder.mkdir()
    tifffile.imwrite(
        folder / "TCGA-05-4244-01Z-00-DX1.tif", np.zeros((64, 400_100, 3), np.uint8),
        tile=(64, 4096), photometric="rgb", compression="deflate", metadata=None,
    )  # fmt: skip
    answer = worker.ask(reader="slide", damages=None, read=str(folder), as_nobody=False)
    says = "measures 200.1 × 0.032 mm by its header; expected at most 200 mm a side"
    assert says in answer.get("message", ""), answer


def test_an_image_that_would_fill_the_memory(worker, tmp_path: Path) -> None:
    """A few kilobytes of PNG that claim to be 60,000 pixels a side."""
    Image.new("RGB", (60_000, 60), "white").save(tmp_path / "wide.png", compress_level=9)
    data = bytearray((tmp_path / "wide.png").read_bytes())
    data[20:24] = struct.pack(">I", 60_000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    (tmp_path / "bomb.png").write_bytes(data)
    for name in ("wide.png", "bomb.png"):
        answer = worker.ask(
            reader="image", damages=None, read=str(tmp_path / name), as_nobody=False
        )
        assert "expected at most 4096 px a side" in answer.get("message", ""), answer
        assert answer["bytes"] < 50 << 20, answer
