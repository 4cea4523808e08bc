from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from analysis.delong import delong_test
from featurestore.errors import CohortError

# 43 patients of DeLong et al. 1988 whose three tests are all known, as the SAS/STAT User's
# Guide gives them (PROC LOGISTIC, "Comparing Receiver Operating Characteristic Curves"):
# albumin, total protein, K-G score, popind.
PATIENTS = """
3.0 5.8 10 0  3.2 6.3 5 1  3.9 6.8 3 1  2.8 4.8 6 0  3.2 5.8 3 1  0.9 4.0 5 0  2.5 5.7 8 0
1.6 5.6 5 1  3.8 5.7 5 1  3.7 6.7 6 1  3.2 5.4 4 1  3.8 6.6 6 1  4.1 6.6 5 1  3.6 5.7 5 1
4.3 7.0 4 1  3.6 6.7 4 0  2.3 4.4 6 1  4.2 7.6 4 0  4.0 6.6 6 0  3.5 5.8 6 1  3.8 6.8 7 1
3.0 4.7 8 0  4.5 7.4 5 1  3.7 7.4 5 1  3.1 6.6 6 1  4.1 8.2 6 1  4.3 7.0 5 1  4.3 6.5 4 1
3.2 5.1 5 1  2.6 4.7 6 1  3.3 6.8 6 0  1.7 4.0 7 0  3.7 6.1 5 1  3.3 6.3 7 1  4.2 7.7 6 1
3.5 6.2 5 1  2.9 5.7 9 0  2.1 4.8 7 1  2.8 6.2 8 0  4.0 7.0 7 1  3.3 5.7 6 1  3.7 6.9 5 1
3.6 6.6 5 1
"""


def ovarian():
    table = np.array(PATIENTS.split(), dtype=float).reshape(-1, 4)
    return {"alb": table[:, 0], "tp": table[:, 1], "kg": 10 - table[:, 2]}, table[:, 3]


def all_pairs(positive, a, b):
    """DeLong et al. 1988 as written: every pair of patients, then sums of components."""
    v10, v01 = [], []
    for score in (a, b):
        x, y = score[positive == 1], score[positive == 0]
        psi = np.array([[1.0 if i > j else 0.5 if i == j else 0.0 for j in y] for i in x])
        v10.append(psi.mean(axis=1))
        v01.append(psi.mean(axis=0))
    area = [v.mean() for v in v10]
    s10, s01 = (
        np.array(
            [
                [sum((v[r] - v[r].mean()) * (v[s] - v[s].mean())) / (len(v[r]) - 1) for s in (0, 1)]
                for r in (0, 1)
            ]
        )
        for v in (v10, v01)
    )
    s = s10 / len(v10[0]) + s01 / len(v01[0])
    return area, s[0, 0] + s[1, 1] - 2 * s[0, 1]


@pytest.mark.parametrize(("test", "area", "p"), [("alb", 0.7366, 0.9102), ("tp", 0.6478, 0.4561)])
def test_the_patients_of_the_paper(test, area, p):
    scores, positive = ovarian()
    found = delong_test(positive, scores["kg"], scores[test])
    areas, variance = all_pairs(positive, scores["kg"], scores[test])
    assert round(found.auroc_a, 4) == 0.7258
    assert round(found.auroc_b, 4) == area
    assert (found.auroc_a, found.auroc_b) == pytest.approx(areas, abs=1e-12)
    assert found.z == pytest.approx((areas[1] - areas[0]) / np.sqrt(variance), abs=1e-10)
    assert round(found.p, 4) == p


cases = st.integers(0, 10_000)


def drawn(seed, n=60, *, ties=False, shift=1.0):
    rng = np.random.default_rng(seed)
    positive = rng.permutation(np.arange(n) < n // 3).astype(float)
    common = rng.normal(size=n) + shift * positive
    scores = [common + rng.normal(size=n) for _ in range(2)]
    if ties:
        scores = [np.round(score) for score in scores]
    return positive, *scores


@given(cases, st.booleans())
@hypothesis_settings(max_examples=25)
def test_ranks_give_what_all_pairs_give(seed, ties):
    positive, a, b = drawn(seed, ties=ties)
    found = delong_test(positive, a, b)
    areas, variance = all_pairs(positive, a, b)
    assert (found.auroc_a, found.auroc_b) == pytest.approx(areas, abs=1e-12)
    assert found.auroc_b == pytest.approx(roc_auc_score(positive, b), abs=1e-12)
    half_width = norm.ppf(0.975) * np.sqrt(variance)
    assert found.ci_high - found.difference == pytest.approx(half_width, abs=1e-10)


@given(cases)
def test_exchange_order_and_scale(seed):
    positive, a, b = drawn(seed)
    found, swapped = delong_test(positive, a, b), delong_test(positive, b, a)
    assert found.z == pytest.approx(-swapped.z)
    assert (found.ci_low, found.p) == pytest.approx((-swapped.ci_high, swapped.p))
    order = np.random.default_rng(seed).permutation(len(a))
    assert delong_test(positive[order], a[order], np.exp(b[order])).z == pytest.approx(found.z)


def test_one_score_is_not_better_than_itself():
    positive, a, _ = drawn(1)
    found = delong_test(positive, a, 3 * a + 1)
    assert (found.difference, found.ci_low, found.z, found.p) == (0, 0, 0, 1)


def test_under_the_null_p_is_uniform_and_the_interval_covers():
    found = [delong_test(*drawn(seed, n=150)) for seed in range(1000)]
    p = np.array([one.p for one in found])
    assert 0.035 <= np.mean(p < 0.05) <= 0.07
    assert 0.45 <= np.mean(p < 0.5) <= 0.55
    assert np.mean([one.ci_low <= 0 <= one.ci_high for one in found]) == np.mean(p >= 0.05)


@pytest.mark.parametrize(
    ("positive", "a", "b", "message"),
    [
        ([1, 0], [1, 2, 3], [1, 2], r"shape \(2,\) and scores of shape \(3,\)"),
        ([1] * 9 + [0] * 20, np.arange(29), np.arange(29), "9 patients with and 20 without"),
        ([1] * 20 + [2] * 20, np.arange(40), np.arange(40), "status of 2, expected 0 or 1"),
        ([1] * 20 + [0] * 20, np.full(40, np.nan), np.arange(40), "not finite"),
    ],
)
def test_what_breaks_the_assumptions_is_refused(positive, a, b, message):
    with pytest.raises(CohortError, match=message):
        delong_test(positive, a, b)
