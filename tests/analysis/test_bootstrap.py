from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from scipy import stats

from analysis.bootstrap import _STREAM, bootstrap_difference
from analysis.delong import delong_test
from analysis.expression import split_scores
from analysis.splits import unstratified_folds
from featurestore.errors import CohortError

N, N_FOLDS, N_REPEATS = 60, 3, 2
METRICS = ("pearson_r", "auroc", "accuracy")


def drawn(seed, metric, *, n=N, n_repeats=N_REPEATS, better=0.0):
    """Predictions that show the truth through noise; B with less of it."""
    rng = np.random.default_rng(seed)
    y = rng.normal(size=n)
    a, b = (y + (2 - less) * rng.normal(size=n) for less in (0.0, better))
    a, b = (x + 0.1 * rng.normal(size=(n_repeats, n)) for x in (a, b))
    if metric != "pearson_r":
        y = (y > 0.3).astype(float)
    if metric == "accuracy":
        a, b = (a > 0.3).astype(float), (b > 0.3).astype(float)
    folds = unstratified_folds(n, n_folds=N_FOLDS, n_repeats=n_repeats, seed=seed)
    return y, folds, a, b


def bootstrap(case, metric, **options):
    return bootstrap_difference(*case, metric=metric, **{"seed": 3, "n_draws": 200, **options})


def score(metric, y, x):
    if metric == "pearson_r":
        return stats.pearsonr(y, x).statistic
    if metric == "accuracy":
        return (y == x).mean()
    pairs = x[y == 1][:, None] - x[y == 0]
    return (pairs > 0).mean() + (pairs == 0).mean() / 2


def mean_score(metric, y, folds, x, rows=None):
    """The score of the study; with rows, of a cohort in which patients stand repeatedly."""
    rows = np.arange(len(y)) if rows is None else rows
    of_splits = []
    for repeat, fold_of in enumerate(folds):
        for fold in np.unique(fold_of[fold_of >= 0]):
            test = rows[fold_of[rows] == fold]
            if metric != "auroc" or len(set(y[test])) == 2:
                of_splits.append(score(metric, y[test], x[repeat, test]))
    return np.mean(of_splits)


@pytest.mark.parametrize("metric", METRICS)
@given(seed=st.integers(0, 1000))
@hypothesis_settings(max_examples=3)
def test_it_is_what_drawing_rows_and_scoring_them_gives(metric, seed):
    y, folds, a, b = case = drawn(seed, metric)
    found = bootstrap(case, metric)
    assert found.mean_a == pytest.approx(mean_score(metric, y, folds, a), abs=1e-10)
    assert found.mean_b == pytest.approx(mean_score(metric, y, folds, b), abs=1e-10)
    rng = np.random.default_rng(np.random.SeedSequence(3, spawn_key=(_STREAM,)))
    draws = []
    for counts in rng.multinomial(N, np.full(N, 1 / N), size=200):
        rows = np.repeat(np.arange(N), counts)
        draws.append(mean_score(metric, y, folds, b, rows) - mean_score(metric, y, folds, a, rows))
    assert (found.ci_low, found.ci_high) == pytest.approx(
        tuple(np.quantile(draws, [0.025, 0.975])), abs=1e-9
    )
    assert found.standard_error == pytest.approx(np.std(draws, ddof=1), abs=1e-9)


@pytest.mark.parametrize("metric", METRICS)
def test_exchanging_the_encoders_changes_signs_only(metric):
    y, folds, a, b = drawn(5, metric, better=1.0)
    one, other = (bootstrap((y, folds, *pair), metric) for pair in ((a, b), (b, a)))
    assert one.difference == pytest.approx(-other.difference)
    assert (one.ci_low, one.ci_high) == pytest.approx((-other.ci_high, -other.ci_low))
    assert one.p == other.p
    assert (one.a_low, one.b_high) == pytest.approx((other.b_low, other.a_high))


@pytest.mark.parametrize("metric", ["pearson_r", "auroc"])
def test_scale_and_place_of_predictions_do_not_matter(metric):
    y, folds, a, b = drawn(6, metric)
    one = bootstrap((y, folds, a, b), metric)
    other = bootstrap((y, folds, 1e4 + 3 * a, b), metric)
    assert (one.ci_low, one.p) == pytest.approx((other.ci_low, other.p), abs=1e-7)


def test_an_encoder_does_not_differ_from_itself():
    y, folds, a, _ = drawn(7, "pearson_r")
    found = bootstrap((y, folds, a, a), "pearson_r")
    assert (found.difference, found.ci_low, found.ci_high, found.p) == (0, 0, 0, 1)


