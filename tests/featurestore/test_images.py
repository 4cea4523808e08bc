"""One image file: what becomes a tile, and how each unusable file is refused."""

import io
import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from featurestore.errors import UnreadableImageError
from featurestore.sources.images import MAX_TILE_PX, MIN_TILE_PX, pixel_sha256, read_rgb


def _rgb(height=48, width=40, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@cache
def _encoded(kind):
    """A real file of each kind, in bytes."""
    name, options = {
        "png": ("PNG", {}),
        "jpeg": ("JPEG", {"quality": 90}),
        "tiff": ("TIFF", {}),
        "tiff-deflate": ("TIFF", {"compression": "tiff_adobe_deflate"}),
        "bmp": ("BMP", {}),
        "webp": ("WEBP", {"lossless": True}),
    }[kind]
    buffer = io.BytesIO()
    Image.fromarray(_rgb()).save(buffer, name, **options)
    return buffer.getvalue()


def _refused(path, *parts):
    with pytest.raises(UnreadableImageError) as caught:
        read_rgb(path)
    message = str(caught.value)
    assert message.startswith(f"{path} cannot be used as a tile: ")
    for part in parts:
        assert part in message
    # what, expected, what to do: three parts at the least
    assert message.count("; ") >= 2
    return message


@pytest.mark.parametrize("kind", ["png", "tiff", "tiff-deflate", "bmp", "webp"])
def test_lossless_formats_give_the_stored_pixels_and_one_digest(tmp_path, kind):
    path = tmp_path / "tile.any"
    path.write_bytes(_encoded(kind))
    pixels = read_rgb(path)
    assert pixels.dtype == np.uint8
    assert pixels.flags.writeable
    assert pixels.flags.c_contiguous
    np.testing.assert_array_equal(pixels, _rgb())
    assert pixel_sha256(pixels) == pixel_sha256(_rgb())


def test_jpeg_reads_as_pillow_reads_it(tmp_path):
    path = tmp_path / "tile.jpg"
    path.write_bytes(_encoded("jpeg"))
    np.testing.assert_array_equal(read_rgb(path), np.asarray(Image.open(path)))


def test_opaque_alpha_is_dropped(tmp_path):
    rgba = np.dstack([_rgb(), np.full((48, 40), 255, np.uint8)])
    Image.fromarray(rgba).save(tmp_path / "tile.png")
    np.testing.assert_array_equal(read_rgb(tmp_path / "tile.png"), _rgb())


def test_one_transparent_pixel_is_refused(tmp_path):
    rgba = np.dstack([_rgb(), np.full((48, 40), 255, np.uint8)])
    rgba[7, 9, 3] = 254
    Image.fromarray(rgba).save(tmp_path / "tile.png")
    _refused(tmp_path / "tile.png", "1 of its pixels are transparent", "flatten it")


def test_palette_is_converted(tmp_path):
    palette = Image.fromarray(_rgb()).quantize(16)
    palette.save(tmp_path / "tile.png")
    np.testing.assert_array_equal(
        read_rgb(tmp_path / "tile.png"), np.asarray(palette.convert("RGB"))
    )


def test_palette_and_colour_key_transparency_are_refused(tmp_path):
    Image.fromarray(_rgb()).quantize(16).save(tmp_path / "palette.png", transparency=3)
    _refused(tmp_path / "palette.png", "transparent")
    key = tuple(int(value) for value in _rgb()[0, 0])
    Image.fromarray(_rgb()).save(tmp_path / "key.png", transparency=key)
    _refused(tmp_path / "key.png", "transparent")


@pytest.mark.parametrize("kind", ["jpg", "png", "tif", "webp"])
def test_exif_orientation_is_applied_in_every_format(tmp_path, kind):
    # Left half black, right half white; orientation 6 turns it a quarter clockwise.
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[:, 32:] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / f"tile.{kind}", exif=exif)
    turned = read_rgb(tmp_path / f"tile.{kind}")
    assert turned[:28].mean() < 5
    assert turned[36:].mean() > 250


def test_absent_file_and_folder(tmp_path):
    _refused(tmp_path / "absent.png", "there is no such file", "check the path")
    _refused(tmp_path, "not a regular file")


def test_named_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    _refused(tmp_path / "pipe.png", "not a regular file")


def test_unreadable_by_permission(tmp_path):
    path = tmp_path / "tile.png"
    path.write_bytes(_encoded("png"))
    path.chmod(0)
    user = os.geteuid()
    try:
        if user == 0:
            os.seteuid(65534)  # root may read anything, so be nobody for a moment
        _refused(path, "cannot be opened (Permission denied)", "permissions")
    finally:
        os.seteuid(user)


def test_file_that_vanishes_before_it_is_opened(tmp_path):
    class Vanishing(type(tmp_path)):
        def open(self, *args, **kwargs):
            self.unlink()
            return super().open(*args, **kwargs)

    (tmp_path / "tile.png").write_bytes(_encoded("png"))
    _refused(Vanishing(tmp_path / "tile.png"), "cannot be opened (No such file or directory)")


