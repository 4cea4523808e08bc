"""Reading a Keras Xception into the names and shapes of timm's ``legacy_xception``.

Keras 3 writes ``.keras`` (a zip of ``config.json`` and ``model.weights.h5``), Keras 2 writes
``.h5`` with layer names inside. Both are read with h5py alone: no Keras, and nothing of the
file is ever executed (a Keras ``Lambda`` layer could hold code; its weights are not looked at).
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import WeightsError

if TYPE_CHECKING:
    import h5py
    from torch import Tensor

Layers = dict[str, list[NDArray[np.float32]]]

# Keras leaves the four skip connections unnamed; in the order of the network they belong to
# these blocks of timm's.
_SKIP_BLOCKS = ("block1", "block2", "block3", "block12")
# In an .h5 with names, the variables of a layer in the order in which Keras 3 numbers them.
_VARIABLES = (
    *("depthwise_kernel", "pointwise_kernel", "kernel"),
    *("gamma", "beta", "moving_mean", "moving_variance"),
)
_BN = ("weight", "bias", "running_mean", "running_var")


def read_keras_xception(path: Path) -> dict[str, Tensor]:
    """Weights of the Xception in a ``.keras`` or ``.h5`` file, named as timm names them.

    A network built around Xception (another head on top) is fine: what lies outside is left
    alone, and Xception's own classifier is not read.

    Parameters
    ----------
    path : Path
        A model or its weights as Keras 3 (``.keras``) or Keras 2 (``.h5``) saved them.

    Returns
    -------
    dict of str to Tensor
        ``float32`` tensors in torch's layout: kernels ``(out, in, height, width)``.

    Raises
    ------
    WeightsError
        The file is damaged, or holds no Xception.
    """
    try:
        layers = _named_layers(path) if path.suffix == ".h5" else _numbered_layers(path)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise WeightsError(
            f"{path} cannot be read as a Keras file ({error}); expected a .keras or .h5 file as "
            "Keras saves it. Copy it again, or save it again from Keras."
        ) from error
    return _to_timm(layers, path)


def _numbered_layers(path: Path) -> Layers:
    """Layers of a ``.keras`` file, whose arrays are numbered in the order of its config."""
    import h5py

    with zipfile.ZipFile(path) as archive:
        config = json.loads(archive.read("config.json"))
        weights = io.BytesIO(archive.read("model.weights.h5"))
    with h5py.File(weights, "r") as file:
        for group, container in _containers(config, "layers"):
            names = [layer["config"]["name"] for layer in container["config"]["layers"]]
            if "block14_sepconv2" in names:
                return _read_container(file, group, container["config"]["layers"])
    raise WeightsError(
        f"{path} holds a Keras network without the layer 'block14_sepconv2', so it is no Xception."
    )


def _containers(model: Mapping[str, Any], group: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every network in the config, outermost first, with its group in the h5."""
    yield group, model
    layers = model["config"]["layers"]
    for layer, name in zip(layers, _numbered_names(layers), strict=True):
        if "layers" in layer["config"]:
            yield from _containers(layer, f"{group}/{name}/layers")


def _numbered_names(layers: Iterable[Mapping[str, Any]]) -> list[str]:
    """``conv2d``, ``conv2d_1``, …: Keras 3 numbers the layers of a network by class."""
    seen: Counter[str] = Counter()
    names = []
    for layer in layers:
        snake = _snake_case(layer["class_name"])
        names.append(f"{snake}_{seen[snake]}" if seen[snake] else snake)
        seen[snake] += 1
    return names


def _snake_case(name: str) -> str:
    # Keras's own rule: SeparableConv2D becomes separable_conv2d, ReLU becomes re_lu.
    name = re.sub(r"(.)([A-Z][a-z0-9]+)", r"\1_\2", re.sub(r"\W+", "", name))
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def _read_container(file: h5py.File, group: str, layers: list[Mapping[str, Any]]) -> Layers:
    found: Layers = {}
    for layer, name in zip(layers, _numbered_names(layers), strict=True):
        variables = file.get(f"{group}/{name}/vars")
        if variables is not None and len(variables):
            arrays = [np.asarray(variables[str(i)], np.float32) for i in range(len(variables))]
            found[layer["config"]["name"]] = arrays
    return found


