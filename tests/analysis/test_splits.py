from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold

from analysis.splits import patient_groups, repeated_folds, unstratified_folds
from featurestore.errors import CohortError


@st.composite
def labelled_tiles(draw):
    """Labels in any order, with at least as many tiles a class as folds."""
    n_folds = draw(st.integers(2, 7))
    sizes = draw(st.lists(st.integers(n_folds, 30), min_size=2, max_size=5))
    order = draw(st.permutations(np.repeat(np.arange(len(sizes)), sizes).tolist()))
    return np.array(order), n_folds


@st.composite
def grouped_tiles(draw):
    """Patients of mixed sizes and mixed classes, each class from enough patients."""
    n_folds = draw(st.integers(2, 5))
    n_classes = draw(st.integers(2, 4))
    n_groups = draw(st.integers(n_folds, 20))
    labels, groups = [], []
    for group in range(n_groups):
        for label in range(n_classes):
            # The first patients have every class, so that no class is too rare to split.
            n_tiles = draw(st.integers(1 if group < n_folds else 0, 6))
            labels += [label] * n_tiles
            groups += [f"patient {group}"] * n_tiles
    return np.array(labels), np.array(groups), n_folds


@given(labelled_tiles(), st.integers(1, 4), st.integers(0, 2**32))
def test_every_tile_is_tested_once_a_repeat_and_classes_are_balanced(tiles, n_repeats, seed):
    labels, n_folds = tiles
    folds = repeated_folds(labels, n_folds=n_folds, n_repeats=n_repeats, seed=seed)

    assert folds.shape == (n_repeats, len(labels))
    assert folds.dtype == np.int8
    for fold_of_tile in folds:
        # One fold index a tile: test folds are disjoint, and together they are all tiles.
        assert set(fold_of_tile.tolist()) == set(range(n_folds))
        assert np.ptp(np.bincount(fold_of_tile, minlength=n_folds)) <= 1
        for label in np.unique(labels):
            counts = np.bincount(fold_of_tile[labels == label], minlength=n_folds)
            assert counts.max() - counts.min() <= 1


@settings(max_examples=60)
@given(grouped_tiles(), st.integers(0, 2**32))
def test_groups_are_never_straddled(tiles, seed):
    labels, groups, n_folds = tiles
    folds = repeated_folds(labels, n_folds=n_folds, n_repeats=3, seed=seed, groups=groups)

    for fold_of_tile in folds:
        assert set(fold_of_tile.tolist()) == set(range(n_folds))
        for group in np.unique(groups):
            assert len(set(fold_of_tile[groups == group].tolist())) == 1


@settings(max_examples=30)
@given(labelled_tiles(), st.integers(0, 2**32))
def test_a_group_for_every_tile_balances_classes_as_well_as_no_groups(tiles, seed):
    labels, n_folds = tiles
    groups = np.arange(len(labels))
    (folds,) = repeated_folds(labels, n_folds=n_folds, n_repeats=1, seed=seed, groups=groups)

    for label in np.unique(labels):
        assert np.ptp(np.bincount(folds[labels == label], minlength=n_folds)) <= 1


def test_same_seed_same_folds_and_more_repeats_change_none_of_the_first():
    labels, groups = np.arange(200) % 4, np.arange(200) % 37
    for grouping in (None, groups):
        make = {"n_folds": 5, "groups": grouping}
        ten = repeated_folds(labels, n_repeats=10, seed=11, **make)
        assert np.array_equal(ten, repeated_folds(labels, n_repeats=10, seed=11, **make))
        assert np.array_equal(ten[:3], repeated_folds(labels, n_repeats=3, seed=11, **make))
        assert not np.array_equal(ten, repeated_folds(labels, n_repeats=10, seed=12, **make))
        assert len({fold_of_tile.tobytes() for fold_of_tile in ten}) == 10


