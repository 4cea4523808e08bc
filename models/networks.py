"""From a network's name to a network: timm's definition, what we change of it, its input.

Nothing here holds weights: a network is built empty, and :mod:`models.weights` fills it.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featurestore.errors import WeightsError

if TYPE_CHECKING:
    from torch import Tensor, nn

HUB_PREFIX = "hf-hub:"
# Keras trains BatchNorm with eps 1e-3; timm's port of the same weights declares 1e-5. The
# weights were made for the former, so that is what we compute with.
_OPTIONS: dict[str, dict[str, Any]] = {"legacy_xception": {"bn_eps": 1e-3}}
# The side at which pathology tiles are cut, where the network takes any side.
_INPUT_PX = {"legacy_xception": 224}


@dataclass(frozen=True, kw_only=True)
class NetworkInput:
    """What a network expects of an image, and how many features it gives.

    Attributes
    ----------
    input_px : int
        Side of the square image, in pixels, unless a study says otherwise.
    mean, std : tuple of float
        Normalisation of the channels, on a 0-1 scale.
    interpolation : str
        How images were resampled when the network was trained.
    pooling : str
        How the last feature map becomes a vector.
    dim : int
        Number of features.
    any_size : bool
        Whether it takes images of another size.
    """

    input_px: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str
    pooling: str
    dim: int
    any_size: bool


@dataclass(frozen=True)
class HubNetwork:
    """What a hub repository says of its network: timm's name for it, its arguments, its input."""

    architecture: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    pretrained_cfg: Mapping[str, Any] = field(default_factory=dict)


def require_network(network: str) -> None:
    """Refuse a name that timm does not know.

    Raises
    ------
    WeightsError
        The message has the names that are closest.
    """
    import timm

    if network.startswith(HUB_PREFIX) or timm.is_model(network):
        return
    close = difflib.get_close_matches(network, timm.list_models(), n=3)
    raise WeightsError(
        f"timm does not know the network {network!r}; "
        + (f"did you mean {', '.join(close)}? " if close else "")
        + "Expected a name that timm.list_models() gives, 'hf-hub:owner/name', "
        "'colour.mean_rgb' or 'colour.histogram'."
    )


def network_options(network: str, hub: HubNetwork | None = None) -> dict[str, Any]:
    """What a model version must record beside the name, for the same network to be built again."""
    options = dict(_OPTIONS.get(network, {}))
    if hub is not None:
        options["architecture"] = hub.architecture
        options["arguments"] = dict(hub.arguments)
    return options


def build_network(network: str, options: Mapping[str, Any]) -> nn.Module:
    """Build the network without classifier, in evaluation mode and with **no weights**.

    Its tensors are on torch's ``meta`` device, where nothing can be computed, so that random
    weights cannot be used by mistake: fill it with ``load_state_dict(…, assign=True)``.

    Parameters
    ----------
    network : str
        timm's name, or ``hf-hub:owner/name``.
    options : mapping
        As :func:`network_options` gives them.

    Raises
    ------
    WeightsError
        timm does not know the network.
    """
    import timm
    import torch

    architecture = options.get("architecture", network)
    try:
        with torch.device("meta"):
            module: nn.Module = timm.create_model(
                architecture, pretrained=False, num_classes=0, **options.get("arguments", {})
            )
    except (RuntimeError, TypeError) as error:
        raise WeightsError(
            f"network {network!r} cannot be built by this timm {timm.__version__}: {error}."
        ) from error
    if "bn_eps" in options:
        for part in module.modules():
            if isinstance(part, torch.nn.BatchNorm2d):
                part.eps = float(options["bn_eps"])
    return module.eval()


def fill_network(module: nn.Module, state: Mapping[str, Tensor]) -> nn.Module:
    """Put weights into an empty network; a classifier in ``state`` is left aside.

    Raises
    ------
    WeightsError
        A tensor is missing or has another shape.
    """
    import torch

    wanted = module.state_dict()
    complete = {name: state[name] for name in backbone(state, module) if name in wanted}
    for name, tensor in wanted.items():
        if name.endswith("num_batches_tracked"):
            complete[name] = torch.zeros((), dtype=tensor.dtype)
    missing = [n for n, t in wanted.items() if n not in complete or complete[n].shape != t.shape]
    if missing:
        raise WeightsError(
            f"the weights do not fit the network: {len(missing)} of its {len(wanted)} tensors are "
            f"missing or have another shape, first {missing[0]!r}. Give the weights of this very "
            "network, with timm's names."
        )
    module.load_state_dict(complete, assign=True)
    return module.eval().requires_grad_(requires_grad=False)


def backbone(state: Mapping[str, Tensor], module: nn.Module) -> dict[str, Tensor]:
    """The tensors of ``state`` that make features: no classifier, no step counters."""
    classifiers = tuple(f"{name}." for name in classifier_names(module))
    return {
        name: tensor
        for name, tensor in state.items()
        if not name.startswith(classifiers) and not name.endswith("num_batches_tracked")
    }


def classifier_names(module: nn.Module) -> tuple[str, ...]:
    """Names of the layers that timm calls the network's classifier."""
    declared = getattr(module, "pretrained_cfg", {}).get("classifier") or ()
    return (declared,) if isinstance(declared, str) else tuple(declared)


def classifier_name(module: nn.Module) -> str:
    """Name under which a fine-tuned classifier is kept: timm's own, or ``fc``."""
    return (*classifier_names(module), "fc")[0]


def network_input(
    network: str, module: nn.Module, pretrained_cfg: Mapping[str, Any] | None = None
) -> NetworkInput:
    """What the network expects of an image: timm's declaration, or the hub repository's."""
    cfg = {**getattr(module, "pretrained_cfg", {}), **(pretrained_cfg or {})}
    return NetworkInput(
        input_px=_INPUT_PX.get(network, int(cfg["input_size"][-1])),
        mean=_three(cfg["mean"]),
        std=_three(cfg["std"]),
        interpolation=str(cfg.get("interpolation") or "bicubic"),
        pooling=_pooling(module),
        dim=int(module.num_features),  # type: ignore[arg-type]
        any_size=not cfg.get("fixed_input_size", False),
    )


def _three(values: Any) -> tuple[float, float, float]:
    r, g, b = (float(value) for value in values)
    return (r, g, b)


def _pooling(module: nn.Module) -> str:
    pool = getattr(module, "global_pool", "avg")
    return pool if isinstance(pool, str) else str(getattr(pool, "pool_type", "avg"))


def hub_network(network: str, *, cache: Path) -> HubNetwork:
    """Read a hub repository's ``config.json``.

    Raises
    ------
    Exception
        Whatever the hub's client raises; the caller reports it as one source that failed.
    """
    from huggingface_hub import hf_hub_download

    path = hf_hub_download(network.removeprefix(HUB_PREFIX), "config.json", cache_dir=cache)
    config = json.loads(Path(path).read_text())
    return HubNetwork(
        architecture=config["architecture"],
        arguments=config.get("model_args") or {},
        pretrained_cfg=config.get("pretrained_cfg") or {},
    )
