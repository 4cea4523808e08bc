"""Reading weights from the file formats people have, without running anything in them."""

from __future__ import annotations

import hashlib
import pickle
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featurestore.errors import WeightsError

if TYPE_CHECKING:
    from torch import Tensor


def file_sha256(path: Path) -> str:
    """SHA-256 (hexadecimal) of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_weight_file(path: Path, network: str) -> dict[str, Tensor]:
    """Tensors of a weights file, by name.

    Parameters
    ----------
    path : Path
        ``.safetensors``; ``.pt`` or ``.pth`` holding plain tensors; ``.keras`` or ``.h5``
        holding an Xception.
    network : str
        The network that they are meant for.

    Raises
    ------
    WeightsError
        The format is unknown, the file is damaged, or it holds anything but tensors.
    """
    suffix = path.suffix.lower()
    if suffix not in _READERS:
        raise WeightsError(
            f"{path} has the ending {path.suffix!r}; expected one of {', '.join(_READERS)}."
        )
    if suffix in (".keras", ".h5") and network != "legacy_xception":
        raise WeightsError(
            f"{path} is a Keras file, which is read for the network 'legacy_xception' only, got "
            f"{network!r}. Convert it to .safetensors with timm's names."
        )
    return _READERS[suffix](path)


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Tensors of a ``.safetensors`` file.

    Raises
    ------
    WeightsError
        The file is absent, cut short or not in this format.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise WeightsError(
            f"{path} cannot be read as safetensors ({error}); it may have been cut short. Delete "
            "it and fetch or copy it again."
        ) from error


def read_metadata(path: Path) -> dict[str, str]:
    """The text that a ``.safetensors`` file carries beside its tensors; empty if none."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except (OSError, SafetensorError):
        return {}


def _read_torch(path: Path) -> dict[str, Tensor]:
    import torch

    try:
        with warnings.catch_warnings():
            # torch remarks on the pickle protocol of a file that it is about to refuse or read.
            warnings.simplefilter("ignore", UserWarning)
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path} was refused: it holds more than plain tensors, and a pickle can run any code "
            "when it is opened. Where you made the file, save the state_dict alone, best with "
            "safetensors.torch.save_file."
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError) as error:
        raise WeightsError(
            f"{path} cannot be read as a torch file ({error}). Copy it again."
        ) from error
    return _only_tensors(loaded, path)


def _only_tensors(loaded: Any, path: Path) -> dict[str, Tensor]:
    import torch

    for key in ("state_dict", "model"):
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    if not isinstance(loaded, Mapping) or not loaded:
        raise WeightsError(
            f"{path} holds a {type(loaded).__name__}; expected a state_dict, names to tensors."
        )
    for name, tensor in loaded.items():
        if not isinstance(tensor, torch.Tensor):
            raise WeightsError(
                f"{path} holds a {type(tensor).__name__} under {name!r}; expected only tensors. "
                "Save the state_dict alone."
            )
    # "module." is what torch's DataParallel puts before every name.
    return {str(name).removeprefix("module."): tensor for name, tensor in loaded.items()}


def _read_keras(path: Path) -> dict[str, Tensor]:
    from models.keras_xception import read_keras_xception

    return read_keras_xception(path)


_READERS: dict[str, Callable[[Path], dict[str, Tensor]]] = {
    ".safetensors": read_safetensors,
    ".pt": _read_torch,
    ".pth": _read_torch,
    ".keras": _read_keras,
    ".h5": _read_keras,
}
