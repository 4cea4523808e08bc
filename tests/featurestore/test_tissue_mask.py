"""Tissue is told from glass and pen, sharp from blurred, whatever the share of each."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from featurestore.sources.synthetic import tissue_tile
from featurestore.sources.tissue_mask import otsu, share_of_boxes, sharpness, tissue_mask

PINK, GLASS = (205, 150, 185), (243, 243, 245)


def picture(share: float, size: int = 100) -> np.ndarray:
    rgb = np.full((size, size, 3), GLASS, np.uint8)
    rgb[:, : round(share * size)] = PINK
    noise = np.random.default_rng(0).integers(-3, 4, rgb.shape)
    return (rgb + noise).astype(np.uint8)


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.9, 1.0])
def test_share_of_tissue_is_found_even_where_there_is_no_glass_or_no_tissue(share):
    mask = tissue_mask(picture(share), mpp=8)

    assert mask.tissue.mean() == pytest.approx(share, abs=0.02)
    assert not mask.pen.any()


def test_specks_are_dust_but_a_small_image_is_not():
    rgb = picture(0.0)
    rgb[50:53, 50:53] = PINK
    assert not tissue_mask(rgb, mpp=8).tissue.any()

    assert tissue_mask(picture(1.0, size=6), mpp=8).tissue.all()


@pytest.mark.parametrize(
    "ink", [(40, 60, 200), (20, 150, 70), (200, 20, 30), (20, 20, 25), (30, 190, 200)]
)
def test_pen_is_no_tissue_and_is_named(ink):
    rgb = picture(0.5)
    rgb[30:60, 10:90] = ink
    if ink == (40, 60, 200):  # blue as ink is, with green above red
        assert ink[1] > ink[0]

    mask = tissue_mask(rgb, mpp=8)

    assert mask.pen[32:58, 12:88].all()
    assert not (mask.pen & mask.tissue).any()


def test_both_stains_and_blood_are_not_pen():
    for colour in [(90, 60, 150), (220, 110, 160), (180, 60, 90), (150, 100, 160)]:
        rgb = picture(0.5)
        rgb[30:60, 10:90] = colour
        mask = tissue_mask(rgb, mpp=8)
        assert not mask.pen.any(), colour
        assert mask.tissue[35:55, 15:85].all(), colour


@given(st.integers(1, 30), st.integers(1, 30), st.integers(1, 12), st.integers(1, 12), st.randoms())
@settings(max_examples=60, deadline=None)
def test_shares_of_boxes_are_means(height, width, box_width, box_height, random):
    mask = np.array([[random.random() < 0.5 for _ in range(width)] for _ in range(height)])
    box_width, box_height = min(box_width, width), min(box_height, height)
    left = np.arange(width - box_width + 1)
    top = np.array([random.randrange(height - box_height + 1) for _ in left])

    shares = share_of_boxes(mask, left, top, (box_width, box_height))

    expected = [
        mask[y : y + box_height, x : x + box_width].mean() for x, y in zip(left, top, strict=True)
    ]
    np.testing.assert_allclose(shares, expected)


def test_otsu_separates_two_groups():
    rng = np.random.default_rng(1)
    values = np.concatenate([rng.normal(20, 4, 500), rng.normal(120, 10, 200)]).astype(np.float32)

    assert 35 < otsu(values) < 90


def test_blurred_tissue_is_less_sharp_than_any_in_focus():
    tiles = [tissue_tile(label, 0, seed=3) for label in ("TUM", "STR", "LYM", "NORM")]
    blurred = [
        np.asarray(Image.fromarray(tile).filter(ImageFilter.GaussianBlur(4))) for tile in tiles
    ]

    assert max(map(sharpness, blurred)) < 60 < min(map(sharpness, tiles))
