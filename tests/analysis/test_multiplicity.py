from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.multiplicity import add_holm, add_q_values, holm, q_values
from featurestore.errors import CohortError

probabilities = st.lists(st.floats(0, 1, width=32), min_size=1, max_size=40)
P = [0.001, 0.008, 0.039, 0.041, 0.042, 0.06, 0.074, 0.205, 0.212, 0.216]
# statsmodels 0.15.0, multipletests(P, method="holm") and "fdr_bh".
HOLM = [0.01, 0.072, 0.312, 0.312, 0.312, 0.312, 0.312, 0.615, 0.615, 0.615]
BH = [0.01, 0.04, 0.084, 0.084, 0.084, 0.1, 0.105714286, 0.216, 0.216, 0.216]


def test_both_are_those_of_statsmodels():
    assert holm(P) == pytest.approx(HOLM, abs=1e-9)
    assert q_values(P) == pytest.approx(BH, abs=1e-9)


@given(probabilities)
def test_both_follow_from_their_definitions(p):
    n, order = len(p), np.argsort(p)
    stepped = [max((n - j) * p[order[j]] for j in range(i + 1)) for i in range(n)]
    assert holm(p)[order] == pytest.approx(np.minimum(1, stepped))
    stepped = [min(n / (j + 1) * p[order[j]] for j in range(i, n)) for i in range(n)]
    assert q_values(p)[order] == pytest.approx(np.minimum(1, stepped))


@given(probabilities, st.randoms(use_true_random=False))
def test_the_order_of_hypotheses_does_not_matter(p, random):
    order = list(range(len(p)))
    random.shuffle(order)
    for method in (holm, q_values):
        assert method(np.array(p)[order]) == pytest.approx(method(p)[order])


@given(probabilities)
def test_no_adjusted_p_is_smaller_and_holm_is_the_stricter(p):
    assert (holm(p) >= np.array(p) - 1e-12).all()
    assert (holm(p) >= q_values(p) - 1e-12).all()


def test_holm_keeps_the_chance_of_any_false_finding_at_the_level():
    rng = np.random.default_rng(0)
    any_false = [(holm(rng.uniform(size=20)) < 0.05).any() for _ in range(2000)]
    assert 0.035 <= np.mean(any_false) <= 0.065


@pytest.mark.parametrize("p", [[0.1, np.nan], [1.2], [-0.1], [], [[0.1]]])
def test_what_is_no_p_is_refused(p):
    for method in (holm, q_values):
        with pytest.raises(CohortError, match=r"p-values"):
            method(p)


def test_families_are_targets_for_q_and_pairs_for_holm():
    table = pd.DataFrame(
        {
            "task": "expression", "metric": ["r", "r", "s", "s"], "encoder_a": "a",
            "encoder_b": "b", "target": ["G1", "G2", "G1", "G2"],
            "p": [0.01, 0.04, 0.02, 0.9],
        }
    )  # fmt: skip
    assert add_q_values(table)["q"].tolist() == pytest.approx([0.02, 0.04, 0.04, 0.9])
    assert add_holm(table)["p_holm"].tolist() == pytest.approx([0.01, 0.04, 0.02, 0.9])
    pairs = table.assign(target="G1", metric="r", encoder_b=["b", "c", "d", "e"])
    assert add_holm(pairs)["p_holm"].tolist() == pytest.approx([0.04, 0.08, 0.06, 0.9])
