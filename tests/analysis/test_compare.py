from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.datasets import make_moons
from sklearn.model_selection import RepeatedStratifiedKFold, cross_val_score
from sklearn.svm import SVC

from analysis.compare import compare_scores, in_words
from analysis.splits import repeated_folds
from featurestore.errors import CohortError

scores = st.lists(
    st.tuples(st.floats(0, 1, width=16), st.floats(0, 1, width=16)), min_size=2, max_size=60
)


def test_scikit_learns_published_example():
    """ "Statistical comparison of models using grid search": t 0.750, right-tailed p 0.227."""
    features, labels = make_moons(noise=0.352, random_state=1, n_samples=100)
    splitter = RepeatedStratifiedKFold(n_splits=10, n_repeats=10, random_state=0)
    linear, rbf = (
        cross_val_score(
            SVC(kernel=kernel, random_state=0), features, labels, cv=splitter, scoring="roc_auc"
        )
        for kernel in ("linear", "rbf")
    )
    found = compare_scores(linear, rbf, n_train=90, n_test=10)

    assert found.n_splits == 100
    assert round(found.t_corrected, 3) == 0.750
    assert round(found.p_corrected / 2, 3) == 0.227


@given(scores)
def test_the_naive_test_is_scipys_paired_t(pairs):
    a, b = np.array(pairs).T
    found = compare_scores(a, b, n_train=80, n_test=20)
    if np.ptp(b - a) == 0:
        return
    expected = stats.ttest_rel(b, a)
    assert found.t_naive == pytest.approx(expected.statistic, rel=1e-9)
    assert found.p_naive == pytest.approx(expected.pvalue, rel=1e-9)
    assert found.difference == pytest.approx(b.mean() - a.mean(), abs=1e-12)


@given(scores, st.integers(50, 500), st.integers(1, 50))
def test_the_corrected_test_follows_from_the_naive_one(pairs, n_train, n_test):
    a, b = np.array(pairs).T
    found = compare_scores(a, b, n_train, n_test)
    if np.ptp(b - a) == 0:
        return
    # Only the variance is inflated: by 1 + J · n_test / n_train.
    inflation = math.sqrt(1 + len(a) * n_test / n_train)
    assert found.t_corrected == pytest.approx(found.t_naive / inflation)
    assert found.p_corrected >= found.p_naive
    # The interval and the test say the same: 0 is outside exactly where p < 0.05.
    if abs(found.p_corrected - 0.05) > 1e-9:
        assert (found.ci_low > 0 or found.ci_high < 0) == (found.p_corrected < 0.05)
    assert found.ci_low <= found.difference <= found.ci_high


@given(scores)
def test_exchanging_the_encoders_changes_signs_only(pairs):
    a, b = np.array(pairs).T
    one, other = compare_scores(a, b, 80, 20), compare_scores(b, a, 80, 20)
    assert one.difference == pytest.approx(-other.difference, abs=1e-12)
    assert one.t_corrected == pytest.approx(-other.t_corrected, abs=1e-9)
    assert one.p_corrected == pytest.approx(other.p_corrected, abs=1e-9)
    assert one.ci_low == pytest.approx(-other.ci_high, abs=1e-12)


def test_fifty_times_five_makes_the_naive_t_eight_times_too_large():
    rng = np.random.default_rng(0)
    a = rng.normal(0.96, 0.01, 250)
    found = compare_scores(a, a + rng.normal(0.002, 0.01, 250), n_train=640, n_test=160)
    assert found.t_naive / found.t_corrected == pytest.approx(math.sqrt(1 + 250 / 4))


def test_identical_scores_do_not_differ():
    a = np.linspace(0.8, 0.9, 10)
    found = compare_scores(a, a, 80, 20)
    assert (found.difference, found.ci_low, found.ci_high) == (0, 0, 0)
    assert (found.t_naive, found.p_naive, found.t_corrected, found.p_corrected) == (0, 1, 0, 1)


@pytest.mark.parametrize("shift", [0.1, -0.1])
def test_one_constant_difference_is_the_limit_of_certainty(shift):
    a = np.linspace(0.3, 0.8, 7)  # a + 0.1 - a is 0.1 only up to rounding
    found = compare_scores(a, a + shift, 80, 20)
    assert found.difference == pytest.approx(shift)
    assert found.ci_low == found.difference == found.ci_high
    assert found.t_corrected == found.t_naive == math.copysign(math.inf, shift)
    assert found.p_corrected == found.p_naive == 0


