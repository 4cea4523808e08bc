"""Fine-tuning, against the bare training step.

The bare step trains the same unfrozen part on one batch that lies in memory: forward, loss,
backward, optimiser. Ours also shuffles, fetches kept outputs of the frozen part, and sums up
loss and accuracy::

    python benchmarks/finetuning.py
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from measure import Row, Turns, show, write_rows
from numpy.typing import NDArray

from featurestore.sources.synthetic import write_tissue
from featurestore.sources.tile_folders import read_tile_folder
from models.encoders import EncoderSettings, describe, open_network
from models.finetune_run import images
from models.finetune_settings import FinetuneSettings
from models.runtime import autocast, choose_runtime, compile_network
from models.split_network import split_network
from models.tiles import TileRef
from models.training import Rows, Step, deterministic, new_head, train
from models.trunk_outputs import TrunkOutputs
from orchestration.home import Home

BATCH = 32
N_CLASSES = 9


def main() -> None:
    """Measure, print and keep the row."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batches", type=int, default=2, help="batches of 32 an epoch")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        rows = [step(Path(scratch), arguments.batches, arguments.rounds)]
    show(rows)
    write_rows(rows, arguments.json)


def step(scratch: Path, n_batches: int, n_rounds: int) -> Row:
    """Epochs of ours and as many bare steps, in turns."""
    n = n_batches * BATCH
    write_tissue(scratch / "tiles", n_per_class=-(-n // N_CLASSES), seed=1)
    files = read_tile_folder(scratch / "tiles").tiles[:n]
    weights = Home.from_environment().weights
    version = describe(EncoderSettings(), folder=weights)
    runtime = choose_runtime()
    trunk, tail = split_network(
        open_network(version, folder=weights), FinetuneSettings(seed=1).unfreeze,
        input_px=version.input_px,
    )  # fmt: skip
    assert trunk is not None
    outputs = TrunkOutputs(
        [TileRef(i, scratch / "tiles" / f.path, f.sha256) for i, f in enumerate(files)],
        compile_network(
            trunk, input_px=version.input_px, mean=version.mean, std=version.std,
            precision=version.precision, runtime=runtime,
        ),
        input_px=version.input_px, interpolation=version.interpolation, seed=1, stain_jitter=0.05,
    )  # fmt: skip
    network = torch.nn.Sequential(tail, new_head(version.dim, N_CLASSES, seed=1))
    network.requires_grad_(requires_grad=True).to(runtime.device)
    network.to(memory_format=torch.channels_last)
    rows = Rows(np.arange(n), np.arange(0), np.arange(n) % N_CLASSES)
    settings = Step(
        number=2, n_epochs=1, batch_size=BATCH, learning_rate=1e-6, weight_decay=1e-2,
        one_cycle=True, patience=2, precision=version.precision, device=runtime.device, seed=1,
    )  # fmt: skip
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-6, fused=True)

    def ours() -> int:
        train(
            network,
            lambda wanted, _: images(outputs.batch(wanted, 0)),
            rows,
            settings,
            on_batch=lambda *_: None,
        )
        return n

    def bare() -> int:
        network.train()
        for _ in range(n_batches):
            optimiser.zero_grad(set_to_none=True)
            with autocast(version.precision, runtime.device):
                scores = network(batch)
            torch.nn.functional.cross_entropy(scores.float(), targets).backward()
            optimiser.step()
        return n

    def ignore(_rows: list[int], _outputs: NDArray[np.float16], _: NDArray[np.uint8]) -> None:
        """Only the kept outputs are wanted."""

    with deterministic(runtime.device), outputs.keeping(scratch, n_views=1):
        outputs.first_pass(ignore, augmented=np.zeros(n, bool), on_batch=lambda _: None)
        batch = images(outputs.batch(np.arange(BATCH), 0)).to(runtime.device)
        targets = torch.from_numpy(rows.targets[:BATCH]).to(runtime.device)
        bare()
        turns = Turns({"ours": ours, "bare": bare}, n_rounds=n_rounds)
    return Row(
        piece="fine-tuning",
        what="step 2, the frozen part computed once",
        value=f"{turns.rate('ours'):.1f} tiles/s",
        baseline="the bare training step on one batch in memory",
        baseline_value=f"{turns.rate('bare'):.1f} tiles/s",
        ratio=turns.ratio("ours", "bare"),
        cpu_ratio=turns.ratio("ours", "bare", cpu=True),
        bar=0.85,
        note=f"{n_batches} x {BATCH} tiles an epoch, {n_rounds} rounds, {version.precision}",
    )


if __name__ == "__main__":
    main()
