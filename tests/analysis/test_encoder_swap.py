from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.better_genes import COLUMNS, better_genes
from analysis.compare import compare_encoders
from analysis.encoder_swap import _STREAM, count_better
from analysis.expression import ExpressionSettings, evaluate_expression
from analysis.expression import split_scores as regression_scores
from analysis.mutation import MutationSettings, evaluate_mutation
from analysis.mutation import split_scores as mutation_scores
from analysis.patients import METRIC_OF_TASK, PatientCohort
from analysis.predictable import predictability_test, predictable_with_either
from featurestore.errors import CohortError

N = 70
PENALTIES = (1.0, 10.0, 100.0)


def cohort_of(task, seed=0, *, n_genes=10, noise=(6.0, 2.0)):
    rng = np.random.default_rng(seed)
    factors, mix = rng.normal(size=(N, 3)), rng.normal(size=(3, 40))
    features = {
        name: (factors @ mix + size * rng.normal(size=(N, 40))).astype(np.float32)
        for name, size in zip("ab", noise, strict=True)
    }
    values = factors @ rng.normal(size=(3, n_genes)) + rng.normal(size=(N, n_genes))
    targets = pd.DataFrame(values, columns=[f"G{i}" for i in range(n_genes)])
    if task == "mutation":
        targets = (targets > 0.7).astype(float)
    targets.loc[[1, 8], "G2"] = np.nan
    return PatientCohort(tuple(map(str, range(N))), features, targets)


def evaluated(task, **options):
    cohort = cohort_of(task, **options)
    kind = {"n_folds": 3, "n_repeats": 2, "seed": 4, "penalties": PENALTIES}
    if task == "expression":
        return cohort, evaluate_expression(cohort, ExpressionSettings(**kind))
    return cohort, evaluate_mutation(cohort, MutationSettings(**kind))


@pytest.fixture(scope="module", params=["expression", "mutation"])
def case(request):
    return evaluated(request.param)


def compared(result):
    return compare_encoders(
        result.scores, n_folds=3, n_repeats=2, leakage_checked=True, leakage_note="",
        task=result.task,
    )  # fmt: skip


def test_the_count_is_that_of_the_comparison(case):
    cohort, result = case
    table = compared(result)
    found = count_better(cohort, result, "a", "b")
    better = table[table["metric"] == METRIC_OF_TASK[result.task]].set_index("target")["difference"]
    assert found.n_genes == len(result.targets) == 10
    assert found.n_better_b == (better > 0).sum()
    some = count_better(cohort, result, "b", "a", genes=["G2", "G5"])
    assert some.n_better_b == (better[["G2", "G5"]] < 0).sum()


def test_the_null_counts_are_those_of_exchanging_predictions_and_scoring_again(case):
    cohort, result = case
    found = count_better(cohort, result, "a", "b", n_swaps=100)
    rng = np.random.default_rng(np.random.SeedSequence(result.seed, spawn_key=(_STREAM,)))
    kept = rng.integers(0, 2, size=(100, N)) == 1
    for i in range(5):
        a, b = (
            np.where(kept[i][None, :, None], scaled(result, one), scaled(result, other))
            for one, other in (("a", "b"), ("b", "a"))
        )
        difference = mean_scores(cohort, result, b) - mean_scores(cohort, result, a)
        assert found.null_counts[i] == (difference > 1e-9).sum()


def scaled(result, encoder):
    """Predictions standardised (or ranked) within each split, gene by gene."""
    out = np.full(result.predictions[encoder].shape, np.nan)
    for g, gene in enumerate(result.targets):
        for repeat, fold_of in enumerate(result.folds[gene]):
            for fold in range(3):
                test = fold_of == fold
                p = result.predictions[encoder][repeat, test, g].astype(float)
                if result.task == "mutation":
                    p = pd.Series(p).rank().to_numpy()
                out[repeat, test, g] = (p - p.mean()) / p.std()
    return out


def mean_scores(cohort, result, predictions):
    means = []
    for g, gene in enumerate(result.targets):
        y, scores = cohort.targets[gene].to_numpy(), []
        for repeat, fold_of in enumerate(result.folds[gene]):
            for fold in range(3):
                test = fold_of == fold
                p = predictions[repeat, test, g]
                if result.task == "mutation":
                    scores.append(mutation_scores(y[test] == 1, p)[0])
                else:
                    scores.append(regression_scores(y[test][:, None], p[:, None])[0, 0])
        means.append(np.nanmean(scores))
    return np.array(means)