def test_undefined_splits_are_left_out_of_both():
    rng = np.random.default_rng(1)
    a, b = rng.uniform(0.8, 1, (2, 20))
    n_test = np.where(np.arange(20) % 2, 20, 19)
    kept = np.ones(20, dtype=bool)
    kept[[3, 7]] = False
    expected = compare_scores(a[kept], b[kept], 100 - n_test[kept], n_test[kept])
    a[3], b[7] = np.nan, np.nan
    found = compare_scores(a, b, 100 - n_test, n_test)
    assert found == expected
    assert found.n_splits == 18


@pytest.mark.parametrize(
    ("a", "b", "n_train", "n_test", "message"),
    [
        ([0.9, 0.8], [0.9, 0.8, 0.7], 80, 20, r"shape \(2,\) and \(3,\)"),
        ([[0.9, 0.8]], [[0.9, 0.8]], 80, 20, "one score on each of the same splits"),
        ([0.9], [0.8], 80, 20, "defined on 1 of 1 splits, expected at least 2"),
        ([0.9, np.nan], [0.8, 0.7], 80, 20, "defined on 1 of 2 splits"),
        ([0.9, np.inf], [0.8, 0.7], 80, 20, "infinite"),
        ([0.9, 0.8], [0.8, 0.7], [80, 80, 80], 20, r"n_train of shape \(3,\) for 2 splits"),
        ([0.9, 0.8], [0.8, 0.7], 80, 0, "n_test must be positive in every split, got 0"),
        ([0.9, 0.8], [0.8, 0.7], [80, 90], 20, "not of one cohort: .* from 100 to 110"),
    ],
)
def test_what_is_no_paired_comparison_is_refused(a, b, n_train, n_test, message):
    with pytest.raises(CohortError, match=message):
        compare_scores(a, b, n_train, n_test)


def test_confidence_is_a_probability():
    with pytest.raises(CohortError, match="between 0 and 1, got 95"):
        compare_scores([0.9, 0.8], [0.8, 0.7], 80, 20, confidence=95)


def test_wider_confidence_widens_the_interval_by_the_t_quantile():
    a, b = np.random.default_rng(2).uniform(size=(2, 30))
    usual = compare_scores(a, b, 80, 20)
    wide = compare_scores(a, b, 80, 20, confidence=0.99)
    ratio = (wide.ci_high - wide.ci_low) / (usual.ci_high - usual.ci_low)
    assert ratio == pytest.approx(stats.t.ppf(0.995, 29) / stats.t.ppf(0.975, 29))


def test_under_the_null_the_naive_test_inflates_and_the_corrected_one_about_holds():
    """Two encoders that are equal by construction: other noise on the same signal."""
    rng = np.random.default_rng(7)
    n, d, n_cohorts = 80, 6, 200
    labels = np.arange(n) % 2
    folds = repeated_folds(labels, n_folds=5, n_repeats=10, seed=1)
    tests = np.stack([fold_of_tile == f for fold_of_tile in folds for f in range(5)])
    sign = 2.0 * labels - 1
    p_naive, p_corrected = [], []
    for _ in range(n_cohorts):
        signal = 0.4 * sign[:, None] * (np.arange(d) < 2)
        accuracies = [
            ridge_accuracies(signal + rng.normal(size=(n, d)), sign, tests) for _ in range(2)
        ]
        found = compare_scores(*accuracies, n_train=64, n_test=16)
        p_naive.append(found.p_naive)
        p_corrected.append(found.p_corrected)
    assert np.mean(np.array(p_naive) < 0.05) > 0.5
    assert 0.01 <= np.mean(np.array(p_corrected) < 0.05) <= 0.10


def ridge_accuracies(features, sign, tests):
    """Test accuracy of a ridge classifier in every split, all splits at once."""
    train = (~tests).astype(float)
    gram = np.einsum("sn,nd,ne->sde", train, features, features, optimize=True)
    weights = np.linalg.solve(
        gram + np.eye(features.shape[1]), ((train * sign) @ features)[..., None]
    )[..., 0]
    right = np.sign(weights @ features.T) == sign
    return (right * tests).sum(axis=1) / tests.sum(axis=1)


def test_in_words_the_effect_comes_first_and_the_papers_test_last():
    rng = np.random.default_rng(0)
    a = rng.normal(0.96, 0.01, 250)
    line = in_words(compare_scores(a, a + rng.normal(0.002, 0.01, 250), n_train=640, n_test=160))
    assert line.index("interval") < line.index("corrected p") < line.index("what the paper did")
    assert line.endswith("too small")