def test_empty_file(tmp_path):
    (tmp_path / "tile.png").touch()
    _refused(tmp_path / "tile.png", "0 bytes", "download it again")


def test_text_named_tif(tmp_path):
    (tmp_path / "tile.tif").write_text("no image, " * 100)
    _refused(tmp_path / "tile.tif", "its content is none of PNG", "whatever its name says")


def test_other_image_format(tmp_path):
    Image.fromarray(_rgb()).save(tmp_path / "tile.png", "GIF")
    _refused(tmp_path / "tile.png", "its content is none of PNG")


@pytest.mark.parametrize("kind", ["png", "jpeg", "tiff", "tiff-deflate", "bmp", "webp"])
def test_half_a_file(tmp_path, kind):
    data = _encoded(kind)
    (tmp_path / "tile").write_bytes(data[: len(data) // 2])
    _refused(tmp_path / "tile", "expected one image of 8-bit RGB")


@pytest.mark.parametrize(
    ("mode", "suffix", "word"),
    [
        ("L", "png", "grayscale"),
        ("LA", "png", "grayscale with transparency"),
        ("1", "png", "black and white"),
        ("CMYK", "jpg", "CMYK"),
        ("CMYK", "tif", "CMYK"),
        ("F", "tif", "32-bit floating point"),
        ("I", "tif", "integers of 32 bits"),
        ("LAB", "tif", "colour mode LAB"),
    ],
)
def test_refused_colour_modes(tmp_path, mode, suffix, word):
    path = tmp_path / f"tile.{suffix}"
    if mode == "LAB":
        Image.new("LAB", (48, 48)).save(path)
    else:
        Image.fromarray(_rgb()).convert(mode).save(path)
    _refused(path, word, "convert the file to an 8-bit RGB PNG")


def test_16_bit_grey(tmp_path):
    Image.fromarray(np.arange(48 * 48, dtype=np.uint16).reshape(48, 48)).save(tmp_path / "t.png")
    _refused(tmp_path / "t.png", "16 bits a channel")


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_rgb_is_not_silently_cut_to_8(tmp_path, suffix):
    path = tmp_path / f"tile.{suffix}"
    path.write_bytes(_rgb16(suffix))
    with Image.open(path) as image:
        assert image.mode == "RGB"  # Pillow does not tell: this is why the check exists
    _refused(path, "16 bits a channel")


def _rgb16(suffix):
    """16-bit RGB, written by hand: Pillow cannot."""
    import struct
    import zlib

    side = 48
    samples = np.random.default_rng(1).integers(0, 65536, (side, side, 3), dtype=np.uint16)
    if suffix == "png":
        rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)

        def chunk(name, data):
            crc = struct.pack(">I", zlib.crc32(name + data))
            return struct.pack(">I", len(data)) + name + data + crc

        header = struct.pack(">IIBBBBB", side, side, 16, 2, 0, 0, 0)
        return (
            b"\x89PNG\r\n\x1a\n"
            + chunk(b"IHDR", header)
            + chunk(b"IDAT", zlib.compress(rows))
            + chunk(b"IEND", b"")
        )
    data = samples.astype("<u2").tobytes()
    at_bits = 8 + len(data)
    entries = [
        (256, 3, 1, side),
        (257, 3, 1, side),
        (258, 3, 3, at_bits),
        (259, 3, 1, 1),
        (262, 3, 1, 2),
        (273, 4, 1, 8),
        (277, 3, 1, 3),
        (278, 3, 1, side),
        (279, 4, 1, len(data)),
    ]
    directory = struct.pack("<H", len(entries))
    directory += b"".join(struct.pack("<HHII", *entry) for entry in entries) + b"\0\0\0\0"
    bits = struct.pack("<HHH", 16, 16, 16)
    return b"II*\0" + struct.pack("<I", at_bits + len(bits)) + data + bits + directory


@pytest.mark.parametrize("size", [(1, 1), (MIN_TILE_PX - 1, 200), (200, MIN_TILE_PX - 1)])
def test_too_small(tmp_path, size):
    Image.new("RGB", size).save(tmp_path / "tile.png")
    _refused(tmp_path / "tile.png", f"{size[0]} × {size[1]} px", "at least 32 px a side")


def test_smallest_and_largest_are_read(tmp_path):
    Image.new("RGB", (MIN_TILE_PX, MAX_TILE_PX)).save(tmp_path / "tile.png")
    assert read_rgb(tmp_path / "tile.png").shape == (MAX_TILE_PX, MIN_TILE_PX, 3)


@pytest.mark.parametrize("side", [MAX_TILE_PX + 1, 12_000, 60_000])
def test_too_large_is_refused_before_decoding(tmp_path, side, monkeypatch):
    # The three sides: ours alone, Pillow's bomb warning, Pillow's bomb error.
    import struct
    import zlib

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    path = tmp_path / "bomb.png"
    idat = b"IDAT" + zlib.compress(b"\0" * 1000)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", len(header)) + chunk + struct.pack(">I", zlib.crc32(chunk))
        + struct.pack(">I", len(idat) - 4) + idat + struct.pack(">I", zlib.crc32(idat))
    )  # fmt: skip

    def decoded(*args, **kwargs):
        raise AssertionError("a bomb was decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", decoded)
    _refused(path, "at most 4096 px a side", "cut it into tiles")