def test_folds_do_not_depend_on_how_classes_and_groups_are_named():
    labels, groups = np.arange(90) % 3, np.arange(90) // 4
    names, patients = np.array(["ADI", "STR", "TUM"])[labels], np.char.add("p", groups.astype(str))
    numbers = repeated_folds(labels, n_folds=3, n_repeats=2, seed=0)
    assert np.array_equal(numbers, repeated_folds(names, n_folds=3, n_repeats=2, seed=0))
    # Zero-padded so that names sort as the numbers do.
    patients = np.array([f"p{g:02d}" for g in groups])
    by_number = repeated_folds(labels, n_folds=3, n_repeats=2, seed=0, groups=groups)
    by_name = repeated_folds(names, n_folds=3, n_repeats=2, seed=0, groups=patients)
    assert np.array_equal(by_number, by_name)


def test_grouped_folds_are_balanced_at_least_as_well_as_scikit_learns():
    rng = np.random.default_rng(5)
    ours, theirs = [], []
    for trial in range(20):
        groups = rng.integers(0, 40, 600)
        labels = (rng.integers(0, 5, 600) + groups) % 5 * rng.integers(0, 2, 600)
        (folds,) = repeated_folds(labels, n_folds=5, n_repeats=1, seed=trial, groups=groups)
        their = np.empty(600, dtype=int)
        splitter = StratifiedGroupKFold(5, shuffle=True, random_state=trial)
        for fold, (_, test) in enumerate(splitter.split(labels, labels, groups)):
            their[test] = fold
        ours.append(_imbalance(labels, folds))
        theirs.append(_imbalance(labels, their))
    assert np.mean(ours) <= np.mean(theirs)


def _imbalance(labels, folds):
    """Mean over classes of the spread over folds of the class's share."""
    shares = [np.bincount(folds[labels == k], minlength=5) / (labels == k).sum() for k in range(5)]
    return np.std(shares, axis=1).mean()


def test_ignoring_patients_inflates_a_score():
    """Each patient's tiles look alike, but nothing about them tells the class."""
    rng = np.random.default_rng(0)
    n_patients, n_tiles = 60, 8
    patients = np.repeat(np.arange(n_patients), n_tiles)
    labels = rng.permutation(np.arange(n_patients) % 2)[patients]
    looks = rng.normal(size=(n_patients, 80))[patients]
    features = looks + 0.2 * rng.normal(size=looks.shape)

    def accuracy(groups):
        (folds,) = repeated_folds(labels, n_folds=5, n_repeats=1, seed=3, groups=groups)
        right = np.empty(len(labels), dtype=bool)
        for fold in range(5):
            test = folds == fold
            model = LogisticRegression().fit(features[~test], labels[~test])
            right[test] = model.predict(features[test]) == labels[test]
        return right.mean()

    assert accuracy(None) > 0.95
    assert abs(accuracy(patients) - 0.5) < 0.15


def test_a_class_with_fewer_tiles_than_folds_is_named_with_what_to_do():
    labels = ["TUM"] * 20 + ["MUC"] * 3 + ["ADI"] * 4
    with pytest.raises(CohortError) as error:
        repeated_folds(labels, n_folds=5, n_repeats=2, seed=0)
    assert str(error.value) == (
        "class 'MUC' has 3 tiles, fewer than the 5 folds (too few also: 'ADI'); use at most 3 "
        "folds, add tiles of this class or leave the class out"
    )


def test_a_class_from_fewer_patients_than_folds_is_refused_however_many_tiles_it_has():
    labels = np.repeat(["TUM", "MUC"], 100)
    patients = np.concatenate([np.arange(100) % 10, np.zeros(100, dtype=int)])
    with pytest.raises(CohortError, match=r"class 'MUC' comes from 1 group, fewer than the 5 fol"):
        repeated_folds(labels, n_folds=5, n_repeats=1, seed=0, groups=patients)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_folds": 1}, "folds must be from 2 to 127, got 1"),
        ({"n_folds": 128}, "folds must be from 2 to 127, got 128"),
        ({"n_repeats": 0}, "repeats must be at least 1, got 0"),
        ({"seed": -1}, "the seed must not be negative, got -1"),
        ({"labels": ["TUM"] * 9}, "at least two classes, got 1"),
        ({"labels": []}, "expected one label a tile"),
        ({"labels": ["TUM", "ADI", None]}, "1 of 3 tiles have no label .the first is row 2"),
        ({"groups": [1, 2]}, "got 2 groups for 12 labels"),
        ({"groups": ["p"] * 11 + [None]}, "1 of 12 tiles have no group .the first is row 11"),
    ],
)
def test_what_cannot_be_split_is_refused(change, message):
    given_ = {"labels": ["TUM", "ADI"] * 6, "n_folds": 3, "n_repeats": 2, "seed": 0, **change}
    with pytest.raises(CohortError, match=message):
        repeated_folds(given_.pop("labels"), **given_)


