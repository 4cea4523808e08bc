"""The classifier that fine-tuning leaves behind: features of tiles → probabilities of classes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import WeightsError
from featurestore.model_versions import ModelVersion
from models.networks import build_network, classifier_name
from models.weight_files import read_metadata
from models.weight_store import load_weights, weights_path


@dataclass(frozen=True)
class Classifier:
    """The linear classifier of a fine-tuned network, on its pooled features.

    Attributes
    ----------
    classes : tuple of str
        In the order of the rows of ``weight``.
    weight : (n_classes, dim) array
    bias : (n_classes,) array
    """

    classes: tuple[str, ...]
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]

    def probabilities(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Softmax over the classes: ``(n, dim)`` features give ``(n, n_classes)``."""
        logits = features @ self.weight.T + self.bias
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares: NDArray[np.float32] = powers / powers.sum(axis=1, keepdims=True)
        return shares


def open_classifier(version: ModelVersion, *, folder: Path) -> Classifier:
    """The classifier that is kept with the weights of a fine-tuned version.

    Parameters
    ----------
    version : ModelVersion
        Which.
    folder : Path
        The weights folder.

    Raises
    ------
    WeightsError
        The weights are not there, were altered, or come without a classifier.
    """
    digest = str(version.weights_sha256)
    state = load_weights(folder, digest)
    classes = json.loads(read_metadata(weights_path(folder, digest)).get("classes", "[]"))
    name = classifier_name(build_network(version.network, version.network_options))
    weight, bias = state.get(f"{name}.weight"), state.get(f"{name}.bias")
    if weight is None or bias is None or len(classes) != len(weight):
        raise WeightsError(
            f"the weights {digest} of {version.network} hold no classifier with named classes; "
            "expected those of an encoder with `finetuned_from`"
        )
    return Classifier(tuple(classes), weight.float().numpy(), bias.float().numpy())
