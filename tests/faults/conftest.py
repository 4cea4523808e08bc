"""What the fault tests share: processes at the price of a fork, and a network that is small."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.forks import Forks

ENCODER = """
[[encoders]]
name = "tiny"
network = "test_resnet"
weights = "{path}"
weights_sha256 = "{sha256}"
"""


@pytest.fixture(scope="session")
def forks() -> Iterator[Forks]:
    forks = Forks()
    yield forks
    forks.close()


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An ``[[encoders]]`` entry ``tiny``: a network of half a megabyte, with weights of its own."""
    import timm
    import torch
    from safetensors.torch import save_file

    from models.weight_files import file_sha256

    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    torch.manual_seed(0)
    save_file(timm.create_model("test_resnet").state_dict(), path)
    return ENCODER.format(path=path, sha256=file_sha256(path))
