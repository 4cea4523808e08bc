"""Two-step fine-tuning of an encoder on labelled tiles.

Step 1 fits a linear head on the features of the network as it is. Step 2 trains the head and
the network's last blocks together. What the paper this follows does not state (rates, blocks,
epochs, augmentation) is a setting here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from featurestore.errors import Reject
from featurestore.model_versions import ModelVersion
from models.finetune_settings import (
    FinetuneSettings,
    TrainingTile,
    require_classes,
    training_content,
)
from models.runtime import choose_runtime, require_precision

if TYPE_CHECKING:
    from models.training import Epoch

__all__ = ["FinetuneSettings", "Finetuned", "TrainingTile", "finetune", "training_content"]

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Finetuned:
    """A fine-tuned encoder, and how it came to be.

    Attributes
    ----------
    version : ModelVersion
        Its identity; its weights are in the weights folder.
    epochs : tuple of Epoch
        Both steps, in order.
    best_epoch : int
        Epoch of the last step whose weights were kept, counted from 1.
    n_train, n_validation : int
        Tiles trained on and held out.
    classes : tuple of str
        In the order of the classifier that is kept beside the network.
    rejects : tuple of Reject
        Tiles that were left out.
    """

    version: ModelVersion
    epochs: tuple[Epoch, ...]
    best_epoch: int
    n_train: int
    n_validation: int
    classes: tuple[str, ...]
    rejects: tuple[Reject, ...]


def finetune(
    parent: ModelVersion,
    tiles: Sequence[TrainingTile],
    *,
    trained_on: str,
    trained_on_digest: str,
    settings: FinetuneSettings,
    folder: Path,
    scratch: Path,
    on_progress: Progress | None = None,
) -> Finetuned:
    """Fine-tune an encoder in two steps on labelled tiles.

    On one machine, the same arguments give the same weights to the last bit.

    Parameters
    ----------
    parent : ModelVersion
        The encoder to start from; its precision is that of training.
    tiles : sequence of TrainingTile
        In any order.
    trained_on : str
        What the tiles are, in words.
    trained_on_digest : str
        Digest of their data set.
    settings : FinetuneSettings
    folder : Path
        The weights folder.
    scratch : Path
        A folder for temporary files; empty again afterwards.
    on_progress : callable, optional
        Given what is being done, how many of it, of how many.

    Raises
    ------
    TrainingError
        Fewer than two classes, a class of fewer than two tiles, no room in ``scratch``, a
        block that does not exist, or a loss that is no longer a number.
    """
    from models.finetune_run import FinetuneRun
    from models.training import deterministic

    tiles = sorted(tiles, key=lambda tile: (tile.sha256, tile.label, str(tile.path)))
    require_classes(tiles)
    runtime = choose_runtime()
    require_precision(parent.precision, runtime)
    with deterministic(runtime.device):
        run = FinetuneRun(parent, tiles, settings, folder, runtime, on_progress or _silent)
        epochs, best = run.train(scratch)
        sha256 = run.save(folder, trained_on)
    version = replace(
        parent,
        weights_sha256=sha256,
        trained_on=f"{parent.trained_on}, then {trained_on}",
        trained_on_digest=trained_on_digest,
        training=training_content(settings),
        parent_sha256=parent.sha256,
        weights_source=f"fine-tuned on {trained_on}",
    )
    return Finetuned(
        version=version,
        epochs=tuple(epochs),
        best_epoch=best,
        n_train=len(run.rows.train),
        n_validation=len(run.rows.validation),
        classes=run.classes,
        rejects=tuple(run.rejects),
    )


def _silent(what: str, done: int, of: int) -> None:
    """No progress is shown."""
