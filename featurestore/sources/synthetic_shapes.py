"""Owns the shapes that synthetic tissue is composed of: noise, points, fibres, nuclei, glands.

Lengths are in pixels, angles in radians; points are (row, column). Everything is vectorised
over the objects of a field, because a demo paints thousands of fields.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image

Map = NDArray[np.float32]
Floats = NDArray[np.floating]


def smooth_noise(rng: Generator, shape: tuple[int, int], scale_px: float) -> Map:
    """Gaussian random field of about unit variance, its features about ``scale_px`` wide."""
    height, width = shape[0] / scale_px, shape[1] / scale_px
    coarse = rng.standard_normal((math.ceil(height) + 4, math.ceil(width) + 4), dtype=np.float32)
    x, y = 1 + rng.random(2)
    return _resized(coarse, shape, (x, y, x + width, y + height))


def _resized(knots: Map, shape: tuple[int, int], box: tuple[float, float, float, float]) -> Map:
    size = (shape[1], shape[0])
    fine = Image.fromarray(knots).resize(size, Image.Resampling.BICUBIC, box)
    # Interpolation between the knots takes a third of the variance; give it back.
    return np.asarray(fine, np.float32) * np.float32(1.25)


def grid(shape: tuple[int, int]) -> tuple[Map, Map]:
    """Row and column of every pixel, each of shape ``shape``."""
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    return y, x


def ridge(noise: Floats, width: float) -> Map:
    """Curved lines, 1 along the zero crossings of ``noise`` and 0 away from them."""
    line: Map = np.exp(-((noise / width) ** 2))
    return line


def sample(values: Map, points: Floats) -> Map:
    """``values`` at (row, column) points; those outside take the nearest pixel's."""
    rows = np.clip(points[:, 0].astype(np.int64), 0, values.shape[0] - 1)
    columns = np.clip(points[:, 1].astype(np.int64), 0, values.shape[1] - 1)
    return values[rows, columns]


def scatter(
    rng: Generator, size_px: int, spacing_px: float, *, jitter: float, margin_px: float = 12
) -> Floats:
    """Points at about ``spacing_px`` from each other, nowhere in rows: shape (n, 2).

    A hexagonal lattice in a random position and turn, each point moved by ``jitter`` times
    the spacing; the field is filled to ``margin_px`` beyond its border.
    """
    reach = math.ceil((0.75 * size_px + margin_px) / spacing_px) + 1
    i, j = np.mgrid[-reach : reach + 1, -reach : reach + 1].reshape(2, -1).astype(np.float64)
    lattice = np.stack([i * math.sqrt(0.75), j + 0.5 * (i % 2)], axis=1) * spacing_px
    lattice += rng.uniform(-0.5, 0.5, 2) * spacing_px
    turn = rng.uniform(0, math.pi)
    cos, sin = math.cos(turn), math.sin(turn)
    points = lattice @ np.array([[cos, sin], [-sin, cos]]) + size_px / 2
    points += rng.normal(0, 0.5 * jitter * spacing_px, points.shape)
    inside = np.all((points > -margin_px) & (points < size_px + margin_px), axis=1)
    kept: Floats = points[inside]
    return kept


