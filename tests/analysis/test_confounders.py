"""Strata, clinical variables and other folds: a planted confounder is found, noise is not."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.confounders import (
    GenePredictions,
    added_value_of_genes,
    clinical_strata,
    predictions_of,
    strata_of_genes,
)
from analysis.critical_difference import encoder_ranks
from analysis.fold_optimism import fold_optimism
from analysis.rank_figure import rank_figure
from analysis.splits import unstratified_folds
from featurestore.errors import CohortError

N = 120
PATIENTS = pd.Index([f"P{i:03}" for i in range(N)])


def gene(seed=0, *, only_in=None):
    """B predicts the gene, A does not; with ``only_in``, B does in those patients alone."""
    rng = np.random.default_rng(seed)
    y = rng.normal(size=N)
    helps = np.ones(N, dtype=bool) if only_in is None else only_in
    folds = unstratified_folds(N, n_folds=5, n_repeats=3, seed=seed).astype(np.int64)
    a = rng.normal(size=(3, N))
    b = np.where(helps, y + 0.5 * rng.normal(size=(3, N)), rng.normal(size=(3, N)))
    return GenePredictions("G", PATIENTS, y, folds, {"a": a, "b": b})


def test_a_difference_of_one_sex_alone_is_seen_there_alone():
    sex = pd.Series(np.where(np.arange(N) % 2, "female", "male"), index=PATIENTS)
    strata = pd.DataFrame({"sex": sex})
    found, note = strata_of_genes(
        [gene(1, only_in=(sex == "female").to_numpy())], [("a", "b")], strata,
        metric="pearson_r", seed=1,
    )  # fmt: skip
    by_sex = found.set_index("stratum")
    assert by_sex.loc["female", "ci_low"] > 0
    assert by_sex.loc["male", "ci_low"] < 0 < by_sex.loc["male", "ci_high"]
    assert (by_sex["variable"] == "sex").all()
    assert note == ""


def test_what_is_too_small_is_said():
    site = pd.Series(np.where(np.arange(N) < 10, "05", "49"), index=PATIENTS)
    found, note = strata_of_genes(
        [gene(2)], [("a", "b")], pd.DataFrame({"site": site}), metric="pearson_r", seed=1
    )
    assert found["stratum"].tolist() == ["49"]
    assert note == "too few patients, for one gene or more: site = 05"
    every_tenth = pd.Series([f"{i // 10}" for i in range(N)], index=PATIENTS)
    found, note = strata_of_genes(
        [gene(2)], [("a", "b")], pd.DataFrame({"site": every_tenth}), metric="pearson_r", seed=1
    )
    assert found.empty
    assert "site" in note


def test_strata_are_sites_values_and_halves_of_numbers():
    rng = np.random.default_rng(3)
    clinical = pd.DataFrame(
        {
            "age": [str(age) for age in rng.integers(40, 90, N)],
            "stage": rng.choice(["I", "II", "III"], N),
            "note": [f"free text {i}" for i in range(N)],
            "always": "x",
        },
        index=PATIENTS,
    )
    clinical.loc["P000", "age"] = None
    strata = clinical_strata(clinical, pd.Series(rng.choice(["05", "49"], N), index=PATIENTS))
    assert list(strata.columns) == ["site", "age", "stage"]
    assert strata["age"].isna().sum() == 1
    low, high = sorted(strata["age"].dropna().unique())
    assert (low[:2], high[:2]) == ("< ", ">=")
    counts = strata["age"].value_counts()
    assert abs(counts[low] - counts[high]) < N / 5


def test_clinical_information_in_the_features_adds_nothing_and_other_information_does():
    rng = np.random.default_rng(4)
    age, other = rng.normal(size=(2, N))
    y = age + other + 0.5 * rng.normal(size=N)
    folds = unstratified_folds(N, n_folds=5, n_repeats=2, seed=4).astype(np.int64)
    given = GenePredictions("G", PATIENTS, y, folds, {})
    clinical = pd.DataFrame({"age": age}, index=PATIENTS)
    noise = 0.3 * rng.normal(size=(N, 40))
    features = {
        "copies age": pd.DataFrame(age[:, None] + noise, index=PATIENTS),
        "sees more": pd.DataFrame(other[:, None] + noise, index=PATIENTS),
    }
    found, note = added_value_of_genes([given], clinical, features, metric="pearson_r", seed=1)
    by_encoder = found.set_index("encoder")
    assert by_encoder.loc["sees more", "p"] == pytest.approx(0.01)
    assert by_encoder.loc["copies age", "p"] > 0.05
    assert (by_encoder["q"] >= by_encoder["p"]).all()
    assert note == ""


def test_a_gene_of_too_few_patients_is_left_out_by_name():
    short = gene(5)
    few = GenePredictions(
        "FEW", PATIENTS[:20], short.observed[:20], short.folds[:, :20], {"a": short.predicted["a"]}
    )
    features = {"a": pd.DataFrame(np.ones((N, 2)), index=PATIENTS)}
    found, note = added_value_of_genes(
        [few], pd.DataFrame({"age": np.ones(N)}, index=PATIENTS), features,
        metric="pearson_r", seed=1,
    )  # fmt: skip
    assert found.empty
    assert "FEW" in note


def test_predictions_come_from_frames_as_the_store_gives_them():
    frame = pd.DataFrame(
        {
            "target": ["G", "G", "H"], "patient_id": ["P1", "P2", "P1"],
            "observed": [1.0, 2.0, 3.0], "predicted": [[0.1, 0.2], [0.3, 0.4], [9.0, 9.0]],
            "folds": [[0, 1], [1, 0], [0, 0]],
        }
    )  # fmt: skip
    found = predictions_of({"a": frame}, "G")
    assert found.patients.tolist() == ["P1", "P2"]
    assert found.predicted["a"].tolist() == [[0.1, 0.3], [0.2, 0.4]]
    assert found.folds.tolist() == [[0, 1], [1, 0]]


def scores(**by_encoder):
    rows = [
        (name, f"T{i}", "recall", value)
        for name, values in by_encoder.items()
        for i, value in enumerate(values)
    ]
    return pd.DataFrame(rows, columns=["encoder", "target", "metric", "value"])


def test_optimism_is_random_minus_kept_of_what_has_both():
    random, kept = scores(a=[0.9, 0.8], b=[0.7]), scores(a=[0.6, np.nan], b=[0.65])
    found = fold_optimism(random, kept).set_index("encoder")
    assert found.loc["a", ["random_score", "kept_score"]].tolist() == [0.9, 0.6]
    assert found.loc["b", "kept_score"] == 0.65
    assert len(found) == 2


def test_ranks_need_three_encoders_and_six_targets():
    steps = np.arange(6) / 10
    found = encoder_ranks(scores(a=steps, b=steps + 0.01, c=steps + 0.02), "recall")
    assert found["encoder"].tolist() == ["c", "b", "a"]
    assert found["mean_rank"].tolist() == [1, 2, 3]
    assert found["n_targets"].tolist() == [6, 6, 6]
    assert rank_figure(found).axes
    assert encoder_ranks(scores(a=steps, b=steps + 0.01), "recall").empty
    assert encoder_ranks(scores(a=[1.0], b=[2.0], c=[3.0]), "recall").empty
    with pytest.raises(CohortError, match="no rank"):
        rank_figure(found.iloc[:0])
