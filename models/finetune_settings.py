"""What fine-tuning is told: its settings and its tiles."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from featurestore.errors import TrainingError

# Counts the changes to how training goes that its settings do not show; part of the identity.
_RECIPE = 1


@dataclass(frozen=True, kw_only=True)
class FinetuneSettings:
    """How to fine-tune.

    Attributes
    ----------
    epochs : tuple of int
        Of step 1 (head alone) and step 2 (head and unfrozen part).
    unfreeze : str
        First block that step 2 trains, by timm's name; ``"all"`` for the whole network.
    head_learning_rate, body_learning_rate : float
        Of step 1, constant, and of step 2, its peak in one cycle.
    weight_decay : float
        Of AdamW in both steps.
    batch_size : int
        Tiles a mini-batch.
    validation_fraction : float
        Share of every class held out to choose the best epoch; 0 keeps the last one.
    patience : int
        Epochs without improvement after which a step ends.
    stain_jitter : float
        Strength of the change of staining (:func:`models.augment.jitter_stain`).
    views : int
        Versions of each tile that step 2 goes through in turn, the first being the tile
        itself; with ``unfreeze = "all"`` every epoch has its own.
    seed : int
        Of everything random.
    scratch_gb : float
        Room on disk for the frozen part's outputs; beyond it they are computed anew each
        epoch. Does not change the result.
    """

    epochs: tuple[int, int] = (1, 3)
    unfreeze: str = "block12"
    head_learning_rate: float = 1e-2
    body_learning_rate: float = 3e-4
    weight_decay: float = 1e-2
    batch_size: int = 32
    validation_fraction: float = 0.1
    patience: int = 2
    stain_jitter: float = 0.05
    views: int = 2
    seed: int
    scratch_gb: float = 20.0

    def __post_init__(self) -> None:
        problems = [
            (min(self.epochs) >= 0 and sum(self.epochs) > 0, "epochs", "two counts, not both 0"),
            (self.head_learning_rate > 0, "head_learning_rate", "more than 0"),
            (self.body_learning_rate > 0, "body_learning_rate", "more than 0"),
            (self.weight_decay >= 0, "weight_decay", "0 or more"),
            (self.batch_size > 1, "batch_size", "2 or more"),
            (0 <= self.validation_fraction < 1, "validation_fraction", "from 0 to below 1"),
            (self.patience >= 1, "patience", "1 or more"),
            (0 <= self.stain_jitter < 1, "stain_jitter", "from 0 to below 1"),
            (self.views >= 1, "views", "1 or more"),
            (self.seed >= 0, "seed", "0 or more"),
            (self.scratch_gb >= 0, "scratch_gb", "0 or more"),
        ]
        for right, name, expected in problems:
            if not right:
                raise TrainingError(
                    f"[finetune] {name} = {getattr(self, name)!r}; expected {expected}."
                )


@dataclass(frozen=True, slots=True)
class TrainingTile:
    """One labelled tile.

    Attributes
    ----------
    path : Path
        Its image file.
    sha256 : str
        Digest of its pixels.
    label : str
        Its class.
    patient_id : str or None
        Whose it is, where known: a patient's tiles are never on both sides of the held-out
        split.
    """

    path: Path
    sha256: str
    label: str
    patient_id: str | None = None


def training_content(settings: FinetuneSettings) -> dict[str, Any]:
    """What of the settings goes into the model version, as JSON has it.

    With the parent and the data set's digest it tells, without training, whether a version
    exists already.
    """
    content = asdict(settings)
    del content["scratch_gb"]
    return {**content, "epochs": list(settings.epochs), "recipe": _RECIPE}


def require_classes(tiles: Sequence[TrainingTile]) -> None:
    """Refuse tiles that no classifier can be trained and validated on.

    Raises
    ------
    TrainingError
        Fewer than two classes, or a class of fewer than two tiles.
    """
    n_of_class = Counter(tile.label for tile in tiles)
    if len(n_of_class) < 2:
        raise TrainingError(
            f"fine-tuning needs tiles of two classes or more, got {len(n_of_class)}: "
            f"{', '.join(sorted(n_of_class)) or 'none'}. Give the folder that holds one folder a "
            "class."
        )
    for label, n_tiles in sorted(n_of_class.items()):
        if n_tiles < 2:
            raise TrainingError(
                f"class {label!r} has {n_tiles} tile, and fine-tuning needs two or more of each: "
                "one to train on, one to hold out. Give more, or leave the class out."
            )
