"""Attribution: exactly the models of the cross-validation, and exactly the mean over tiles."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis import logistic, ridge
from analysis.attribution import fit_expression, fit_mutation
from featurestore.errors import CohortError

N_PATIENTS, N_TILES = 30, 7


def cohort(seed: int, dim: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tiles of patients, the means, and values that a direction of the features drives."""
    rng = np.random.default_rng(seed)
    tiles = rng.normal(3, 1, (N_PATIENTS, N_TILES, dim)) + rng.normal(0, 1, (N_PATIENTS, 1, dim))
    # One feature never varies, as networks have them.
    tiles[..., -1] = 0.25
    tiles = tiles.astype(np.float32)
    patients = tiles.mean(axis=1, dtype=np.float64)
    values = 5 + patients @ rng.normal(0, 1, dim) + rng.normal(0, 0.5, N_PATIENTS)
    return tiles, patients, values


@pytest.mark.parametrize("dim", [5, 80], ids=["fewer features", "more features"])
@pytest.mark.parametrize("n_components", [None, 3])
def test_expression_is_that_of_the_ridge_of_the_cross_validation(
    dim: int, n_components: int | None
) -> None:
    tiles, patients, values = cohort(1, dim)
    model = fit_expression(patients, values, n_components=n_components)
    rows = tiles.reshape(-1, dim)
    axes = ridge.split_axes(patients, rows, n_components=n_components)
    expected, penalty = ridge.predict(axes, values[:, None])
    assert model.penalty == penalty[0]
    np.testing.assert_allclose(model.predict(rows), expected[:, 0], rtol=0, atol=1e-9)


@pytest.mark.parametrize("dim", [5, 80], ids=["fewer features", "more features"])
def test_mutation_is_that_of_the_regression_of_the_cross_validation(dim: int) -> None:
    tiles, patients, values = cohort(2, dim)
    mutated = values > np.quantile(values, 0.7)
    model = fit_mutation(patients, mutated)
    rows = tiles.reshape(-1, dim)
    expected = logistic.fit_predict(patients, mutated, rows)
    assert model.penalty == expected.penalty
    found = 1 / (1 + np.exp(-model.predict(rows)))
    np.testing.assert_allclose(found, expected.probabilities, rtol=0, atol=1e-6)


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), dim=st.integers(2, 60))
def test_a_patients_prediction_is_the_mean_of_its_tiles(seed: int, dim: int) -> None:
    tiles, patients, values = cohort(seed, dim)
    for model in (fit_expression(patients, values), fit_mutation(patients, values > values.mean())):
        of_tiles = np.array([model.predict(rows).mean() for rows in tiles])
        np.testing.assert_allclose(of_tiles, model.predict(patients), rtol=0, atol=1e-4)
        assert np.isfinite(model.weights).all()
        assert model.weights[-1] == 0


def test_features_that_say_nothing_predict_the_mean() -> None:
    model = fit_expression(np.ones((6, 3)), np.arange(6.0))
    np.testing.assert_array_equal(model.predict(np.array([[7.0, 8.0, 9.0]])), [2.5])


@pytest.mark.parametrize(
    ("features", "values"),
    [
        (np.ones((3, 2)), np.ones(4)),
        (np.ones((0, 2)), np.ones(0)),
        (np.ones((3, 2)), np.array([1.0, np.nan, 2.0])),
        (np.full((3, 2), np.inf), np.ones(3)),
    ],
)
def test_what_gives_no_model_is_refused(features: np.ndarray, values: np.ndarray) -> None:
    with pytest.raises(CohortError, match="one row and one value|must be finite"):
        fit_expression(features, values)
