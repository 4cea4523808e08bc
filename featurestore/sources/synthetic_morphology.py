"""Owns what synthetic tissue looks like: one painter a kind of tissue.

A painter takes a random generator, the side of the field in pixels and what can vary in that
tissue, and returns where haematoxylin and eosin sit, as concentrations: 0 is glass, about 1 a
well stained nucleus (haematoxylin) or muscle (eosin). Sizes are those of colon at 0.5 µm a
pixel. Nothing here knows a colour, a class name or a file, so that the same painters serve
single tiles and whole slides.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.random import Generator

from featurestore.sources.synthetic_shapes import (
    Floats,
    Gland,
    Map,
    fibres,
    flow_field,
    gland,
    grid,
    nuclei,
    ridge,
    sample,
    scatter,
    scatter_clustered,
    smooth_noise,
    tumour_nuclei,
)


class Tissue(NamedTuple):
    """Stain concentrations of a square field, each of shape (size_px, size_px)."""

    haematoxylin: Map
    eosin: Map


def background(rng: Generator, size_px: int, *, dirt: float = 0.3) -> Tissue:
    """Glass: next to nothing, with the smears and specks of ``dirt`` (0 to 1)."""
    shape = (size_px, size_px)
    smear = smooth_noise(rng, shape, 25) + 0.5 * smooth_noise(rng, shape, 6)
    smear = 0.15 * dirt * np.clip(smear - 1.5, 0, 1.5)
    n = rng.poisson(14 * dirt * _area(size_px))
    specks, _ = nuclei(
        rng, rng.uniform(0, size_px, (n, 2)), shape, long_px=rng.uniform(2, 7, n),
        roundness=0.7, irregularity=0.3, darkness=rng.uniform(0.1, 0.7, n),
    )  # fmt: skip
    film = 0.02 + 0.008 * smooth_noise(rng, shape, 60)
    return _tissue(film + 0.3 * smear + 0.8 * specks, film + smear + 0.4 * specks)


def adipose(rng: Generator, size_px: int, *, cell_px: float = 90, wall_px: float = 1.6) -> Tissue:
    """Fat: large empty cells of about ``cell_px`` between thin membranes, few flat nuclei."""
    shape = (size_px, size_px)
    centres = scatter(rng, size_px, cell_px, jitter=0.35, margin_px=1.2 * cell_px)
    y, x = grid(shape)
    y = y + 6 * smooth_noise(rng, shape, 45) + 1.2 * smooth_noise(rng, shape, 12)
    x = x + 6 * smooth_noise(rng, shape, 45) + 1.2 * smooth_noise(rng, shape, 12)
    near, second = np.full(shape, np.inf, np.float32), np.full(shape, np.inf, np.float32)
    for row, column in centres.astype(np.float32):
        squared = (y - row) ** 2 + (x - column) ** 2
        second = np.minimum(second, np.maximum(near, squared))
        near = np.minimum(near, squared)
    gap = (np.sqrt(second) - np.sqrt(near)) / 2
    width = wall_px * np.exp(0.45 * smooth_noise(rng, shape, 30))
    # Membranes thicken where three cells meet, and are torn in places.
    wall = np.exp(-((gap / width) ** 2)) + 0.3 * np.exp(-((gap / (2.6 * width)) ** 2))
    wall *= np.clip(0.9 + 0.4 * smooth_noise(rng, shape, 40), 0.05, 1.2)
    wall *= np.clip(1 + 0.3 * smooth_noise(rng, shape, 3), 0, 2)
    places = np.argwhere(gap < 2)
    n = min(len(places), rng.poisson(4 * _area(size_px)))
    at = places[rng.integers(0, len(places), n)] if n else np.empty((0, 2))
    ink, _ = nuclei(rng, at.astype(float), shape, long_px=rng.uniform(8, 15, n), roundness=0.45)
    film = 0.02 + 0.01 * smooth_noise(rng, shape, 50)
    return _tissue(film + 0.22 * wall + 0.8 * ink, film + 0.55 * wall)


def necrosis(
    rng: Generator, size_px: int, *, granularity: float = 0.5, nuclear_dust: float = 0.4,
    basophilia: float = 0.3,
) -> Tissue:  # fmt: skip
    """Debris: granular and torn, pink to purple, with ghosts and dust of dead nuclei."""
    shape = (size_px, size_px)
    grain = 0.7 * smooth_noise(rng, shape, 2.5) + 0.6 * smooth_noise(rng, shape, 5)
    clots = smooth_noise(rng, shape, 10)
    cracks = ridge(smooth_noise(rng, shape, 16) + 0.35 * grain, 0.12 + 0.25 * granularity)
    e = 0.68 + granularity * (0.24 * grain + 0.2 * clots) + 0.08 * smooth_noise(rng, shape, 60)
    ghosts = np.clip(smooth_noise(rng, shape, 7) - 0.4, 0, 2)
    h = 0.10 + 0.4 * basophilia + granularity * (0.08 * grain + 0.2 * ghosts)
    n = rng.poisson(260 * nuclear_dust * _area(size_px))
    dust, _ = nuclei(
        rng, scatter_clustered(rng, size_px, n), shape, long_px=rng.gamma(4, 1.1, n) + 1,
        roundness=0.75, irregularity=0.3, darkness=rng.uniform(0.3, 1.0, n),
    )  # fmt: skip
    whole = 1 - (0.3 + 0.6 * granularity) * cracks
    return _tissue(h * whole + 0.8 * dust, e * whole)


def lymphocytes(
    rng: Generator, size_px: int, *, density: float = 0.9, nucleus_px: float = 11.5
) -> Tissue:
    """Small, round, dark nuclei with hardly any cytoplasm; ``density`` 1 is a follicle."""
    shape = (size_px, size_px)
    loose = smooth_noise(rng, shape, 55)
    centres = scatter(rng, size_px, 1.1 * nucleus_px / math.sqrt(max(density, 0.05)), jitter=0.5)
    centres = centres[sample(loose, centres) < 1.0 + density]
    n = len(centres)
    ink, cover = nuclei(
        rng, centres, shape, long_px=nucleus_px * rng.normal(1, 0.1, n), roundness=0.9,
        irregularity=0.05, darkness=rng.normal(1.0, 0.13, n), chromatin=0.35,
    )  # fmt: skip
    ground = np.clip(0.28 + 0.16 * smooth_noise(rng, shape, 9), 0, 1)
    ground *= np.clip(1.0 - 0.5 * loose + 0.5 * (density - 0.7), 0.1, 1.2)
    return _tissue(0.2 * ground + ink, ground * (1 - 0.5 * cover))


def mucus(
    rng: Generator, size_px: int, *, strands: float = 0.5, cells: float = 0.2, waviness: float = 0.7
) -> Tissue:
    """Pools of pale bluish mucin drawn out into strands, with a few floating cells."""
    shape = (size_px, size_px)
    flow = flow_field(rng, size_px, wave_px=20 * waviness)
    wide = fibres(rng, flow, length_px=170, width_px=28)
    thin = ridge(fibres(rng, flow, length_px=90, width_px=10), 0.28)
    fine = fibres(rng, flow, length_px=40, width_px=3)
    thin *= np.clip(0.5 + 0.6 * smooth_noise(rng, shape, 30), 0, 1.5)
    pools = 0.06 * wide + 0.05 * smooth_noise(rng, shape, 70)
    h = 0.20 + pools + strands * (0.42 * thin + 0.07 * fine) + 0.03 * smooth_noise(rng, shape, 2.5)
    e = 0.07 + 0.5 * pools + strands * (0.24 * thin + 0.05 * fine)
    n = rng.poisson(12 * cells * _area(size_px))
    at = scatter_clustered(rng, size_px, n)
    ink, cover = nuclei(rng, at, shape, long_px=rng.uniform(8, 14, n), roundness=0.75)
    return _tissue(h + 0.8 * ink, e + 0.25 * cover)


def muscle(
    rng: Generator, size_px: int, *, waviness: float = 0.3, cellularity: float = 0.5,
    looseness: float = 0.2,
) -> Tissue:  # fmt: skip
    """Smooth muscle: parallel, evenly eosinophilic fibres with cigar-shaped nuclei."""
    flow = flow_field(rng, size_px, wave_px=14 * waviness)
    bundle = fibres(rng, flow, length_px=420, width_px=20)
    fibre = fibres(rng, flow, length_px=170, width_px=6)
    fine = fibres(rng, flow, length_px=60, width_px=2.5)
    cleft = np.clip((bundle - 1.8 + 1.2 * looseness) / 0.6, 0, 1)
    e = (0.92 + 0.1 * fibre + 0.07 * fine + 0.06 * bundle) * (1 - 0.75 * cleft)
    h = (0.18 + 0.04 * fibre) * (1 - 0.6 * cleft)
    centres = scatter(rng, size_px, 30 / math.sqrt(cellularity + 0.1), jitter=0.6)
    n = len(centres)
    ink, _ = nuclei(
        rng, centres, (size_px, size_px), long_px=rng.normal(26, 6, n).clip(12),
        roundness=0.22, angle=sample(flow.angle, centres) + rng.normal(0, 0.06, n),
        irregularity=0.05, darkness=rng.normal(0.72, 0.12, n), chromatin=0.12,
    )  # fmt: skip
    return _tissue(h + ink, e)


def stroma(
    rng: Generator, size_px: int, *, waviness: float = 0.8, cellularity: float = 0.4,
    looseness: float = 0.5,
) -> Tissue:  # fmt: skip
    """Collagen: wavy pink bundles, clefts between them, and sparse thin spindle nuclei."""
    shape = (size_px, size_px)
    flow = flow_field(rng, size_px, wave_px=19 * waviness)
    bundle = fibres(rng, flow, length_px=150, width_px=12)
    strand = fibres(rng, flow, length_px=60, width_px=4)
    fine = fibres(rng, flow, length_px=30, width_px=2.2) + smooth_noise(rng, shape, 2.5)
    gap = np.clip(0.9 * bundle + 0.5 * strand + 0.2 * fine - 1.3 + looseness, 0, 1)
    e = (0.62 + 0.15 * strand + 0.07 * fine + 0.12 * smooth_noise(rng, shape, 50)) * (1 - 0.8 * gap)
    h = (0.13 + 0.04 * strand + 0.04 * smooth_noise(rng, shape, 35)) * (1 - 0.6 * gap)
    centres = scatter(rng, size_px, 34 / math.sqrt(cellularity + 0.1), jitter=0.8)
    n = len(centres)
    ink, _ = nuclei(
        rng, centres, shape, long_px=rng.normal(18, 5, n).clip(7), roundness=0.3,
        angle=sample(flow.angle, centres) + rng.normal(0, 0.25, n), irregularity=0.12,
        darkness=rng.normal(0.85, 0.15, n), chromatin=0.15,
    )  # fmt: skip
    return _tissue(h + ink, e)


def normal_glands(
    rng: Generator, size_px: int, *, goblet: float = 0.8, regularity: float = 0.9,
    infiltrate: float = 0.5,
) -> Tissue:  # fmt: skip
    """Crypts: round, each with a lumen, goblet vacuoles and one row of basal nuclei."""
    tissue = lymphocytes(rng, size_px, density=0.15 + 0.35 * infiltrate)
    tissue = Tissue(tissue.haematoxylin, 0.9 * tissue.eosin + 0.22)
    for centre in scatter(rng, size_px, 112, jitter=0.2, margin_px=55):
        _insert(tissue, gland(
            rng, size_px, centre, radius_px=rng.uniform(44, 55), lumen=rng.uniform(0.1, 0.28),
            regularity=regularity, goblet=goblet, n_rows=1, nucleus_px=11,
        ))  # fmt: skip
    return _tissue(*tissue)


def tumour(
    rng: Generator, size_px: int, *, gland_formation: float = 0.5, pleomorphism: float = 0.7,
    infiltrate: float = 0.2,
) -> Tissue:  # fmt: skip
    """Carcinoma: crowded irregular glands with stratified nuclei, or sheets of large nuclei."""
    shape = (size_px, size_px)
    ground = stroma(rng, size_px, cellularity=0.4 + infiltrate, looseness=0.4)
    nests = np.clip(1.9 + 1.6 * smooth_noise(rng, shape, 65), 0, 1)
    centres = scatter(rng, size_px, 22 - 2 * pleomorphism, jitter=0.4)
    ink, _ = tumour_nuclei(rng, centres[sample(nests, centres) > 0.5], shape, pleomorphism)
    cytoplasm_h = 0.3 + 0.08 * smooth_noise(rng, shape, 8) + 0.04 * smooth_noise(rng, shape, 3)
    cytoplasm_e = 0.5 + 0.12 * smooth_noise(rng, shape, 10)
    tissue = Tissue(
        _mix(ground.haematoxylin, cytoplasm_h, nests) + ink,
        _mix(ground.eosin, cytoplasm_e, nests),
    )
    # The less alike the nuclei, the less order in the glands too.
    regularity = 0.6 - 0.4 * pleomorphism
    for centre in _crowded(rng, size_px, gland_formation):
        _insert(tissue, gland(
            rng, size_px, centre, radius_px=rng.uniform(34, 68), lumen=rng.uniform(0.2, 0.5),
            regularity=regularity, goblet=0.3 * (1 - pleomorphism), n_rows=2, nucleus_px=17,
            pleomorphism=pleomorphism,
        ))  # fmt: skip
    return _tissue(*tissue)


def _crowded(rng: Generator, size_px: int, gland_formation: float) -> Floats:
    """Centres of malignant glands, which push into each other: shape (n, 2)."""
    centres = scatter(rng, size_px, 95, jitter=0.5, margin_px=40)
    return centres[rng.random(len(centres)) < gland_formation]


def _insert(tissue: Tissue, part: Gland) -> None:
    """Put a gland into a field, over what was there."""
    for whole, own in ((tissue.haematoxylin, part.haematoxylin), (tissue.eosin, part.eosin)):
        whole[part.window] = whole[part.window] * (1 - part.cover) + own


def _mix(a: Map, b: Map, share_of_b: Map) -> Map:
    return a + share_of_b * (b - a)


def _area(size_px: int) -> float:
    """Area of the field in tiles of 224 px, in which counts above are given."""
    return (size_px / 224) ** 2


def _tissue(haematoxylin: Map, eosin: Map) -> Tissue:
    """No negative stain; float32, whatever the arithmetic before was in."""
    h, e = np.maximum(haematoxylin, 0), np.maximum(eosin, 0)
    return Tissue(h.astype(np.float32, copy=False), e.astype(np.float32, copy=False))
