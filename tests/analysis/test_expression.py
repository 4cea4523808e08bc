from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import pearsonr
from sklearn.linear_model import RidgeCV
from sklearn.metrics import r2_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from analysis.compare import COMPARISON_COLUMNS, compare_encoders
from analysis.expression import ExpressionSettings, evaluate_expression, split_scores
from analysis.metrics import SCORE_COLUMNS
from analysis.patients import PatientCohort
from analysis.ridge import PENALTIES
from featurestore.errors import CohortError

N = 60
SETTINGS = ExpressionSettings(n_folds=3, n_repeats=4, seed=5)


def cohort_of(*, missing=True, groups=None, seed=0):
    """Genes driven by latent factors that one encoder sees better than the other."""
    rng = np.random.default_rng(seed)
    factors, mix = rng.normal(size=(N, 3)), rng.normal(size=(3, 90))
    features = {
        name: (factors @ mix + noise * rng.normal(size=(N, 90))).astype(np.float32)
        for name, noise in (("poorer", 6.0), ("better", 2.0))
    }
    values = 5 + factors @ rng.normal(size=(3, 8)) + 0.5 * rng.normal(size=(N, 8))
    targets = pd.DataFrame(values, columns=[f"G{i}" for i in range(8)])
    if missing:
        targets.loc[[2, 11, 30], "G6"] = np.nan
    return PatientCohort(tuple(f"P{i:02d}" for i in range(N)), features, targets, groups)


@pytest.fixture(scope="module")
def cohort():
    return cohort_of()


@pytest.fixture(scope="module")
def result(cohort):
    return evaluate_expression(cohort, SETTINGS)


def test_predictions_and_scores_are_those_of_a_loop_over_genes(cohort, result):
    scores = result.scores.set_index(["encoder", "target", "metric", "repeat", "fold"])["value"]
    for gene in ("G0", "G6"):
        y, position = cohort.targets[gene].to_numpy(), result.targets.index(gene)
        for repeat, fold in ((0, 0), (3, 2)):
            of_patient = result.folds[gene][repeat]
            train, test = (of_patient >= 0) & (of_patient != fold), of_patient == fold
            x = cohort.features["better"].astype(float)
            alphas = np.sort(np.array(PENALTIES))[::-1] * x.shape[1]
            model = make_pipeline(StandardScaler(), RidgeCV(alphas)).fit(x[train], y[train])
            expected = model.predict(x[test])
            found = result.predictions["better"][repeat, test, position]
            assert found == pytest.approx(expected, rel=1e-5)
            key = ("better", gene)
            r, r2 = (scores[(*key, name, repeat, fold)] for name in ("pearson_r", "r_squared"))
            assert r == pytest.approx(pearsonr(y[test], expected).statistic, abs=1e-5)
            assert r2 == pytest.approx(r2_score(y[test], expected), abs=1e-5)


def test_scores_have_a_row_for_everything_and_one_cohort_size_a_gene(result):
    scores = result.scores
    assert tuple(scores.columns) == SCORE_COLUMNS
    assert len(scores) == 2 * 8 * 2 * 4 * 3
    assert not scores.duplicated(["encoder", "target", "metric", "repeat", "fold"]).any()
    size = scores["n_train"] + scores["n_test"]
    assert set(size[scores["target"] != "G6"]) == {N}
    assert set(size[scores["target"] == "G6"]) == {N - 3}
    assert result.leakage_checked
    assert result.leakage_note == f"every patient is one unit of the split (patients: {N})"


def test_a_patient_without_a_value_is_left_out_for_that_gene_only(cohort, result):
    assert (result.folds["G6"][:, [2, 11, 30]] == -1).all()
    assert np.isnan(result.predictions["better"][:, [2, 11, 30], 6]).all()
    assert not np.isnan(np.delete(result.predictions["better"], 6, axis=2)).any()
    whole = evaluate_expression(cohort_of(missing=False), SETTINGS)
    for encoder in cohort.features:
        there, here = whole.predictions[encoder], result.predictions[encoder]
        assert np.array_equal(np.delete(there, 6, axis=2), np.delete(here, 6, axis=2))


def test_no_prediction_depends_on_the_patients_own_value(cohort, result):
    fold_of = result.folds["G0"][1]
    changed = cohort.targets.copy()
    changed.loc[fold_of == 2, ["G0", "G3"]] += np.arange(N)[fold_of == 2, None] * 10.0
    again = evaluate_expression(replace(cohort, targets=changed), SETTINGS)
    for encoder in cohort.features:
        here = again.predictions[encoder][1][fold_of == 2]
        assert np.array_equal(here, result.predictions[encoder][1][fold_of == 2], equal_nan=True)
        assert not np.array_equal(again.predictions[encoder][1], result.predictions[encoder][1])


