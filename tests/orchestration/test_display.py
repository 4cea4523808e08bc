"""What a terminal shows: numbers that can be trusted at a glance, and the warning about colour."""

from __future__ import annotations

import pandas as pd
import pytest
from rich.console import Console

from orchestration.results_view import (
    colour_warnings,
    gene_sentences,
    p_value,
    results_view,
    significance_sentences,
)


def row(**changes: object) -> dict[str, object]:
    return {
        "task": "tissue", "target": "all", "metric": "accuracy", "encoder_a": "net",
        "encoder_b": "colour-histogram", "mean_a": 0.96, "mean_b": 0.82, "difference": -0.14,
        "ci_low": -0.2, "ci_high": -0.08, "p_naive": 1e-30, "p_corrected": 1e-5,
        "test": "corrected_t", "p": 1e-5, "q": None, "p_holm": 1e-5,
        "n_splits": 250, "n_repeats": 50, "n_folds": 5, "leakage_checked": False,
        "leakage_note": "no tile carries a patient",
    } | changes  # fmt: skip


def shown(*rows: dict[str, object]) -> str:
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: PTH123, SIM115
    console.print(results_view(pd.DataFrame(rows), pd.DataFrame(), pd.DataFrame()))
    console.file.close()
    return console.export_text()


def test_shares_are_per_cent_and_both_p_values_stand_side_by_side() -> None:
    text = shown(row())
    for part in ("96.00 %", "82.00 %", "-14.00", "-20.00 … -8.00", "1e-05", "1e-30", "250"):
        assert part in text
    assert "leakage_checked = False: no tile carries a patient" in text


def test_colour_that_does_as_well_as_a_network_is_said_so() -> None:
    assert colour_warnings(pd.DataFrame([row()])) == []
    as_good = row(mean_b=0.985, difference=0.025)
    (warning,) = colour_warnings(pd.DataFrame([as_good]))
    assert "colour-histogram reaches 98.5 % against 96.0 %" in warning
    assert warning in " ".join(shown(as_good).split())


def test_a_network_that_does_as_well_as_another_is_no_warning() -> None:
    assert colour_warnings(pd.DataFrame([row(encoder_b="ftx", difference=0.02)])) == []


@pytest.mark.parametrize(
    ("p", "text"), [(0.5, "0.5"), (0.0423, "0.042"), (0.0001, "0.0001"), (2.2e-6, "2e-06")]
)
def test_p_values_keep_two_digits(p: float, text: str) -> None:
    assert p_value(p) == text


def test_sentences_say_what_chance_would_give() -> None:
    better = pd.DataFrame(
        [
            {
                "task": "expression", "encoder_a": "imgnet", "encoder_b": "ftx",
                "genes": "predictable", "n_genes": 171, "n_better_b": 139, "null_median": 85.0,
                "null_low": 70.0, "null_high": 101.0, "p_swap": 0.002,
            }
        ]
    )  # fmt: skip
    predictable = pd.DataFrame(
        [
            {
                "task": "expression", "encoder": "ftx", "n_genes": 498, "n_predictable": 150,
                "n_uncorrected": 171,
            }
        ]
    )  # fmt: skip
    first, second = gene_sentences("expression", better, predictable)
    assert "150 of 498 genes are predictable with ftx" in first
    assert "171 at p < 0.05 uncorrected, where chance gives 25" in first
    assert "of 171 predictable genes, 139 better with ftx than with imgnet" in second
    assert "if nothing were there: 85, 95 % from 70 to 101; p = 0.002" in second


def test_the_naive_test_is_counted_beside_the_corrected_one() -> None:
    rows = [
        row(metric="pearson_r", target=gene, encoder_a="imgnet", encoder_b="ftx", difference=d,
            q=q, p_naive=p)
        for gene, d, q, p in [("A", 0.1, 0.01, 1e-9), ("B", 0.1, 0.3, 1e-4), ("C", -0.1, 0.4, 0.01)]
    ]  # fmt: skip
    (sentence,) = significance_sentences("expression", pd.DataFrame(rows))
    assert "1 genes are better with ftx and 0 with imgnet" in sentence
    assert "would say 2 and 1" in sentence
