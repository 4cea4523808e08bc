from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.critical_difference import critical_difference
from featurestore.errors import CohortError

NAMES = ["C4.5", "C4.5+m", "C4.5+cf", "C4.5+m+cf"]
# Demšar 2006, table 6. Of voting, the paper ranks cf before m+cf, which are equal to three
# digits: the 0.9751 is for that.
DEMSAR = """
0.763 0.768 0.771 0.798   0.599 0.591 0.590 0.569   0.954 0.971 0.968 0.967
0.628 0.661 0.654 0.657   0.882 0.888 0.886 0.898   0.936 0.931 0.916 0.931
0.661 0.668 0.609 0.685   0.583 0.583 0.563 0.625   0.775 0.838 0.866 0.875
1.000 1.000 1.000 1.000   0.940 0.962 0.965 0.962   0.619 0.666 0.614 0.669
0.972 0.981 0.9751 0.975  0.957 0.978 0.946 0.970
"""


def demsar():
    return pd.DataFrame(np.array(DEMSAR.split(), dtype=float).reshape(-1, 4), columns=NAMES)


def test_the_papers_own_example():
    """Section 3.2.2: ranks, chi2 9.28, F 3.69, and critical differences 1.25 and 1.12."""
    found = critical_difference(demsar())
    expected = {"C4.5+m+cf": 1.964, "C4.5+m": 2.0, "C4.5+cf": 2.893, "C4.5": 3.143}
    assert found.ranks.round(3).to_dict() == expected
    assert list(found.ranks.index) == list(expected)
    # The paper's formulas, which ignore ties, from our ranks.
    chi2 = 12 * 14 / (4 * 5) * (np.square(found.ranks).sum() - 4 * 25 / 4)
    assert round(chi2, 2) == 9.28
    assert round(13 * chi2 / (14 * 3 - chi2), 2) == 3.69
    # Ours is corrected for ties, and so a little larger.
    assert found.chi2 == pytest.approx(stats.friedmanchisquare(*demsar().to_numpy().T).statistic)
    assert found.chi2 > chi2
    assert found.f == pytest.approx(13 * found.chi2 / (14 * 3 - found.chi2))
    assert round(found.critical_difference, 2) == 1.25
    assert round(critical_difference(demsar(), alpha=0.1).critical_difference, 2) == 1.12


@pytest.mark.parametrize(
    ("k", "alpha", "q"),
    [(3, 0.05, 2.343), (4, 0.05, 2.569), (10, 0.05, 3.164), (4, 0.1, 2.291), (10, 0.1, 2.920)],
)
def test_the_published_critical_values(k, alpha, q):
    """Table 5a; its last digit is cut off in places."""
    scores = pd.DataFrame(np.random.default_rng(k).normal(size=(6, k)))
    found = critical_difference(scores, alpha=alpha).critical_difference
    assert found / np.sqrt(k * (k + 1) / 36) == pytest.approx(q, abs=1e-3)


def test_at_the_papers_level_nothing_is_told_apart_and_at_a_tenth_two_pairs_are():
    assert critical_difference(demsar()).groups == (("C4.5+m+cf", "C4.5+m", "C4.5+cf", "C4.5"),)
    assert critical_difference(demsar(), alpha=0.1).groups == (
        ("C4.5+m+cf", "C4.5+m", "C4.5+cf"),
        ("C4.5+cf", "C4.5"),
    )


def test_groups_are_what_nemenyis_test_cannot_tell_apart():
    """p of scikit-posthocs 0.17.1, posthoc_nemenyi_friedman, for Demšar's printed digits."""
    printed = demsar()
    printed.iloc[12, 2] = 0.975
    found = critical_difference(printed)
    expected = {
        ("C4.5", "C4.5+m"): 0.088673, ("C4.5", "C4.5+cf"): 0.971686,
        ("C4.5", "C4.5+m+cf"): 0.061683, ("C4.5+m", "C4.5+cf"): 0.226697,
    }  # fmt: skip
    for (one, other), p in expected.items():
        gap = abs(found.ranks[one] - found.ranks[other])
        q = gap / np.sqrt(4 * 5 / (6 * 14)) * np.sqrt(2)
        assert stats.studentized_range.sf(q, 4, np.inf) == pytest.approx(p, abs=1e-5)
    # autorank 1.3.0, autorank(...).cd, from a table of quantiles of five decimals
    assert found.critical_difference == pytest.approx(1.2535512603486423, abs=1e-5)


def test_the_order_of_targets_and_encoders_does_not_matter():
    scores = pd.DataFrame(np.random.default_rng(1).normal(size=(12, 5)), columns=list("abcde"))
    found = critical_difference(scores)
    other = critical_difference(scores.iloc[::-1, ::-1])
    assert found.ranks.sort_index().equals(other.ranks.sort_index())
    assert found.f == pytest.approx(other.f)


def test_a_clear_order_is_seen_and_equal_encoders_are_one_group():
    rng = np.random.default_rng(2)
    better = pd.DataFrame(rng.normal([0, 2, 4], size=(40, 3)), columns=["low", "mid", "high"])
    found = critical_difference(better)
    assert list(found.ranks.index) == ["high", "mid", "low"]
    assert found.groups == ()
    assert found.p_f < 1e-6
    equal = [critical_difference(pd.DataFrame(rng.normal(size=(20, 4)))) for _ in range(400)]
    assert 0.02 <= np.mean([one.p_f < 0.05 for one in equal]) <= 0.08


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (np.ones((10, 2)), "2 encoders, expected at least 3"),
        (np.random.default_rng(0).normal(size=(5, 3)), "5 targets, expected at least 6"),
        (np.ones((8, 3)), "same score on every target"),
        (np.where(np.eye(8)[:, :3], np.nan, 1.0), "target 0 has no score of every encoder"),
    ],
)
def test_what_cannot_be_ranked_is_refused(scores, message):
    with pytest.raises(CohortError, match=message):
        critical_difference(pd.DataFrame(scores))
