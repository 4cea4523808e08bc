"""Encoders: from what a study says of one to its model version, and from that to features."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import InputError, WeightsError
from featurestore.model_versions import ModelVersion
from models.colour import COLOUR_PREFIX, ColourEncoder, colour_version
from models.networks import build_network, fill_network, network_input, network_options
from models.runtime import choose_runtime, compile_network, require_precision, resolve_precision
from models.weights import find_weights, load_weights

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class EncoderSettings:
    """One encoder as a study names it.

    Attributes
    ----------
    network : str
        timm's name, ``hf-hub:owner/name``, ``colour.mean_rgb`` or ``colour.histogram``.
    weights : Path or None
        A weights file, instead of the sources that are tried otherwise.
    weights_sha256 : str or None
        Digest of that file; without a file, of the tensors.
    input_px : int or None
        Side of the network's image in pixels; 224 for Xception, else the network's own.
    mpp : float or None
        Resolution that the encoder is meant for, in µm per pixel.
    precision : str
        ``"auto"``, ``"float32"`` or ``"bfloat16"``.
    """

    network: str = "legacy_xception"
    weights: Path | None = None
    weights_sha256: str | None = None
    input_px: int | None = None
    mpp: float | None = None
    precision: str = "auto"


class Encoder(Protocol):
    """Images in, features out.

    Attributes
    ----------
    version : ModelVersion
        What it computes.
    runtime : str
        What computes it, for the reader.
    batch_size : int
        Tiles a batch that it computes fastest.
    n_in_flight : int
        Batches that it takes at a time, from as many threads.
    """

    version: ModelVersion
    runtime: str
    batch_size: int
    n_in_flight: int

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Encode ``(n, input_px, input_px, 3)`` pixels as ``(n, dim)`` features."""
        ...


def describe(settings: EncoderSettings, *, folder: Path) -> ModelVersion:
    """Model version of an encoder: finds its weights and resolves every default.

    Parameters
    ----------
    settings : EncoderSettings
        As the study gives them.
    folder : Path
        The weights folder.

    Raises
    ------
    WeightsError
        No source gave its weights.
    InputError
        A setting is none of those allowed.
    """
    if settings.input_px is not None and settings.input_px < 1:
        raise InputError(f"input_px = {settings.input_px}; expected a positive number of pixels.")
    if settings.network.startswith(COLOUR_PREFIX):
        return colour_version(settings.network, input_px=settings.input_px, mpp=settings.mpp)
    precision = resolve_precision(settings.precision)
    weights = find_weights(
        settings.network, folder=folder, file=settings.weights, sha256=settings.weights_sha256
    )
    options = network_options(settings.network, weights.hub)
    expected = network_input(
        settings.network,
        build_network(settings.network, options),
        weights.hub.pretrained_cfg if weights.hub else None,
    )
    input_px = settings.input_px or expected.input_px
    if input_px != expected.input_px and not expected.any_size:
        raise InputError(
            f"input_px = {input_px} for {settings.network}, which takes images of "
            f"{expected.input_px} px alone. Leave input_px out; tiles are resampled."
        )
    return ModelVersion(
        network=settings.network,
        network_options=options,
        weights_sha256=weights.sha256,
        input_px=input_px,
        mpp=settings.mpp,
        mean=expected.mean,
        std=expected.std,
        interpolation=expected.interpolation,
        pooling=expected.pooling,
        precision=precision,
        dim=expected.dim,
        licence=weights.licence,
        trained_on=weights.trained_on,
        weights_source=weights.source,
    )


def open_network(version: ModelVersion, *, folder: Path) -> nn.Module:
    """The network of a model version with its weights, without classifier, in evaluation mode.

    Raises
    ------
    WeightsError
        Its weights are not in the folder, or were altered.
    """
    if version.weights_sha256 is None:
        raise WeightsError(f"{version.network} has no weights, so it is no network to open.")
    module = build_network(version.network, version.network_options)
    return fill_network(module, load_weights(folder, version.weights_sha256))


def open_encoder(version: ModelVersion, *, folder: Path, n_threads: int | None = None) -> Encoder:
    """Open an encoder for computing.

    Parameters
    ----------
    version : ModelVersion
        Which.
    folder : Path
        The weights folder.
    n_threads : int, optional
        Threads on a CPU; every core if absent.

    Raises
    ------
    WeightsError
        Its weights are not in the folder, or were altered.
    InputError
        Its precision is not native to this machine.
    """
    if version.network.startswith(COLOUR_PREFIX):
        return ColourEncoder(version)
    return NetworkEncoder(version, folder=folder, n_threads=n_threads)


class NetworkEncoder:
    """A network behind the :class:`Encoder` protocol.

    Attributes
    ----------
    version : ModelVersion
        What it computes.
    runtime : str
        What computes it: ``"openvino on cpu, float32"``.
    batch_size, n_in_flight : int
        A GPU wants large batches, and the next one copied while it computes.
    """

    def __init__(
        self, version: ModelVersion, *, folder: Path, n_threads: int | None = None
    ) -> None:
        self.version = version
        runtime = choose_runtime()
        require_precision(version.precision, runtime)
        self.runtime = f"{runtime}, {version.precision}"
        self.batch_size, self.n_in_flight = (256, 2) if runtime.device == "cuda" else (32, 1)
        self._run = compile_network(
            open_network(version, folder=folder),
            input_px=version.input_px,
            mean=version.mean,
            std=version.std,
            precision=version.precision,
            runtime=runtime,
            n_threads=n_threads,
        )

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Encode ``(n, input_px, input_px, 3)`` pixels as ``(n, dim)`` features."""
        if len(pixels) == 0:
            return np.empty((0, self.version.dim), np.float32)
        return self._run(pixels)
