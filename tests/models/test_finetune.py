"""Fine-tuning in two steps, on a small network and on Xception."""

from __future__ import annotations

import json
import math
import resource
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from featurestore.errors import TrainingError, WeightsError
from featurestore.sources.images import read_rgb
from models.classify import open_classifier
from models.encoders import EncoderSettings, describe, open_encoder, open_network
from models.finetune import FinetuneSettings, TrainingTile, finetune, training_content
from models.split_network import split_network
from models.tiles import TileRef
from models.trunk_outputs import TrunkOutputs
from models.weight_files import read_metadata
from models.weights import load_weights

SETTINGS = FinetuneSettings(
    epochs=(2, 3),
    unfreeze="layer3",
    batch_size=8,
    validation_fraction=0.2,
    body_learning_rate=2e-3,
    seed=11,
)


@pytest.fixture
def tune(small, tissue, tmp_path: Path):
    def run(settings=SETTINGS, tiles=tissue, parent=small.version, **more):
        return finetune(
            parent,
            tiles,
            trained_on="tissue",
            trained_on_digest="d1",
            settings=settings,
            folder=small.folder,
            scratch=tmp_path / "scratch",
            **more,
        )

    return run


@pytest.fixture(scope="module")
def followed(small, tissue, tmp_path_factory: pytest.TempPathFactory):
    """One fine-tuning, what it said on the way, and its scratch folder."""
    seen: list[tuple[str, int, int]] = []
    scratch = tmp_path_factory.mktemp("scratch")
    tuned = finetune(
        small.version,
        tissue,
        trained_on="tissue",
        trained_on_digest="d1",
        settings=SETTINGS,
        folder=small.folder,
        scratch=scratch,
        on_progress=lambda *progress: seen.append(progress),
    )
    return tuned, seen, scratch


def test_learns_and_only_the_unfrozen_part_changes(followed, small, tissue):
    tuned, seen, scratch = followed

    assert [(e.step, e.epoch) for e in tuned.epochs] == [(1, 1), (1, 2), (2, 1), (2, 2), (2, 3)]
    assert tuned.epochs[-1].train_loss < tuned.epochs[0].train_loss
    assert tuned.epochs[-1].train_accuracy > 0.8
    assert tuned.n_train + tuned.n_validation == len(tissue)
    assert tuned.classes == ("ADI", "LYM", "MUS")
    assert tuned.rejects == ()
    before = load_weights(small.folder, small.version.weights_sha256)
    after = load_weights(small.folder, tuned.version.weights_sha256)
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"layer3", "layer4"}
    assert after["fc.weight"].shape == (3, small.version.dim)
    assert set(after) == set(before) | {"fc.weight", "fc.bias"}
    # Progress reaches the end of each part, and nothing is left on disk.
    assert {what for what, done, of in seen if done == of} == {what for what, *_ in seen}
    assert len({what for what, *_ in seen}) == 3
    assert list(scratch.iterdir()) == []


def test_version_says_where_it_comes_from(followed, small):
    version = followed[0].version

    assert version.parent_sha256 == small.version.sha256
    assert version.trained_on_digest == "d1"
    assert version.training == training_content(SETTINGS)
    assert json.loads(json.dumps(version.training)) == version.training
    assert version.dim == small.version.dim
    path = small.folder / f"{version.weights_sha256}.safetensors"
    assert json.loads(read_metadata(path)["classes"]) == ["ADI", "LYM", "MUS"]


