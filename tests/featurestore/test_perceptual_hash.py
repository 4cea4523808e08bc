"""Perceptual hashes: copies are near whatever was done to them, other tiles are far."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from featurestore import perceptual_hash as ph
from featurestore.near_duplicates import MAX_BITS_COPY, MAX_BITS_SIMILAR
from featurestore.sources.synthetic import CLASSES, tissue_tile


def small(rgb: np.ndarray) -> np.ndarray:
    image = Image.fromarray(np.ascontiguousarray(rgb))
    side = (ph.SMALL_PX, ph.SMALL_PX)
    return np.asarray(image.resize(side, Image.Resampling.BILINEAR))


def hashed(*tiles: np.ndarray) -> np.ndarray:
    return ph.hash_tiles(np.stack([small(tile) for tile in tiles]))[0]


@pytest.fixture(scope="module")
def tiles() -> list[np.ndarray]:
    return [tissue_tile(label, i, seed=5) for label in CLASSES for i in range(3)]


DIHEDRAL = [
    lambda a: a,
    lambda a: a[:, ::-1],
    lambda a: a[::-1],
    lambda a: a[::-1, ::-1],
    lambda a: a.swapaxes(0, 1),
    np.rot90,
    lambda a: np.rot90(a, 3),
    lambda a: a[::-1, ::-1].swapaxes(0, 1),
]


def test_the_eight_turns_of_a_hash_are_the_hashes_of_the_turned_tile(
    tiles: list[np.ndarray],
) -> None:
    tile = tiles[CLASSES.index("TUM") * 3]
    derived = np.stack([turn[0] for turn in ph.turns(hashed(tile))])
    for change in DIHEDRAL:
        # Resampling rounds a pixel here and there, which may turn a sign of nearly 0.
        found = (derived != hashed(change(tile))).sum(axis=1)
        assert found.min() <= 3
    distinct = {turn.tobytes() for turn in derived}
    assert len(distinct) == 8


def jpeg(rgb: np.ndarray, quality: int) -> np.ndarray:
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(rgb)).save(stream, "JPEG", quality=quality)
    return np.asarray(Image.open(stream))


@settings(max_examples=25)
@given(
    which=st.integers(0, 26),
    way=st.integers(0, 7),
    quality=st.integers(50, 95),
    gain=st.floats(0.85, 1.1),
    shift=st.integers(0, 2),
)
def test_a_changed_copy_is_found_whatever_was_changed(
    tiles: list[np.ndarray], which: int, way: int, quality: int, gain: float, shift: int
) -> None:
    pixels, plain = ph.hash_tiles(np.stack([small(tile) for tile in tiles]))
    changed = np.clip(DIHEDRAL[way](tiles[which]) * gain, 0, 255).astype(np.uint8)
    changed = jpeg(np.roll(changed, shift, axis=0), quality)
    distance, position = ph.nearest(hashed(changed), pixels[~plain])
    if not plain[which]:
        assert distance[0] <= MAX_BITS_COPY
        assert np.flatnonzero(~plain)[position[0]] == which


def test_other_tiles_are_far(tiles: list[np.ndarray]) -> None:
    bits, plain = ph.hash_tiles(np.stack([small(tile) for tile in tiles]))
    assert len(ph.pairs_within(bits[~plain], MAX_BITS_SIMILAR)) == 0


def test_nearest_is_the_same_for_every_block_and_agrees_with_a_count() -> None:
    rng = np.random.default_rng(1)
    bits, others = rng.random((2, 37, ph.N_BITS)) > 0.5
    bits[:, 0] = others[:, 0] = False
    distances, positions = ph.nearest(bits, others)
    for block in (1, 7, 100):
        again = ph.nearest(bits, others, block=block)
        assert (again[0] == distances).all()
        assert (again[1] == positions).all()
    by_hand = np.min(
        [(turn[:, None] != others[None]).sum(axis=2) for turn in ph.turns(bits)], axis=0
    )
    assert (distances == by_hand.min(axis=1)).all()
    assert (positions == by_hand.argmin(axis=1)).all()


def test_pairs_within_are_found_once_and_never_a_tile_with_itself() -> None:
    rng = np.random.default_rng(2)
    bits = rng.random((20, ph.N_BITS)) > 0.5
    bits[:, 0] = False
    bits[13] = ph.turns(bits[[4]])[6][0]
    bits[17] = bits[4]
    for block in (3, 50):
        pairs = ph.pairs_within(bits, 10, block=block)
        assert pairs.tolist() == [[4, 13, 0], [4, 17, 0], [13, 17, 0]]


def test_bare_glass_is_too_plain_to_be_told() -> None:
    rng = np.random.default_rng(3)
    glass = (240 + rng.normal(0, 2, (2, 64, 64, 3))).clip(0, 255).astype(np.uint8)
    assert ph.hash_tiles(glass)[1].all()


def test_tiles_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(32, 32, 3\); expected \(64, 64, 3\)"):
        ph.hash_tiles(np.zeros((1, 32, 32, 3), np.uint8))
