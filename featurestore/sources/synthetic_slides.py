"""Owns synthetic slides: tissue on glass whose morphology says what its patient is like.

Each patient has a few latent factors between 0 and 1. They decide how much of the tissue is
stroma, necrosis and lymphocytes and how well the tumour forms glands, and nothing else does.
The same factors can drive expression and mutations
(:mod:`featurestore.sources.synthetic_molecules`), so that what should be found is known.
The colours of a slide are drawn at random, whatever the factors.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image

from featurestore.errors import SourceError
from featurestore.model_versions import canonical_json
from featurestore.sources import synthetic_morphology as morphology
from featurestore.sources.synthetic import stained
from featurestore.sources.synthetic_morphology import Tissue
from featurestore.sources.synthetic_shapes import Map, grid, smooth_noise

FACTORS = ("lymphocytes", "glands", "necrosis", "stroma")
"""What the morphology of a slide depends on, each from 0 to 1."""

MPP = 0.5
"""Resolution of the painters, and so of the slides, in µm per pixel."""

_TILE_PX = 256
_MIN_LEVEL_PX = 256
_VERSION = 1  # of the drawing: another one makes other slides of the same factors


def write_cohort(
    root: Path,
    *,
    factors: pd.DataFrame,
    seed: int,
    slide_px: int = 1024,
    n_threads: int = 2,
    on_progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write one slide a patient: ``root/<patient>-01Z-00-DX1.tif``, a tiled pyramid.

    A slide that is there and was drawn from the same factors is kept, so an interrupted call
    goes on where it was; files appear whole or not at all.

    Parameters
    ----------
    root : Path
        The folder to fill; made if absent.
    factors : DataFrame
        One row a patient (the index), with the columns :data:`FACTORS`, each from 0 to 1.
    seed : int
        Another seed gives other slides of the same patients.
    slide_px : int
        Side of a slide in pixels, of 0.5 µm each.
    n_threads : int
        Slides drawn at the same time.
    on_progress : callable, optional
        Called in the calling thread as ``on_progress(n_done, n_total)`` after each slide.

    Raises
    ------
    ValueError
        If a factor is missing or outside 0 to 1, or ``slide_px`` is below 512.
    SourceError
        If a file cannot be written; those that are there are whole.
    """
    _check(factors, slide_px)

    rows = factors[list(FACTORS)].astype(float).to_dict("index")

    def draw(patient: str) -> None:
        row = {str(name): float(value) for name, value in rows[patient].items()}
        recipe = {"patient": patient, "seed": seed, "version": _VERSION, "px": slide_px} | row
        file = root / f"{patient}-01Z-00-DX1.tif"
        if not _is_of(file, recipe):
            _save(draw_slide(patient, row, seed=seed, slide_px=slide_px), file, recipe)

    try:
        root.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(max(1, n_threads), thread_name_prefix="draw") as pool:
            for n_done, _ in enumerate(pool.map(draw, map(str, factors.index)), 1):
                if on_progress:
                    on_progress(n_done, len(factors))
    except OSError as error:
        raise SourceError(
            f"slides cannot be written to {root} ({error.strerror or error}); expected a folder "
            "that can be written, and about 400 KB a slide; make room or choose another folder, "
            "then run again: slides that are there are kept"
        ) from error


def draw_factors(n_patients: int, *, seed: int, n_sites: int = 6) -> pd.DataFrame:
    """Patients with independent factors, evenly spread from 0 to 1.

    Returns
    -------
    DataFrame
        Indexed by patient, named as TCGA does but from sites that TCGA has not
        (``TCGA-0A-0001``); columns :data:`FACTORS`.
    """
    rng = random_for(seed, f"factors of {n_patients}")
    index = [f"TCGA-0{chr(65 + i % n_sites)}-{i + 1:04d}" for i in range(n_patients)]
    even = (np.arange(n_patients) + 0.5) / n_patients
    columns = {name: rng.permutation(even) for name in FACTORS}
    return pd.DataFrame(columns, index=pd.Index(index, name="patient_id"))


def draw_slide(
    patient: str, factors: dict[str, float], *, seed: int, slide_px: int = 1024
) -> NDArray[np.uint8]:
    """Pixels of one slide, shape (slide_px, slide_px, 3)."""
    rng = random_for(seed, f"slide of {patient}")
    tissue = _on_glass(rng, _tissue(rng, factors, slide_px))
    return stained(rng, tissue, random_for(seed, f"laboratory of {patient}"))


def random_for(seed: int, what: str) -> Generator:
    """Independent random numbers for each thing that is drawn, whatever the order."""
    return np.random.default_rng([seed, *sha256(what.encode()).digest()])


