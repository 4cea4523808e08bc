from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats
from sklearn.datasets import make_moons
from sklearn.model_selection import RepeatedStratifiedKFold, cross_val_score
from sklearn.svm import SVC

from analysis.bayes import correlated_posterior
from analysis.compare import compare_scores
from featurestore.errors import CohortError

pairs = st.lists(
    st.tuples(st.floats(0, 1, width=16), st.floats(0, 1, width=16)), min_size=4, max_size=60
)


def posterior(a, b, *, rope=0.01, n_repeats=2, **options):
    return correlated_posterior(a, b, 80, 20, n_repeats=n_repeats, rope=rope, **options)


@pytest.fixture(scope="module")
def published():
    """The two best models of scikit-learn's "Statistical comparison ... using grid search"."""
    features, labels = make_moons(noise=0.352, random_state=1, n_samples=100)
    splitter = RepeatedStratifiedKFold(n_splits=10, n_repeats=10, random_state=0)
    return [
        cross_val_score(
            SVC(kernel=kernel, random_state=0), features, labels, cv=splitter, scoring="roc_auc"
        )
        for kernel in ("linear", "rbf")
    ]


def test_scikit_learns_published_probabilities(published):
    """77.3 % and 22.7 %; with a region of 0.01: 6.8 %, 43.2 % and 50.0 %."""
    found = correlated_posterior(*published, 90, 10, n_repeats=10, rope=0)
    assert round(found.p_b_better, 3) == 0.773
    assert round(found.p_a_better, 3) == 0.227
    found = correlated_posterior(*published, 90, 10, n_repeats=10, rope=0.01)
    # baycomp 1.0.3, two_on_single(rbf, linear, rope=0.01, runs=10).
    assert found.p_b_better == pytest.approx(0.4999999999999996, abs=1e-9)
    assert found.p_equivalent == pytest.approx(0.4316824582427, abs=1e-9)
    assert found.p_a_better == pytest.approx(0.06831754175730043, abs=1e-9)


@given(pairs)
def test_without_a_region_it_is_the_corrected_test_in_other_words(scores):
    a, b = np.array(scores).T
    found, test = posterior(a, b, rope=0), compare_scores(a, b, 80, 20)
    assert 2 * min(found.p_a_better, found.p_b_better) == pytest.approx(
        test.p_corrected if found.p_equivalent == 0 else 0, abs=1e-9
    )


@given(pairs, st.floats(0, 0.2))
def test_exchanging_the_encoders_exchanges_the_probabilities(scores, rope):
    a, b = np.array(scores).T
    one, other = posterior(a, b, rope=rope), posterior(b, a, rope=rope)
    if abs(abs(one.difference) - rope) > 1e-9:  # else rounding decides on a point mass
        assert one.p_a_better == pytest.approx(other.p_b_better, abs=1e-9)
        assert one.p_equivalent == pytest.approx(other.p_equivalent, abs=1e-9)
    assert one.p_a_better + one.p_equivalent + one.p_b_better == pytest.approx(1)


def test_the_probabilities_are_areas_under_the_density_of_the_paper():
    rng = np.random.default_rng(3)
    a = rng.uniform(0.6, 0.9, 50)
    b = a + rng.normal(0.01, 0.03, 50)
    found, d = posterior(a, b, rope=0.01), b - a
    scale = np.sqrt((1 / 50 + 0.2 / (1 - 0.2)) * d.var(ddof=1))
    density = stats.t(49, loc=d.mean(), scale=scale).pdf
    area, _ = integrate.quad(density, -0.01, 0.01)
    assert found.p_equivalent == pytest.approx(area, abs=1e-7)


def test_a_wider_region_is_more_equivalent():
    a, b = np.random.default_rng(2).uniform(size=(2, 30))
    shares = [posterior(a, b, rope=rope).p_equivalent for rope in (0, 0.01, 0.1, 1)]
    assert shares == sorted(shares)
    assert shares[0] == 0
    assert shares[-1] > 0.99


@pytest.mark.parametrize(
    ("shift", "expected"), [(0.1, (0, 0, 1)), (-0.1, (1, 0, 0)), (0.005, (0, 1, 0)), (0, (0, 1, 0))]
)
def test_equal_differences_leave_no_doubt(shift, expected):
    a = np.linspace(0.3, 0.8, 8)
    found = posterior(a, a + shift)
    assert (found.p_a_better, found.p_equivalent, found.p_b_better) == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_repeats": 1}, r"1 repeat\(s\), expected at least 2"),
        ({"rope": -0.01}, "must not be negative"),
        ({"rope": np.nan}, "must not be negative"),
        ({"credibility": 95}, "between 0 and 1"),
    ],
)
def test_what_breaks_the_assumptions_is_refused(change, message):
    with pytest.raises(CohortError, match=message):
        posterior([0.9, 0.8, 0.7], [0.8, 0.7, 0.9], **change)