def test_kept_classifier_does_what_the_log_says(tune, small, tissue):
    tuned = tune(replace(SETTINGS, validation_fraction=0, stain_jitter=0, epochs=(1, 6)))
    features = open_encoder(tuned.version, folder=small.folder)(
        np.stack([read_rgb(tile.path) for tile in tissue])
    )
    classifier = open_classifier(tuned.version, folder=small.folder)

    assert classifier.classes == tuned.classes
    probabilities = classifier.probabilities(features)
    assert np.allclose(probabilities.sum(axis=1), 1, atol=1e-6)
    # What torch makes of the same layer; large features must not overflow on the way.
    state = load_weights(small.folder, tuned.version.weights_sha256)
    logits = torch.from_numpy(features) @ state["fc.weight"].T + state["fc.bias"]
    assert np.allclose(probabilities, logits.softmax(1).numpy(), atol=1e-6)
    assert np.isfinite(classifier.probabilities(features * 1e4)).all()
    right = [
        tuned.classes[i] == t.label for i, t in zip(probabilities.argmax(1), tissue, strict=True)
    ]
    assert np.mean(right) > 0.9
    assert all(math.isnan(epoch.validation_loss) for epoch in tuned.epochs)


def test_weights_without_a_classifier_are_named(small):
    with pytest.raises(WeightsError, match="hold no classifier with named classes"):
        open_classifier(small.version, folder=small.folder)


def test_same_seed_same_weights_and_no_trace_in_the_process(followed, tune, tissue):
    state = torch.random.get_rng_state()
    again = tune(tiles=tissue[::-1])
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not torch.are_deterministic_algorithms_enabled()
    other = tune(replace(SETTINGS, seed=12))

    assert again.version == followed[0].version
    assert other.version.weights_sha256 != again.version.weights_sha256


def test_what_is_not_kept_on_disk_is_computed_to_the_same_numbers(followed, tune):
    computed = tune(replace(SETTINGS, scratch_gb=0))

    assert computed.version == followed[0].version


def test_everything_can_be_trained(tune, small):
    tuned = tune(replace(SETTINGS, unfreeze="all", epochs=(1, 2)))

    before = load_weights(small.folder, small.version.weights_sha256)
    after = load_weights(small.folder, tuned.version.weights_sha256)
    assert not torch.equal(before["conv1.0.weight"], after["conv1.0.weight"])
    assert tuned.epochs[-1].train_loss < tuned.epochs[0].train_loss


def test_head_alone_leaves_the_network_as_it_is(tune, small):
    tuned = tune(replace(SETTINGS, epochs=(2, 0)))

    before = load_weights(small.folder, small.version.weights_sha256)
    after = load_weights(small.folder, tuned.version.weights_sha256)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert tuned.version.weights_sha256 != small.version.weights_sha256


def test_stops_early_and_keeps_the_best_epoch(tune):
    settings = replace(SETTINGS, epochs=(1, 12), patience=1, body_learning_rate=3e-2)
    tuned = tune(settings)

    second = [epoch for epoch in tuned.epochs if epoch.step == 2]
    assert len(second) < 12
    losses = [epoch.validation_loss for epoch in second]
    assert tuned.best_epoch == 1 + int(np.argmin(losses))
    assert losses[-1] > min(losses)


def test_patients_are_on_one_side_of_the_split(followed):
    # Five patients of nine tiles each: a fifth is one whole patient.
    assert followed[0].n_validation == 9


def test_bad_tiles_are_left_out_and_reported(tune, tissue):
    bad = [replace(tissue[3], sha256="0" * 64), replace(tissue[20], path=Path("gone.png"))]
    tuned = tune(tiles=[t for i, t in enumerate(tissue) if i not in (3, 20)] + bad)

    assert {reject.item for reject in tuned.rejects} == {str(tissue[3].path), "gone.png"}
    assert {reject.stage for reject in tuned.rejects} == {"finetune"}
    assert tuned.n_train + tuned.n_validation == len(tissue) - 2