def test_patients_group_their_tiles_and_say_whether_leakage_is_ruled_out():
    groups, checked, note = patient_groups(np.array(["b", "a", "b"], dtype=object), 3)
    assert groups[0] == groups[2] != groups[1]
    assert checked
    assert note == "all tiles of a patient are in one fold (patients: 2)"

    assert patient_groups(None, 3)[:2] == (None, False)
    groups, checked, note = patient_groups(np.array([None, "", np.nan], dtype=object), 3)
    assert (groups, checked) == (None, False)
    assert note.startswith("no tile carries a patient, so")


def test_tiles_without_a_patient_stand_alone_and_leakage_is_not_ruled_out():
    patients = np.array([None, "a", None, "a", "b"], dtype=object)
    groups, checked, note = patient_groups(patients, 5)
    assert groups[1] == groups[3]
    assert len(set(groups.tolist())) == 4
    assert not checked
    assert note.startswith("2 of 5 tiles carry no patient, so")
    assert "(patients: 2)" in note


@given(st.integers(4, 60), st.integers(2, 4), st.integers(0, 2**32))
def test_unstratified_folds_differ_in_size_by_at_most_one(n, n_folds, seed):
    folds = unstratified_folds(n, n_folds=n_folds, n_repeats=2, seed=seed)
    assert folds.shape == (2, n)
    for fold_of in folds:
        assert np.ptp(np.bincount(fold_of, minlength=n_folds)) <= 1


# Tissue source sites as they come: one with a fifth of the patients, and many of a few.
SITES = np.repeat(np.arange(20), [86, 42, 31, 30, 30, 28, 24, 21, 17, 14, 12, 12] + [9] * 8)


def test_whole_sites_are_dealt_balanced_and_repeats_differ():
    n = len(SITES)
    folds = unstratified_folds(n, n_folds=5, n_repeats=20, seed=1, groups=SITES)
    for fold_of in folds:
        for site in np.unique(SITES):
            assert len(set(fold_of[site == SITES])) == 1
        # The largest site alone is more than a fifth of all patients.
        assert np.bincount(fold_of).max() <= 1.15 * n / 5
    together = [(fold_of[:, None] == fold_of)[np.triu_indices(n, 1)] for fold_of in folds]
    overlaps = [(one & two).sum() / (one | two).sum() for one, two in pairwise(together)]
    # Strictly largest first, most pairs of patients would share a fold in every repeat.
    assert np.mean(overlaps) < 0.5
    assert len({one.tobytes() for one in together}) == 20


def test_noise_in_the_order_makes_stratified_repeats_of_sites_differ_too():
    labels = np.arange(len(SITES)) % 3 == 0
    make = {"n_folds": 5, "n_repeats": 20, "seed": 1, "groups": SITES}
    overlaps = []
    for noise in (0.0, 0.25):
        folds = repeated_folds(labels, order_noise=noise, **make)
        pairs = [(fold_of[:, None] == fold_of)[np.triu_indices(len(SITES), 1)] for fold_of in folds]
        overlaps.append(np.mean([(a & b).sum() / (a | b).sum() for a, b in pairwise(pairs)]))
    assert overlaps[1] < overlaps[0] - 0.05


@pytest.mark.parametrize(
    ("n", "groups", "message"),
    [
        (3, None, "got 3 patients, fewer than the 5 folds"),
        (8, ["s", "t"] * 4, "the 8 patients come from 2 groups, fewer than the 5 folds"),
        (8, ["s"] * 7, "got 7 groups for 8 labels"),
        (8, ["s"] * 7 + [None], "1 of 8 tiles have no group"),
    ],
)
def test_too_few_patients_or_groups_are_refused(n, groups, message):
    with pytest.raises(CohortError, match=message):
        unstratified_folds(n, n_folds=5, n_repeats=1, seed=0, groups=groups)
