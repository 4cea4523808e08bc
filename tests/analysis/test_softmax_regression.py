"""The regression of several splits at once, against scikit-learn's of one."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from analysis import softmax_regression
from analysis.softmax_regression import fit_splits
from tests.analysis.pooled import pooled_features


def fit_and_predict(train, labels, test, *, c, n_classes):
    """Probabilities of rows that stand behind the training rows."""
    features = np.concatenate([train, test])
    of_all = np.concatenate([labels, np.zeros(len(test), dtype=labels.dtype)])
    in_training = (np.arange(len(features)) < len(train))[None]
    fitted = fit_splits(features, of_all, in_training, n_classes=n_classes, c=c)
    assert fitted.converged.all()
    return fitted.probabilities[0, len(train) :]


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 2**31),
    n_classes=st.integers(2, 5),
    d=st.integers(1, 120),
    c=st.sampled_from([0.01, 0.1, 1.0, 10.0]),
)
def test_the_optimum_is_scikit_learns(seed, n_classes, d, c):
    """Its loss at our weights cannot be told from ours: 1e-6 in the gradient, and less in loss."""
    features, labels = pooled_features(80, max(d, 4), n_classes, seed=seed)
    train, test = features[:60], features[60:]
    scaler = StandardScaler().fit(train.astype(np.float64))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the last digits of its own search are lost
        model = LogisticRegression(C=c, tol=1e-9, max_iter=50_000).fit(
            scaler.transform(train.astype(np.float64)), labels[:60]
        )
    expected = model.predict_proba(scaler.transform(test.astype(np.float64)))
    found = fit_and_predict(train, labels[:60], test, c=c, n_classes=n_classes)
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-3)


def test_a_split_finds_the_same_alone_and_among_others():
    features, labels = pooled_features(150, 300, 4)
    rng = np.random.default_rng(3)
    in_training = rng.random((6, 150)) < 0.7
    together = fit_splits(features, labels, in_training, n_classes=4, c=0.1).probabilities
    for split, rows in enumerate(in_training):
        alone = fit_splits(features, labels, rows[None], n_classes=4, c=0.1).probabilities[0]
        np.testing.assert_allclose(together[split], alone, rtol=0, atol=1e-4)


def test_a_search_that_is_cut_short_says_so(monkeypatch):
    features, labels = pooled_features(100, 20, 3)
    in_training = np.stack([np.arange(100) < 80, np.arange(100) >= 20])
    monkeypatch.setattr(softmax_regression, "MAX_ITERATIONS", 2)
    fitted = fit_splits(features, labels, in_training, n_classes=3, c=1.0)
    assert fitted.converged.tolist() == [False, False]
    assert fitted.probabilities.sum(axis=2) == pytest.approx(1)


def test_an_offset_far_above_the_spread_changes_little():
    """Like a coordinate that is near 100 for every tile: single precision still tells them."""
    features, labels = pooled_features(100, 20, 3)
    in_training = (np.arange(100) < 80)[None]
    usual = fit_splits(features, labels, in_training, n_classes=3, c=1.0).probabilities
    offset = features + np.float32(100 * features.std())
    moved = fit_splits(offset, labels, in_training, n_classes=3, c=1.0).probabilities
    np.testing.assert_allclose(moved, usual, rtol=0, atol=2e-3)


def test_features_of_extreme_size_end():
    """Whatever the scale, standardising makes the same problem of it."""
    features, labels = pooled_features(100, 20, 3)
    in_training = (np.arange(100) < 80)[None]
    usual = fit_splits(features, labels, in_training, n_classes=3, c=1.0)
    scaled = features * np.geomspace(1e-12, 1e12, 20).astype(np.float32) + 1e-6
    extreme = fit_splits(scaled, labels, in_training, n_classes=3, c=1.0)
    assert extreme.converged.all()
    np.testing.assert_allclose(extreme.probabilities, usual.probabilities, rtol=0, atol=1e-3)


def test_more_features_than_tiles_are_no_obstacle():
    features, labels = pooled_features(150, 400, 4)
    probabilities = fit_and_predict(
        features[:100], labels[:100], features[100:], c=0.1, n_classes=4
    )
    assert (probabilities.argmax(axis=1) == labels[100:]).mean() > 0.9
    assert probabilities.sum(axis=1) == pytest.approx(1)


@pytest.mark.parametrize("d", [4, 300])
def test_constant_features_give_no_nan(d):
    labels = np.arange(100) % 2
    constant = np.full((100, d), 7.25, dtype=np.float32)
    probabilities = fit_and_predict(constant[:80], labels[:80], constant[80:], c=0.1, n_classes=2)
    assert probabilities == pytest.approx(0.5, abs=1e-3)


def test_a_feature_constant_in_training_only_stays_finite():
    features, labels = pooled_features(120, 6, 3)
    features[:100, 5] = 1.0
    features[100:, 5] = 1e6
    probabilities = fit_and_predict(
        features[:100], labels[:100], features[100:], c=0.1, n_classes=3
    )
    assert np.isfinite(probabilities).all()


def test_identical_tiles_are_no_obstacle():
    features, labels = pooled_features(60, 300, 3)
    doubled, twice = np.tile(features, (2, 1)), np.tile(labels, 2)
    probabilities = fit_and_predict(doubled, twice, features, c=0.1, n_classes=3)
    assert (probabilities.argmax(axis=1) == labels).all()


def test_a_class_without_a_training_tile_has_probability_0():
    features, labels = pooled_features(90, 10, 3)
    seen = labels != 1
    probabilities = fit_and_predict(features[seen], labels[seen], features, c=0.1, n_classes=3)
    assert (probabilities[:, 1] == 0).all()
    assert probabilities.sum(axis=1) == pytest.approx(1)


def test_a_test_tile_changes_only_its_own_prediction():
    features, labels = pooled_features(100, 200, 3)
    before = fit_and_predict(features[:80], labels[:80], features[80:], c=0.1, n_classes=3)
    features[80] *= 50
    after = fit_and_predict(features[:80], labels[:80], features[80:], c=0.1, n_classes=3)
    assert not np.array_equal(before[0], after[0])
    assert np.allclose(before[1:], after[1:], rtol=0, atol=1e-9)
