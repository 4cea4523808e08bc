"""The weights folder: weights told by their content, and kept under it.

Weights are kept as ``<digest>.safetensors``, where the digest is :func:`tensors_sha256` of
everything in the file. An ImageNet file holds the backbone alone; a fine-tuned one also its
classifier, under the classifier's own name (``fc.*``), which belongs to the digest: two heads
on one backbone are two files.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from featurestore.errors import WeightsError
from models.weight_files import file_sha256, read_safetensors

if TYPE_CHECKING:
    from torch import Tensor


def weights_path(folder: Path, sha256: str) -> Path:
    """Where the weights folder keeps weights of this digest."""
    return folder / f"{sha256}.safetensors"


def tensors_sha256(state: Mapping[str, Tensor]) -> str:
    """SHA-256 (hexadecimal) of tensors: names, dtypes, shapes and bytes.

    The same whatever the order of the names and whatever file format they came in.

    Parameters
    ----------
    state : mapping of str to Tensor
        As a ``state_dict`` gives them.
    """
    import torch

    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        dtype = str(tensor.dtype).removeprefix("torch.")
        digest.update(f"{name}\0{dtype}\0{list(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def save_weights(
    state: Mapping[str, Tensor], folder: Path, *, metadata: Mapping[str, str] | None = None
) -> str:
    """Keep tensors in the weights folder under their digest.

    Parameters
    ----------
    state : mapping of str to Tensor
        What to keep.
    folder : Path
        The weights folder; made if absent.
    metadata : mapping of str to str, optional
        Text to keep beside them (source, licence, classes); not part of the digest.

    Returns
    -------
    str
        Their digest, :func:`tensors_sha256`.

    Raises
    ------
    WeightsError
        They cannot be written there; nothing is left of them.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    digest = tensors_sha256(state)
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    try:
        # Written beside and renamed, so that a reader never sees half a file.
        handle, name = tempfile.mkstemp(dir=folder, suffix=".part")
        os.close(handle)
        part = Path(name)
        try:
            save_file(plain, part, metadata=dict(metadata or {}))
            part.chmod(0o644)
            part.replace(weights_path(folder, digest))
        finally:
            part.unlink(missing_ok=True)
    except (OSError, SafetensorError) as error:
        raise WeightsError(
            f"the weights {digest} cannot be kept in {folder}: {error}. Make room or rights "
            "there, and run again."
        ) from error
    return digest


def load_weights(folder: Path, sha256: str) -> dict[str, Tensor]:
    """Tensors of the weights folder by their digest, which is checked.

    Raises
    ------
    WeightsError
        There is no such file, or its content no longer has that digest.
    """
    path = weights_path(folder, sha256)
    if not path.is_file():
        raise WeightsError(
            f"{path} does not exist; the weights {sha256} were made or fetched elsewhere. Copy "
            "the file into this folder, or run the step again that makes them."
        )
    try:
        state = read_safetensors(path)
    except WeightsError as error:
        raise WeightsError(
            f"{error} Expected tensors of SHA-256 {sha256}, got a file of {path.stat().st_size} "
            f"bytes, SHA-256 {file_sha256(path)}. Once it is deleted, a run fetches or trains them."
        ) from error
    digest = tensors_sha256(state)
    if digest != sha256:
        raise WeightsError(
            f"{path} was altered: its tensors have SHA-256 {digest}, expected {sha256}. Delete it "
            "and run again."
        )
    return state
