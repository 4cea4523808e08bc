"""Encoders: what they are told apart by, and that they compute what the network computes."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from featurestore.errors import InputError, WeightsError
from featurestore.sources.images import read_rgb
from models.colour import histogram, mean_rgb
from models.encoders import EncoderSettings, describe, open_encoder, open_network
from models.networks import build_network, fill_network
from models.runtime import (
    Runtime,
    _compile_torch,
    choose_runtime,
    compile_network,
    require_precision,
    resolve_precision,
    with_normalisation,
)


@pytest.fixture(scope="module")
def pixels(tissue):
    return np.stack([read_rgb(tile.path) for tile in tissue[::5]])


def _cosine(a, b):
    return (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def _reference(version, folder, pixels):
    """The features as torch computes them, the normalisation written out."""
    network = open_network(version, folder=folder)
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).double() / 255
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (version.mean, version.std))
    with torch.inference_mode():
        return network(((images - mean) / std).float()).numpy()


def test_xception_is_described_by_its_defaults(xception_weights: Path):
    version = describe(EncoderSettings(precision="float32"), folder=xception_weights)

    assert version.network_options == {"bn_eps": 1e-3}
    assert (version.input_px, version.dim, version.pooling) == (224, 2048, "avg")
    assert version.mean == version.std == (0.5, 0.5, 0.5)
    assert version.interpolation == "bicubic"
    assert (version.licence, version.trained_on) == ("Apache-2.0", "ImageNet-1k")


def test_xception_features_are_those_of_torch_with_keras_eps(xception_weights: Path, pixels):
    version = describe(EncoderSettings(precision="float32"), folder=xception_weights)
    large = pixels.repeat(4, axis=1).repeat(4, axis=2)[:3, :224, :224]
    encoder = open_encoder(version, folder=xception_weights)

    features = encoder(large)

    assert features.shape == (3, 2048)
    assert features.dtype == np.float32
    assert _cosine(features, _reference(version, xception_weights, large)).min() > 0.9999
    network = open_network(version, folder=xception_weights)
    eps = {m.eps for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)}
    assert eps == {1e-3}


def test_every_runtime_gives_the_networks_features(small, pixels):
    version = small.version
    expected = _reference(version, small.folder, pixels)
    for runtime in (choose_runtime(), Runtime("torch", "cpu", native_bfloat16=False)):
        run = compile_network(
            open_network(version, folder=small.folder),
            input_px=version.input_px,
            mean=version.mean,
            std=version.std,
            precision="float32",
            runtime=runtime,
        )
        np.testing.assert_allclose(run(pixels), expected, rtol=1e-3, atol=1e-4)


def test_what_a_gpu_runs_gives_the_networks_features(small, pixels):
    """Captured, called by two threads at once and with batches of any size, on the CPU."""
    version = small.version
    whole = with_normalisation(
        open_network(version, folder=small.folder), version.mean, version.std
    )
    run = _compile_torch(whole, "float32", "cpu", backend="aot_eager")
    expected = _reference(version, small.folder, pixels)

    with ThreadPoolExecutor(2) as pool:
        sizes = [len(pixels), 2, 1, 3, len(pixels)]
        results = list(pool.map(lambda n: run(pixels[:n]), sizes))

    for n, features in zip(sizes, results, strict=True):
        np.testing.assert_allclose(features, expected[:n], rtol=1e-3, atol=1e-4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_gpu_gives_the_networks_features(small, pixels, precision):
    version = small.version
    run = compile_network(
        open_network(version, folder=small.folder),
        input_px=version.input_px,
        mean=version.mean,
        std=version.std,
        precision=precision,
        runtime=Runtime("torch", "cuda", native_bfloat16=True),
    )
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda _: run(pixels), range(6)))

    expected = _reference(version, small.folder, pixels)
    for features in results:
        assert _cosine(features, expected).min() > (0.999 if precision == "bfloat16" else 0.9999)


def test_one_tile_or_none_is_a_batch_too(small, pixels):
    encoder = open_encoder(small.version, folder=small.folder)
    assert encoder(pixels[:0]).shape == (0, small.version.dim)
    np.testing.assert_allclose(encoder(pixels[:1]), encoder(pixels)[:1], rtol=1e-4, atol=1e-5)


def test_bfloat16_is_close_to_float32(small, pixels):
    version = small.version
    run = compile_network(
        open_network(version, folder=small.folder),
        input_px=version.input_px,
        mean=version.mean,
        std=version.std,
        precision="bfloat16",
        # Where the CPU lacks it torch emulates it: slow, but the same arithmetic.
        runtime=Runtime("torch", "cpu", native_bfloat16=True),
    )
    features, expected = run(pixels), _reference(version, small.folder, pixels)

    assert features.dtype == np.float32
    assert _cosine(features, expected).min() > 0.999
    assert not np.array_equal(features, expected)


def test_features_do_not_depend_on_the_batch_and_repeat(small, pixels):
    encoder = open_encoder(small.version, folder=small.folder)
    whole = encoder(pixels)

    np.testing.assert_array_equal(encoder(pixels), whole)
    one_by_one = np.concatenate([encoder(pixels[i : i + 1]) for i in range(len(pixels))])
    np.testing.assert_allclose(one_by_one, whole, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(encoder(pixels[::-1])[::-1], whole, rtol=1e-4, atol=1e-5)


def test_no_tiles_give_no_features(small):
    encoder = open_encoder(small.version, folder=small.folder)

    assert encoder(np.empty((0, 64, 64, 3), np.uint8)).shape == (0, small.version.dim)


def test_whatever_changes_features_makes_another_version(small):
    settings = small.settings
    for changed in (replace(settings, input_px=96), replace(settings, mpp=0.5)):
        assert describe(changed, folder=small.folder).sha256 != small.version.sha256
    assert describe(settings, folder=small.folder) == small.version


def test_weights_that_went_missing_are_an_error(small, tmp_path: Path):
    with pytest.raises(WeightsError, match="does not exist"):
        open_encoder(small.version, folder=tmp_path)


def test_network_without_weights_cannot_compute():
    network = build_network("test_resnet", {})

    assert {p.device.type for p in network.parameters()} == {"meta"}
    with pytest.raises(WeightsError, match="do not fit the network"):
        fill_network(network, {})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (EncoderSettings(network="colour.hue"), r"expected one of colour\.mean_rgb"),
        (EncoderSettings(network="colour.mean_rgb", input_px=0), "positive number of pixels"),
        (EncoderSettings(precision="float16"), "expected one of auto"),
    ],
)
def test_setting_that_cannot_be_is_refused(settings, message, tmp_path: Path):
    with pytest.raises(InputError, match=message):
        describe(settings, folder=tmp_path)


def test_network_of_one_size_refuses_another(tmp_path: Path):
    from safetensors.torch import save_file

    from models.weight_files import file_sha256

    network = build_network("test_vit", {})
    file = tmp_path / "vit.safetensors"
    save_file({n: torch.zeros(t.shape) for n, t in network.state_dict().items()}, file)
    settings = EncoderSettings(
        network="test_vit", weights=file, weights_sha256=file_sha256(file), input_px=224
    )

    with pytest.raises(InputError, match="takes images of 160 px alone"):
        describe(settings, folder=tmp_path)


def test_precision_follows_the_machine():
    native = choose_runtime().native_bfloat16

    assert resolve_precision("auto") == ("bfloat16" if native else "float32")
    assert resolve_precision("bfloat16") == "bfloat16"
    with pytest.raises(InputError, match="does not have natively"):
        require_precision("bfloat16", Runtime("openvino", "cpu", native_bfloat16=False))


def test_nothing_heavy_is_imported_and_openvino_phones_nobody(tmp_path: Path):
    code = """