def _tissue(rng: Generator, factors: dict[str, float], px: int) -> Tissue:
    """Tumour, with as much of the other tissues in it as the factors say."""
    field = morphology.tumour(
        rng, px, gland_formation=factors["glands"], pleomorphism=rng.uniform(0.35, 0.75),
        infiltrate=0.8 * factors["lymphocytes"],
    )  # fmt: skip
    stroma = morphology.stroma(
        rng, px, cellularity=rng.uniform(0.2, 0.6), looseness=rng.uniform(0.2, 0.7)
    )
    field = _replaced(rng, field, stroma, 0.08 + 0.5 * factors["stroma"], scale_px=90)
    necrosis = morphology.necrosis(rng, px, nuclear_dust=rng.uniform(0.2, 0.6))
    field = _replaced(rng, field, necrosis, 0.4 * factors["necrosis"], scale_px=150)
    follicles = morphology.lymphocytes(rng, px, density=rng.uniform(0.7, 1.1))
    return _replaced(rng, field, follicles, 0.02 + 0.33 * factors["lymphocytes"], scale_px=70)


def _replaced(
    rng: Generator, field: Tissue, other: Tissue, share: float, *, scale_px: float
) -> Tissue:
    """``other`` tissue over ``share`` of the area, in patches of about ``scale_px``."""
    shape = field.eosin.shape
    patches = smooth_noise(rng, shape, scale_px) + 0.25 * smooth_noise(rng, shape, scale_px / 4)
    edge = np.quantile(patches[::8, ::8], 1 - share)
    amount: Map = np.clip(0.5 + (patches - edge) * scale_px / 12, 0, 1).astype(np.float32)
    return Tissue(*(a + amount * (b - a) for a, b in zip(field, other, strict=True)))


def _on_glass(rng: Generator, tissue: Tissue) -> Tissue:
    """An island of tissue of random outline, over about two thirds of the slide."""
    shape = tissue.eosin.shape
    y, x = grid(shape)
    middle = np.array(shape) * (0.5 + rng.uniform(-0.03, 0.03, 2))
    away = np.hypot((y - middle[0]) / shape[0], (x - middle[1]) / shape[1])
    away += 0.035 * smooth_noise(rng, shape, shape[0] / 5)
    away += 0.004 * smooth_noise(rng, shape, 12)
    cover = np.clip((0.46 - away) * shape[0] / 4, 0, 1).astype(np.float32)
    film = 0.015 + 0.005 * smooth_noise(rng, shape, 80)
    return Tissue(*(film + cover * part for part in tissue))


def _check(factors: pd.DataFrame, slide_px: int) -> None:
    absent = [name for name in FACTORS if name not in factors]
    if absent:
        raise ValueError(f"factors lack {', '.join(absent)}; expected {', '.join(FACTORS)}")
    values = factors[list(FACTORS)].to_numpy(np.float64)
    if len(values) == 0 or not ((values >= 0) & (values <= 1)).all():
        raise ValueError("factors must have a row and be from 0 to 1")
    if factors.index.has_duplicates:
        raise ValueError("factors name a patient twice; expected one row a patient")
    if slide_px < 2 * _MIN_LEVEL_PX:
        raise ValueError(f"slide_px = {slide_px}; expected at least {2 * _MIN_LEVEL_PX}")


def _is_of(file: Path, recipe: dict[str, Any]) -> bool:
    """Whether the slide is there and was drawn by this recipe."""
    import tifffile

    if not file.exists():
        return False
    try:
        with tifffile.TiffFile(file) as tiff:
            return tiff.pages.first.description == _described(recipe)
    except (tifffile.TiffFileError, ValueError, IndexError):
        return False


def _described(recipe: dict[str, Any]) -> str:
    return "synthetic slide " + canonical_json(recipe)


def _save(rgb: NDArray[np.uint8], file: Path, recipe: dict[str, Any]) -> None:
    """Write a pyramid of JPEG tiles with its resolution, as OpenSlide expects one."""
    import tifffile

    part = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        with tifffile.TiffWriter(part) as tiff:
            for level, pixels in enumerate(_pyramid(rgb)):
                per_cm = 1e4 / (MPP * 2**level)
                tiff.write(
                    pixels,
                    photometric="rgb",
                    compression="jpeg",
                    compressionargs={"level": 88},
                    tile=(_TILE_PX, _TILE_PX),
                    subfiletype=1 if level else 0,
                    resolution=(per_cm, per_cm),
                    resolutionunit="CENTIMETER",
                    description=_described(recipe) if level == 0 else None,
                    metadata=None,
                    software=False,
                )
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)


def _pyramid(rgb: NDArray[np.uint8]) -> Iterable[NDArray[np.uint8]]:
    """Each level half as large as the one before."""
    yield rgb
    while rgb.shape[0] >= 2 * _MIN_LEVEL_PX:
        half = (rgb.shape[1] // 2, rgb.shape[0] // 2)
        rgb = np.asarray(Image.fromarray(rgb).resize(half, Image.Resampling.BOX))
        yield rgb
