from __future__ import annotations

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from analysis import crossval, softmax_regression
from analysis.crossval import cross_validate
from analysis.softmax_regression import fit_splits
from analysis.splits import repeated_folds
from tests.analysis.pooled import pooled_features


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


def test_splits_that_do_not_converge_are_counted_and_told_once(monkeypatch):
    monkeypatch.setattr(softmax_regression, "MAX_ITERATIONS", 2)
    features, labels = pooled_features(100, 20, 3)
    folds = repeated_folds(labels, n_folds=5, n_repeats=2, seed=1)
    with pytest.warns(ConvergenceWarning) as caught:
        found = cross_validate({"hard": features}, labels, folds, n_classes=3, c=1.0)["hard"]
    assert found.n_not_converged == 10
    messages = [str(w.message) for w in caught if w.category is ConvergenceWarning]
    assert len(messages) == 1
    assert messages[0].startswith("hard: the classifier did not converge in 10 of 10 splits")


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
        return fit_splits(*args, **kwargs)

    def cancel(done, total):
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(crossval, "fit_splits", fit_and_count)
        with pytest.raises(KeyboardInterrupt):
            cross_validate(
                {"e": features}, labels, folds, n_classes=2, c=0.1, on_progress=cancel, n_jobs=1
            )
    assert n_fits < 100
