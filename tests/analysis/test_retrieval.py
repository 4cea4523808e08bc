"""Retrieval metrics against definitions written out, and splits that hold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.compare import compare_encoders
from analysis.retrieval import (
    AT,
    MAJORITY,
    MAP,
    average_precision,
    label_scores,
    majority_labels,
    nearest,
    same_share,
    score_retrieval,
    unit_vectors,
)
from analysis.splits import repeated_folds


def test_majority_takes_the_nearest_of_equals_and_passes_over_the_unlabelled() -> None:
    hits = np.array(
        [[1, 2, 2, 1, 0], [0, 1, 1, 1, 0], [-1, -1, 3, -1, -1], [-1] * 5, [4, -1, 5, 5, 4]]
    )
    assert majority_labels(hits).tolist() == [1, 1, 3, -1, 4]


@pytest.mark.parametrize(
    ("relevant", "expected"),
    [
        ([1, 1, 1, 1, 1], 1.0),
        ([0, 0, 0, 0, 0], 0.0),
        ([1, 0, 0, 0, 0], 1.0),
        ([0, 0, 0, 0, 1], 1 / 5),
        ([1, 0, 1, 0, 0], (1 + 2 / 3) / 2),
        ([0, 1, 1, 0, 1], (1 / 2 + 2 / 3 + 3 / 5) / 3),
    ],
)
def test_average_precision_by_hand(relevant: list[int], expected: float) -> None:
    assert average_precision(np.array([relevant], bool))[0] == pytest.approx(expected)


def brute_force(units, groups, query, k):
    order = sorted(
        (row for row in range(len(units)) if groups[row] != groups[query]),
        key=lambda row: (-float(units[query] @ units[row]), row),
    )
    return order[:k] + [-1] * (k - len(order[:k]))


@given(
    st.integers(1, 30), st.integers(1, 6), st.integers(1, 9), st.integers(1, 7), st.integers(0, 999)
)
def test_nearest_is_brute_force_whatever_the_blocks(
    n: int, n_groups: int, k: int, block: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    units = unit_vectors(rng.normal(size=(n, 4)))
    groups = rng.integers(0, n_groups, n)
    blocks = ((np.arange(i, min(i + block, n)), units[i : i + block]) for i in range(0, n, block))
    found = nearest(units, blocks, k, query_groups=groups, groups=groups)
    for query in range(n):
        expected = brute_force(units, groups, query, k)
        similarity = np.append(units @ units[query], -9)
        np.testing.assert_allclose(similarity[found[query]], similarity[expected], atol=1e-6)
        assert all(row < 0 or groups[row] != groups[query] for row in found[query])


def test_same_site_beside_chance() -> None:
    share, chance = same_share(
        np.array([0, 1, -1, 0]),
        np.array([[0, 0, 1, -1], [1, 0, 0, 0], [0, 0, 0, 0], [-1, -1, -1, -1]]),
        [np.array([0, 1, 1, 1]), np.array([1, 0]), np.array([0]), np.array([0, 1])],
    )
    assert share == pytest.approx((2 / 3 + 1 / 4) / 2)
    assert chance == pytest.approx((1 / 4 + 1 / 2) / 2)
    assert all(np.isnan(same_share(np.array([-1]), np.array([[0]]), [np.array([0])])))


@pytest.fixture
def tissue():
    """Three classes of 40 tiles from 20 patients; one encoder sees them, another sees noise."""
    rng = np.random.default_rng(3)
    labels = np.repeat(np.arange(3), 40)
    patients = np.array([f"P{i // 6}" for i in range(120)], dtype=object)
    seeing = np.eye(3)[labels] @ rng.normal(size=(3, 16)) + 0.3 * rng.normal(size=(120, 16))
    noise = rng.normal(size=(120, 16))
    folds = repeated_folds(
        labels, n_folds=4, n_repeats=3, seed=1, groups=np.unique(patients, return_inverse=True)[1]
    )
    return labels, patients, folds, {"seeing": seeing, "noise": noise}


def test_scores_are_those_of_brute_force_on_every_split(tissue) -> None:
    labels, patients, folds, features = tissue
    scores = score_retrieval(features, labels, folds)
    assert len(scores) == 2 * 2 * 3 * 4
    for encoder, matrix in features.items():
        units = unit_vectors(matrix)
        for repeat, fold in [(0, 0), (2, 3)]:
            tested = np.flatnonzero(folds[repeat] == fold)
            hits = [
                [
                    row
                    for row in np.argsort(-(units @ units[q]), kind="stable")
                    if folds[repeat][row] != fold
                ][:AT]
                for q in tested
            ]
            assert not {patients[q] for q in tested} & {patients[row] for row in np.ravel(hits)}
            expected = label_scores(labels[tested], labels[np.array(hits)])
            rows = scores[
                (scores["encoder"] == encoder)
                & (scores["repeat"] == repeat)
                & (scores["fold"] == fold)
            ].set_index("metric")
            assert rows.loc[MAJORITY, "value"] == expected[MAJORITY]
            assert rows.loc[MAP, "value"] == pytest.approx(expected[MAP])
            assert rows["n_test"].tolist() == [len(tested)] * 2


def test_an_encoder_that_sees_is_better_by_the_corrected_test(tissue) -> None:
    labels, _, folds, features = tissue
    scores = score_retrieval(features, labels, folds)
    rows = compare_encoders(
        scores, n_folds=4, n_repeats=3, leakage_checked=True, leakage_note="x", task="retrieval"
    )
    assert set(rows["task"]) == {"retrieval"}
    assert (rows["difference"] < -0.3).all()
    assert (rows["p_corrected"] < 0.01).all()
    assert (rows["p_naive"] < rows["p_corrected"]).all()


def test_a_gallery_of_fewer_than_five_is_used_as_far_as_it_goes() -> None:
    labels = np.array([0, 0, 1, 1])
    folds = np.array([[0, 1, 0, 1]])
    features = {"x": np.array([[1.0, 0], [1, 0.1], [0, 1], [0.1, 1]])}
    scores = score_retrieval(features, labels, folds)
    assert scores.loc[scores["metric"] == MAP, "value"].tolist() == [1, 1]
    assert scores.loc[scores["metric"] == MAJORITY, "value"].tolist() == [1, 1]


def test_tiles_whose_neighbours_are_all_of_their_own_fold_still_find_others() -> None:
    # 300 tiles of one patient lie closer together than the 256 neighbours that are kept.
    rng = np.random.default_rng(0)
    near = np.array([1.0, 0, 0]) + 1e-3 * rng.normal(size=(300, 3))
    far = np.array([0, 1.0, 0]) + 1e-3 * rng.normal(size=(20, 3))
    folds = np.array([[0] * 300 + [1] * 20])
    labels = np.array([0] * 300 + [1] * 20)
    scores = score_retrieval({"x": np.concatenate([near, far])}, labels, folds)
    assert scores["value"].tolist() == [0, 0, 0, 0]
