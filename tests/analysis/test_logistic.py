from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from analysis.logistic import fit_predict
from featurestore.errors import CohortError


def data(n, d, seed, n_test=20):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n + n_test, d)) * np.geomspace(0.1, 10, d) + 3
    signal = ((x - 3) / np.geomspace(0.1, 10, d))[:, : min(d, 4)].sum(axis=1)
    mutated = signal + rng.normal(size=n + n_test) > 1.5
    return x[:n], mutated[:n], x[n:]


def reference(train, mutated, test, penalty):
    scaler = StandardScaler().fit(train)
    model = LogisticRegression(
        C=1 / (penalty * train.shape[1]), class_weight="balanced", tol=1e-10, max_iter=10_000
    ).fit(scaler.transform(train), mutated)
    shift = np.log(mutated.sum() / (~mutated).sum())
    return 1 / (1 + np.exp(-(model.decision_function(scaler.transform(test)) + shift)))


def exact_loss(train, mutated, penalty):
    """Weighted leave-one-out log loss, by refitting."""
    n, z = len(mutated), StandardScaler().fit_transform(train)
    weights = np.where(mutated, n / (2 * mutated.sum()), n / (2 * (~mutated).sum()))
    log_odds = []
    for i in range(n):
        kept = np.arange(n) != i
        model = LogisticRegression(C=1 / (penalty * train.shape[1]), tol=1e-6, max_iter=1000)
        model.fit(z[kept], mutated[kept], sample_weight=weights[kept])
        log_odds.append(model.decision_function(z[[i]])[0])
    return weights @ np.logaddexp(0, np.where(mutated, -1, 1) * np.array(log_odds))


@pytest.mark.parametrize("penalty", [0.01, 1.0, 100.0])
@pytest.mark.parametrize("d", [1, 12, 150])
def test_probabilities_are_scikit_learns_at_the_true_prevalence(d, penalty):
    train, mutated, test = data(70, d, seed=d)
    found = fit_predict(train, mutated, test, penalties=[penalty])
    assert found.converged
    assert found.probabilities == pytest.approx(reference(train, mutated, test, penalty), abs=2e-6)


@pytest.mark.parametrize(("d", "seed"), [(6, 0), (40, 3)])
def test_the_penalty_is_the_one_of_exact_leave_one_out(d, seed):
    train, mutated, test = data(30, d, seed)
    penalties = [0.1, 1.0, 100.0]
    with threadpool_limits(1):
        losses = [exact_loss(train, mutated, penalty) for penalty in penalties]
    found = fit_predict(train, mutated, test, penalties=penalties)
    assert found.penalty == penalties[int(np.argmin(losses))]
    # Nor does the way through the other penalties change the fit.
    alone = fit_predict(train, mutated, test, penalties=[found.penalty])
    assert found.probabilities == pytest.approx(alone.probabilities, abs=1e-7)


def test_features_without_signal_give_the_prevalence():
    rng = np.random.default_rng(0)
    mutated = np.arange(200) % 5 == 0
    found = fit_predict(rng.normal(size=(200, 300)), mutated, rng.normal(size=(50, 300)))
    assert found.penalty >= 1000
    assert found.probabilities.mean() == pytest.approx(0.2, abs=0.03)


def test_separable_classes_and_constant_features_converge():
    mutated = np.arange(40) % 2 == 0
    train = np.where(mutated, 1.0, -1.0)[:, None] * np.ones((1, 3))
    assert fit_predict(train, mutated, train).probabilities[mutated].min() > 0.9
    constant = np.full((40, 2), 4.0)
    assert fit_predict(constant, mutated, constant).probabilities == pytest.approx(0.5)


def test_what_cannot_be_fitted_is_refused():
    x = np.zeros((6, 2))
    with pytest.raises(CohortError, match="all 6 training patients are of one class"):
        fit_predict(x, np.zeros(6, dtype=bool), x)
    with pytest.raises(CohortError, match="positive penalties"):
        fit_predict(x, np.arange(6) > 2, x, penalties=[0.0])
