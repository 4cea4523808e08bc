"""Nothing is fitted on test data: where labels are shuffled, every task finds chance.

A scaler, a choice of genes or principal components that had seen the test fold would tell more
than chance of labels that have nothing to do with the features. The last test makes that mistake
on purpose, and is found: these tests can fail.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.expression import ExpressionSettings, evaluate_expression
from analysis.mutation import MutationSettings, evaluate_mutation
from analysis.patients import PatientCohort
from analysis.tissue import TissueCohort, TissueSettings, evaluate_tissue

N_COHORTS = 12


def features(rng: np.random.Generator, n: int, dim: int) -> np.ndarray:
    """Features as encoders give them: few strong directions, far from 0, of unequal scale."""
    strong = rng.normal(size=(n, 5)) @ rng.normal(size=(5, dim)) * 3
    scale = rng.lognormal(0, 1, dim)
    return ((strong + rng.normal(size=(n, dim)) + 4) * scale).astype(np.float32)


def is_chance(values: list[float], chance: float) -> bool:
    """Whether independent cohorts' means are within 3.5 standard errors of chance."""
    error = np.std(values, ddof=1) / np.sqrt(len(values))
    return abs(float(np.mean(values)) - chance) < 3.5 * error


def tissue_accuracy(seed: int, change: object = None) -> float:
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(3), 30))
    matrix = features(rng, 90, 200)
    if callable(change):
        matrix = change(matrix, labels)
    cohort = TissueCohort(np.arange(90), labels, ("a", "b", "c"), None, {"net": matrix})
    settings = TissueSettings(n_repeats=1, seed=seed)
    scores = evaluate_tissue(cohort, settings, n_jobs=1).scores
    return float(scores.query("target == 'all' and metric == 'balanced_accuracy'")["value"].mean())


def test_tissue_is_at_chance() -> None:
    assert is_chance([tissue_accuracy(seed) for seed in range(N_COHORTS)], 1 / 3)


def patients(seed: int, *, is_binary: bool) -> PatientCohort:
    rng = np.random.default_rng(seed)
    values = rng.normal(5, 2, (60, 6))
    if is_binary:
        values = np.stack([rng.permutation(np.arange(60) < 20) for _ in range(6)], axis=1) * 1.0
    return PatientCohort(
        patient_ids=tuple(f"P{i}" for i in range(60)),
        features={"net": features(rng, 60, 200)},
        targets=pd.DataFrame(values, columns=[f"G{i}" for i in range(6)]),
    )


@pytest.mark.parametrize("n_components", [None, 8])
def test_expression_is_at_chance(n_components: int | None) -> None:
    found = []
    for seed in range(N_COHORTS):
        settings = ExpressionSettings(n_repeats=1, seed=seed, n_components=n_components)
        scores = evaluate_expression(patients(seed, is_binary=False), settings).scores
        # Out-of-fold correlations within a fold of 12 have their mean at 0 under no relation.
        found.append(float(scores.query("metric == 'pearson_r'")["value"].mean()))
    assert is_chance(found, 0)


def test_mutation_is_at_chance() -> None:
    found = []
    for seed in range(N_COHORTS):
        settings = MutationSettings(n_repeats=1, seed=seed)
        scores = evaluate_mutation(patients(seed, is_binary=True), settings).scores
        found.append(float(scores.query("metric == 'auroc'")["value"].mean()))
    assert is_chance(found, 0.5)


def test_features_chosen_with_the_test_labels_are_found_out() -> None:
    def chosen_on_everything(matrix: np.ndarray, labels: np.ndarray) -> np.ndarray:
        noise = np.random.default_rng(int(labels @ np.arange(90))).normal(size=(90, 500))
        matrix = noise.astype(np.float32)
        means = np.stack([matrix[labels == k].mean(axis=0) for k in range(3)])
        best = np.argsort(-means.std(axis=0) / matrix.std(axis=0))[:10]
        return matrix[:, best]

    leaked = [tissue_accuracy(seed, chosen_on_everything) for seed in range(N_COHORTS)]
    assert not is_chance(leaked, 1 / 3)
    assert np.mean(leaked) > 0.5
