"""Splitting a network into the part that fine-tuning freezes and the part that it trains."""

from __future__ import annotations

from typing import TYPE_CHECKING

from featurestore.errors import TrainingError

if TYPE_CHECKING:
    from torch import nn

EVERYTHING = "all"


def split_network(
    module: nn.Module, unfreeze: str, *, input_px: int
) -> tuple[nn.Module | None, nn.Module]:
    """Split a network before one of its blocks.

    Both parts share their tensors with ``module``, so training the second trains the network.

    Parameters
    ----------
    module : nn.Module
        Filled, without classifier.
    unfreeze : str
        Name of the first block to train, as timm names it, or ``"all"``.
    input_px : int
        Side of the images, in pixels.

    Returns
    -------
    trunk : nn.Module or None
        Everything before the block; None for ``"all"``.
    tail : nn.Module
        From the block to the pooled features.

    Raises
    ------
    TrainingError
        There is no such block, or the network is not one block after another.
    """
    import torch

    if unfreeze == EVERYTHING:
        return None, module
    children = dict(module.named_children())
    names = list(children)
    if unfreeze not in children:
        raise TrainingError(
            f"unfreeze = {unfreeze!r} is no block of the network; expected 'all' or one of "
            f"{', '.join(names)}."
        )
    place = names.index(unfreeze)
    if place == 0:
        return None, module
    trunk = torch.nn.Sequential(*(children[name] for name in names[:place]))
    tail = torch.nn.Sequential(*(children[name] for name in names[place:]))
    if not _same(module, torch.nn.Sequential(trunk, tail), input_px):
        raise TrainingError(
            f"the network cannot be split before {unfreeze!r}: it is not one block after another. "
            "Set unfreeze = 'all'."
        )
    return trunk, tail


def _same(module: nn.Module, split: nn.Module, input_px: int) -> bool:
    """Whether the split network computes what the network computes, tried on one image."""
    import torch

    generator = torch.Generator().manual_seed(0)
    image = torch.randn((1, 3, input_px, input_px), generator=generator)
    with torch.inference_mode():
        try:
            return torch.allclose(module(image), split(image), rtol=1e-4, atol=1e-5)
        # What blocks raise that were never meant to be called in a row: wrong shapes, missing
        # arguments, attributes of another kind of block.
        except (RuntimeError, TypeError, ValueError, AttributeError, IndexError):
            return False
