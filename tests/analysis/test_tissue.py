from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from analysis.compare import COMPARISON_COLUMNS, compare_encoders, compare_scores
from analysis.metrics import SCORE_COLUMNS, classification_scores
from analysis.tissue import (
    TissueCohort,
    TissueSettings,
    evaluate_tissue,
)
from featurestore.errors import CohortError

CLASSES = ("ADI", "LYM", "STR", "TUM")
N = 160
SETTINGS = TissueSettings(n_folds=4, n_repeats=5, seed=7, c=0.1)


def compared(result):
    return compare_encoders(
        result.scores,
        n_folds=result.settings.n_folds,
        n_repeats=result.settings.n_repeats,
        leakage_checked=result.leakage_checked,
        leakage_note=result.leakage_note,
    )


def cohort_of(*, patients=None, seed=0):
    """Tiles of four classes seen by a better, a poorer and a useless encoder."""
    rng = np.random.default_rng(seed)
    labels = np.arange(N) % len(CLASSES)
    centres = rng.normal(size=(len(CLASSES), 10))[labels]
    mix = rng.normal(size=(10, 220))

    def encoder(noise):
        return np.maximum((centres + noise * rng.normal(size=(N, 10))) @ mix, 0).astype(np.float32)

    return TissueCohort(
        tile_ids=np.arange(1000, 1000 + N),
        labels=labels,
        classes=CLASSES,
        patients=patients,
        features={
            "poorer": encoder(1.6),
            "better": encoder(0.8),
            "useless": rng.normal(size=(N, 3)).astype(np.float32),
        },
    )


@pytest.fixture(scope="module")
def result():
    return evaluate_tissue(cohort_of(), SETTINGS)


def test_scores_have_one_row_an_encoder_split_and_score(result):
    assert tuple(result.scores.columns) == SCORE_COLUMNS
    key = ["encoder", "target", "metric", "repeat", "fold"]
    assert not result.scores.duplicated(key).any()
    assert len(result.scores) == 3 * 5 * 4 * (3 + len(CLASSES))
    assert result.scores["value"].between(0, 1).all()
    assert (result.scores["n_train"] + result.scores["n_test"] == N).all()
    assert result.scores["encoder"].unique().tolist() == ["poorer", "better", "useless"]


def test_scores_can_be_redone_from_the_predictions(result):
    for encoder, found in result.predictions.items():
        assert found.probabilities.dtype == np.float32
        assert np.array_equal(found.predicted, found.probabilities.argmax(axis=2))
        tested = result.folds[3] == 2
        redone = classification_scores(
            result.cohort.labels[tested], found.probabilities[3, tested], CLASSES
        )
        of_split = result.scores.query("repeat == 3 and fold == 2")
        kept = of_split[of_split["encoder"] == encoder]
        assert redone == dict(
            zip(zip(kept["target"], kept["metric"], strict=True), kept["value"], strict=True)
        )


def test_the_better_encoder_is_found_better_and_the_useless_at_chance(result):
    mean = result.scores.query("metric == 'accuracy'").groupby("encoder")["value"].mean()
    assert mean["better"] > mean["poorer"] + 0.05 > mean["useless"]
    assert abs(mean["useless"] - 1 / len(CLASSES)) < 0.12


def test_every_pair_is_compared_in_the_given_order_with_b_minus_a(result):
    table = compared(result)

    assert tuple(table.columns) == COMPARISON_COLUMNS
    pairs = table[["encoder_a", "encoder_b"]].drop_duplicates().to_numpy().tolist()
    assert pairs == [["poorer", "better"], ["poorer", "useless"], ["better", "useless"]]
    assert len(table) == 3 * (3 + len(CLASSES))
    accuracy = table.query("metric == 'accuracy'").set_index("encoder_b").loc["better"]
    assert accuracy["difference"] == pytest.approx(accuracy["mean_b"] - accuracy["mean_a"])
    assert accuracy["difference"] > 0
    assert accuracy["p_corrected"] < 0.05
    assert (table["p_naive"] <= table["p_corrected"]).all()
    assert set(table["n_splits"]) == {20}
    assert set(table["n_repeats"]) == {5}
    assert set(table["n_folds"]) == {4}