import json, sys
import models.embed, models.encoders, models.finetune, models.tiles, models.weights
heavy = [name for name in ("torch", "timm", "openvino") if name in sys.modules]
from models.runtime import choose_runtime
choose_runtime()
import openvino
print(json.dumps([heavy, [n for n in sys.modules if n.startswith("openvino_telemetry")]]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )

    assert json.loads(done.stdout) == [[], []]


_TILES = hnp.arrays(np.uint8, st.tuples(st.integers(1, 3), *[st.just(8)] * 2, st.just(3)))


@given(tiles=_TILES)
def test_colour_does_not_see_where_pixels_are(tiles):
    shuffled = np.random.default_rng(0).permutation(tiles.reshape(len(tiles), -1, 3), axis=1)
    shuffled = shuffled.reshape(tiles.shape)

    np.testing.assert_array_equal(mean_rgb(tiles), mean_rgb(shuffled))
    np.testing.assert_array_equal(histogram(tiles), histogram(shuffled))
    np.testing.assert_allclose(histogram(tiles).sum(axis=1), 1, rtol=1e-6)


def test_colour_of_known_tiles():
    red = np.zeros((1, 4, 4, 3), np.uint8)
    red[..., 0] = 255

    np.testing.assert_array_equal(mean_rgb(red), [[1, 0, 0]])
    assert histogram(red)[0, 7 * 64] == 1
    for network, dim in (("colour.mean_rgb", 3), ("colour.histogram", 512)):
        version = describe(EncoderSettings(network=network), folder=Path("unused"))
        encoder = open_encoder(version, folder=Path("unused"))
        assert (version.dim, version.weights_sha256) == (dim, None)
        assert encoder(red).shape == (1, dim)
        assert encoder(red[:0]).shape == (0, dim)