def _named_layers(path: Path) -> Layers:
    """Layers of an ``.h5``, whose arrays lie under ``…/<layer name>/<variable>:0``."""
    import h5py

    variables: dict[str, dict[str, NDArray[np.float32]]] = {}

    def visit(name: str, item: object) -> None:
        *parents, last = name.split("/")
        variable = last.split(":")[0]
        if isinstance(item, h5py.Dataset) and variable in _VARIABLES and parents:
            variables.setdefault(parents[-1], {})[variable] = np.asarray(item, np.float32)

    with h5py.File(path, "r") as file:
        file.visititems(visit)
    return {
        layer: [arrays[name] for name in _VARIABLES if name in arrays]
        for layer, arrays in variables.items()
    }


def _to_timm(layers: Layers, path: Path) -> dict[str, Tensor]:
    import torch

    state: dict[str, NDArray[np.float32]] = {}
    try:
        for keras, timm in _named_pairs():
            state.update(_convert(layers[keras], timm))
            state.update(_convert(layers[f"{keras}_bn"], _norm_of(timm)))
        skips = zip(
            _unnamed(layers, "conv2d"), _unnamed(layers, "batch_normalization"), strict=True
        )
        for block, (convolution, norm) in zip(_SKIP_BLOCKS, skips, strict=True):
            state.update(_convert(layers[convolution], f"{block}.skip"))
            state.update(_convert(layers[norm], f"{block}.skipbn"))
    except (KeyError, ValueError) as error:
        raise WeightsError(
            f"{path} is no complete Xception ({error}); expected the layers of "
            "keras.applications.Xception under their own names. Save the model without renaming "
            "layers."
        ) from error
    return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in state.items()}


def _named_pairs() -> Iterator[tuple[str, str]]:
    """Names in Keras and in timm of every convolution that Keras names."""
    yield from (("block1_conv1", "conv1"), ("block1_conv2", "conv2"))
    for block in range(2, 14):
        n_convolutions = 2 if block in (2, 3, 4, 13) else 3
        for j in range(n_convolutions):
            # Only timm's first block does not begin with a ReLU; then convolution, norm, ReLU.
            place = 3 * j + (block != 2)
            yield f"block{block}_sepconv{j + 1}", f"block{block - 1}.rep.{place}"
    yield from (("block14_sepconv1", "conv3"), ("block14_sepconv2", "conv4"))


def _norm_of(convolution: str) -> str:
    if convolution.startswith("conv"):
        return convolution.replace("conv", "bn")
    block, rep, place = convolution.split(".")
    return f"{block}.{rep}.{int(place) + 1}"


def _unnamed(layers: Layers, kind: str) -> list[str]:
    """``kind``, ``kind_1``, … in number order, wherever the Keras session's counter stood."""
    numbered = [(name, re.fullmatch(rf"{kind}(?:_(\d+))?", name)) for name in layers]
    return [name for _, name in sorted((int(m[1] or 0), name) for name, m in numbered if m)]


def _convert(arrays: list[NDArray[np.float32]], timm: str) -> dict[str, NDArray[np.float32]]:
    """One Keras layer's arrays as timm's: kernels (h, w, in, out) become (out, in, h, w)."""
    if len(arrays) == 4:
        return {f"{timm}.{name}": array for name, array in zip(_BN, arrays, strict=True)}
    if len(arrays) == 2:
        depthwise, pointwise = arrays
        return {
            f"{timm}.conv1.weight": depthwise.transpose(2, 3, 0, 1),
            f"{timm}.pointwise.weight": pointwise.transpose(3, 2, 0, 1),
        }
    if len(arrays) == 1:
        return {f"{timm}.weight": arrays[0].transpose(3, 2, 0, 1)}
    raise ValueError(f"layer for {timm} has {len(arrays)} arrays, expected 1, 2 or 4")
