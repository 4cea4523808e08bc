"""Macenko's normalisation: two stains are found, and tiles without two are refused."""

from __future__ import annotations

import numpy as np
import pytest

from featurestore.errors import UnreadableImageError
from featurestore.sources.stain import macenko, normalise

REFERENCE = np.array([[0.5626, 0.7201, 0.4062], [0.2159, 0.8012, 0.5581]])
OTHER = np.array([[0.65, 0.70, 0.29], [0.07, 0.95, 0.31]])


def stained_with(stains: np.ndarray, seed: int = 0, strength: float = 1.0) -> np.ndarray:
    """Pixels of random amounts of two stains, many of one or the other alone."""
    rng = np.random.default_rng(seed)
    amounts = rng.gamma(2, 0.45, (128 * 128, 2)) * strength
    alone = rng.random(len(amounts))
    amounts[alone < 0.3, 0] *= 0.02
    amounts[alone > 0.7, 1] *= 0.02
    light = 255 * np.exp(-amounts @ stains) - 1
    return np.clip(light, 0, 255).astype(np.uint8).reshape(128, 128, 3)


@pytest.mark.parametrize("strength", [0.7, 1.0, 1.3])
def test_laboratories_become_alike(strength):
    ours = macenko(stained_with(OTHER, strength=strength)).astype(int)
    reference = macenko(stained_with(REFERENCE)).astype(int)
    before = stained_with(OTHER, strength=strength).astype(int) - stained_with(REFERENCE)

    assert np.abs(ours - reference).mean() < 4
    assert np.abs(ours - reference).mean() < 0.25 * np.abs(before).mean()


def test_normalised_twice_changes_little():
    once = macenko(stained_with(OTHER))

    assert np.abs(macenko(once).astype(int) - once).mean() < 3


def test_same_tile_same_bytes():
    rgb = stained_with(OTHER)
    before = rgb.copy()

    np.testing.assert_array_equal(macenko(rgb), macenko(rgb[:, :].copy()))
    np.testing.assert_array_equal(rgb, before)


def test_order_of_pixels_does_not_matter():
    rgb = stained_with(OTHER)

    flipped = macenko(np.ascontiguousarray(rgb[::-1, ::-1]))[::-1, ::-1]

    assert np.abs(flipped.astype(int) - macenko(rgb)).max() <= 1


@pytest.mark.parametrize(
    ("colour", "found"),
    [((255, 255, 255), "0 of 16384 pixels"), ((160, 90, 140), "one colour")],
)
def test_what_has_not_two_stains_is_refused(colour, found):
    with pytest.raises(UnreadableImageError, match=found):
        macenko(np.full((128, 128, 3), colour, np.uint8))


def test_none_leaves_pixels_alone_and_unknown_is_refused():
    rgb = stained_with(OTHER)

    assert normalise(rgb, "none") is rgb
    with pytest.raises(ValueError, match="expected one of none, macenko"):
        normalise(rgb, "vahadane")
