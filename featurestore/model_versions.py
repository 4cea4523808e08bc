"""What a model version is: the content that tells one encoder's features from another's.

The identity lives here, apart from the table that stores it, because every room needs it:
``models`` describes and opens encoders by it, ``orchestration`` asks whether one exists.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


def canonical_json(value: object) -> str:
    """JSON text that is equal exactly when the values are: sorted keys, no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def content_sha256(value: object) -> str:
    """SHA-256 (hexadecimal) of the canonical JSON of ``value``."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class ModelVersion:
    """Everything that can change a feature's value, and nothing else.

    Two versions with equal content are the same version wherever they were made; any
    difference makes another one, and the store never mixes their rows.

    Attributes
    ----------
    network : str
        timm name of the network, or ``colour.*`` and ``clinical.*`` for baselines without one.
    network_options : mapping
        What was changed of the network's definition, e.g. ``{"bn_eps": 1e-3}``.
    weights_sha256 : str or None
        Digest of the weights (see :func:`models.weights.tensors_sha256`); None where
        there is nothing to learn.
    input_px : int
        Side of the square image that the network sees, in pixels.
    mpp : float or None
        Resolution that the encoder is meant for, in µm per pixel of its input.
    mean, std : tuple of float
        Channel means and standard deviations of the normalisation, on a 0-1 scale.
    interpolation : str
        How a tile of another size is resampled to ``input_px``.
    pooling : str
        How the network's last feature map becomes one vector.
    precision : str
        ``"float32"`` or ``"bfloat16"``, as computed, not as stored.
    dim : int
        Number of features.
    licence : str
        Licence of the weights.
    trained_on : str
        What the weights were trained on, in words: ``"ImageNet-1k"``, ``"crc5/train"``.
    trained_on_digest : str or None
        Digest of the data set of this store that the weights were trained on.
    training : mapping or None
        The settings of that training, seed included.
    parent_sha256 : str or None
        Digest of the version that training started from.
    weights_source : str
        Where the weights came from. Told to the reader, but not part of the identity:
        the same weights from two places are the same weights.
    """

    network: str
    network_options: Mapping[str, Any] = field(default_factory=dict)
    weights_sha256: str | None
    input_px: int
    mpp: float | None = None
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str
    pooling: str
    precision: str
    dim: int
    licence: str
    trained_on: str
    trained_on_digest: str | None = None
    training: Mapping[str, Any] | None = None
    parent_sha256: str | None = None
    weights_source: str = ""

    @property
    def sha256(self) -> str:
        """The version's digest (hexadecimal), the key by which the store knows it."""
        content = asdict(self)
        del content["weights_source"]
        return content_sha256(content)