def test_a_row_of_the_table_is_the_comparison_of_those_scores(result):
    def values(encoder):
        return result.scores.query("encoder == @encoder and target == 'TUM'")["value"]

    row = compared(result).query("target == 'TUM' and encoder_b == 'better'").iloc[0]
    expected = compare_scores(values("poorer"), values("better"), n_train=120, n_test=40)
    assert row["t_corrected"] == expected.t_corrected
    assert row["ci_low"] == expected.ci_low


def test_the_same_inputs_give_the_same_numbers_to_the_last_bit(result):
    again = evaluate_tissue(cohort_of(), SETTINGS, n_jobs=1)
    pd.testing.assert_frame_equal(again.scores, result.scores, check_exact=True)
    pd.testing.assert_frame_equal(compared(again), compared(result), check_exact=True)
    for encoder, found in result.predictions.items():
        assert np.array_equal(again.predictions[encoder].probabilities, found.probabilities)


def test_without_patients_the_result_says_that_leakage_was_not_checked(result):
    table = compared(result)
    assert not table["leakage_checked"].any()
    assert table["leakage_note"].str.startswith("no tile carries a patient, so").all()


def test_with_patients_folds_keep_them_whole_and_leakage_is_checked():
    patients = np.array([f"p{i // 8:02d}" for i in range(N)], dtype=object)
    found = evaluate_tissue(cohort_of(patients=patients), SETTINGS)
    assert found.leakage_checked
    assert found.leakage_note == "all tiles of a patient are in one fold (patients: 20)"
    for fold_of_tile in found.folds:
        for patient in np.unique(patients):
            assert len(set(fold_of_tile[patients == patient].tolist())) == 1
    assert compared(found)["leakage_checked"].all()


def test_with_some_patients_those_are_kept_whole_but_leakage_is_not_ruled_out():
    patients = np.array([f"p{i // 8:02d}" if i < 80 else None for i in range(N)], dtype=object)
    found = evaluate_tissue(cohort_of(patients=patients), SETTINGS)
    assert not found.leakage_checked
    assert found.leakage_note.startswith("80 of 160 tiles carry no patient, so")
    for fold_of_tile in found.folds:
        for patient in np.unique(patients[:80]):
            assert len(set(fold_of_tile[patients == patient].tolist())) == 1


def test_scores_on_other_splits_are_not_compared(result):
    one_missing = result.scores.drop(index=result.scores.index[-1])
    with pytest.raises(CohortError, match="poorer and useless were not scored on the same splits"):
        compared(replace(result, scores=one_missing))


def test_one_encoder_alone_gives_scores_and_no_comparison():
    cohort = cohort_of()
    alone = replace(cohort, features={"better": cohort.features["better"]})
    table = compared(evaluate_tissue(alone, SETTINGS))
    assert len(table) == 0
    assert tuple(table.columns) == COMPARISON_COLUMNS


def with_nan(cohort):
    features = dict(cohort.features)
    features["poorer"] = features["poorer"].copy()
    features["poorer"][4, 9] = np.nan
    return replace(cohort, features=features)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (with_nan, "poorer: features of 1 tiles are not finite .the first is tile 1004"),
        (lambda c: replace(c, features={}), "the cohort has no encoder"),
        (
            lambda c: replace(c, features={"e": c.features["better"][:-1]}),
            r"e: got features of shape \(159, 220\), expected \(160, d\)",
        ),
        (lambda c: replace(c, labels=c.labels + 1), "expected labels from 0 to 3"),
        (lambda c: replace(c, labels=c.labels[:-1]), "must be one a tile for 160 tiles"),
        (lambda c: replace(c, classes=(*CLASSES, "MUC")), "class 'MUC' has 0 tiles"),
        (lambda c: replace(c, classes=("all", *CLASSES[1:])), "none may be 'all'"),
    ],
)
def test_an_inconsistent_cohort_is_refused(spoil, message):
    with pytest.raises(CohortError, match=message):
        evaluate_tissue(spoil(cohort_of()), SETTINGS)


def test_a_class_with_too_few_tiles_is_named():
    cohort = cohort_of()
    labels = np.where(cohort.labels == 3, 0, cohort.labels)
    labels[:2] = 3
    with pytest.raises(CohortError, match=r"class 'TUM' has 2 tiles, fewer than the 4 folds"):
        evaluate_tissue(replace(cohort, labels=labels), SETTINGS)


def test_the_penalty_must_be_positive():
    with pytest.raises(CohortError, match="c must be positive, got 0"):
        evaluate_tissue(cohort_of(), replace(SETTINGS, c=0))
