"""The two steps of fine-tuning as loops over mini-batches; imported where training runs."""

from __future__ import annotations

import copy
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from featurestore.errors import TrainingError
from models.runtime import autocast

Inputs = Callable[[NDArray[np.intp], int], Tensor]
"""Rows and epoch (−1 for validation) to what the trained part takes."""
VALIDATION = -1


@dataclass(frozen=True)
class Epoch:
    """How one epoch went.

    Attributes
    ----------
    step : int
        1, the head alone, or 2, head and unfrozen part.
    epoch : int
        Counted from 1 within its step.
    train_loss, train_accuracy : float
        Mean cross-entropy (nats) and share right over the epoch's batches, as they were met.
    validation_loss, validation_accuracy : float
        The same on the held-out tiles after the epoch; NaN where none are held out.
    seconds : float
        How long it took.
    """

    step: int
    epoch: int
    train_loss: float
    train_accuracy: float
    validation_loss: float
    validation_accuracy: float
    seconds: float


@dataclass(frozen=True)
class Rows:
    """Which tiles train and which validate, and what they are.

    Attributes
    ----------
    train, validation : ndarray of int
        Rows of tiles.
    targets : ndarray of int64, shape (n_tiles,)
        Class of every row.
    """

    train: NDArray[np.intp]
    validation: NDArray[np.intp]
    targets: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Step:
    """How one step trains.

    Attributes
    ----------
    number, n_epochs, batch_size : int
    learning_rate, weight_decay : float
        Of AdamW (Loshchilov & Hutter 2019).
    one_cycle : bool
        Whether the rate rises and falls once over the step (Smith & Topin 2019).
    patience : int
        Epochs without a lower validation loss after which the step ends.
    precision, device : str
    seed : int
        Of the order of tiles.
    """

    number: int
    n_epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    one_cycle: bool
    patience: int
    precision: str
    device: str
    seed: int


def new_head(dim: int, n_classes: int, *, seed: int) -> nn.Linear:
    """A linear classifier with small uniform weights and zero bias, drawn from the seed."""
    head = nn.Linear(dim, n_classes, device="meta").to_empty(device="cpu")
    generator = torch.Generator().manual_seed(seed)
    bound = 1 / math.sqrt(dim)
    with torch.no_grad():
        head.weight.uniform_(-bound, bound, generator=generator)
        head.bias.zero_()
    return head


def train(
    network: nn.Module,
    inputs: Inputs,
    rows: Rows,
    step: Step,
    *,
    on_batch: Callable[[int, int], None],
) -> list[Epoch]:
    """Train a network; it ends with the weights of the epoch whose validation loss was lowest.

    Parameters
    ----------
    network : nn.Module
        Inputs to class scores; every parameter is trained.
    inputs : callable
        Rows and epoch to inputs.
    rows : Rows
    step : Step
    on_batch : callable
        Given how many tiles are done and how many there are at most.

    Raises
    ------
    TrainingError
        The loss is no longer a number.
    """
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=step.learning_rate, weight_decay=step.weight_decay, fused=True
    )
    n_batches = math.ceil(len(rows.train) / step.batch_size)
    schedule = None
    if step.one_cycle:
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, max_lr=step.learning_rate, total_steps=max(2, n_batches * step.n_epochs)
        )
    order = torch.Generator().manual_seed(step.seed)
    best_loss, best_state, n_worse = math.inf, None, 0
    epochs: list[Epoch] = []
    for epoch in range(1, step.n_epochs + 1):
        started = time.perf_counter()
        network.train()
        total = _Total()
        shuffled = rows.train[torch.randperm(len(rows.train), generator=order).numpy()]
        for batch in _batches(shuffled, step.batch_size):
            optimiser.zero_grad(set_to_none=True)
            loss = total.add(network, inputs(batch, epoch - 1), rows.targets[batch], step)
            _require_finite(loss, step, epoch)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            if schedule is not None:
                schedule.step()
            on_batch((epoch - 1) * len(rows.train) + total.n, step.n_epochs * len(rows.train))
        validation = _validate(network, inputs, rows, step)
        epochs.append(
            Epoch(
                step.number,
                epoch,
                *total.means(),
                *validation.means(),
                seconds=time.perf_counter() - started,
            )
        )
        loss_now = epochs[-1].validation_loss
        if math.isnan(loss_now) or loss_now < best_loss:
            best_loss, n_worse = loss_now, 0
            best_state = copy.deepcopy(network.state_dict())
        else:
            n_worse += 1
            if n_worse >= step.patience:
                break
    if best_state is not None:
        network.load_state_dict(best_state)
    network.eval()
    return epochs


def best_epoch(epochs: list[Epoch]) -> int:
    """Number of the epoch whose weights were kept: the lowest validation loss, else the last."""
    validated = [e for e in epochs if not math.isnan(e.validation_loss)]
    if not validated:
        return epochs[-1].epoch if epochs else 0
    return min(validated, key=lambda e: e.validation_loss).epoch


class _Total:
    """Loss and hits summed over batches."""

    def __init__(self) -> None:
        self.n = 0
        self._loss = 0.0
        self._right = 0

    def add(self, network: nn.Module, inputs: Tensor, targets: NDArray[Any], step: Step) -> Tensor:
        wanted = torch.from_numpy(targets).to(step.device)
        with autocast(step.precision, step.device):
            scores = network(inputs.to(step.device))
        loss = nn.functional.cross_entropy(scores.float(), wanted)
        self.n += len(targets)
        self._loss += float(loss.detach()) * len(targets)
        self._right += int((scores.argmax(dim=1) == wanted).sum())
        return loss

    def means(self) -> tuple[float, float]:
        return (self._loss / self.n, self._right / self.n) if self.n else (math.nan, math.nan)


def _validate(network: nn.Module, inputs: Inputs, rows: Rows, step: Step) -> _Total:
    network.eval()
    total = _Total()
    with torch.no_grad():
        for batch in _batches(rows.validation, step.batch_size):
            total.add(network, inputs(batch, VALIDATION), rows.targets[batch], step)
    return total


def _batches(rows: NDArray[np.intp], batch_size: int) -> Iterator[NDArray[np.intp]]:
    for start in range(0, len(rows), batch_size):
        yield rows[start : start + batch_size]


def _require_finite(loss: Tensor, step: Step, epoch: int) -> None:
    if not torch.isfinite(loss):
        which = "head_learning_rate" if step.number == 1 else "body_learning_rate"
        raise TrainingError(
            f"the loss became {float(loss.detach())} in step {step.number}, epoch {epoch}. Lower "
            f"`{which}` of [finetune], now {step.learning_rate:g}."
        )


@contextmanager
def deterministic(device: str) -> Iterator[None]:
    """Only algorithms that repeat to the last bit; the process is left as it was found.

    On a GPU an operation that has no such algorithm warns instead of stopping.
    """
    before = torch.are_deterministic_algorithms_enabled()
    warned = torch.is_deterministic_algorithms_warn_only_enabled()
    # Filling memory that nothing reads costs time; torch does not annotate the switch.
    memory: Any = torch.utils.deterministic
    filled = memory.fill_uninitialized_memory
    if device == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=device == "cuda")
    memory.fill_uninitialized_memory = False
    try:
        # Dropout and the like, in networks that have them, draw from the global generator.
        with torch.random.fork_rng():
            yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warned)
        memory.fill_uninitialized_memory = filled
