from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from analysis.expression import ExpressionSettings, evaluate_expression
from analysis.multiplicity import q_values
from analysis.patients import PatientCohort
from analysis.predictable import (
    Predictability,
    pooled_p,
    predictability_test,
    predictable_with_either,
)
from featurestore.errors import CohortError

PENALTIES = (0.1, 1.0, 10.0, 100.0, 1000.0)
N, N_DRIVEN, N_NULL = 80, 6, 24


def cohort_of(seed, *, groups=None):
    """Six genes that the features show, and 24 of one other factor that they do not."""
    rng = np.random.default_rng(seed)
    seen, hidden = rng.normal(size=(N, 2)), rng.normal(size=(N, 1))
    features = np.maximum(seen @ rng.normal(size=(2, 50)) + rng.normal(size=(N, 50)), 0)
    driven = seen @ rng.normal(size=(2, N_DRIVEN)) + 0.5 * rng.normal(size=(N, N_DRIVEN))
    null = np.exp(hidden + rng.normal(size=(N, N_NULL)))
    if groups is not None:
        features += 4 * rng.normal(size=(groups.max() + 1, 50))[groups]
        null = null + 10 * rng.normal(size=(groups.max() + 1, N_NULL))[groups]
    names = [f"driven {i}" for i in range(N_DRIVEN)] + [f"null {i}" for i in range(N_NULL)]
    targets = pd.DataFrame(np.hstack([driven, null]), columns=names)
    return PatientCohort(
        tuple(map(str, range(N))), {"encoder": features.astype(np.float32)}, targets, groups
    )


def permutation_tested(cohort, seed=0, **options):
    settings = ExpressionSettings(n_folds=4, n_repeats=2, seed=seed, penalties=PENALTIES)
    result = evaluate_expression(cohort, settings)
    return predictability_test(cohort, result, settings, n_permutations=40, **options)


@pytest.fixture(scope="module")
def cohorts():
    return [permutation_tested(cohort_of(seed), seed, n_repeats=1).table for seed in range(8)]


def test_it_holds_its_level_on_null_genes_and_finds_driven_ones(cohorts):
    table = pd.concat(cohorts)
    null = table["target"].str.startswith("null")
    # 192 null genes that are correlated eight by eight: the bounds are wide, but the naive
    # answer (every gene that correlates) is far outside.
    assert 0.01 <= (table["p"][null] < 0.05).mean() <= 0.12
    assert 0.3 <= (table["p"][null] < 0.5).mean() <= 0.7
    assert (table["q"][~null] <= 0.05).mean() > 0.8
    assert ((table["q"] <= 0.05) & null).sum() <= 0.1 * (table["q"] <= 0.05).sum()


def test_where_site_drives_both_only_permuting_within_sites_holds():
    sites = np.random.default_rng(0).integers(0, 12, N)
    cohort = cohort_of(3, groups=sites)
    within = permutation_tested(cohort)
    anywhere = permutation_tested(replace(cohort, groups=None))
    share = [
        (found.table["p"][found.table["target"].str.startswith("null")] < 0.05).mean()
        for found in (within, anywhere)
    ]
    assert share[0] <= 0.2
    assert share[1] >= 0.5
    assert within.within_groups
    assert not anywhere.within_groups


def test_it_repeats_whatever_the_number_of_cores():
    cohort = cohort_of(1)
    cohort.targets.loc[[3, 9], ["null 0", "driven 1"]] = np.nan
    found = permutation_tested(cohort, n_repeats=1)
    again = permutation_tested(cohort, n_repeats=1, n_jobs=1)
    pd.testing.assert_frame_equal(found.table, again.table, check_exact=True)
    assert list(found.table["target"]) == list(cohort.targets.columns)
    assert not found.table.isna().any().any()


def test_a_p_counts_the_null_draws_of_all_genes_each_by_the_others_of_its_gene():
    rng = np.random.default_rng(0)
    null = rng.normal(size=(12, 3)) * [1, 5, 2] + [0, 1, -1]
    null[4, 1] = np.nan
    observed = np.array([1.2, 9.0, -1.0])
    draws, z = [], []
    for gene in range(3):
        of_gene = null[~np.isnan(null[:, gene]), gene]
        z.append((observed[gene] - of_gene.mean()) / of_gene.std(ddof=1))
        for i, draw in enumerate(of_gene):
            others = np.delete(of_gene, i)
            draws.append((draw - others.mean()) / others.std(ddof=1))
    expected = [(1 + np.sum(np.array(draws) >= value)) / (1 + len(draws)) for value in z]
    assert pooled_p(observed, null) == pytest.approx(expected)


def test_a_gene_of_which_nothing_is_known_has_p_1():
    null = np.column_stack([np.random.default_rng(0).normal(size=30), np.zeros(30)])
    assert pooled_p(np.array([np.nan, 0.4]), null).tolist() == [1, 1]


def test_q_values_are_benjamini_hochbergs():
    p = np.array([0.01, 0.04, 0.03, 0.5])
    # Sorted: p · 4 / rank, then the minimum from the right.
    assert q_values(p) == pytest.approx([0.04, 0.16 / 3, 0.16 / 3, 0.5])


def test_predictable_with_either_treats_both_encoders_alike():
    table = pd.DataFrame(
        {
            "encoder": ["a"] * 3 + ["b"] * 3,
            "target": ["x", "y", "z"] * 2,
            "p": [0.001, 0.4, 0.04, 0.6, 0.002, 0.04],
        }
    )
    found = Predictability(table, 100, 2, False)
    assert predictable_with_either(found, "a", "b") == ("x", "y")
    assert predictable_with_either(found, "b", "a") == ("x", "y")
    with pytest.raises(CohortError, match="'c' was not tested"):
        predictable_with_either(found, "a", "c")


@pytest.mark.parametrize(
    ("options", "message"),
    [({"n_permutations": 5}, "at least 20"), ({"n_repeats": 3}, "from 1 to 2 repeats")],
)
def test_too_few_permutations_or_too_many_repeats_are_refused(options, message):
    cohort = cohort_of(0)
    settings = ExpressionSettings(n_folds=4, n_repeats=2, seed=0, penalties=PENALTIES)
    result = evaluate_expression(cohort, settings)
    with pytest.raises(CohortError, match=message):
        predictability_test(cohort, result, settings, **options)
    with pytest.raises(CohortError, match="of 'mutation'"):
        predictability_test(cohort, replace(result, task="mutation"), settings)
