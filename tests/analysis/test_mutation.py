from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from analysis.mutation import MutationSettings, evaluate_mutation, split_scores
from analysis.patients import PatientCohort
from featurestore.errors import CohortError

N = 90
SETTINGS = MutationSettings(n_folds=3, n_repeats=3, seed=2, penalties=(1.0, 100.0))


def cohort_of(*, groups=None, seed=0):
    rng = np.random.default_rng(seed)
    factors, mix = rng.normal(size=(N, 3)), rng.normal(size=(3, 40))
    features = {
        name: (factors @ mix + noise * rng.normal(size=(N, 40))).astype(np.float32)
        for name, noise in (("poorer", 8.0), ("better", 2.0))
    }
    status = (factors + rng.normal(size=(N, 3)) > [0.5, 1.5, 0.0]).astype(float)
    targets = pd.DataFrame(status, columns=["TP53", "STK11", "NULL"])
    targets["NULL"] = rng.permutation(targets["NULL"])
    targets.loc[[4, 5, 60], "STK11"] = np.nan
    return PatientCohort(tuple(f"P{i:02d}" for i in range(N)), features, targets, groups)


@pytest.fixture(scope="module")
def cohort():
    return cohort_of()


@pytest.fixture(scope="module")
def result(cohort):
    return evaluate_mutation(cohort, SETTINGS)


def test_folds_are_stratified_gene_by_gene_among_sequenced_patients(cohort, result):
    for gene, folds in result.folds.items():
        status = cohort.targets[gene].to_numpy()
        assert ((folds == -1) == np.isnan(status)).all()
        for fold_of in folds:
            for kind in (0, 1):
                assert np.ptp(np.bincount(fold_of[status == kind])) <= 1


def test_predictions_are_those_of_a_loop(cohort, result):
    gene, repeat, fold, d = "STK11", 2, 1, 40
    status, fold_of = cohort.targets[gene].to_numpy(), result.folds[gene][repeat]
    train, test = (fold_of >= 0) & (fold_of != fold), fold_of == fold
    x, y = cohort.features["better"].astype(float), status == 1
    shift = np.log(y[train].sum() / (~y[train]).sum())
    expected = []
    for penalty in SETTINGS.penalties:
        model = make_pipeline(
            StandardScaler(),
            LogisticRegression(C=1 / (penalty * d), class_weight="balanced", tol=1e-9),
        ).fit(x[train], y[train])
        expected.append(1 / (1 + np.exp(-(model.decision_function(x[test]) + shift))))
    found = result.predictions["better"][repeat, test, result.targets.index(gene)]
    assert min(np.abs(found - p).max() for p in expected) < 1e-5
    assert np.isnan(result.predictions["better"][repeat, [4, 5, 60], 1]).all()


def test_scores_are_scikit_learns(cohort, result):
    scores = result.scores.set_index(["encoder", "target", "metric", "repeat", "fold"])["value"]
    assert len(scores) == 2 * 3 * 3 * 3 * 3
    for gene in result.targets:
        test = result.folds[gene][1] == 0
        y = cohort.targets[gene].to_numpy()[test] == 1
        p = result.predictions["poorer"][1, test, result.targets.index(gene)].astype(float)
        for metric, score in (
            ("auroc", roc_auc_score),
            ("auprc", average_precision_score),
            ("brier", brier_score_loss),
        ):
            assert scores["poorer", gene, metric, 1, 0] == pytest.approx(score(y, p))
    sizes = result.scores.groupby("target")[["n_train", "n_test"]].sum().sum(axis=1)
    assert sizes["STK11"] / (N - 3) == sizes["TP53"] / N


def test_a_driven_gene_is_found_and_a_null_gene_is_not(result):
    auroc = result.scores[result.scores["metric"] == "auroc"]
    mean = auroc.groupby(["encoder", "target"])["value"].mean()
    assert mean["better", "TP53"] > 0.7
    assert mean["better", "TP53"] > mean["poorer", "TP53"]
    assert abs(mean["better", "NULL"] - 0.5) < 0.15
    brier = result.scores[result.scores["metric"] == "brier"].groupby("encoder")["value"].mean()
    assert brier["better"] < 0.25


def test_the_same_numbers_on_one_core(cohort, result):
    again = evaluate_mutation(cohort, SETTINGS, n_jobs=1)
    pd.testing.assert_frame_equal(again.scores, result.scores, check_exact=True)
    assert result.n_not_converged == {"poorer": 0, "better": 0}


def test_genes_with_too_few_patients_of_a_kind_are_named_and_the_rest_goes_on(cohort):
    rare, common = np.zeros(N), np.ones(N)
    rare[:5], common[:3] = 1, 0
    targets = cohort.targets.assign(RARE=rare, COMMON=common, UNKNOWN=np.nan)
    result = evaluate_mutation(replace(cohort, targets=targets), SETTINGS)
    assert result.targets == ("TP53", "STK11", "NULL")
    reasons = {reject.item: reject.reason for reject in result.rejects}
    assert reasons["RARE"].startswith("5 of 90 sequenced patients are mutated; expected at least 6")
    assert reasons["COMMON"].startswith("3 of 90 sequenced patients are wild-type")
    assert reasons["UNKNOWN"].startswith("0 of 0 sequenced")
    with pytest.raises(CohortError, match="none of 1 genes can be evaluated; the first, RARE"):
        evaluate_mutation(replace(cohort, targets=targets[["RARE"]]), SETTINGS)


def test_whole_groups_are_dealt_and_a_gene_of_too_few_groups_is_named():
    groups = np.arange(N) % 9
    cohort = cohort_of(groups=groups)
    local = (groups < 2).astype(float)
    cohort = replace(cohort, targets=cohort.targets.assign(LOCAL=local))
    result = evaluate_mutation(cohort, SETTINGS)
    for fold_of in result.folds["TP53"]:
        for group in range(9):
            assert len(set(fold_of[groups == group])) == 1
    assert [reject.item for reject in result.rejects] == ["LOCAL"]
    assert "mutated patients come from 2 groups" in result.rejects[0].reason


def test_a_split_of_one_class_has_a_brier_score_only():
    scores = split_scores(np.zeros(3, dtype=bool), np.array([0.1, 0.2, 0.3]))
    assert np.isnan(scores[:2]).all()
    assert scores[2] == pytest.approx(0.14 / 3)


def test_a_status_is_0_or_1(cohort):
    targets = cohort.targets.replace({"TP53": {1.0: 2.0}})
    with pytest.raises(CohortError, match="TP53: got a mutation status of 2, expected 0, 1 or NaN"):
        evaluate_mutation(replace(cohort, targets=targets), SETTINGS)
    with pytest.raises(CohortError, match="min_per_fold"):
        evaluate_mutation(cohort, replace(SETTINGS, min_per_fold=0))
