from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.multiplicity import holm
from analysis.splits import unstratified_folds
from analysis.strata import COLUMNS, stratified_differences
from featurestore.errors import CohortError

N = 200


@pytest.fixture(scope="module")
def case():
    """B sees more than A in women only; stage IV is rare, some have no stage."""
    rng = np.random.default_rng(1)
    y = rng.normal(size=N)
    sex = pd.Series(np.where(np.arange(N) % 2, "female", "male"), name="sex", dtype=object)
    noise = np.where(sex == "female", 0.5, 2.0)
    a, b = y + 2 * rng.normal(size=N), y + noise * rng.normal(size=N)
    a, b = (x + 0.1 * rng.normal(size=(2, N)) for x in (a, b))
    folds = unstratified_folds(N, n_folds=5, n_repeats=2, seed=1)
    stage = pd.Series(["I"] * 120 + ["II"] * 60 + ["IV"] * 15 + [None] * 5, name="stage")
    return (y, folds, a, b), sex, stage


def stratified(case, strata, **options):
    return stratified_differences(
        *case, strata, **{"metric": "pearson_r", "seed": 2, "n_draws": 300, **options}
    )


def test_a_difference_that_only_one_stratum_has_is_found_there(case):
    predictions, sex, _ = case
    table, rejects = stratified(predictions, sex)
    assert tuple(table.columns) == COLUMNS
    assert rejects == ()
    by_sex = table.set_index("stratum")
    assert by_sex.loc["female", "ci_low"] > 0
    assert by_sex.loc["male", "ci_low"] < 0 < by_sex.loc["male", "ci_high"]
    assert by_sex["n_patients"].tolist() == [100, 100]
    assert table["p_holm"].tolist() == holm(table["p"]).tolist()


def test_a_stratum_is_scored_over_all_of_its_patients_of_a_repeat(case):
    (y, _, a, b), sex, _ = case
    table, _ = stratified(case[0], sex)
    women = (sex == "female").to_numpy()
    for name, x in (("mean_a", a), ("mean_b", b)):
        expected = np.mean([stats.pearsonr(y[women], row[women]).statistic for row in x])
        assert table.set_index("stratum").loc["female", name] == pytest.approx(expected)
    assert (table["a_low"] < table["mean_a"]).all()
    assert (table["mean_b"] < table["b_high"]).all()


def test_small_strata_and_missing_values_are_said_not_scored(case):
    predictions, _, stage = case
    table, rejects = stratified(predictions, stage)
    assert table["stratum"].tolist() == ["I", "II"]
    assert [reject.item for reject in rejects] == ["stage = IV", "stage missing"]
    assert "15 patients, expected at least 30" in rejects[0].reason
    assert "5 patients have no stage" in rejects[1].reason


def test_a_stratum_needs_both_classes_for_an_auroc(case):
    (y, folds, a, b), sex, _ = case
    mutated = np.where(sex == "male", np.arange(N) < 10, y > 0).astype(float)
    table, rejects = stratified((mutated, folds, a, b), sex, metric="auroc")
    assert table["stratum"].tolist() == ["female"]
    assert "5 patients with and 95 without" in rejects[0].reason


def test_the_order_of_patients_does_not_matter_to_the_scores(case):
    (y, folds, a, b), sex, _ = case
    order = np.random.default_rng(5).permutation(N)
    one, _ = stratified((y, folds, a, b), sex)
    other, _ = stratified((y[order], folds[:, order], a[:, order], b[:, order]), sex.iloc[order])
    assert one["difference"].tolist() == pytest.approx(other["difference"].tolist())


def test_patients_who_were_not_tested_are_not_counted(case):
    (y, folds, a, b), sex, _ = case
    folds = np.where(np.arange(N) < 40, -1, folds)
    table, _ = stratified((np.where(np.arange(N) < 40, np.nan, y), folds, a, b), sex)
    assert table["n_patients"].tolist() == [80, 80]


def test_what_cannot_be_stratified_is_refused(case):
    predictions, sex, stage = case
    with pytest.raises(CohortError, match="199 values of sex"):
        stratified(predictions, sex.iloc[:-1])
    with pytest.raises(CohortError, match="at least 20, got 5"):
        stratified(predictions, sex, min_patients=5)
    with pytest.raises(CohortError, match="no stratum of stage is large enough"):
        stratified(predictions, stage, min_patients=150)