def test_repeats_of_the_same_predictions_buy_no_precision():
    y, folds, a, b = drawn(8, "pearson_r", n=100)
    few = bootstrap((y, folds[[0, 0]], a[[0, 0]], b[[0, 0]]), "pearson_r")
    many = bootstrap((y, folds[[0] * 9], a[[0] * 9], b[[0] * 9]), "pearson_r")
    assert few.standard_error == pytest.approx(many.standard_error)


def test_a_patients_tiles_are_drawn_together():
    """Every patient five times over is no more than every patient once."""
    y, folds, a, b = drawn(9, "pearson_r")
    patients = np.tile([f"p{i:02}" for i in range(N)], 5)
    tiled = (np.tile(y, 5), *(np.tile(x, (1, 5)) for x in (folds, a, b)))
    one = bootstrap((y, folds, a, b), "pearson_r")
    other = bootstrap(tiled, "pearson_r", patients=patients)
    assert other.n_patients == N
    assert other.standard_error == pytest.approx(one.standard_error)
    assert bootstrap(tiled, "pearson_r").standard_error < one.standard_error / 1.8


def test_patients_without_a_value_are_left_out():
    y, folds, a, b = drawn(10, "pearson_r")
    known = np.arange(N) % 4 > 0
    some = y.copy()
    some[~known] = np.nan
    there = np.where(known, folds, -1)
    found = bootstrap((some, there, np.where(known, a, np.nan), b), "pearson_r")
    expected = bootstrap((y[known], folds[:, known], a[:, known], b[:, known]), "pearson_r")
    assert found == expected
    assert found.n_patients == 45


def test_predictions_that_do_not_vary_score_zero_as_in_a_study():
    y, folds, a, b = drawn(11, "pearson_r")
    found = bootstrap((y, folds, np.full_like(a, 1 / 3), b), "pearson_r")
    assert found.mean_a == 0
    tested = folds[0] == 0
    assert split_scores(y[tested][:, None], np.full((tested.sum(), 1), 1 / 3))[0, 0] == 0


def test_on_one_fixed_prediction_it_agrees_with_delong():
    y, _, a, b = drawn(12, "auroc", n=400, better=0.5)
    a, b = a[[0, 0]], b[[0, 0]]
    found = bootstrap((y, np.zeros((2, 400), dtype=int), a, b), "auroc", n_draws=4000)
    expected = delong_test(y, a[0], b[0])
    assert found.difference == pytest.approx(expected.difference, abs=1e-12)
    width = (expected.ci_high - expected.ci_low) / (2 * stats.norm.ppf(0.975))
    assert found.standard_error == pytest.approx(width, rel=0.06)


@pytest.mark.slow
def test_where_nothing_is_trained_the_interval_covers_and_p_is_uniform():
    p, covered = [], []
    for seed in range(300):
        found = bootstrap(drawn(seed, "pearson_r", n=100), "pearson_r")
        p.append(found.p)
        covered.append(found.ci_low <= 0 <= found.ci_high)
    assert 0.02 <= np.mean(np.array(p) < 0.05) <= 0.09
    assert 0.42 <= np.mean(np.array(p) < 0.5) <= 0.58
    assert 0.91 <= np.mean(covered) <= 0.98


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metric": "r_squared"}, "metric 'r_squared' is unknown"),
        ({"n_draws": 100}, "at least 200 draws, got 100"),
        ({"confidence": 95}, "between 0 and 1"),
        ({"patients": np.arange(N) % 19}, "19 patients, expected at least 20"),
        ({"metric": "auroc"}, "status of 0 or 1"),
    ],
)
def test_what_breaks_the_assumptions_is_refused(change, message):
    options = {"metric": "pearson_r", "seed": 1, **change}
    with pytest.raises(CohortError, match=message):
        bootstrap_difference(*drawn(1, "pearson_r"), **options)


def test_one_repeat_other_rows_and_gaps_are_refused():
    y, folds, a, b = drawn(1, "pearson_r")
    uneven = folds.copy()
    uneven[0, 0] = -1
    with pytest.raises(CohortError, match=r"1 repeat\(s\), expected at least 2"):
        bootstrap((y, folds[:1], a[:1], b[:1]), "pearson_r")
    with pytest.raises(CohortError, match="one prediction a repeat and row"):
        bootstrap((y, folds, a, b[:, :-1]), "pearson_r")
    with pytest.raises(CohortError, match="in some repeats only"):
        bootstrap((y, uneven, a, b), "pearson_r")
    with pytest.raises(CohortError, match="no value or no prediction"):
        bootstrap((y, folds, np.where(y > 1, np.nan, a), b), "pearson_r")
    with pytest.raises(CohortError, match="undefined in every split"):
        bootstrap((np.ones(N), folds, a, b), "auroc")
