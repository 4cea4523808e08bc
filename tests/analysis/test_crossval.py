from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from analysis import crossval
from analysis.crossval import cross_validate, fit_predict
from analysis.splits import repeated_folds


def pooled_features(n, d, n_classes, seed=0, noise=1.0):
    """Like a network's pooled features: non-negative, correlated, some of them dead."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n) % n_classes)
    latent = 2 * rng.normal(size=(n_classes, 12))[labels] + noise * rng.normal(size=(n, 12))
    features = np.maximum(latent @ rng.normal(size=(12, d)) + 0.3 * rng.normal(size=(n, d)), 0)
    features[:, :3] = 0
    return features.astype(np.float32), labels


def plain_pipeline(features, labels, test, c):
    model = make_pipeline(StandardScaler(), LogisticRegression(C=c, tol=1e-8, max_iter=20_000)).fit(
        features[~test].astype(np.float64), labels[~test]
    )
    return model.predict_proba(features[test].astype(np.float64))


@pytest.mark.parametrize("d", [5, 60, 400])  # fewer features than training tiles, and more
@pytest.mark.parametrize("c", [0.01, 0.1, 1.0])
def test_predictions_are_those_of_the_plain_scikit_learn_pipeline(d, c):
    features, labels = pooled_features(150, d, 4)
    folds = repeated_folds(labels, n_folds=5, n_repeats=1, seed=1)
    found = cross_validate({"e": features}, labels, folds, n_classes=4, c=c)["e"]

    assert found.n_not_converged == 0
    for fold in range(5):
        test = folds[0] == fold
        expected = plain_pipeline(features, labels, test, c)
        assert np.abs(found.probabilities[0, test] - expected).max() < 1e-3


def test_more_features_than_tiles_is_not_solved_by_chance():
    """The rotation must matter: without the test tiles' part of it nothing would fit."""
    features, labels = pooled_features(150, 400, 4)
    probabilities = fit_predict(features[:100], labels[:100], features[100:], c=0.1, n_classes=4)
    assert (probabilities.argmax(axis=1) == labels[100:]).mean() > 0.9
    assert probabilities.sum(axis=1) == pytest.approx(1)


@pytest.mark.parametrize("d", [4, 300])
def test_constant_features_give_no_nan(d):
    labels = np.arange(100) % 2
    constant = np.full((100, d), 7.25, dtype=np.float32)
    probabilities = fit_predict(constant[:80], labels[:80], constant[80:], c=0.1, n_classes=2)
    assert probabilities == pytest.approx(0.5, abs=1e-3)


def test_a_feature_constant_in_training_only_stays_finite():
    features, labels = pooled_features(120, 6, 3)
    features[:100, 5] = 1.0
    features[100:, 5] = 1e6
    probabilities = fit_predict(features[:100], labels[:100], features[100:], c=0.1, n_classes=3)
    assert np.isfinite(probabilities).all()


def test_identical_tiles_are_no_obstacle():
    features, labels = pooled_features(60, 300, 3)
    doubled, twice = np.tile(features, (2, 1)), np.tile(labels, 2)
    probabilities = fit_predict(doubled, twice, features, c=0.1, n_classes=3)
    assert (probabilities.argmax(axis=1) == labels).all()


def test_a_class_without_a_training_tile_has_probability_0():
    features, labels = pooled_features(90, 10, 3)
    seen = labels != 1
    probabilities = fit_predict(features[seen], labels[seen], features, c=0.1, n_classes=3)
    assert (probabilities[:, 1] == 0).all()
    assert probabilities.sum(axis=1) == pytest.approx(1)


