from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

from analysis.jackknife import jackknife_difference
from analysis.logistic import fit_predict, prediction_changes
from analysis.logistic_roles import logistic_roles
from analysis.splits import repeated_folds
from featurestore.errors import CohortError


def cohort(seed, *, n=80, d=100):
    rng = np.random.default_rng(seed)
    traits = rng.normal(size=(n, 3))
    x = (traits + rng.normal(size=(n, 3))) @ rng.normal(size=(3, d)) + rng.normal(size=(n, d))
    status = (traits[:, 0] + rng.normal(size=n) > 0.5).astype(float)
    return x, status, repeated_folds(status, n_folds=4, n_repeats=2, seed=seed)


def test_changes_are_about_those_of_fitting_without_the_patient():
    """scikit-learn's logistic regression, with the class weights and scaling of all patients."""
    x, status, folds = cohort(1)
    test = folds[0] == 0
    penalty, labels = 1.0, status[~test]
    log_odds, changes = prediction_changes(x[~test], labels == 1, x[test], penalty=penalty)
    scaler = StandardScaler().fit(x[~test])
    z, z_test = scaler.transform(x[~test]), scaler.transform(x[test])
    weights = np.where(labels == 1, 0.5 / labels.mean(), 0.5 / (1 - labels.mean()))

    def fitted(rows):
        model = LogisticRegression(C=1 / (penalty * x.shape[1]), tol=1e-9, max_iter=5000)
        model.fit(z[rows], labels[rows], sample_weight=weights[rows])
        return model.decision_function(z_test)

    everybody = np.arange(len(labels))
    assert log_odds == pytest.approx(fitted(everybody), abs=1e-4)
    exact = np.stack([fitted(np.delete(everybody, i)) - log_odds for i in everybody], axis=1)
    assert np.corrcoef(exact.ravel(), changes.ravel())[0, 1] > 0.99
    assert np.abs(exact - changes).max() < 0.15 * np.abs(exact).max()


def test_the_score_is_that_of_a_study():
    x, status, folds = cohort(2)
    of_splits = []
    for fold_of in folds:
        for fold in range(4):
            test = fold_of == fold
            p = fit_predict(x[~test], status[~test] == 1, x[test]).probabilities
            of_splits.append(roc_auc_score(status[test], p))
    assert logistic_roles(x, status, folds).score == pytest.approx(np.mean(of_splits))


def test_two_encoders_are_compared_on_it():
    x, status, folds = cohort(3)
    noise = np.random.default_rng(0).normal(size=x.shape)
    found = jackknife_difference(
        logistic_roles(noise, status, folds), logistic_roles(x, status, folds)
    )
    assert found.difference > 0
    assert found.ci_low < found.difference < found.ci_high
    assert found.variance_tested > 0
    assert found.variance_pairs > 0


def test_what_breaks_the_assumptions_is_refused():
    x, status, folds = cohort(4)
    with pytest.raises(CohortError, match=r"1 repeat\(s\), expected at least 2"):
        logistic_roles(x, status, folds[:1])
    with pytest.raises(CohortError, match="neither 0 nor 1"):
        logistic_roles(x, np.where(status == 1, np.nan, status), folds)
    with pytest.raises(CohortError, match="one row a patient"):
        logistic_roles(x[:-1], status, folds)
    with pytest.raises(CohortError, match="of one class"):
        prediction_changes(x, np.ones(80, dtype=bool), x, penalty=1.0)