@pytest.mark.parametrize(
    ("choose", "message"),
    [
        (lambda tiles: [], "two classes or more, got 0"),
        (lambda tiles: [t for t in tiles if t.label == "ADI"], "two classes or more, got 1: ADI"),
        (lambda tiles: [*tiles[1:], replace(tiles[0], label="STR")], "'STR' has 1 tile"),
        (
            lambda tiles: [t if t.label == "ADI" else replace(t, sha256="0" * 64) for t in tiles],
            "two classes or more, got 1: ADI",
        ),
        (lambda tiles: [replace(t, patient_id="one") for t in tiles], "no tile can be held out"),
    ],
    ids=["none", "one class", "one tile", "one readable class", "one patient"],
)
def test_tiles_that_cannot_be_learnt_from_are_refused(tune, tissue, choose, message, tmp_path):
    with pytest.raises(TrainingError, match=message):
        tune(tiles=choose(tissue))
    scratch = tmp_path / "scratch"
    assert not scratch.exists() or list(scratch.iterdir()) == []


@pytest.mark.parametrize("step", ["head_learning_rate", "body_learning_rate"])
def test_loss_that_diverges_names_the_setting(tune, step: str, tmp_path: Path):
    with pytest.raises(TrainingError, match=f"Lower `{step}`"):
        tune(replace(SETTINGS, **{step: 1e38}))
    assert list((tmp_path / "scratch").iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": (0, 0)}, "epochs = "),
        ({"validation_fraction": 1.0}, "validation_fraction = 1.0; expected from 0 to below 1"),
        ({"views": 0}, "views = 0"),
        ({"batch_size": 1}, "batch_size = 1"),
    ],
)
def test_setting_that_cannot_be_is_refused(change, message):
    with pytest.raises(TrainingError, match=message):
        replace(SETTINGS, **change)


def test_block_that_does_not_exist_is_told_which_do(tune):
    with pytest.raises(TrainingError, match=r"'block12' is no block .* layer3, layer4"):
        tune(replace(SETTINGS, unfreeze="block12"))


def test_no_room_on_disk_is_said_before_anything_is_written(tune, tmp_path: Path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(TrainingError, match="lower `scratch_gb`"):
            tune()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list((tmp_path / "scratch").iterdir()) == []


def test_tile_changed_during_training_is_said(tissue, tmp_path: Path):
    path = tmp_path / "tile.png"
    path.write_bytes(tissue[0].path.read_bytes())
    outputs = TrunkOutputs(
        [TileRef(0, path, tissue[0].sha256)],
        None,
        input_px=64,
        interpolation="bicubic",
        seed=1,
        stain_jitter=0.1,
    )
    assert outputs.batch(np.array([0]), 1).shape == (1, 64, 64, 3)
    path.write_bytes(tissue[20].path.read_bytes())

    with pytest.raises(TrainingError, match="changed during training"):
        outputs.batch(np.array([0]), 1)


def test_network_that_is_no_sequence_cannot_be_split():
    from models.networks import build_network

    network = build_network("test_vit", {}).to_empty(device="cpu")
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.uniform_(-0.1, 0.1, generator=torch.Generator().manual_seed(1))

    with pytest.raises(TrainingError, match="Set unfreeze = 'all'"):
        split_network(network, "blocks", input_px=160)


@pytest.mark.slow
def test_xception_is_tuned_from_its_exit_flow(xception_weights: Path, tissue, tmp_path: Path):
    parent = describe(EncoderSettings(input_px=96), folder=xception_weights)
    tiles = [TrainingTile(t.path, t.sha256, t.label) for t in tissue[::2]]
    tuned = finetune(
        parent,
        tiles,
        trained_on="tissue",
        trained_on_digest="d1",
        settings=FinetuneSettings(epochs=(1, 2), batch_size=8, seed=1),
        folder=xception_weights,
        scratch=tmp_path,
    )

    try:
        before = open_network(parent, folder=xception_weights).state_dict()
        after = open_network(tuned.version, folder=xception_weights).state_dict()
        changed = {name.split(".")[0] for name in before if not before[name].equal(after[name])}
        assert changed == {"block12", "conv3", "bn3", "conv4", "bn4"}
        assert tuned.epochs[-1].train_loss < tuned.epochs[0].train_loss
    finally:
        (xception_weights / f"{tuned.version.weights_sha256}.safetensors").unlink()
