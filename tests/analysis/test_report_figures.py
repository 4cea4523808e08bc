"""Curves and figures of a report: right where the answer is known, and the same every time."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from analysis.figure_style import svg
from analysis.gene_figures import paired_figure, volcano_figure
from analysis.reliability_figure import reliability, reliability_figure
from analysis.roc_figure import GRID, roc_band, roc_curve, roc_figure
from featurestore.errors import CohortError


def genes(n: int = 5) -> pd.DataFrame:
    difference = np.linspace(-0.2, 0.3, n)
    return pd.DataFrame(
        {
            "target": [f"G{number}$_1" for number in range(n)], "metric": "pearson_r",
            "encoder_a": "a", "encoder_b": "b", "mean_a": 0.2, "mean_b": 0.2 + difference,
            "difference": difference, "p": np.linspace(0.5, 0.0, n),
            "q": np.linspace(0.9, 0.0, n),
        }
    )  # fmt: skip


def test_a_perfect_a_reversed_and_an_empty_score() -> None:
    observed = np.array([True] * 5 + [False] * 5)
    assert (roc_curve(observed, observed.astype(float)) == 1).all()
    assert (roc_curve(observed, -observed.astype(float))[:-1] == 0).all()
    np.testing.assert_allclose(roc_curve(observed, np.zeros(10)), GRID)


@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 9)), min_size=4, max_size=60).filter(
        lambda rows: len({observed for observed, _ in rows}) == 2
    )
)
def test_the_area_under_a_curve_is_the_auroc(rows: list[tuple[bool, int]]) -> None:
    observed = np.array([row[0] for row in rows])
    scores = np.array([row[1] for row in rows], dtype=float)
    curve = roc_curve(observed, scores)
    assert (np.diff(curve) >= 0).all()
    # A grid of 201 points rounds each of at most 60 steps by less than half a cell.
    area = float(np.trapezoid(curve, GRID))
    assert area == pytest.approx(roc_auc_score(observed, scores), abs=0.006)


def test_a_band_holds_its_mean_and_one_class_is_refused() -> None:
    rng = np.random.default_rng(1)
    observed = rng.random(40) < 0.4
    band = roc_band([roc_curve(observed, rng.random(40)) for _ in range(20)])
    assert band.n_repeats == 20
    assert ((band.low <= band.mean) & (band.mean <= band.high)).all()
    with pytest.raises(CohortError, match="both classes, got 3 positive of 3"):
        roc_curve(np.ones(3, bool), np.arange(3.0))
    with pytest.raises(CohortError, match="no ROC curve"):
        roc_band([])


def test_calibrated_probabilities_are_on_the_line_and_others_are_not() -> None:
    rng = np.random.default_rng(2)
    p = rng.random(20_000)
    happened = rng.random(20_000) < p
    units = np.arange(20_000) % 4_000
    found = reliability(units, p, happened, seed=3)
    assert len(found.predicted) == 10
    assert (found.n_units, found.n_predictions) == (4_000, 20_000)
    np.testing.assert_allclose(found.observed, found.predicted, atol=0.04)
    assert ((found.low <= found.predicted) & (found.predicted <= found.high)).sum() >= 8
    sure = reliability(units, np.where(p > 0.5, 0.99, 0.01), happened, seed=3)
    assert len(sure.predicted) == 2
    assert (sure.high[0] < 0.3, sure.low[0] > 0.2) == (True, True)


def test_the_interval_counts_units_not_predictions() -> None:
    """A hundred predictions of each of twenty patients say no more than twenty patients."""
    rng = np.random.default_rng(4)
    outcome = rng.random(20) < 0.5
    p = rng.random(2_000)
    few = reliability(np.repeat(np.arange(20), 100), p, np.repeat(outcome, 100), seed=5)
    many = reliability(np.arange(2_000), p, np.repeat(outcome, 100), seed=5)
    assert ((few.high - few.low) > 1.5 * (many.high - many.low)).all()


def test_the_same_seed_gives_the_same_interval_and_nothing_is_refused() -> None:
    rng = np.random.default_rng(6)
    given = (np.arange(50), rng.random(50), rng.random(50) < 0.3)
    first, second = (reliability(*given, seed=7) for _ in range(2))
    np.testing.assert_array_equal(first.low, second.low)
    with pytest.raises(CohortError, match="got none"):
        reliability(np.array([], int), np.array([]), np.array([], bool), seed=1)


def test_figures_are_drawn_the_same_twice_whatever_the_names() -> None:
    band = roc_band([GRID, np.sqrt(GRID)])
    curve = reliability(np.arange(9), np.linspace(0, 1, 9), np.arange(9) > 4, seed=1)

    def draw() -> list[bytes]:
        return [
            svg(figure)
            for figure in (
                volcano_figure(genes()),
                paired_figure(genes()),
                paired_figure(genes(1)),
                roc_figure({"G$1": {"a": band, "b": band}, "x": {"a": band}, "y": {"a": band}}),
                reliability_figure({"a": curve}, what="mutated"),
            )
        ]

    first, second = draw(), draw()
    assert first == second
    assert all(b"dc:date" not in drawing for drawing in first)


def test_a_figure_of_genes_asks_one_question() -> None:
    two = pd.concat([genes(), genes().assign(metric="r_squared")])
    for figure in (volcano_figure, paired_figure):
        with pytest.raises(CohortError, match="one metric, got 2"):
            figure(two)
        with pytest.raises(CohortError, match="got 0"):
            figure(genes().head(0))
