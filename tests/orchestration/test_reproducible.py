"""The same study on another runtime: features, scores and the difference within a tolerance.

On one machine and runtime numbers repeat to the last bit (``test_run.py``). OpenVINO and torch
add up in another order, so across them they agree within what is stated in
``docs/statistics.md``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from analysis.compare import compare_encoders
from analysis.tissue import TissueCohort, TissueSettings, evaluate_tissue
from featurestore.sources.images import read_rgb
from featurestore.sources.synthetic import write_tissue
from models.colour import COLOUR_PREFIX
from models.encoders import EncoderSettings, describe, open_encoder, open_network
from models.runtime import Runtime, choose_runtime, compile_network

# Stated in docs/statistics.md.
MIN_COSINE, MAX_POINTS = 0.99999, 0.5


@pytest.mark.slow
def test_two_runtimes_give_the_same_study_within_the_stated_tolerance(
    xception_weights: Path, tmp_path: Path
) -> None:
    if choose_runtime().name != "openvino":
        pytest.skip("needs OpenVINO on a CPU beside torch: another runtime is chosen here")
    write_tissue(tmp_path, n_per_class=12, seed=1, tile_px=72)
    files = sorted(tmp_path.rglob("*.png")) or sorted(tmp_path.rglob("*.tif"))
    pixels = np.stack([np.asarray(read_rgb(path)) for path in files])
    version = describe(EncoderSettings(input_px=72, precision="float32"), folder=xception_weights)
    network = open_network(version, folder=xception_weights)
    features = {
        name: compile_network(
            network, input_px=72, mean=version.mean, std=version.std, precision="float32",
            runtime=Runtime(name, "cpu", native_bfloat16=False),
        )(pixels)
        for name in ("openvino", "torch")
    }  # fmt: skip
    a, b = features.values()
    cosine = (a * b).sum(axis=1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
    assert cosine.min() >= MIN_COSINE
    assert not np.array_equal(a, b), "one runtime stood in for the other"

    baseline = open_encoder(
        describe(EncoderSettings(network=f"{COLOUR_PREFIX}mean_rgb"), folder=xception_weights),
        folder=xception_weights,
    )(pixels)
    labels = np.unique([path.parent.name for path in files], return_inverse=True)
    found = {}
    for name, matrix in features.items():
        cohort = TissueCohort(
            tile_ids=np.arange(len(files)),
            labels=labels[1],
            classes=tuple(labels[0].tolist()),
            patients=None,
            features={"colour": baseline, "network": matrix},
        )
        result = evaluate_tissue(cohort, TissueSettings(n_folds=3, n_repeats=4, seed=7))
        table = compare_encoders(
            result.scores, n_folds=3, n_repeats=4, leakage_checked=False, leakage_note="none"
        )
        found[name] = table[table["target"] == "all"].set_index("metric")
    for metric in ("accuracy", "macro_auroc"):
        for column in ("mean_b", "difference", "ci_low", "ci_high"):
            one, other = (table.loc[metric, column] for table in found.values())
            assert abs(100 * (one - other)) <= MAX_POINTS, (metric, column)
