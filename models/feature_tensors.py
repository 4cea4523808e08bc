"""Tensors that another tool saved with ``torch.save``: one tensor, never any other object."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import UnreadableFeaturesError


def read_tensor(file: Path) -> NDArray[np.float32]:
    """Read a file that holds one tensor; only tensors are loaded, nothing is executed.

    Raises
    ------
    UnreadableFeaturesError
        If the file is damaged or holds anything but a tensor of numbers.
    """
    import torch

    try:
        with warnings.catch_warnings():
            # What torch warns of in a foreign file must not stop the rest of the import.
            warnings.simplefilter("ignore")
            found = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises nearly anything on damaged bytes
        why = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UnreadableFeaturesError(
            f"is damaged or holds more than tensors, which is never loaded ({why}); save the "
            "tensor of features alone"
        ) from error
    if not isinstance(found, torch.Tensor) or found.is_complex() or found.dtype == torch.bool:
        raise UnreadableFeaturesError(
            f"holds {type(found).__name__}; expected one tensor of numbers of shape (n_tiles, dim)"
        )
    if found.is_sparse or found.is_quantized:
        raise UnreadableFeaturesError("holds a sparse or quantized tensor; save it as a dense one")
    array: NDArray[np.float32] = found.detach().to(torch.float32).numpy()
    return array