def test_the_numbers_do_not_depend_on_the_number_of_jobs_or_the_other_encoders():
    wide, labels = pooled_features(150, 300, 3, noise=2.0)
    narrow = wide[:, 3:10].copy()
    folds = repeated_folds(labels, n_folds=5, n_repeats=2, seed=1)
    run = {"n_classes": 3, "c": 0.1}
    alone = cross_validate({"wide": wide}, labels, folds, n_jobs=1, **run)["wide"]
    for n_jobs in (1, 2, 5):
        both = {"narrow": narrow, "wide": wide}
        found = cross_validate(both, labels, folds, n_jobs=n_jobs, **run)
        assert list(found) == ["narrow", "wide"]
        assert np.array_equal(found["wide"].probabilities, alone.probabilities)


def test_nothing_is_fitted_on_test_tiles():
    """With labels that mean nothing, out-of-fold accuracy is chance even with d > n."""
    rng = np.random.default_rng(2)
    features = rng.normal(size=(300, 500)).astype(np.float32)
    labels = rng.permutation(np.arange(300) % 3)
    folds = repeated_folds(labels, n_folds=5, n_repeats=2, seed=1)
    found = cross_validate({"e": features}, labels, folds, n_classes=3, c=0.1)["e"]
    assert abs((found.probabilities.argmax(axis=2) == labels).mean() - 1 / 3) < 0.08


def test_a_test_tile_changes_only_its_own_prediction():
    features, labels = pooled_features(100, 200, 3)
    before = fit_predict(features[:80], labels[:80], features[80:], c=0.1, n_classes=3)
    features[80] *= 50
    after = fit_predict(features[:80], labels[:80], features[80:], c=0.1, n_classes=3)
    assert not np.array_equal(before[0], after[0])
    assert np.allclose(before[1:], after[1:], rtol=0, atol=1e-9)


def test_splits_that_do_not_converge_are_counted_and_told_once(monkeypatch):
    monkeypatch.setattr(crossval, "MAX_ITERATIONS", 2)
    features, labels = pooled_features(100, 20, 3)
    folds = repeated_folds(labels, n_folds=5, n_repeats=2, seed=1)
    with pytest.warns(ConvergenceWarning) as caught:
        found = cross_validate({"hard": features}, labels, folds, n_classes=3, c=1.0)["hard"]
    assert found.n_not_converged == 10
    messages = [str(w.message) for w in caught if w.category is ConvergenceWarning]
    assert len(messages) == 1
    assert messages[0].startswith("hard: the classifier did not converge in 10 of 10 splits")


def test_other_warnings_are_passed_on(monkeypatch):
    def warn_and_predict(*args, **kwargs):
        warnings.warn("something else", RuntimeWarning, stacklevel=1)
        return fit_predict(*args, **kwargs)

    monkeypatch.setattr(crossval, "fit_predict", warn_and_predict)
    features, labels = pooled_features(60, 5, 2)
    folds = repeated_folds(labels, n_folds=3, n_repeats=1, seed=1)
    with pytest.warns(RuntimeWarning, match="something else"):
        cross_validate({"e": features}, labels, folds, n_classes=2, c=0.1)


def test_progress_counts_every_split_of_every_encoder():
    features, labels = pooled_features(60, 5, 2)
    folds = repeated_folds(labels, n_folds=3, n_repeats=2, seed=1)
    seen = []
    cross_validate(
        {"a": features, "b": features}, labels, folds, n_classes=2, c=0.1,
        on_progress=lambda done, total: seen.append((done, total)),
    )  # fmt: skip
    assert seen == [(i, 12) for i in range(1, 13)]


def test_an_error_while_reporting_progress_stops_the_work():
    features, labels = pooled_features(60, 5, 2)
    folds = repeated_folds(labels, n_folds=3, n_repeats=400, seed=1)
    n_fits = 0

    def fit_and_count(*args, **kwargs):
        nonlocal n_fits
        n_fits += 1
        return fit_predict(*args, **kwargs)

    def cancel(done, total):
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(crossval, "fit_predict", fit_and_count)
        with pytest.raises(KeyboardInterrupt):
            cross_validate(
                {"e": features}, labels, folds, n_classes=2, c=0.1, on_progress=cancel, n_jobs=1
            )
    assert n_fits < 100
