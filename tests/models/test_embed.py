"""Tiles become features exactly once and in order, and a bad tile stops nothing."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from featurestore.errors import InputError
from featurestore.sources.images import pixel_sha256, read_rgb
from featurestore.sources.slide_tiles import read_place
from featurestore.sources.slides import inspect_slide
from featurestore.sources.synthetic_slides import draw_factors, write_cohort
from featurestore.sources.tiling import TilingSettings, tile_slide
from models.embed import embed, embed_together
from models.encoders import EncoderSettings, describe, open_encoder
from models.tiles import TileRef, read_batches, read_unchanged
from models.weight_files import file_sha256

MEAN_RGB = EncoderSettings(network="colour.mean_rgb", input_px=64)


@pytest.fixture
def encoder():
    return open_encoder(describe(MEAN_RGB, folder=Path("unused")), folder=Path("unused"))


@pytest.fixture
def refs(tissue):
    return [TileRef(100 + i, tile.path, tile.sha256) for i, tile in enumerate(tissue)]


@given(
    order=st.lists(st.integers(0, 44), max_size=60),
    bad=st.sets(st.integers(0, 44), max_size=5),
    batch_size=st.integers(1, 20),
    n_threads=st.integers(1, 4),
)
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_each_tile_once_in_order(encoder, refs, order, bad, batch_size, n_threads):
    asked = [
        TileRef(place, refs[i].path, "0" * 64 if i in bad else refs[i].sha256)
        for place, i in enumerate(order)
    ]

    batches = list(embed(encoder, asked, batch_size=batch_size, n_threads=n_threads))

    good = [place for place, i in enumerate(order) if i not in bad]
    given_ids = [int(t) for batch in batches for t in batch.tile_ids]
    assert given_ids == good
    rejected = [reject.item for batch in batches for reject in batch.rejects]
    assert rejected == [str(refs[i].path) for i in order if i in bad]
    assert all(len(batch.tile_ids) + len(batch.rejects) <= batch_size for batch in batches)
    for batch in batches:
        expected = [read_rgb(asked[t].path).mean(axis=(0, 1)) / 255 for t in batch.tile_ids]
        np.testing.assert_allclose(
            batch.vectors, np.reshape(expected, (len(expected), 3)), rtol=1e-5
        )


def test_tiles_are_taken_as_they_are_needed(encoder, refs):
    taken = []

    def tiles():
        for ref in refs:
            taken.append(ref.tile_id)
            yield ref

    batches = embed(encoder, tiles(), batch_size=4)
    next(batches)
    # The batch that is had, the one that is computed, the one that is next, two decoded ahead.
    assert len(taken) <= 5 * 4
    batches.close()


def test_image_replaced_since_it_was_taken_in_is_a_reject(encoder, refs, tmp_path: Path):
    path = tmp_path / "tile.png"
    path.write_bytes(refs[0].path.read_bytes())
    ref = TileRef(1, path, refs[0].sha256)
    path.write_bytes(refs[20].path.read_bytes())

    (batch,) = embed(encoder, [ref, refs[1]])

    assert batch.tile_ids.tolist() == [refs[1].tile_id]
    assert batch.rejects[0].stage == "embed"
    assert "another image than when it was taken in" in batch.rejects[0].reason


def test_what_cannot_be_read_is_a_reject(encoder, refs, tmp_path: Path):
    damaged = tmp_path / "damaged.png"
    damaged.write_bytes(refs[0].path.read_bytes()[:300])
    wide = tmp_path / "wide.png"
    Image.new("RGB", (64, 48), "pink").save(wide)
    bad = [
        TileRef(1, damaged, refs[0].sha256),
        TileRef(2, tmp_path / "gone.png", refs[0].sha256),
        TileRef(3, wide, pixel_sha256(read_rgb(wide))),
    ]

    (batch,) = embed(encoder, [*bad, refs[1]])

    assert [reject.item for reject in batch.rejects] == [str(ref.path) for ref in bad]
    assert "64 × 48 px; expected a square tile" in batch.rejects[2].reason
    assert batch.vectors.shape == (1, 3)


def test_features_that_are_not_finite_are_a_reject(encoder, refs):
    class Broken:
        version = encoder.version
        runtime = "none"
        batch_size = 32
        n_in_flight = 1

        def __call__(self, pixels):
            features = encoder(pixels)
            features[1] = np.nan
            return features

    (batch,) = embed(Broken(), refs[:3])

    assert batch.tile_ids.tolist() == [refs[0].tile_id, refs[2].tile_id]
    assert "not finite" in batch.rejects[0].reason


@pytest.mark.parametrize("n_in_flight", [1, 2, 4])
def test_batches_in_flight_come_back_in_order(encoder, refs, n_in_flight):
    class Uneven:
        """Quick and slow in turns; the first calls wait until as many run as are promised."""

        version = encoder.version
        runtime = "none"
        batch_size = 4

        def __init__(self):
            self.n_in_flight = n_in_flight
            self.at_once = self.most = self.n = 0
            self.lock = threading.Lock()
            self.all_in = threading.Barrier(n_in_flight, timeout=60)

        def __call__(self, pixels):
            with self.lock:
                self.n += 1
                call = self.n
                self.at_once += 1
                self.most = max(self.most, self.at_once)
            if call <= n_in_flight:
                self.all_in.wait()
            time.sleep(0.05 * (call % 2))
            with self.lock:
                self.at_once -= 1
            return encoder(pixels)

    uneven = Uneven()
    batches = list(embed(uneven, refs))

    assert [t for batch in batches for t in batch.tile_ids] == [ref.tile_id for ref in refs]
    assert uneven.most == n_in_flight
    expected = np.concatenate([batch.vectors for batch in embed(encoder, refs)])
    np.testing.assert_array_equal(np.concatenate([b.vectors for b in batches]), expected)


def test_an_error_of_the_network_ends_the_loop(encoder, refs):
    class Failing:
        version = encoder.version
        runtime = "none"
        batch_size = 4
        n_in_flight = 2

        def __call__(self, pixels):
            raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        list(embed(Failing(), refs))


def test_several_encoders_share_one_decode_pass(encoder, refs, monkeypatch):
    settings = EncoderSettings(network="colour.histogram", input_px=64)
    histogram = open_encoder(describe(settings, folder=Path("unused")), folder=Path("unused"))
    bad = replace(refs[3], sha256="0" * 64)
    asked = [*refs[:3], bad, *refs[4:10]]
    alone = [list(embed(one, asked, batch_size=4)) for one in (encoder, histogram)]
    n_read = 0

    def read(tile):
        nonlocal n_read
        n_read += 1
        return read_unchanged(tile)

    monkeypatch.setattr("models.tiles.read_unchanged", read)
    together = list(embed_together([encoder, histogram], asked, batch_size=4, n_threads=1))

    assert n_read == len(asked)
    for both, *single in zip(together, *alone, strict=True):
        for got, expected in zip(both, single, strict=True):
            np.testing.assert_array_equal(got.tile_ids, expected.tile_ids)
            np.testing.assert_array_equal(got.vectors, expected.vectors)
            assert got.rejects == expected.rejects


def test_encoders_of_different_images_do_not_share(encoder, refs):
    settings = replace(MEAN_RGB, input_px=32)
    other = open_encoder(describe(settings, folder=Path("unused")), folder=Path("unused"))
    with pytest.raises(InputError, match="must take the same images"):
        embed_together([encoder, other], refs)


def test_damage_read_by_many_threads_costs_its_own_tiles_only(encoder, slide_folder, tmp_path):
    """A handle refuses everything after an error: what other threads read on it must not suffer."""
    file = sorted(slide_folder.glob("*.tif"))[0]
    info = inspect_slide(slide_folder, file.name, patient_id="p")
    tiled = tile_slide(info, TilingSettings(tile_px=32, max_tiles=None, min_sharpness=0))
    content = bytearray(file.read_bytes())
    with tifffile.TiffFile(file) as tiff:
        start, length = tiff.pages[0].dataoffsets[-1], tiff.pages[0].databytecounts[-1]
    content[start : start + length] = bytes(length)
    (tmp_path / file.name).write_bytes(content)
    sha256 = file_sha256(tmp_path / file.name)
    places = [replace(tiled.place(tile), slide_sha256=sha256) for tile in tiled.tiles]
    # Damaged and sound ones in turns, so that all threads meet both all the time.
    lost = [place for place in places if place.x_px + 32 > 256 and place.y_px + 32 > 256]
    sound = [place for place in places if place not in lost]
    mixed = [place for pair in zip(lost, sound, strict=False) for place in pair]
    refs = [TileRef(i, tmp_path / file.name, p.sha256, p) for i, p in enumerate(mixed)]

    batches = list(embed(encoder, refs, n_threads=6))

    assert len(refs) > 50
    given_ids = {int(t) for batch in batches for t in batch.tile_ids}
    assert given_ids == {i for i, place in enumerate(mixed) if place in sound}


def test_tiles_are_resampled_as_asked(refs):
    (batch,) = read_batches(refs[:1], input_px=32, interpolation="bicubic")

    image = Image.open(refs[0].path).convert("RGB").resize((32, 32), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(batch.pixels[0], np.asarray(image))


def test_unknown_interpolation_is_refused(refs):
    with pytest.raises(InputError, match="expected one of nearest"):
        next(read_batches(refs, input_px=32, interpolation="cubic"))


@pytest.fixture(scope="module")
def slide_folder(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("slides")
    write_cohort(root, factors=draw_factors(2, seed=3), seed=3, slide_px=512)
    return root


@pytest.fixture
def on_slides(slide_folder, tmp_path: Path):
    """Tiles of two slides, whose files a test may spoil."""
    refs = []
    for file in sorted(slide_folder.glob("*.tif")):
        (tmp_path / file.name).write_bytes(file.read_bytes())
        info = inspect_slide(tmp_path, file.name, patient_id="p")
        tiled = tile_slide(info, TilingSettings(tile_px=64, max_tiles=6, stain="macenko"))
        for place in map(tiled.place, tiled.tiles):
            refs.append(TileRef(len(refs), info.file, place.sha256, place))
    return refs


def test_tiles_on_slides_are_read_from_them(encoder, on_slides):
    batches = list(embed(encoder, on_slides, batch_size=5))

    assert [t for batch in batches for t in batch.tile_ids] == list(range(12))
    assert not any(batch.rejects for batch in batches)
    expected = [read_place(ref.path, ref.place).mean(axis=(0, 1)) / 255 for ref in on_slides]
    vectors = np.concatenate([batch.vectors for batch in batches])
    np.testing.assert_allclose(vectors, expected, rtol=1e-5)


def test_files_and_places_on_slides_mix(encoder, refs, on_slides):
    (batch,) = embed(encoder, [refs[0], on_slides[0], refs[1]], batch_size=3)

    assert batch.tile_ids.tolist() == [refs[0].tile_id, on_slides[0].tile_id, refs[1].tile_id]


def test_slide_that_vanished_rejects_its_tiles_only(encoder, on_slides):
    on_slides[0].path.unlink()

    batches = list(embed(encoder, on_slides, batch_size=5))

    assert [t for batch in batches for t in batch.tile_ids] == list(range(6, 12))
    rejects = [reject for batch in batches for reject in batch.rejects]
    assert [reject.item for reject in rejects] == [
        f"{ref.path}@{ref.place.x_px},{ref.place.y_px}" for ref in on_slides[:6]
    ]
    assert len({reject.reason for reject in rejects}) == 1
    assert "put it back" in rejects[0].reason


def test_slide_replaced_under_the_same_name_is_told_by_its_checksum(encoder, on_slides):
    first, second = on_slides[0].path, on_slides[6].path
    status = first.stat()
    first.write_bytes(second.read_bytes())
    os.utime(first, ns=(status.st_atime_ns, status.st_mtime_ns))

    batches = list(embed(encoder, on_slides))

    assert [t for batch in batches for t in batch.tile_ids] == list(range(6, 12))
    reasons = {reject.reason for batch in batches for reject in batch.rejects}
    assert len(reasons) == 1
    assert "is another file than when it was tiled" in reasons.pop()


def test_tile_of_a_resolution_since_corrected_is_a_reject(encoder, on_slides):
    tile = on_slides[0]
    corrected = replace(tile, place=replace(tile.place, slide_mpp=0.25))

    (batch,) = embed(encoder, [corrected, on_slides[1]])

    assert batch.tile_ids.tolist() == [1]
    assert "was corrected to 0.25" in batch.rejects[0].reason


def test_not_finite_features_name_the_place_on_the_slide(encoder, on_slides):
    class Broken:
        version = encoder.version
        runtime = "none"
        batch_size = 32
        n_in_flight = 1

        def __call__(self, pixels):
            return np.full((len(pixels), 3), np.nan, np.float32)

    (batch,) = embed(Broken(), on_slides[:2])

    assert [reject.item for reject in batch.rejects] == [ref.item for ref in on_slides[:2]]
