"""Augmented views: what they may change, and that they repeat."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from models.augment import jitter_stain, view_of

TILES = hnp.arrays(np.uint8, st.just((6, 6, 3)))
DIGESTS = st.binary(min_size=32, max_size=32).map(bytes.hex)


@given(rgb=TILES, view=st.integers(0, 9), sha256=DIGESTS, seed=st.integers(0, 2**31))
def test_view_keeps_shape_and_type_and_repeats(rgb, view, sha256, seed):
    before = rgb.copy()
    one = view_of(rgb, view=view, sha256=sha256, seed=seed, stain_jitter=0.1)
    two = view_of(rgb, view=view, sha256=sha256, seed=seed, stain_jitter=0.1)

    assert (one.shape, one.dtype) == (rgb.shape, np.uint8)
    np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(rgb, before)
    if view == 0:
        np.testing.assert_array_equal(one, rgb)


def test_flips_and_turns_are_all_eight_and_move_pixels_only():
    rgb = np.arange(27, dtype=np.uint8).reshape(3, 3, 3)
    views = {
        view_of(rgb, view=v, sha256="ab" * 32, seed=1, stain_jitter=0).tobytes()
        for v in range(1, 200)
    }

    turns = [np.rot90(rgb, k) for k in range(4)]
    assert views == {t.tobytes() for t in turns} | {t[:, ::-1].tobytes() for t in turns}


def test_views_differ_by_tile_and_seed():
    rgb = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    views = {
        view_of(rgb, view=1, sha256=sha256, seed=seed, stain_jitter=0.1).tobytes()
        for sha256 in ("ab" * 32, "cd" * 32)
        for seed in (1, 2)
    }

    assert len(views) == 4


@given(rgb=TILES.filter(lambda a: a.min() > 0), seed=st.integers(0, 1000))
def test_stain_changes_are_mild(rgb, seed):
    assert np.array_equal(jitter_stain(rgb, np.random.default_rng(seed), 0), rgb)
    # A ten-thousandth of a change must leave what unmixing and mixing again leaves.
    close = jitter_stain(rgb, np.random.default_rng(seed), 1e-4)
    assert np.abs(close.astype(int) - rgb).max() <= 1


def test_stain_is_changed_in_optical_density():
    # Pure eosin twice as dense must become twice as dense eosin, whatever its strength.
    eosin = np.array([0.07, 0.99, 0.11]) / np.linalg.norm([0.07, 0.99, 0.11])
    rng_of = lambda: np.random.default_rng(4)  # noqa: E731
    jitter = 0.2
    scale, offset = rng_of().uniform(1 - jitter, 1 + jitter, 3), None
    rng = rng_of()
    rng.uniform(size=3)
    offset = rng.uniform(-jitter, jitter, 3)
    stains = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
    stains /= np.linalg.norm(stains, axis=1, keepdims=True)
    pixel = 255 * np.exp(-0.8 * eosin)

    changed = jitter_stain(np.rint(pixel).astype(np.uint8).reshape(1, 1, 3), rng_of(), jitter)

    expected = 255 * np.exp(-(0.8 * scale[1] * eosin + offset @ stains))
    np.testing.assert_allclose(changed[0, 0], np.clip(expected, 0, 255), atol=1.5)