def test_several_pages_or_frames(tmp_path):
    pages = [Image.fromarray(_rgb(seed=seed)) for seed in range(3)]
    pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:])
    _refused(tmp_path / "pages.tif", "3 pages or frames")
    pages[0].save(tmp_path / "frames.png", save_all=True, append_images=pages[1:])
    _refused(tmp_path / "frames.png", "3 pages or frames")
    pages[0].save(tmp_path / "frames.webp", save_all=True, append_images=pages[1:])
    _refused(tmp_path / "frames.webp", "3 pages or frames")


def test_filters_are_as_before_after_many_threads(tmp_path):
    (tmp_path / "tile.png").write_bytes(_encoded("png"))
    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        digests = set(pool.map(lambda _: pixel_sha256(read_rgb(tmp_path / "tile.png")), range(200)))
    assert digests == {pixel_sha256(_rgb())}
    assert warnings.filters == before


def test_odd_metadata_neither_warns_nor_refuses(tmp_path):
    # An EXIF block that announces more than it holds: Pillow warns, the pixels are sound.
    path = tmp_path / "tile.jpg"
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x0f\x01\x02\0\xff\0\0\0\xff\xff\0\0\0\0\0\0"
    Image.fromarray(_rgb()).save(path, quality=90, exif=exif)
    with (
        pytest.warns(UserWarning, match="Tag data|EXIF"),
        Image.open(path) as image,
    ):
        image.getexif()
    assert read_rgb(path).shape == (48, 40, 3)


def test_digest_tells_shape_from_bytes():
    flat = np.zeros((32, 64, 3), np.uint8)
    assert pixel_sha256(flat) != pixel_sha256(flat.reshape(64, 32, 3))
    turned = np.zeros((64, 32, 3), np.uint8).transpose(1, 0, 2)
    assert pixel_sha256(turned) == pixel_sha256(flat)
    # The definition, spelled out once: the store's tiles are known by it.
    import hashlib

    expected = hashlib.sha256(b"\0\0\0\x20" + b"\0\0\0\x40" + flat.tobytes())
    assert pixel_sha256(flat) == expected.hexdigest()


@pytest.mark.parametrize("bad", [np.zeros((32, 32), np.uint8), np.zeros((32, 32, 3), np.float32)])
def test_digest_refuses_what_is_no_rgb(bad):
    with pytest.raises(ValueError, match="expected uint8"):
        pixel_sha256(bad)


KINDS = st.sampled_from(["png", "jpeg", "tiff", "tiff-deflate", "bmp", "webp"])


@given(kind=KINDS, data=st.data())
@settings(max_examples=300, deadline=None)
def test_damaged_bytes_give_pixels_or_a_refusal(tmp_path_factory, kind, data):
    damaged = bytearray(_encoded(kind))
    # Headers are where the parsers are; half of the damage goes there.
    places = st.integers(0, 200) | st.integers(0, len(damaged) - 1)
    for place, value in data.draw(
        st.lists(st.tuples(places, st.integers(0, 255)), min_size=1, max_size=6)
    ):
        damaged[place] = value
    cut = data.draw(st.none() | st.integers(0, len(damaged)))
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(bytes(damaged[:cut]))
    try:
        pixels = read_rgb(path)
    except UnreadableImageError:
        return
    assert pixels.dtype == np.uint8
    assert pixels.ndim == 3
    assert pixels.shape[2] == 3


@given(kind=KINDS, share=st.floats(0, 1, exclude_max=True))
@settings(max_examples=200, deadline=None)
def test_a_truncated_file_never_gives_other_pixels(tmp_path_factory, kind, share):
    data = _encoded(kind)
    path = tmp_path_factory.getbasetemp() / "truncated"
    path.write_bytes(data)
    whole = read_rgb(path)
    path.write_bytes(data[: int(share * len(data))])
    try:
        pixels = read_rgb(path)
    except UnreadableImageError:
        return
    # Only bytes that no pixel depends on (an end mark) were missing.
    np.testing.assert_array_equal(pixels, whole)


def test_real_tiles_read(shared_data: Path):
    paths = sorted((shared_data / "nct_crc_he_7k_sample").rglob("*.*"))
    assert len(paths) == 162
    assert {read_rgb(path).shape for path in paths} == {(224, 224, 3)}
