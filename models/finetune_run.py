"""One fine-tuning from the tiles to the weights; imported where training runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from featurestore.errors import Reject, TrainingError
from featurestore.model_versions import ModelVersion
from models.encoders import open_network
from models.finetune_settings import FinetuneSettings, TrainingTile, require_classes
from models.holdout import held_out
from models.networks import backbone, classifier_name
from models.runtime import Runtime, compile_network, with_normalisation
from models.split_network import split_network
from models.tiles import TileRef
from models.training import VALIDATION, Epoch, Rows, Step, best_epoch, new_head, train
from models.trunk_outputs import TrunkOutputs
from models.weights import save_weights

Progress = Callable[[str, int, int], None]


class FinetuneRun:
    """One fine-tuning under way.

    Attributes
    ----------
    classes : tuple of str
        In the order of the classifier.
    rows : Rows
        Who trains and who validates, once the tiles were read.
    rejects : sequence of Reject
        Tiles that could not be read.
    """

    rows: Rows
    rejects: Sequence[Reject] = ()

    def __init__(
        self,
        parent: ModelVersion,
        tiles: Sequence[TrainingTile],
        settings: FinetuneSettings,
        folder: Path,
        runtime: Runtime,
        on_progress: Progress,
    ) -> None:
        self._parent, self._tiles, self._settings = parent, tiles, settings
        self._runtime, self._on_progress = runtime, on_progress
        self.classes = tuple(sorted({tile.label for tile in tiles}))
        self._network = open_network(parent, folder=folder)
        self._trunk, self._tail = split_network(
            self._network, settings.unfreeze, input_px=parent.input_px
        )
        self._head = new_head(parent.dim, len(self.classes), seed=settings.seed)
        self._outputs = TrunkOutputs(
            [TileRef(row, tile.path, tile.sha256) for row, tile in enumerate(tiles)],
            self._compile(self._trunk) if self._trunk is not None else None,
            input_px=parent.input_px,
            interpolation=parent.interpolation,
            seed=settings.seed,
            stain_jitter=settings.stain_jitter,
        )

    def train(self, scratch: Path) -> tuple[list[Epoch], int]:
        """Both steps; their epochs, and the epoch of the last whose weights were kept."""
        n_views = max(1, min(self._settings.views, self._settings.epochs[1]))
        keep = self._settings.epochs[1] > 0 and self._trunk is not None
        if keep:
            n_bytes = self._outputs.bytes_a_view() * n_views
            keep = n_bytes <= self._settings.scratch_gb * 1e9
        with self._outputs.keeping(scratch, n_views=n_views) if keep else nullcontext():
            features = self._prepare()
            first = self._step_1(features)
            second = self._step_2() if self._settings.epochs[1] else []
        return [*first, *second], best_epoch(second or first)

    def save(self, folder: Path, trained_on: str) -> str:
        """Keep the network, and its classifier under the name that timm gives it."""
        classifier = classifier_name(self._network)
        state = backbone(self._network.state_dict(), self._network)
        for name, tensor in self._head.state_dict().items():
            state[f"{classifier}.{name}"] = tensor
        metadata = {
            "network": self._parent.network,
            "source": f"fine-tuned on {trained_on}",
            "licence": self._parent.licence,
            "trained_on": f"{self._parent.trained_on}, then {trained_on}",
            "classes": json.dumps(self.classes),
        }
        return save_weights(state, folder, metadata=metadata)

    def _prepare(self) -> NDArray[np.float32]:
        """Read every tile once; its features as they are, and who trains and who validates."""
        held = held_out(
            [tile.label for tile in self._tiles],
            # The same image twice must not be on both sides either.
            [tile.patient_id or tile.sha256 for tile in self._tiles],
            fraction=self._settings.validation_fraction,
            seed=self._settings.seed,
        )
        features = np.full((len(self._tiles), self._parent.dim), np.nan, np.float32)
        pool = self._feature_function()
        n_done = 0

        def see(rows: list[int], outputs: NDArray[Any], pixels: NDArray[np.uint8]) -> None:
            features[rows] = pool(outputs, pixels)

        def on_batch(n_tiles: int) -> None:
            nonlocal n_done
            n_done += n_tiles
            self._on_progress("prepare tiles", n_done, len(self._tiles))

        self.rejects = self._outputs.first_pass(see, augmented=~held, on_batch=on_batch)
        read = np.asarray(np.isfinite(features).all(axis=1))
        require_classes([self._tiles[int(row)] for row in np.flatnonzero(read)])
        targets = np.array([self.classes.index(tile.label) for tile in self._tiles], np.int64)
        self.rows = Rows(np.flatnonzero(read & ~held), np.flatnonzero(read & held), targets)
        self._require_rows()
        return features

    def _require_rows(self) -> None:
        trained = {self.classes[i] for i in self.rows.targets[self.rows.train]}
        if missing := sorted(set(self.classes) - trained):
            raise TrainingError(
                f"class {missing[0]!r} has no tile left to train on. Give more tiles of it, or "
                "lower `validation_fraction` of [finetune]."
            )
        if self._settings.validation_fraction > 0 and len(self.rows.validation) == 0:
            raise TrainingError(
                "no tile can be held out to choose the best epoch: every class is of one patient "
                "alone. Give tiles of more patients, or set `validation_fraction = 0` in "
                "[finetune]."
            )

    def _feature_function(
        self,
    ) -> Callable[[NDArray[Any], NDArray[np.uint8]], NDArray[np.float32]]:
        if self._trunk is None:
            whole = self._compile(self._network)
            return lambda _, pixels: whole(pixels)

        device = torch.device(self._runtime.device)
        tail = self._tail.to(device)

        def pool(outputs: NDArray[Any], _: NDArray[np.uint8]) -> NDArray[np.float32]:
            with torch.inference_mode():
                features: NDArray[np.float32] = tail(images(outputs).to(device)).cpu().numpy()
            return features

        return pool

    def _step_1(self, features: NDArray[np.float32]) -> list[Epoch]:
        tensor = torch.from_numpy(features)
        self._head.to("cpu")
        return train(
            self._head,
            lambda rows, _: tensor[rows],
            self.rows,
            self._step(1, precision="float32", device="cpu"),
            on_batch=lambda done, of: self._on_progress("step 1: head", done, of),
        )

    def _step_2(self) -> list[Epoch]:
        tail = self._tail if self._trunk is not None else self._from_pixels()
        network = torch.nn.Sequential(tail, self._head).requires_grad_(requires_grad=True)
        network.to(torch.device(self._runtime.device)).to(memory_format=torch.channels_last)

        def inputs(rows: NDArray[np.intp], epoch: int) -> Tensor:
            view = 0 if epoch == VALIDATION else epoch
            if self._trunk is None:
                return torch.from_numpy(self._outputs.batch(rows, view))
            return images(self._outputs.batch(rows, view % self._settings.views))

        epochs = train(
            network,
            inputs,
            self.rows,
            self._step(2, precision=self._parent.precision, device=self._runtime.device),
            on_batch=lambda done, of: self._on_progress("step 2: unfrozen part", done, of),
        )
        network.to("cpu")
        return epochs

    def _step(self, number: int, *, precision: str, device: str) -> Step:
        settings = self._settings
        rates = (settings.head_learning_rate, settings.body_learning_rate)
        return Step(
            number=number,
            n_epochs=settings.epochs[number - 1],
            batch_size=settings.batch_size,
            learning_rate=rates[number - 1],
            weight_decay=settings.weight_decay,
            one_cycle=number == 2,
            patience=settings.patience,
            precision=precision,
            device=device,
            seed=settings.seed + number,
        )

    def _compile(self, module: nn.Module) -> Any:
        return compile_network(
            module,
            input_px=self._parent.input_px,
            mean=self._parent.mean,
            std=self._parent.std,
            precision=self._parent.precision,
            runtime=self._runtime,
        )

    def _from_pixels(self) -> nn.Module:
        return with_normalisation(self._network, self._parent.mean, self._parent.std)


def images(outputs: NDArray[Any]) -> Tensor:
    """Outputs of the frozen part as the trained part takes them."""
    tensor = torch.from_numpy(outputs.astype(np.float32))
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor
