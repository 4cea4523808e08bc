"""Owns the layout of slide2vec: features as .npz or .pt, coordinates in a file beside them.

slide2vec 4 and 5 (github.com/clemsgrs/slide2vec, ``slide2vec/artifacts.py``) write
``tile_embeddings/ID.npz`` (arrays ``features`` and ``tile_index``) or ``ID.pt`` (one tensor),
each with ``ID.meta.json``. Coordinates are those of hs2p 2 to 4 (github.com/clemsgrs/hs2p,
``save_tiling_result``): ``tiles/ID.coordinates.npz`` with ``tile_index`` and ``coordinates``
(pixels of level 0; two arrays ``x`` and ``y`` before version 4), and
``ID.coordinates.meta.json``. Both archives are zip files; the names within tell them apart.

The .npz is read without pickle, and a .pt by the caller's reader, which must not unpickle.
"""

from __future__ import annotations

import json
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import UnreadableFeaturesError
from featurestore.sources.feature_layouts import SLIDE2VEC, FeatureFile, TileSize, is_inflated
from featurestore.sources.file_kinds import is_file

BROKEN = (
    OSError, ValueError, EOFError, KeyError, IndexError, TypeError, RuntimeError, OverflowError,
    SyntaxError, zipfile.BadZipFile, zlib.error, struct.error,
)  # fmt: skip
"""What a damaged archive raises: zipfile and numpy look at little before they trust it."""


def companions(file: Path) -> tuple[Path, ...]:
    """Where slide2vec may have put what goes with a file of features."""
    folders = (file.parent.parent / "tiles", file.parent)
    names = (f"{file.stem}.coordinates.npz", f"{file.stem}.coordinates.meta.json")
    return (
        *(folder / name for folder in folders for name in names),
        file.with_name(f"{file.stem}.meta.json"),
    )


def read_archive(file: Path, read_tensor: Callable[[Path], NDArray[np.float32]]) -> FeatureFile:
    """Read the features of one slide and the coordinates beside them.

    Raises
    ------
    UnreadableFeaturesError
        If an archive is damaged, holds something else, or the coordinates are nowhere.
    """
    try:
        names = _names(file)
    except BROKEN as error:
        raise _damaged(error) from error
    if any(name.endswith("/data.pkl") for name in names):
        features = read_tensor(file)
    elif "features.npy" in names:
        arrays = _arrays(file)
        features = arrays["features"].astype(np.float32, copy=False)
        _in_order(arrays.get("tile_index"))
    else:
        raise UnreadableFeaturesError(
            f"is an archive of {', '.join(sorted(names)[:3]) or 'nothing'}; expected features.npy "
            "or a tensor"
        )
    coords, size = _coordinates(file)
    return FeatureFile(SLIDE2VEC, features, coords, False, size)


def _coordinates(file: Path) -> tuple[NDArray[np.float64], TileSize | None]:
    beside = _json(file.with_name(f"{file.stem}.meta.json"))
    named = [Path(str(beside[key])) for key in ("coordinates_npz_path",) if beside.get(key)]
    candidates = [path for path in companions(file) if path.suffix == ".npz"]
    # The path that slide2vec noted is the last resort: results move from machine to machine.
    found = next((path for path in [*candidates, *named] if is_file(path)), None)
    if found is None:
        raise UnreadableFeaturesError(
            f"holds features without coordinates; expected them in {candidates[0]} (slide2vec), "
            "or an HDF5 file that has both; tiles without a place cannot be imported"
        )
    arrays = _arrays(found)
    _in_order(arrays.get("tile_index"))
    if "coordinates" in arrays:
        coords = arrays["coordinates"]
    elif {"x", "y"} <= arrays.keys():
        coords = np.column_stack([arrays["x"], arrays["y"]])
    else:
        raise UnreadableFeaturesError(
            f"{found.name} holds {', '.join(sorted(arrays))}; expected coordinates, or x and y"
        )
    about = _json(found.with_suffix(".meta.json"))
    size = next((size for size in map(_size, _parts(about, beside)) if size is not None), None)
    return coords.astype(np.float64), size


def _parts(*metadata: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for told in metadata:
        tiling = told.get("tiling")
        if isinstance(tiling, dict):
            yield tiling
        yield told


def _size(told: dict[str, Any]) -> TileSize | None:
    level0_px = told.get("tile_size_lv0")
    tile_px = told.get("requested_tile_size_px", told.get("target_tile_size_px"))
    if not all(isinstance(side, int) and side > 0 for side in (level0_px, tile_px)):
        return None
    return TileSize(int(tile_px or 0), level0_px=float(level0_px or 0))


def _arrays(file: Path) -> dict[str, NDArray[Any]]:
    try:
        _names(file)
        with np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (*BROKEN, MemoryError) as error:
        raise _damaged(error) from error
    for name, array in arrays.items():
        if array.dtype.kind not in "fiu":
            raise UnreadableFeaturesError(
                f"{name} of {file.name} holds {array.dtype}; expected numbers"
            )
    return arrays


def _names(file: Path) -> list[str]:
    """Names of an archive's members, none of which unpacks to more than features can."""
    held_bytes = file.stat().st_size
    with zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            if is_inflated(member.file_size, held_bytes):
                raise UnreadableFeaturesError(
                    f"declares {member.file_size} bytes of {member.filename} in a file of "
                    f"{held_bytes}; that is no file of features"
                )
        return archive.namelist()


def _in_order(tile_index: NDArray[Any] | None) -> None:
    if tile_index is not None and not np.array_equal(tile_index, np.arange(len(tile_index))):
        raise UnreadableFeaturesError(
            "its tile_index is not 0, 1, 2, …, so that vectors and coordinates may not belong "
            "together; extract its features again"
        )


def _json(file: Path) -> dict[str, Any]:
    if not is_file(file):
        return {}
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UnreadableFeaturesError(f"{file.name} cannot be read as JSON ({error})") from error
    return told if isinstance(told, dict) else {}


def _damaged(error: Exception) -> UnreadableFeaturesError:
    return UnreadableFeaturesError(
        f"is damaged or holds Python objects, which are never loaded ({error}); extract its "
        "features again"
    )
