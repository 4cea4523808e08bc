"""The held-out tiles: whole patients, every class, and the same ones each time."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models.holdout import held_out

COHORTS = st.lists(
    st.tuples(st.sampled_from("ABC"), st.integers(0, 12).map(str)), min_size=1, max_size=80
)


@given(cohort=COHORTS, fraction=st.floats(0.05, 0.5), seed=st.integers(0, 1000))
def test_patients_stay_whole_and_every_class_is_trained(cohort, fraction, seed):
    labels, groups = [c for c, _ in cohort], [g for _, g in cohort]
    held = held_out(labels, groups, fraction=fraction, seed=seed)

    np.testing.assert_array_equal(held, held_out(labels, groups, fraction=fraction, seed=seed))
    sides = {
        g: {bool(h) for h, other in zip(held, groups, strict=True) if other == g} for g in groups
    }
    assert all(len(side) == 1 for side in sides.values())
    trained = {label for label, h in zip(labels, held, strict=True) if not h}
    assert trained == set(labels)


@given(
    counts=st.lists(st.integers(2, 60), min_size=2, max_size=5),
    fraction=st.floats(0.05, 0.5),
    seed=st.integers(0, 1000),
)
def test_without_patients_every_class_gives_its_share(counts, fraction, seed):
    labels = [str(c) for c, n in enumerate(counts) for _ in range(n)]
    held = held_out(labels, [str(i) for i in range(len(labels))], fraction=fraction, seed=seed)

    n_held = Counter(label for label, h in zip(labels, held, strict=True) if h)
    for c, n in enumerate(counts):
        assert n_held[str(c)] == min(max(1, round(fraction * n)), n - 1)


def test_no_fraction_holds_nothing_out():
    assert not held_out(["a", "b"] * 5, list("0123456789"), fraction=0, seed=1).any()


def test_large_patients_are_held_out_where_no_small_one_is():
    labels = ["a"] * 20 + ["b"] * 20
    groups = ["1"] * 8 + ["2"] * 12 + ["3"] * 9 + ["4"] * 11
    held = held_out(labels, groups, fraction=0.1, seed=0)

    assert {g for g, h in zip(groups, held, strict=True) if h} == {"1", "3"}
