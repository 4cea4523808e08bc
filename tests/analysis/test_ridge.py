from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from analysis.ridge import PENALTIES, predict, split_axes
from featurestore.errors import CohortError


def data(n, d, n_targets, seed, n_test=15):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n + n_test, d)) @ rng.normal(size=(d, d)) + 5
    signal = x[:, : min(d, 5)] @ rng.normal(size=(min(d, 5), n_targets))
    noise = rng.normal(size=(n + n_test, n_targets)) * np.geomspace(0.1, 100, n_targets)
    return x[:n], signal[:n] + noise[:n], x[n:]


@settings(max_examples=25, deadline=None)
@given(st.integers(8, 50), st.integers(1, 80), st.integers(0, 1000), st.booleans())
def test_predictions_and_penalties_are_scikit_learns(n, d, seed, with_pca):
    train, values, test = data(n, d, 7, seed)
    n_components = max(1, min(n - 1, d) // 2) if with_pca else None
    predicted, chosen = predict(split_axes(train, test, n_components=n_components), values)

    steps = [StandardScaler()]
    if with_pca:
        steps.append(PCA(n_components, svd_solver="full"))
    alphas = np.sort(np.array(PENALTIES))[::-1] * d
    model = make_pipeline(*steps, RidgeCV(alphas, alpha_per_target=True)).fit(train, values)
    assert chosen * d == pytest.approx(model[-1].alpha_)
    assert predicted == pytest.approx(model.predict(test), rel=1e-6, abs=1e-6)


def test_many_targets_are_as_each_by_itself():
    train, values, test = data(30, 40, 1100, 0)
    axes = split_axes(train, test)
    together, chosen = predict(axes, values)
    for target in (0, 511, 512, 1099):
        alone, penalty = predict(axes, values[:, [target]])
        assert together[:, target] == pytest.approx(alone[:, 0], rel=1e-9)
        assert chosen[target] == penalty[0]
    assert len(set(chosen)) > 2


def test_a_targets_scale_and_offset_only_carry_over():
    train, values, test = data(30, 60, 5, 1)
    axes = split_axes(train, test)
    plain, chosen = predict(axes, values)
    scaled, same = predict(axes, 1000 * values + 7)
    assert scaled == pytest.approx(1000 * plain + 7)
    assert np.array_equal(chosen, same)


def test_features_that_do_not_vary_in_training_are_not_used():
    train, values, test = data(30, 6, 3, 2)
    constant = np.full((30, 1), 3.0)
    with_constant = np.hstack([train, constant])
    elsewhere = np.hstack([test, np.full((15, 1), 1e6)])
    expected, _ = predict(split_axes(train, test), values)
    assert predict(split_axes(with_constant, elsewhere), values)[0] == pytest.approx(expected)

    mean_only, chosen = predict(split_axes(constant, constant[:15]), values)
    assert mean_only == pytest.approx(np.tile(values.mean(axis=0), (15, 1)))
    assert chosen.tolist() == [max(PENALTIES)] * 3


@pytest.mark.parametrize("penalties", [[], [1.0, 0.0], [-1.0]])
def test_penalties_must_be_positive(penalties):
    train, values, test = data(10, 4, 2, 3)
    with pytest.raises(CohortError, match="positive penalties"):
        predict(split_axes(train, test), values, penalties=penalties)
