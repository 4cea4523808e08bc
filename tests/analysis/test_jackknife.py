from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from analysis.expression import split_scores
from analysis.jackknife import Roles, RoleSums, jackknife_difference
from analysis.ridge import predict, prediction_changes, split_axes
from analysis.ridge_roles import ridge_roles, ridge_splits
from analysis.splits import unstratified_folds
from featurestore.errors import CohortError

N, D = 60, 90


def cohort(seed, *, n=N, d=D, signal=1.0):
    """Two encoders with noise of their own on the same three traits."""
    rng = np.random.default_rng(seed)
    traits = rng.normal(size=(n, 3))
    y = signal * traits[:, :1] + rng.normal(size=(n, 1))
    encoders = [
        (traits + rng.normal(size=(n, 3))) @ rng.normal(size=(3, d)) + rng.normal(size=(n, d))
        for _ in range(2)
    ]
    return encoders, y, unstratified_folds(n, n_folds=5, n_repeats=2, seed=seed)


def roles_of(x, y, folds):
    return ridge_roles(ridge_splits(x, folds), y)


def test_changes_are_those_of_fitting_without_the_patient():
    """scikit-learn's ridge, fitted anew for every training patient left out."""
    (x, _), y, folds = cohort(1)
    test = folds[0] == 0
    train = np.flatnonzero(~test)
    z = StandardScaler().fit(x[train]).transform(x)
    axes = split_axes(x[train], x[test])
    predicted, chosen = predict(axes, y[train])
    changes = prediction_changes(axes, y[train], penalty=chosen[0])[0]
    model = Ridge(alpha=chosen[0] * D)
    for i in range(len(train)):
        rest = np.delete(train, i)
        without = model.fit(z[rest], y[rest, 0]).predict(z[test])
        assert predicted[:, 0] + changes[:, i] == pytest.approx(without, abs=1e-8)


def test_a_patient_is_left_out_of_its_test_folds():
    (x, _), y, folds = cohort(1)
    expected = np.zeros(N)
    for fold_of in folds:
        for fold in range(5):
            test = np.flatnonzero(fold_of == fold)
            train = fold_of != fold
            p = predict(split_axes(x[train], x[test]), y[train])[0][:, 0]
            expected += stats.pearsonr(y[test, 0], p).statistic
            for i in range(len(test)):
                rest = np.arange(len(test)) != i
                expected[test[i]] += stats.pearsonr(y[test[rest], 0], p[rest]).statistic
                expected[test[i]] -= stats.pearsonr(y[test, 0], p).statistic
    assert roles_of(x, y, folds)[0].not_tested == pytest.approx(expected / 10, abs=1e-10)


def test_pairs_are_changes_of_r_through_one_prediction():
    rng = np.random.default_rng(8)
    test, sums = np.arange(40) < 15, RoleSums(40)
    y, predicted, changes = rng.normal(size=15), rng.normal(size=15), rng.normal(size=(15, 25))
    sums.add(test, y, predicted, 1e-5 * changes)
    changes -= changes.mean(axis=0)  # a shift changes nothing
    pairs = sums.roles().pairs
    assert not pairs[:, test].any()
    assert not pairs[~test].any()
    for i, j in ((0, 0), (7, 20), (14, 24)):
        moved = predicted.copy()
        moved[i] += 1e-5 * changes[i, j]
        change = stats.pearsonr(y, moved).statistic - stats.pearsonr(y, predicted).statistic
        assert pairs[i, 15 + j] == pytest.approx(change, rel=1e-3)


def test_the_score_is_that_of_a_study():
    (x, _), y, folds = cohort(2)
    of_splits = []
    for fold_of in folds:
        for fold in range(5):
            test = fold_of == fold
            predicted, _ = predict(split_axes(x[~test], x[test]), y[~test])
            of_splits.append(split_scores(y[test], predicted)[0, 0])
    assert roles_of(x, y, folds)[0].score == pytest.approx(np.mean(of_splits))


def test_genes_are_judged_side_by_side():
    (x, _), y, folds = cohort(3)
    two = np.column_stack([y, y[::-1]])
    together, alone = roles_of(x, two, folds), roles_of(x, two[:, 1:], folds)
    assert together[1].pairs == pytest.approx(alone[0].pairs)


def test_of_a_mean_it_is_the_usual_standard_error():
    """Nothing is trained: it is s / √n."""
    values = np.random.default_rng(0).normal(0.3, 1, 100)
    none = np.zeros((100, 100))
    without = (values.sum() - values) / 99
    found = jackknife_difference(
        Roles(0.0, np.zeros(100), none), Roles(values.mean(), without, none)
    )
    assert found.standard_error == pytest.approx(values.std(ddof=1) / 10)
    assert found.z == pytest.approx(stats.ttest_1samp(values, 0).statistic)


def test_of_pairs_alone_it_is_their_variance_on_average():
    """A mean over pairs of y_i y_j: each patient tested against all others, and trained on."""
    rng = np.random.default_rng(1)
    n, found = 80, []
    truth = 2 / (n * (n - 1))
    for _ in range(300):
        y = rng.normal(size=n)
        products = np.outer(y, y) - np.diag(y**2)
        total, row = products.sum(), products.sum(axis=1)
        roles = Roles(
            total / (n * (n - 1)), (total - row) / (n - 1) ** 2, -products / (n * (n - 1))
        )
        found.append(jackknife_difference(Roles(0.0, np.zeros(n), np.zeros((n, n))), roles))
    assert np.mean([one.standard_error**2 for one in found]) == pytest.approx(truth, rel=0.1)
    assert np.mean([one.variance_pairs for one in found]) == pytest.approx(truth, rel=0.1)
    assert np.mean([one.variance_tested for one in found]) == pytest.approx(truth / 2, rel=0.1)


