"""Tests of genes as a study reports them: the same numbers as gene by gene, and who gets which."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from analysis.bootstrap import bootstrap_difference
from analysis.compare import compare_encoders
from analysis.delong import delong_test
from analysis.expression import ExpressionSettings, evaluate_expression
from analysis.gene_tests import COLUMNS, N_REPEATS, gene_tests
from analysis.jackknife import jackknife_difference
from analysis.logistic_roles import logistic_roles
from analysis.mutation import MutationSettings, evaluate_mutation
from analysis.patients import PatientCohort
from analysis.reported import CORRECTED, JACKKNIFE, ROPE, reported
from analysis.ridge_roles import ridge_roles, ridge_splits

N = 70


def cohort(seed=0, *, n=N, n_genes=4):
    """Two networks, one clearly better, and a baseline of three columns."""
    rng = np.random.default_rng(seed)
    traits = rng.normal(size=(n, 4))
    features = {
        name: ((traits + noise * rng.normal(size=traits.shape)) @ rng.normal(size=(4, d))).astype(
            np.float32
        )
        for name, noise, d in (("worse", 2.0, 30), ("better", 0.3, 90), ("colour", 3.0, 3))
    }
    values = traits @ rng.normal(size=(4, n_genes)) + rng.normal(size=(n, n_genes))
    names = [f"G{i}" for i in range(n_genes)]
    return PatientCohort(
        tuple(f"P{i}" for i in range(n)), features, pd.DataFrame(values, columns=names)
    )


def expression(given, **settings):
    return evaluate_expression(given, ExpressionSettings(seed=5, n_repeats=4, **settings))


def row(table, target, test, pair=("worse", "better")):
    (found,) = table[
        (table["target"] == target)
        & (table["test"] == test)
        & (table["encoder_a"] == pair[0])
        & (table["encoder_b"] == pair[1])
    ].to_dict(orient="records")
    return found


def test_blocks_of_genes_say_what_each_gene_alone_says():
    given = cohort(n_genes=34)
    result = expression(given)
    table = gene_tests(given, result, baselines={"colour"})
    assert list(table.columns) == list(COLUMNS)
    assert set(table["target"]) == set(result.targets)
    for gene in ("G0", "G31", "G33"):
        folds = result.folds[gene][:N_REPEATS].astype(int)
        y = given.targets[[gene]].to_numpy()
        one = [
            ridge_roles(ridge_splits(given.features[name], folds), y)[0]
            for name in ("worse", "better")
        ]
        expected, found = jackknife_difference(*one), row(table, gene, "jackknife")
        assert found["variance_pairs"] == pytest.approx(expected.variance_pairs)
        assert found["standard_error"] == pytest.approx(expected.standard_error)
        # Four repeats are fewer than ten, so that the study's mean is that of the roles.
        assert found["difference"] == pytest.approx(expected.difference, rel=1e-3)
        assert found["p"] == pytest.approx(expected.p, rel=1e-3)
        drawn = bootstrap_difference(
            y[:, 0],
            folds,
            *(result.predictions[name][:, :, result.targets.index(gene)] for name in
              ("worse", "better")),
            metric="pearson_r", seed=5, n_draws=1000,
        )  # fmt: skip
        assert row(table, gene, "bootstrap")["p"] == pytest.approx(drawn.p)


def test_the_difference_is_of_all_repeats_and_the_variance_of_the_first_ten():
    given = cohort(n_genes=2)
    result = evaluate_expression(given, ExpressionSettings(seed=1, n_repeats=12))
    table = gene_tests(given, result)
    scores = result.scores[result.scores["metric"] == "pearson_r"]
    means = scores.groupby(["encoder", "target"])["value"].mean()
    found = row(table, "G1", "jackknife")
    assert found["difference"] == pytest.approx(means["better", "G1"] - means["worse", "G1"])
    first_ten = scores[scores["repeat"] < 10].groupby(["encoder", "target"])["value"].mean()
    assert found["difference"] != pytest.approx(
        first_ten["better", "G1"] - first_ten["worse", "G1"], abs=1e-9
    )


def test_numbers_do_not_depend_on_how_many_work_at_them():
    given = cohort(3)
    result = expression(given)
    one, two = (gene_tests(given, result, n_jobs=n) for n in (1, 3))
    pd.testing.assert_frame_equal(one, two, check_exact=True)


def test_a_gene_that_some_patients_lack_is_judged_on_the_others():
    given = cohort(4, n_genes=3)
    values = given.targets.copy()
    values.loc[:9, "G1"] = np.nan
    result = expression(replace(given, targets=values))
    table = gene_tests(replace(given, targets=values), result)
    known = np.arange(N) > 9
    folds = result.folds["G1"][:, known].astype(int)
    roles = [
        ridge_roles(
            ridge_splits(given.features[name][known], folds), values["G1"].to_numpy()[known, None]
        )[0]
        for name in ("worse", "better")
    ]
    found = row(table, "G1", "jackknife")
    assert found["n_patients"] == N - 10
    # A study keeps predictions in single precision.
    assert found["p"] == pytest.approx(jackknife_difference(*roles).p, rel=1e-3)
    assert row(table, "G0", "jackknife")["n_patients"] == N


def test_mutations_get_the_jackknife_of_logistic_regression_and_delong():
    given = cohort(5, n_genes=2)
    status = (given.targets > given.targets.median()).astype(float)
    given = replace(given, targets=status)
    result = evaluate_mutation(given, MutationSettings(seed=2, n_repeats=3))
    table = gene_tests(given, result, baselines={"colour"})
    folds = result.folds["G0"].astype(int)
    roles = [
        logistic_roles(given.features[name], status["G0"], folds) for name in ("worse", "better")
    ]
    assert row(table, "G0", "jackknife")["p"] == pytest.approx(
        jackknife_difference(*roles).p, rel=1e-3
    )
    mean = {name: result.predictions[name][:, :, 0].mean(axis=0) for name in given.features}
    expected = delong_test(status["G0"], mean["worse"], mean["better"])
    found = row(table, "G0", "delong")
    assert (found["p"], found["standard_error"]) == pytest.approx(
        (expected.p, expected.standard_error)
    )
    # The bootstrap takes long, so baselines are passed over; the other tests are of all pairs.
    assert set(table.loc[table["test"] == "bootstrap", "encoder_b"]) == {"better"}
    assert set(table.loc[table["test"] == "jackknife", "encoder_b"]) == {"better", "colour"}


def test_of_few_patients_or_one_repeat_there_is_no_jackknife():
    given = cohort(6, n=45, n_genes=2)
    assert set(gene_tests(given, expression(given))["test"]) == {"bootstrap"}
    once = evaluate_expression(cohort(6), ExpressionSettings(seed=1, n_repeats=1))
    assert gene_tests(cohort(6), once).empty


def compared(result):
    return compare_encoders(
        result.scores, n_folds=5, n_repeats=4, leakage_checked=True, leakage_note="",
        task="expression",
    )  # fmt: skip


def test_r_is_reported_by_the_jackknife_and_everything_else_by_the_corrected_test():
    given = cohort(7)
    result = expression(given)
    tests = gene_tests(given, result)
    table = reported(compared(result), tests, many_targets=True)
    of_r = table[table["metric"] == "pearson_r"]
    assert set(of_r["test"]) == {JACKKNIFE}
    assert set(table.loc[table["metric"] == "r_squared", "test"]) == {CORRECTED}
    first = of_r.iloc[0]
    found = row(tests, first["target"], JACKKNIFE, (first["encoder_a"], first["encoder_b"]))
    for name in ("p", "ci_low", "ci_high", "standard_error"):
        assert first[name] == pytest.approx(found[name])
    others = table[table["test"] == CORRECTED]
    assert (others["p"] == others["p_corrected"]).all()
    assert (table["q"] >= table["p"] - 1e-12).all()
    assert (table["p_holm"] >= table["p"] - 1e-12).all()
    assert (table["ci_low"] <= table["difference"]).all()


def test_probabilities_add_up_and_agree_with_the_reported_p():
    result = expression(cohort(8))
    table = reported(compared(result), gene_tests(cohort(8), result), many_targets=True)
    whole = table[["p_a_better", "p_equivalent", "p_b_better"]].sum(axis=1)
    assert whole.to_numpy() == pytest.approx(np.ones(len(table)))
    assert (table["rope"] == ROPE).all()
    sure = table[(table["p"] < 1e-4) & (table["difference"] > 0.1)]
    assert len(sure)
    assert (sure["p_b_better"] > 0.95).all()


def test_one_question_has_no_q_and_holm_runs_over_its_pairs():
    result = expression(cohort(9, n_genes=1))
    table = reported(compared(result))
    assert table["q"].isna().all()
    assert set(table["test"]) == {CORRECTED}
    of_r = table[table["metric"] == "pearson_r"]
    assert len(of_r) == 3
    assert of_r["p_holm"].min() == pytest.approx(min(1, 3 * of_r["p"].min()))
