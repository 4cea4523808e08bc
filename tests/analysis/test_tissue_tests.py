from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from analysis.bootstrap import bootstrap_difference
from analysis.tissue import TissueCohort, TissueSettings, evaluate_tissue
from analysis.tissue_tests import tissue_tests


def result(*, n_patients=24, patients=True):
    rng = np.random.default_rng(0)
    labels = np.tile([0, 1], 60)
    owner = np.repeat([f"P{i}" for i in range(n_patients)], 120 // n_patients).astype(object)
    features = {
        name: (labels[:, None] * size + rng.normal(size=(120, 5))).astype(np.float32)
        for name, size in (("worse", 0.3), ("better", 1.5), ("mean-rgb", 0.0))
    }
    cohort = TissueCohort(
        tile_ids=np.arange(120), labels=labels, classes=("a", "b"),
        patients=owner if patients else None, features=features,
    )  # fmt: skip
    return evaluate_tissue(cohort, TissueSettings(n_folds=3, n_repeats=2, seed=1))


def test_patients_are_drawn_as_a_whole():
    found = result()
    (row,) = tissue_tests(found, baselines={"mean-rgb"}).to_dict(orient="records")
    predicted = [found.predictions[name].predicted for name in ("worse", "better")]
    expected = bootstrap_difference(
        found.cohort.labels, found.folds, *predicted, metric="accuracy", seed=1,
        patients=found.cohort.patients.astype(str), n_draws=1000,
    )  # fmt: skip
    assert (row["p"], row["ci_low"]) == pytest.approx((expected.p, expected.ci_low))
    assert (row["encoder_a"], row["encoder_b"], row["test"]) == ("worse", "better", "bootstrap")
    assert row["n_patients"] == 24


def test_without_patients_or_with_few_there_is_no_row():
    assert tissue_tests(result(patients=False)).empty
    assert tissue_tests(result(n_patients=12)).empty
    found = result()
    unknown = found.cohort.patients.copy()
    unknown[3] = None
    assert tissue_tests(replace(found, cohort=replace(found.cohort, patients=unknown))).empty
