"""Owns the HDF5 layouts of TRIDENT, CLAM and STAMP.

STAMP (github.com/KatherLab/STAMP, ``src/stamp/preprocessing`` and ``get_coords`` of
``src/stamp/modeling/data.py``)
    Datasets ``feats`` (half precision) and ``coords``, left and top edge. From 2.1 on the root
    has ``tile_size_um`` and ``tile_size_px``; 2.0 has ``tile_size`` with ``unit = "um"`` and no
    pixels; before that, coordinates count pixels of 256/224 µm. ``feat_type`` other than
    ``tile`` is not one vector a tile.
TRIDENT (github.com/mahmoodlab/TRIDENT, ``trident/IO.py`` and ``wsi_objects/WSI.py``, 2025-26)
    Datasets ``features`` and ``coords`` (pixels of level 0), whose attributes have
    ``patch_size`` (pixels at the target magnification) and ``patch_size_level0``, or, in the
    first versions, only the two magnifications.
CLAM (github.com/mahmoodlab/CLAM, ``extract_features_fp.py`` and ``process_contours`` of
``wsi_core/WholeSlideImage.py``, 2021-24)
    The same two datasets without attributes. ``patch_size``, ``patch_level`` and ``downsample``
    are attributes of ``coords`` in the file of patches, of the same name. TRIDENT run on CLAM's
    patches copies those attributes.

A leading axis of one (a batch) is dropped. Links into other files are refused: a file of
features must not make another file be read.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from featurestore.errors import UnreadableFeaturesError
from featurestore.sources.feature_layouts import (
    CLAM,
    STAMP,
    TRIDENT,
    FeatureFile,
    TileSize,
    is_inflated,
)
from featurestore.sources.file_kinds import is_file

# STAMP 1 cut tiles of 256 µm into 224 pixels, and counted coordinates in those pixels.
_STAMP_UM, _STAMP_PX = 256.0, 224


def read_hdf5(file: Path, patches: Path | None) -> FeatureFile:
    """Read one HDF5 file of features; ``patches`` is the folder of CLAM's patch files.

    Raises
    ------
    UnreadableFeaturesError
        If it is damaged or of no known layout.
    """
    try:
        with h5py.File(file, "r") as opened:
            if "feats" in opened:
                return _stamp(opened)
            if "features" in opened and "coords" in opened:
                return _trident_or_clam(opened, file, patches)
            names = ", ".join(sorted(opened)) or "nothing"
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        raise UnreadableFeaturesError(
            f"is damaged or was not written to its end ({error}); extract its features again"
        ) from error
    raise UnreadableFeaturesError(
        f"is HDF5 with {names}; expected features and coords (TRIDENT, CLAM) or feats and coords "
        "(STAMP)"
    )


def _stamp(opened: h5py.File) -> FeatureFile:
    kind = _text(opened.attrs.get("feat_type", "tile"))
    if kind != "tile":
        raise UnreadableFeaturesError(
            f"holds features of a {kind}; expected one vector a tile; name STAMP's tile features"
        )
    coords = _array(opened, "coords").astype(np.float64)
    tile_um, tile_px = _number(opened.attrs, "tile_size_um"), _number(opened.attrs, "tile_size_px")
    if tile_um is None and _text(opened.attrs.get("unit", "")) == "um":
        tile_um = _number(opened.attrs, "tile_size")
    if tile_um is None:
        side = _number(opened.attrs, "tile_size") or _stride(coords)
        if side is None or round(side) != _STAMP_PX:
            raise UnreadableFeaturesError(
                "does not tell the unit of its coordinates; expected tile_size_um, or tile_size "
                'with unit = "um"; extract its features with STAMP 2.1 or newer'
            )
        coords, tile_um = coords / _STAMP_PX * _STAMP_UM, _STAMP_UM
    size = TileSize(int(tile_px or _STAMP_PX), um=tile_um)
    return FeatureFile(STAMP, _features(opened, "feats"), coords, True, size)


def _stride(coords: NDArray[np.float64]) -> float | None:
    """Least step between coordinates; None where there is but one."""
    steps = [np.diff(np.unique(axis)) for axis in coords.T]
    least = [float(step.min()) for step in steps if len(step)]
    return min(least) if least else None


def _trident_or_clam(opened: h5py.File, file: Path, patches: Path | None) -> FeatureFile:
    coords = _array(opened, "coords").astype(np.float64)
    if coords.ndim == 3 and len(coords) == 1:
        coords = coords[0]
    attributes = opened["coords"].attrs
    layout, size = TRIDENT, _trident_size(attributes)
    if size is None:
        layout, size = CLAM, _clam_size(attributes)
    if size is None and patches is not None:
        size = _clam_patches(patches / f"{file.stem}.h5", coords)
    return FeatureFile(layout, _features(opened, "features"), coords, False, size)


def _trident_size(attributes: Any) -> TileSize | None:
    patch_px = _number(attributes, "patch_size")
    level0_px = _number(attributes, "patch_size_level0")
    if level0_px is None:
        from_x, to_x = (
            _number(attributes, f"{name}_magnification") for name in ("level0", "target")
        )
        if patch_px is not None and from_x is not None and to_x:
            level0_px = patch_px * from_x / to_x
    if patch_px is None or not level0_px:
        return None
    return TileSize(int(patch_px), level0_px=level0_px)


def _clam_size(attributes: Any) -> TileSize | None:
    patch_px, level = _number(attributes, "patch_size"), _number(attributes, "patch_level")
    downsample = _number(attributes, "downsample")
    if level == 0:
        downsample = 1.0
    if patch_px is None or downsample is None:
        return None
    downsample *= _number(attributes, "custom_downsample") or 1.0
    return TileSize(int(patch_px), level0_px=patch_px * downsample)


def _clam_patches(file: Path, coords: NDArray[np.float64]) -> TileSize:
    if not is_file(file):
        raise UnreadableFeaturesError(
            f"has no patch file {file}, which tells the size of its tiles; correct `patches`"
        )
    with h5py.File(file, "r") as opened:
        theirs = _array(opened, "coords").astype(np.float64)
        size = _clam_size(opened["coords"].attrs)
    if theirs.shape != coords.shape or not np.array_equal(theirs, coords):
        raise UnreadableFeaturesError(
            f"has other coordinates than its patch file {file}; extract its features again"
        )
    if size is None:
        raise UnreadableFeaturesError(
            f"cannot be placed: {file} does not tell patch_size, patch_level and downsample"
        )
    return size


def _features(opened: h5py.File, name: str) -> NDArray[np.float32]:
    array = _array(opened, name).astype(np.float32, copy=False)
    return array[0] if array.ndim == 3 and len(array) == 1 else array


def _array(opened: h5py.File, name: str) -> NDArray[Any]:
    """A dataset of numbers that lies within the file itself."""
    link = opened.get(name, getlink=True)
    found = opened[name] if isinstance(link, h5py.HardLink) else None
    if not isinstance(found, h5py.Dataset) or found.is_virtual or found.external:
        raise UnreadableFeaturesError(
            f"{name} is absent or lies in another file; expected a dataset of its own"
        )
    if found.dtype.kind not in "fiu":
        raise UnreadableFeaturesError(f"{name} holds {found.dtype}; expected numbers")
    # A few bytes can declare terabytes, which reading would allocate.
    held_bytes = Path(opened.filename).stat().st_size
    if is_inflated(found.nbytes, held_bytes):
        raise UnreadableFeaturesError(
            f"{name} declares {found.nbytes} bytes in a file of {held_bytes}; that is no file of "
            "features"
        )
    array: NDArray[Any] = found[()]
    return array


def _number(attributes: Any, name: str) -> float | None:
    """An attribute as a positive number or zero; the first of several; None for anything else."""
    value = attributes.get(name)
    if value is None or isinstance(value, str | bytes | h5py.Empty):
        return None  # TRIDENT writes None as text
    first = np.asarray(value).ravel()[:1]
    if not len(first) or first.dtype.kind not in "fiu" or not 0 <= float(first[0]) < np.inf:
        return None
    return float(first[0])


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