def test_a_better_encoder_is_seen_and_an_equal_one_is_not():
    cohort, result = evaluated("expression", n_genes=30)
    found = count_better(cohort, result, "a", "b")
    assert found.n_better_b >= 25
    assert found.p_swap < 0.05
    assert found.null_low < found.null_median < found.null_high

    p = []
    for seed in range(12):
        cohort, result = evaluated("expression", seed=seed, n_genes=30, noise=(3.0, 3.0))
        p.append(count_better(cohort, result, "a", "b", n_swaps=200).p_swap)
    assert np.sum(np.array(p) < 0.05) <= 3
    assert np.median(p) > 0.2


def test_the_null_count_is_wider_than_a_binomial_where_genes_move_together():
    cohort, result = evaluated("expression", n_genes=60, noise=(3.0, 3.0))
    found = count_better(cohort, result, "a", "b")
    assert found.null_counts.std() > 1.3 * np.sqrt(60 / 4)


def test_an_encoder_is_not_better_than_itself(case):
    cohort, result = case
    found = count_better(cohort, result, "a", "a")
    assert (found.n_better_b, found.null_high, found.p_swap) == (0, 0, 1)


def test_it_repeats_whatever_the_number_of_cores(case):
    cohort, result = case
    one, other = (count_better(cohort, result, "a", "b", n_jobs=jobs) for jobs in (1, 2))
    assert np.array_equal(one.null_counts, other.null_counts)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoder_b": "c"}, "encoder 'c' was not evaluated; expected two of 'a', 'b'"),
        ({"genes": ["G99"]}, "gene 'G99' was not evaluated"),
        ({"genes": []}, "no gene is given"),
        ({"n_swaps": 10}, "at least 100 exchanges, got 10"),
    ],
)
def test_what_was_not_evaluated_is_refused(case, change, message):
    cohort, result = case
    with pytest.raises(CohortError, match=message):
        count_better(cohort, result, **{"encoder_a": "a", "encoder_b": "b", **change})


def test_better_genes_count_what_the_tables_hold():
    cohort, result = evaluated("expression", n_genes=20)
    settings = ExpressionSettings(n_folds=3, n_repeats=2, seed=4, penalties=PENALTIES)
    found = predictability_test(cohort, result, settings, n_permutations=30, n_repeats=1)
    table = compared(result).query("metric == 'pearson_r'")
    counts = better_genes(cohort, result, predictability=found, n_swaps=100)
    assert tuple(counts.columns) == COLUMNS
    by_choice = counts.set_index("genes")
    assert by_choice.loc["all", "n_genes"] == 20
    assert by_choice.loc["all", "n_better_b"] == (table["difference"] > 0).sum()
    predictable = predictable_with_either(found, "a", "b")
    chosen = table[table["target"].isin(predictable)]
    assert by_choice.loc["predictable", "n_genes"] == len(predictable) > 0
    assert by_choice.loc["predictable", "n_better_b"] == (chosen["difference"] > 0).sum()


def test_better_genes_of_mutations_are_counted_over_all():
    cohort, result = evaluated("mutation")
    counts = better_genes(cohort, result, n_swaps=100)
    assert counts["genes"].tolist() == ["all"]
    assert counts["n_genes"].tolist() == [len(result.targets)]


def test_where_nothing_is_predictable_there_is_no_such_count():
    cohort, result = evaluated("expression")
    settings = ExpressionSettings(n_folds=3, n_repeats=2, seed=4, penalties=PENALTIES)
    found = predictability_test(cohort, result, settings, n_permutations=20, n_repeats=1)
    found.table["p"] = 1.0
    counts = better_genes(cohort, result, predictability=found, n_swaps=100)
    assert counts["genes"].tolist() == ["all"]


def test_baselines_are_not_compared_among_each_other():
    cohort, result = evaluated("expression")
    assert better_genes(cohort, result, baselines=("a", "b"), n_swaps=100).empty
    assert len(better_genes(cohort, result, baselines=("b",), n_swaps=100)) == 1