def test_the_numbers_depend_on_the_seed_and_not_on_the_number_of_cores(cohort, result):
    again = evaluate_expression(cohort, SETTINGS, n_jobs=1)
    pd.testing.assert_frame_equal(again.scores, result.scores, check_exact=True)
    other = evaluate_expression(cohort, replace(SETTINGS, seed=6))
    assert not np.array_equal(other.folds["G0"], result.folds["G0"])


def test_encoders_are_compared_gene_by_gene(result):
    table = compare_encoders(
        result.scores, n_folds=3, n_repeats=4, leakage_checked=True, leakage_note="",
        task="expression",
    )  # fmt: skip
    assert tuple(table.columns) == COMPARISON_COLUMNS
    assert len(table) == 8 * 2
    assert set(table["task"]) == {"expression"}
    assert list(table["target"].unique()) == list(result.targets)
    assert (table["encoder_b"] == "better").all()
    assert (table["difference"] > 0).mean() > 0.8


def test_groups_are_kept_whole_and_noted():
    groups = np.array([f"site {i % 7}" for i in range(N)])
    result = evaluate_expression(cohort_of(groups=groups), SETTINGS)
    for fold_of in result.folds["G0"]:
        for group in set(groups):
            assert len(set(fold_of[groups == group])) == 1
    assert "groups, as a rule tissue source sites: 7" in result.leakage_note


def test_principal_components_are_kept_as_asked(cohort, result):
    one = evaluate_expression(cohort, replace(SETTINGS, n_components=1))
    assert one.scores["value"].mean() < result.scores["value"].mean()
    all_ = evaluate_expression(cohort, replace(SETTINGS, n_components=90))
    assert np.allclose(all_.predictions["better"], result.predictions["better"], equal_nan=True)


def test_genes_that_cannot_be_judged_are_named_and_the_rest_goes_on(cohort):
    odd = cohort.targets.assign(SILENT=0.0, RARE=np.nan, ONCE=0.0)
    odd.loc[:4, "RARE"] = np.arange(5.0)
    odd.loc[:1, "ONCE"] = 1.0
    result = evaluate_expression(replace(cohort, targets=odd), SETTINGS)
    assert len(result.targets) == 8
    reasons = {reject.item: reject.reason for reject in result.rejects}
    assert reasons["SILENT"].startswith(
        "60 of 60 patients have the same value; expected at least 3"
    )
    assert reasons["ONCE"].startswith("58 of 60 patients have the same value")
    assert reasons["RARE"].startswith("known of 5 of 60 patients")
    with pytest.raises(CohortError, match="none of 1 genes can be evaluated; the first, SILENT"):
        evaluate_expression(replace(cohort, targets=odd[["SILENT"]]), SETTINGS)


def test_scores_where_something_does_not_vary():
    observed = np.array([[1.0, 2.0, np.nan], [1.0, 3.0, 1.0], [1.0, 5.0, 2.0]])
    predicted = np.array([[1.0, 3.0, np.nan], [2.0, 3.0, 1.5], [0.0, 3.0, 2.5]])
    r, r2 = split_scores(observed, predicted)
    assert np.isnan(r[0])
    assert np.isnan(r2[0])
    assert r[1] == 0
    assert r2[1] == pytest.approx(r2_score(observed[:, 1], predicted[:, 1]))
    assert r[2] == pytest.approx(1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": {}}, "no encoder"),
        (
            {"features": {"a": np.zeros((N - 1, 3), np.float32)}},
            r"a: got features of shape \(59, 3",
        ),
        ({"features": {"a": np.full((N, 3), np.nan, np.float32)}}, "60 patients are not finite"),
        ({"patient_ids": ("P00",) * N}, "stands in the cohort twice"),
        ({"targets": pd.DataFrame(np.zeros((N, 0)))}, "60 patients and 0 genes"),
        ({"targets": pd.DataFrame(np.full((N, 1), np.inf))}, "infinite"),
        ({"targets": pd.DataFrame(np.zeros((N, 2)), columns=["A", "A"])}, "gene 'A' stands"),
        ({"groups": np.array(["s"] * (N - 1) + [None])}, "patient P59 has no group"),
        ({"groups": np.array(["s", "t"] * 30)}, "come from 2 groups, fewer than the 3 folds"),
    ],
)
def test_a_cohort_that_would_give_wrong_numbers_is_refused(cohort, change, message):
    with pytest.raises(CohortError, match=message):
        evaluate_expression(replace(cohort, **change), SETTINGS)


@pytest.mark.parametrize("change", [{"n_components": 0}, {"penalties": ()}, {"n_folds": 1}])
def test_settings_are_checked(cohort, change):
    with pytest.raises(CohortError):
        evaluate_expression(cohort, replace(SETTINGS, **change))
