"""Owns the demo's tissue: nine classes of synthetic H&E tiles, laid out as NCT-CRC-HE is.

Each tile is painted as concentrations of haematoxylin and eosin and then stained as one of a
few synthetic slides, which all classes share, so that colour alone tells little. A share of
the tiles lies on the border of two kinds of tissue, as real tiles do. Tile ``i`` of a class
depends on the seed, the class and ``i`` alone, whatever else is written.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from featurestore.errors import SourceError
from featurestore.sources import synthetic_morphology as morphology
from featurestore.sources.synthetic_morphology import Tissue
from featurestore.sources.synthetic_shapes import smooth_noise

# Optical density of the two stains in red, green and blue, at concentration 1: the reference
# of Macenko et al. 2009 (ISBI, doi 10.1109/ISBI.2009.5193250), which NCT-CRC-HE is stained to.
_STAINS = np.array([[0.5626, 0.7201, 0.4062], [0.2159, 0.8012, 0.5581]])

PATIENTS_FILE = "patients.csv"

_N_SLIDES = 12
_BORDER_SHARE = 0.4


def _adi(rng: Generator, px: int) -> Tissue:
    return morphology.adipose(rng, px, cell_px=rng.uniform(65, 130), wall_px=rng.uniform(1.0, 2.4))


def _back(rng: Generator, px: int) -> Tissue:
    return morphology.background(rng, px, dirt=rng.beta(1.2, 2))


def _deb(rng: Generator, px: int) -> Tissue:
    return morphology.necrosis(
        rng, px, granularity=rng.uniform(0.2, 0.9), nuclear_dust=rng.beta(1.5, 2.5),
        basophilia=rng.beta(1.2, 2),
    )  # fmt: skip


def _lym(rng: Generator, px: int) -> Tissue:
    return morphology.lymphocytes(
        rng, px, density=rng.uniform(0.4, 1.25), nucleus_px=rng.uniform(10.5, 14)
    )


def _muc(rng: Generator, px: int) -> Tissue:
    return morphology.mucus(
        rng, px, strands=rng.uniform(0.1, 1.0), cells=rng.beta(1, 3), waviness=rng.uniform(0.3, 1)
    )


def _mus(rng: Generator, px: int) -> Tissue:
    return morphology.muscle(
        rng,
        px,
        waviness=rng.uniform(0.1, 1.0),
        cellularity=rng.uniform(0.1, 0.9),
        looseness=rng.beta(1.2, 2),
    )


def _norm(rng: Generator, px: int) -> Tissue:
    return morphology.normal_glands(
        rng, px, goblet=rng.uniform(0.25, 1), regularity=rng.uniform(0.5, 1),
        infiltrate=rng.uniform(0.1, 1),
    )  # fmt: skip


def _str(rng: Generator, px: int) -> Tissue:
    return morphology.stroma(
        rng, px, waviness=rng.uniform(0.25, 1.1), cellularity=rng.uniform(0.1, 0.9),
        looseness=rng.uniform(0.0, 0.9),
    )  # fmt: skip


def _tum(rng: Generator, px: int) -> Tissue:
    return morphology.tumour(
        rng, px, gland_formation=rng.beta(0.8, 1.2), pleomorphism=rng.uniform(0.15, 1),
        infiltrate=rng.uniform(0, 0.6),
    )  # fmt: skip


_PAINTERS: dict[str, Callable[[Generator, int], Tissue]] = {
    "ADI": _adi, "BACK": _back, "DEB": _deb, "LYM": _lym, "MUC": _muc,
    "MUS": _mus, "NORM": _norm, "STR": _str, "TUM": _tum,
}  # fmt: skip

CLASSES = tuple(_PAINTERS)
"""NCT-CRC-HE's classes: adipose, background, debris, lymphocytes, mucus, smooth muscle,
normal mucosa, stroma, tumour epithelium."""

_NEIGHBOURS = {
    "ADI": ("STR", "BACK"), "BACK": ("ADI", "MUC"), "DEB": ("MUC", "TUM"), "LYM": ("TUM", "STR"),
    "MUC": ("DEB", "STR"), "MUS": ("STR",), "NORM": ("TUM", "LYM"), "STR": ("MUS", "TUM"),
    "TUM": ("NORM", "LYM", "STR"),
}  # fmt: skip


def write_tissue(root: Path, *, n_per_class: int, seed: int, tile_px: int = 224) -> None:
    """Write ``root/<class>/<class>-<seed>-<number>.png`` for the nine classes.

    ``root/patients.csv`` names the synthetic patient whose slide each tile was stained on.
    A file that is there is kept, so an interrupted call goes on where it was; files appear
    whole or not at all.

    Parameters
    ----------
    root : Path
        The folder to fill; made if absent.
    n_per_class : int
        Tiles of each class.
    seed : int
        Another seed gives other tiles, none in common.
    tile_px : int
        Side of a tile in pixels, of 0.5 µm each.

    Raises
    ------
    ValueError
        If ``n_per_class`` or ``tile_px`` is too small.
    SourceError
        If a file cannot be written; those that are there are whole.
    """
    if n_per_class < 1 or tile_px < 32:
        raise ValueError(
            f"n_per_class = {n_per_class} and tile_px = {tile_px}; expected at least 1 and 32"
        )
    try:
        for label in CLASSES:
            folder = root / label
            folder.mkdir(parents=True, exist_ok=True)
            for index in range(n_per_class):
                file = folder / f"{label}-{seed}-{index:05d}.png"
                if not file.exists():
                    _save(tissue_tile(label, index, seed=seed, tile_px=tile_px), file)
        _write_patients(root / PATIENTS_FILE, n_per_class, seed)
    except OSError as error:
        raise SourceError(
            f"tissue cannot be written to {root} ({error.strerror or error}); expected a folder "
            "that can be written, and about 150 KB a tile; make room or choose another folder, "
            "then run again: tiles that are there are kept"
        ) from error


def tissue_tile(label: str, index: int, *, seed: int, tile_px: int = 224) -> NDArray[np.uint8]:
    """Pixels of one synthetic tile, shape (tile_px, tile_px, 3).

    Parameters
    ----------
    label : str
        One of :data:`CLASSES`.
    index : int
        Which tile of that class.
    seed, tile_px : int
        As in :func:`write_tissue`.
    """
    rng = _generator(seed, label, index)
    tissue = _PAINTERS[label](rng, tile_px)
    if rng.random() < _BORDER_SHARE:
        neighbour = _NEIGHBOURS[label][rng.integers(len(_NEIGHBOURS[label]))]
        tissue = _bordering(rng, tissue, _PAINTERS[neighbour](rng, tile_px))
    return stained(rng, tissue, _generator(seed, "slide", index % _N_SLIDES))


def stained(rng: Generator, tissue: Tissue, slide: Generator) -> NDArray[np.uint8]:
    """Colour stain concentrations as one slide's laboratory and scanner would.

    Parameters
    ----------
    rng : Generator
        What differs from tile to tile: section thickness, focus, illumination, noise.
    tissue : Tissue
        Concentrations of shape (size_px, size_px).
    slide : Generator
        What a slide's tiles share; pass one in the same state for each of them.

    Returns
    -------
    ndarray of uint8, shape (size_px, size_px, 3)
    """
    stains = _STAINS + slide.normal(0, 0.05, (2, 3))
    strength = np.exp(slide.normal(0, 0.24, 2) + rng.normal(0, 0.1, 2))
    strength *= np.exp(rng.normal(0, 0.08))  # a thicker section takes more of both
    lamp = slide.uniform(0.93, 1.0) * (1 + slide.normal(0, 0.012, 3))
    shape = tissue.eosin.shape
    density = np.stack(tissue, axis=-1) @ (strength[:, None] * stains).astype(np.float32)
    light = np.exp(-density) * lamp.astype(np.float32)
    light *= 1 + 0.02 * smooth_noise(rng, shape, 1.5 * shape[0])[..., None]
    image = Image.fromarray(_to_uint8(light)).filter(ImageFilter.GaussianBlur(rng.gamma(3, 0.28)))
    noise = rng.normal(0, rng.uniform(1, 6), (*shape, 1)).astype(np.float32)
    noise = noise + rng.standard_normal((*shape, 3), dtype=np.float32)
    return _to_uint8((np.asarray(image) + noise) / 255)


def _bordering(rng: Generator, own: Tissue, other: Tissue) -> Tissue:
    """A tile with ``other`` tissue on a side of it, over up to nearly half of its area."""
    shape = own.eosin.shape
    y, x = (np.mgrid[: shape[0], : shape[1]] / shape[0] - 0.5).astype(np.float32)
    turn = rng.uniform(0, 2 * np.pi)
    side = x * np.cos(turn) + y * np.sin(turn) + 0.13 * smooth_noise(rng, shape, 60)
    edge = np.quantile(side, 1 - rng.uniform(0.15, 0.45))
    share = np.clip(0.5 + (side - edge) * shape[0] / 8, 0, 1).astype(np.float32)
    return Tissue(*(a + share * (b - a) for a, b in zip(own, other, strict=True)))


def _generator(seed: int, what: str, index: int) -> Generator:
    """Independent random numbers for each thing that is drawn, whatever the order."""
    key = hashlib.sha256(f"{seed}/{what}/{index}".encode()).digest()
    return np.random.default_rng(np.frombuffer(key, np.uint32))


def _to_uint8(light: NDArray[np.floating]) -> NDArray[np.uint8]:
    levels: NDArray[np.uint8] = (np.clip(light, 0, 1) * 255 + 0.5).astype(np.uint8)
    return levels


def _write_patients(file: Path, n_per_class: int, seed: int) -> None:
    lines = ["file,patient"]
    for label in CLASSES:
        for index in range(n_per_class):
            patient = f"synthetic-{seed}-{index % _N_SLIDES:02d}"
            lines.append(f"{label}/{label}-{seed}-{index:05d}.png,{patient}")
    text = "\n".join(lines) + "\n"
    # Left alone where it says the same, so that the folder does not look changed.
    if not file.exists() or file.read_text() != text:
        part = file.with_name(f".{file.name}.{os.getpid()}.part")
        part.write_text(text)
        part.replace(file)


def _save(pixels: NDArray[np.uint8], file: Path) -> None:
    part = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        Image.fromarray(pixels).save(part, "PNG", compress_level=1)
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)
