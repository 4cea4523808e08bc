from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from analysis.added_value import added_value
from analysis.ridge import PENALTIES
from analysis.splits import unstratified_folds
from featurestore.errors import CohortError

N = 120


def cohort(seed, *, of_tissue, n=N):
    """A value that age drives, and so much of tissue; tissue shows age as well."""
    rng = np.random.default_rng(seed)
    age, tissue = rng.normal(size=(2, n))
    y = age + of_tissue * tissue + rng.normal(size=n)
    factors = np.stack([age, tissue], axis=1)
    features = factors @ rng.normal(size=(2, 30)) + rng.normal(size=(n, 30))
    folds = unstratified_folds(n, n_folds=4, n_repeats=2, seed=seed)
    return y, age[:, None], features, folds


def test_features_that_tell_more_than_age_are_seen():
    found = added_value(*cohort(1, of_tissue=1.0), metric="pearson_r", seed=0, n_permutations=99)
    assert found.gain > 0.1
    assert found.p == 1 / 100
    assert found.null_low < found.null_high < found.gain
    assert found.gain == pytest.approx(found.both - found.clinical)


@pytest.mark.slow
def test_features_that_show_age_only_add_nothing():
    p = [
        added_value(
            *cohort(seed, of_tissue=0.0, n=60), metric="pearson_r", seed=seed, n_permutations=19
        ).p
        for seed in range(20)
    ]
    assert np.mean(np.array(p) <= 0.05) <= 0.2
    assert 0.3 <= np.mean(p) <= 0.7


def test_the_scores_are_those_of_scikit_learns_two_stages():
    y, clinical, features, folds = cohort(2, of_tissue=0.5)
    found = added_value(y, clinical, features, folds, metric="pearson_r", seed=0, n_permutations=19)
    base, both = [], []
    for fold_of in folds:
        for fold in range(4):
            test = fold_of == fold
            first, second = (
                make_pipeline(
                    StandardScaler(),
                    RidgeCV(alphas=np.array(PENALTIES) * (~test).sum() * d / (~test).sum()),
                )
                for d in (1, 30)
            )
            first.fit(clinical[~test], y[~test])
            of_age = first.predict(clinical[test])
            second.fit(features[~test], y[~test] - first.predict(clinical[~test]))
            base.append(np.corrcoef(y[test], of_age)[0, 1])
            both.append(np.corrcoef(y[test], of_age + second.predict(features[test]))[0, 1])
    assert found.clinical == pytest.approx(np.mean(base), abs=1e-9)
    assert found.both == pytest.approx(np.mean(both), abs=1e-9)


def test_a_mutation_is_ranked():
    y, clinical, features, folds = cohort(3, of_tissue=1.5)
    status = (y > 0.5).astype(float)
    found = added_value(status, clinical, features, folds, metric="auroc", seed=0)
    assert 0.5 < found.clinical < found.both < 1
    assert found.p < 0.05
    assert len(found.null_gains) == 199


def test_permuting_within_groups_leaves_what_groups_tell():
    """Features that show the group only add something, but nothing beyond the group."""
    rng = np.random.default_rng(4)
    site = np.arange(N) % 4
    y = 2 * (site % 2) + rng.normal(size=N)
    features = np.eye(4)[site] + 0.1 * rng.normal(size=(N, 4))
    folds = unstratified_folds(N, n_folds=4, n_repeats=2, seed=4)
    args = (y, rng.normal(size=(N, 1)), features, folds)
    anywhere = added_value(*args, metric="pearson_r", seed=0, n_permutations=59)
    within = added_value(*args, metric="pearson_r", seed=0, n_permutations=59, groups=site)
    assert anywhere.p < 0.05 < within.p


def test_it_repeats():
    args = cohort(5, of_tissue=0.3)
    one, other = (
        added_value(*args, metric="pearson_r", seed=8, n_permutations=19) for _ in range(2)
    )
    assert one.null_gains.tolist() == other.null_gains.tolist()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metric": "accuracy"}, "metric 'accuracy' is unknown"),
        ({"metric": "auroc"}, "status of 0 or 1"),
        ({"n_permutations": 5}, "at least 19 permutations, got 5"),
        ({"clinical": np.zeros((N - 1, 1))}, "clinical of another shape"),
        ({"features": np.full((N, 2), np.nan)}, "a value is missing"),
        ({"folds": np.full((2, N), -1)}, "a value is missing"),
    ],
)
def test_what_cannot_be_tested_is_refused(change, message):
    y, clinical, features, folds = cohort(1, of_tissue=0.0)
    given = {
        "observed": y, "clinical": clinical, "features": features, "folds": folds,
        "metric": "pearson_r", "seed": 0, **change,
    }  # fmt: skip
    with pytest.raises(CohortError, match=message):
        added_value(**given)


def test_too_few_patients_are_refused():
    with pytest.raises(CohortError, match="24 patients, expected at least 30"):
        added_value(*cohort(1, of_tissue=0.0, n=24), metric="pearson_r", seed=0)