def scatter_clustered(rng: Generator, size_px: int, n: int) -> Floats:
    """``n`` points in loose groups: shape (n, 2)."""
    seeds = rng.uniform(0, size_px, (max(n // 8, 1), 2))
    points = seeds[rng.integers(0, len(seeds), n)] + rng.normal(0, 16, (n, 2))
    alone = rng.random(n) < 0.5
    points[alone] = rng.uniform(0, size_px, (int(alone.sum()), 2))
    return points


class Flow(NamedTuple):
    """Where fibres run: distances along and across them, and their angle, a pixel each."""

    along: Floats
    across: Floats
    angle: Floats


def flow_field(rng: Generator, size_px: int, *, wave_px: float) -> Flow:
    """Parallel lines of a random direction, pushed aside by up to about ``wave_px``."""
    turn = rng.uniform(0, math.pi)
    y, x = grid((size_px, size_px))
    push = wave_px * (smooth_noise(rng, y.shape, 75) + 0.15 * smooth_noise(rng, y.shape, 30))
    across: Floats = -x * math.sin(turn) + y * math.cos(turn) + push
    down, right = np.gradient(across)
    angle: Floats = np.arctan2(-right, down)
    return Flow(x * math.cos(turn) + y * math.sin(turn), across, angle)


def fibres(rng: Generator, flow: Flow, *, length_px: float, width_px: float) -> Map:
    """Noise of unit variance, drawn out along a flow."""
    # 64 fibres across and 16 along, wrapped around without a seam.
    knots = np.pad(rng.standard_normal((64, 16), dtype=np.float32), 2, mode="wrap")
    texture = _resized(knots, (512, 512), (2, 2, 18, 66))
    rows = (flow.across * (8 / width_px)).astype(np.int32) & 511
    columns = (flow.along * (32 / length_px)).astype(np.int32) & 511
    drawn_out: Map = texture[rows, columns]
    return drawn_out


def nuclei(
    rng: Generator, centres: Floats, shape: tuple[int, int], *, long_px: Floats,
    roundness: float, angle: Floats | None = None, irregularity: float = 0.08,
    darkness: Floats | float = 0.95, vesicular: float = 0.15, chromatin: float = 0.25,
) -> tuple[Map, Map]:  # fmt: skip
    """Stamp nuclei.

    Parameters
    ----------
    rng : Generator
    centres : ndarray of shape (n, 2)
    shape : tuple of int
        Height and width of the field; what lies outside is cut off.
    long_px : ndarray of shape (n,)
        Long diameters.
    roundness : float
        Short over long diameter, on average.
    angle : ndarray of shape (n,), optional
        Direction of the long axis; random by default.
    irregularity : float
        How far the outline leaves the ellipse, as a share of its radius.
    darkness : ndarray of shape (n,) or float
        Haematoxylin of a solid nucleus.
    vesicular : float
        0 is solid; towards 1 pale within, dark at the membrane, with a nucleolus.
    chromatin : float
        Contrast of the grain within.

    Returns
    -------
    haematoxylin, cover : ndarray of shape ``shape``
        The stain, and the share of each pixel that is nucleus.
    """
    n = len(centres)
    ink, cover = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    if n == 0:
        return ink, cover
    a = _column(np.maximum(long_px, 1.5), n) / 2
    b = a * _column(np.clip(roundness * rng.normal(1, 0.12, n), 0.15, 1), n)
    turn = _column(rng.uniform(0, math.pi, n) if angle is None else angle, n)
    offset = np.arange(-math.ceil(1.3 * a.max()) - 1, math.ceil(1.3 * a.max()) + 2)
    corner = np.floor(centres).astype(np.int64)
    rest = (centres - corner).astype(np.float32)
    dy = offset[None, :, None].astype(np.float32) - rest[:, 0, None, None]
    dx = offset[None, None, :].astype(np.float32) - rest[:, 1, None, None]
    rows, columns = corner[:, 0, None, None] + offset[:, None], corner[:, 1, None, None] + offset
    u = (dx * np.cos(turn) + dy * np.sin(turn)) / a
    v = (dy * np.cos(turn) - dx * np.sin(turn)) / b
    hit = (u**2 + v**2 < 1.7) & (rows >= 0) & (rows < shape[0])
    hit &= (columns >= 0) & (columns < shape[1])
    which, where = np.nonzero(hit)[0], (rows * shape[1] + columns)[hit]
    phase = rng.uniform(0, 2 * math.pi, (2, n)).astype(np.float32)
    centre = rng.uniform(-0.35, 0.35, (2, n)).astype(np.float32)
    u, v = u[hit], v[hit]
    theta = np.arctan2(v, u)
    bumps = np.sin(2 * theta + phase[0, which]) + np.sin(3 * theta + phase[1, which])
    rho = np.hypot(u, v) / (1 + irregularity * bumps)
    inside = np.clip((1 - rho) * b.ravel()[which] / 1.3 + 0.5, 0, 1)
    pale = 1 - vesicular * np.clip(1.25 - 1.6 * rho**2, 0, 1)
    off = (u - centre[0, which]) ** 2 + (v - centre[1, which]) ** 2
    pale += 1.3 * vesicular * np.exp(-off / 0.035) * (a.ravel()[which] > 6)
    np.maximum.at(ink.reshape(-1), where, inside * pale * _column(darkness, n).ravel()[which])
    np.maximum.at(cover.reshape(-1), where, inside)
    ink *= np.maximum(1 + chromatin * smooth_noise(rng, shape, 2.2), 0)
    return ink, cover


def _column(values: Floats | float, n: int) -> Map:
    """One value an object, shaped to meet its pixels: (n, 1, 1)."""
    return np.broadcast_to(np.asarray(values, np.float32), (n,)).reshape(n, 1, 1)


def tumour_nuclei(
    rng: Generator, centres: Floats, shape: tuple[int, int], pleomorphism: float, *,
    angle: Floats | None = None, roundness: float = 0.75,
) -> tuple[Map, Map]:  # fmt: skip
    """Large vesicular nuclei with nucleoli; the more ``pleomorphism``, the less alike."""
    n = len(centres)
    return nuclei(
        rng, centres, shape, angle=angle, roundness=roundness, vesicular=0.6, chromatin=0.35,
        long_px=np.exp(rng.normal(math.log(18.5), 0.10 + 0.18 * pleomorphism, n)).clip(9, 34),
        irregularity=0.06 + 0.10 * pleomorphism,
        darkness=rng.normal(0.95, 0.12 + 0.12 * pleomorphism, n).clip(0.5),
    )  # fmt: skip


class Gland(NamedTuple):
    """Stains of one gland in its window, and the share of each pixel that is gland."""

    window: tuple[slice, slice]
    haematoxylin: Map
    eosin: Map
    cover: Map


def gland(
    rng: Generator, size_px: int, centre: Floats, *, radius_px: float, lumen: float,
    regularity: float, goblet: float, n_rows: int, nucleus_px: float, pleomorphism: float = 0.0,
) -> Gland:  # fmt: skip
    """One gland in cross-section: nuclei along its base, goblet vacuoles, a lumen.

    Parameters
    ----------
    rng : Generator
    size_px : int
        Side of the field that the gland lies in.
    centre : ndarray of shape (2,)
    radius_px : float
    lumen : float
        Radius of the lumen as a share of the gland's.
    regularity : float
        1 is an ellipse; towards 0 the outline buckles.
    goblet : float
        Share of the places above the nuclei that hold a mucin vacuole.
    n_rows : int
        Rows of nuclei: 1 is normal, more is stratified.
    nucleus_px : float
        Long diameter of a nucleus.
    pleomorphism : float
        0 for benign nuclei.
    """
    reach = math.ceil(1.55 * radius_px)
    corner = np.clip(np.floor(centre).astype(int) - reach, 0, size_px)
    end = np.clip(np.floor(centre).astype(int) + reach, 0, size_px)
    window = (slice(corner[0], end[0]), slice(corner[1], end[1]))
    shape = (int(end[0] - corner[0]), int(end[1] - corner[1]))
    if min(shape) == 0:
        nothing = np.zeros(shape, np.float32)
        return Gland(window, nothing, nothing, nothing)
    outline = _Outline(rng, centre - corner, radius_px, 0.28 * (1 - regularity))
    rho = outline.depth(*grid(shape))
    cover = np.clip((1 - rho) * radius_px / 1.5, 0, 1)
    uneven = smooth_noise(rng, shape, 12)
    hole = np.clip((lumen * (1 + 0.22 * uneven) - rho) * radius_px / 2, 0, 1)

    n = n_rows * round(2 * math.pi * radius_px / ((0.75 if n_rows == 1 else 0.95) * nucleus_px))
    theta = np.arange(n) * (2 * math.pi * n_rows / n) + rng.normal(0, 0.25 * 5 / n, n)
    row = np.arange(n) * n_rows // n
    depth = 0.89 - 0.9 * row * nucleus_px / radius_px + rng.normal(0, 0.025 * n_rows, n)
    keep = (depth > lumen + 0.12) & (rng.random(n) < 0.95)
    at, axis = outline.place(depth, theta)[keep], (theta + outline.turn)[keep]
    if pleomorphism > 0:
        ink, _ = tumour_nuclei(rng, at, shape, pleomorphism, angle=axis, roundness=0.55)
    else:
        long_px = rng.normal(nucleus_px, 1, len(at))
        ink, _ = nuclei(rng, at, shape, long_px=long_px, roundness=0.68, angle=axis)

    n = rng.binomial(round(2 * math.pi * 0.6 * radius_px / 15), min(goblet, 1))
    theta = np.arange(n) * (2 * math.pi / max(n, 1)) + rng.normal(0, 0.1, n)
    at = outline.place(rng.normal(0.57, 0.05, n).clip(lumen + 0.1, 0.7), theta)
    long_px = rng.normal(20, 3, n)
    _, vacuoles = nuclei(
        rng, at, shape, long_px=long_px, roundness=0.78, angle=theta + outline.turn
    )
    body = cover * (1 - hole) * (1 - 0.82 * vacuoles)
    h = body * (0.22 + 0.05 * uneven) + cover * (0.05 + 0.1 * vacuoles * (1 - hole)) + ink * cover
    return Gland(window, h, body * (0.52 + 0.08 * uneven) + 0.03 * cover, cover)


class _Outline:
    """A buckled ellipse, in polar coordinates around its centre."""

    def __init__(self, rng: Generator, centre: Floats, radius_px: float, buckle: float) -> None:
        self.centre, self.radius_px, self.buckle = centre, radius_px, buckle
        self.phase = rng.uniform(0, 2 * math.pi, 3).tolist()
        self.stretch, self.turn = rng.uniform(1.0, 1.15), rng.uniform(0, math.pi)

    def radius(self, theta: Floats) -> Floats:
        waves = np.sin(2 * theta + self.phase[0]) + 0.8 * np.sin(3 * theta + self.phase[1])
        waves += 0.5 * np.sin(5 * theta + self.phase[2])
        radius: Floats = self.radius_px * (1 + self.buckle * waves)
        return radius

    def depth(self, y: Map, x: Map) -> Map:
        """0 at the centre, 1 on the outline."""
        dy, dx = y - np.float32(self.centre[0]), x - np.float32(self.centre[1])
        u = (dx * math.cos(self.turn) + dy * math.sin(self.turn)) / self.stretch
        v = (dy * math.cos(self.turn) - dx * math.sin(self.turn)) * self.stretch
        return (np.hypot(u, v) / self.radius(np.arctan2(v, u))).astype(np.float32)

    def place(self, depth: Floats, theta: Floats) -> Floats:
        """Points (n, 2) at given depths and directions."""
        u = depth * self.radius(theta) * np.cos(theta) * self.stretch
        v = depth * self.radius(theta) * np.sin(theta) / self.stretch
        dx = u * math.cos(self.turn) - v * math.sin(self.turn)
        dy = u * math.sin(self.turn) + v * math.cos(self.turn)
        return self.centre + np.stack([dy, dx], axis=1)
