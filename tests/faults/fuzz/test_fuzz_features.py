"""Damaged files of features: HDF5 of three tools, archives of numpy and of torch, bombs of each."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

FEATURES = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
COORDS = np.array([[0, 0], [512, 0], [0, 512], [512, 512]])


@pytest.fixture(scope="module")
def hdf5(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("hdf5")
    for name, keys, about, options in (
        ("trident", ("features", "coords"), {"patch_size": 256, "patch_size_level0": 512}, {}),
        ("packed", ("features", "coords"), {"patch_size": 256, "patch_size_level0": 512},
         {"compression": "gzip", "chunks": (2, 2), "shuffle": True, "fletcher32": True}),
        ("clam", ("features", "coords"), {"patch_size": 256, "patch_level": 0}, {}),
        ("stamp", ("feats", "coords"), {}, {}),
    ):  # fmt: skip
        with h5py.File(folder / f"{name}.h5", "w") as opened:
            opened.create_dataset(keys[0], data=FEATURES, **options)
            opened.create_dataset(keys[1], data=COORDS)
            opened[keys[1]].attrs.update(about)
            if name == "stamp":
                opened.attrs.update({"tile_size_um": 256.0, "tile_size_px": 224})
    return sorted(folder.iterdir())


@pytest.fixture
def beside(tmp_path: Path) -> Path:
    """A folder with slide2vec's coordinates, where features ``a`` belong."""
    np.savez(tmp_path / "a.coordinates.npz", tile_index=np.arange(4), coordinates=COORDS)
    about = {"tiling": {"tile_size_lv0": 512, "requested_tile_size_px": 256}}
    (tmp_path / "a.coordinates.meta.json").write_text(json.dumps(about))
    return tmp_path


def test_hdf5(fuzz, hdf5: list[Path], tmp_path: Path) -> None:
    ended = fuzz("features", hdf5, tmp_path / "a.h5")
    assert ended["accepted"] > 50, ended
    assert ended["refused"] > 100, ended


def test_archives_of_numpy(fuzz, beside: Path, tmp_path: Path) -> None:
    (tmp_path / "valid").mkdir()
    bases = [tmp_path / "valid" / name for name in ("plain.npz", "packed.npz")]
    for base, save in zip(bases, (np.savez, np.savez_compressed), strict=True):
        save(base, features=FEATURES, tile_index=np.arange(4))
    ended = fuzz("features", bases, beside / "a.npz")
    assert ended["refused"] > 100, ended


def test_coordinates_and_what_is_told_of_them(fuzz, beside: Path, tmp_path: Path) -> None:
    np.savez(beside / "a.npz", features=FEATURES)
    (tmp_path / "valid").mkdir()
    for name in ("a.coordinates.npz", "a.coordinates.meta.json"):
        base = tmp_path / "valid" / name
        base.write_bytes((beside / name).read_bytes())
        fuzz("features", [base], beside / name, read=beside / "a.npz")
        (beside / name).write_bytes(base.read_bytes())


@pytest.mark.slow
def test_archives_of_torch(fuzz, torch_worker, beside: Path, tmp_path: Path) -> None:
    (tmp_path / "valid").mkdir()
    base = tmp_path / "valid" / "a.pt"
    torch.save(torch.tensor(FEATURES), base)
    ended = fuzz("features", [base], beside / "a.pt", by=torch_worker)
    assert ended["refused"] > 100, ended


def npy_header(shape: tuple[int, ...]) -> bytes:
    buffer = io.BytesIO()
    about = {"descr": "<f4", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, about)
    return buffer.getvalue()


def bombs(folder: Path) -> dict[str, Path]:
    """Small files that claim or unpack to much: by what they are."""
    made = {name: folder / f"{name}.npz" for name in ("claims", "unpacks", "wide")}
    with zipfile.ZipFile(made["claims"], "w") as archive:
        archive.writestr("features.npy", npy_header((2**20, 2**20)) + bytes(96))
    with zipfile.ZipFile(made["wide"], "w") as archive:
        archive.writestr("features.npy", npy_header((2**62, 2**62)))
    with (
        zipfile.ZipFile(made["unpacks"], "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("features.npy", "w", force_zip64=True) as member,
    ):
        member.write(npy_header((2**16, 1024)))
        for _ in range(16):
            member.write(bytes(1 << 24))
    made["sparse"] = folder / "sparse.h5"
    with h5py.File(made["sparse"], "w") as opened:
        opened.create_dataset("features", (2**20, 2**14), chunks=(1, 2**14), dtype="f4")
        opened.create_dataset("coords", (2**20, 2), dtype="i8")
    return made


def test_bombs_are_refused_before_they_are_unpacked(worker, tmp_path: Path) -> None:
    for name, file in bombs(tmp_path).items():
        np.savez(tmp_path / f"{name}.coordinates.npz", coordinates=COORDS)
        answer = worker.ask(reader="features", damages=None, read=str(file), as_nobody=False)
        assert answer.get("refused") == "UnreadableFeaturesError", (name, answer)
        assert answer["bytes"] < 100 << 20, (name, answer)
