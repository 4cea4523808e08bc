from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from analysis.metrics import (
    classification_scores,
    confusion_counts,
    one_vs_rest_auroc,
    score_splits,
)
from featurestore.errors import CohortError

CLASSES = ("ADI", "STR", "TUM")


def predictions(n, seed, decimals=2):
    """Labels and probabilities, rounded so that ties occur."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n) % len(CLASSES))
    logits = rng.normal(size=(n, len(CLASSES))) + 0.8 * np.eye(len(CLASSES))[labels]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return labels, probabilities.round(decimals)


@given(st.integers(3, 80), st.integers(0, 10_000), st.sampled_from([1, 2, 8]))
def test_scores_are_scikit_learns(n, seed, decimals):
    labels, probabilities = predictions(n, seed, decimals)
    predicted = probabilities.argmax(axis=1)
    scores = classification_scores(labels, probabilities, CLASSES)

    assert scores["all", "accuracy"] == pytest.approx(sk.accuracy_score(labels, predicted))
    assert scores["all", "balanced_accuracy"] == pytest.approx(
        sk.balanced_accuracy_score(labels, predicted)
    )
    one_hot = np.eye(len(CLASSES), dtype=int)[labels]
    assert scores["all", "macro_auroc"] == pytest.approx(
        sk.roc_auc_score(one_hot, probabilities, average="macro")
    )
    recalls = sk.recall_score(labels, predicted, average=None, zero_division=0)
    assert [scores[name, "recall"] for name in CLASSES] == pytest.approx(recalls.tolist())
    assert len(scores) == 3 + len(CLASSES)
    assert np.array_equal(
        confusion_counts(labels, predicted, 3), sk.confusion_matrix(labels, predicted)
    )


def test_macro_auroc_equals_scikit_learns_multiclass_one():
    labels, probabilities = predictions(60, 4, decimals=16)
    expected = sk.roc_auc_score(labels, probabilities, multi_class="ovr", average="macro")
    assert one_vs_rest_auroc(labels, probabilities).mean() == pytest.approx(expected)


def test_scores_that_rest_on_an_absent_class_are_nan_and_the_others_are_not():
    labels, probabilities = predictions(30, 1)
    present = labels != 2
    scores = classification_scores(labels[present], probabilities[present], CLASSES)

    undefined = {key for key, value in scores.items() if np.isnan(value)}
    assert undefined == {("all", "balanced_accuracy"), ("all", "macro_auroc"), ("TUM", "recall")}


def test_shapes_that_do_not_agree_are_refused():
    labels, probabilities = predictions(30, 1)
    with pytest.raises(CohortError, match=r"shape \(30, 3\).*got \(30, 2\)"):
        classification_scores(labels, probabilities[:, :2], CLASSES)
    with pytest.raises(CohortError, match="at least one test tile"):
        classification_scores(labels[:0], probabilities[:0], CLASSES)


def test_confusion_counts_add_up_repeats():
    labels, probabilities = predictions(30, 2)
    predicted = probabilities.argmax(axis=1)
    thrice = confusion_counts(labels, np.stack([predicted, predicted, labels]), 3)
    once, diagonal = confusion_counts(labels, predicted, 3), np.diag(np.bincount(labels))
    assert np.array_equal(thrice, 2 * once + diagonal)


def test_every_split_is_scored_on_its_own_test_tiles():
    labels, probabilities = predictions(30, 3)
    folds = np.stack([np.arange(30) % 2, np.arange(30) // 20])
    frame = score_splits(labels, CLASSES, folds, {"e": np.stack([probabilities] * 2)})

    assert len(frame) == 4 * (3 + len(CLASSES))
    one = frame.query("repeat == 1 and fold == 1")
    assert set(one["n_test"]) == {10}
    assert set(one["n_train"]) == {20}
    accuracy = one.query("metric == 'accuracy'")["value"].item()
    assert accuracy == (probabilities[20:].argmax(axis=1) == labels[20:]).mean()