def test_exchanging_the_encoders_changes_signs_only():
    (a, b), y, folds = cohort(4)
    of_a, of_b = (roles_of(x, y, folds)[0] for x in (a, b))
    one, other = jackknife_difference(of_a, of_b), jackknife_difference(of_b, of_a)
    assert (one.z, one.ci_low) == pytest.approx((-other.z, -other.ci_high))
    assert one.p == pytest.approx(other.p)
    same = jackknife_difference(of_a, of_a)
    assert (same.difference, same.z, same.p) == (0, 0, 1)


def test_a_gene_that_the_penalty_leaves_nothing_of_has_an_error_like_any_other():
    """Leaving a patient out then moves the intercept alone, which r does not see."""
    (a, b), y, folds = cohort(11)
    free, tied = (
        jackknife_difference(
            *(ridge_roles(ridge_splits(x, folds), y, penalties=[penalty])[0] for x in (a, b))
        )
        for penalty in (1.0, 1e6)
    )
    assert tied.standard_error < 3 * free.standard_error
    rng = np.random.default_rng(0)
    test, changes = np.arange(40) < 15, rng.normal(size=(15, 25))
    y, predicted = rng.normal(size=15), rng.normal(size=15)
    pairs = []
    for shift in (0.0, 100 * rng.normal(size=25)):
        for metric in ("pearson_r", "auroc"):
            sums = RoleSums(40, metric)
            sums.add(test, y > 0 if metric == "auroc" else y, predicted, changes + shift)
            pairs.append(sums.roles().pairs)
    assert pairs[2] == pytest.approx(pairs[0])
    assert pairs[3] == pytest.approx(pairs[1])


def test_the_order_of_patients_does_not_matter():
    (x, _), y, folds = cohort(5)
    order = np.random.default_rng(0).permutation(N)
    one, other = roles_of(x, y, folds)[0], roles_of(x[order], y[order], folds[:, order])[0]
    assert other.not_tested == pytest.approx(one.not_tested[order], abs=1e-8)
    assert other.pairs == pytest.approx(one.pairs[np.ix_(order, order)], abs=1e-8)


def test_areas_are_those_of_the_mutation_task():
    rng = np.random.default_rng(6)
    n, sums = 40, RoleSums(40, "auroc")
    test = np.arange(n) < 15
    y, predicted = (np.arange(15) < 6).astype(float), rng.normal(size=15)
    changes = 0.1 * rng.normal(size=(15, 25))
    sums.add(test, y, predicted, changes)
    roles = sums.roles()
    changes -= changes.mean(axis=0)  # a shift changes nothing

    def area(status, p):
        return stats.mannwhitneyu(p[status == 1], p[status == 0]).statistic / (
            (status == 1).sum() * (status == 0).sum()
        )

    rest = np.arange(15) != 3
    assert roles.score == pytest.approx(area(y, predicted))
    assert roles.not_tested[3] == pytest.approx(area(y[rest], predicted[rest]))
    assert roles.not_tested[20] == roles.score
    for i, j in ((3, 5), (12, 5)):
        moved = predicted.copy()
        moved[i] += changes[i, j]
        assert roles.pairs[i, 15 + j] == pytest.approx(area(y, moved) - roles.score)


@pytest.mark.slow
def test_it_holds_its_level_where_nothing_can_be_predicted():
    """There the corrected test finds a difference in one cohort of seven."""
    p = []
    for seed in range(40):
        encoders, y, folds = cohort(seed, d=20, signal=0.0)
        p.append(jackknife_difference(*(roles_of(x, y, folds)[0] for x in encoders)).p)
    assert np.sum(np.array(p) < 0.05) <= 6
    assert np.median(p) > 0.3


def test_what_breaks_the_assumptions_is_refused():
    (x, _), y, folds = cohort(7)
    roles = roles_of(x, y, folds)[0]
    few = Roles(0.0, np.zeros(49), np.zeros((49, 49)))
    with pytest.raises(CohortError, match="49 patients, expected at least 50"):
        jackknife_difference(few, few)
    with pytest.raises(CohortError, match="60 and 49 patients"):
        jackknife_difference(roles, few)
    with pytest.raises(CohortError, match=r"1 repeat\(s\), expected at least 2"):
        ridge_splits(x, folds[:1])
    with pytest.raises(CohortError, match="a value is missing"):
        ridge_roles(ridge_splits(x, folds), np.where(y > 1, np.nan, y))
    with pytest.raises(CohortError, match="one row a patient"):
        ridge_splits(x[:-1], folds)
    with pytest.raises(CohortError, match="one row a patient"):
        ridge_roles(ridge_splits(x, folds), y[:-1])
    with pytest.raises(CohortError, match="in no fold"):
        ridge_splits(x, np.where(np.arange(N) == 3, -1, folds))
    with pytest.raises(CohortError, match="between 0 and 1"):
        jackknife_difference(roles, roles, confidence=95)
