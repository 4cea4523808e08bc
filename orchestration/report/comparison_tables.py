"""Tables of comparisons: effects with intervals first, both p-values, published numbers last."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from orchestration.fold_columns import has_folds, kept_whole, optimism, own_are_random
from orchestration.report.numbers import (
    NONE,
    count,
    count_column,
    difference,
    metric_column,
    minus,
    number_of,
    p_column,
    score,
    score_column,
    text_column,
)
from orchestration.report.published import HEADING, published_count, published_value
from orchestration.report.sections import Column, Row, Table
from orchestration.results_view import tests_in_words

if TYPE_CHECKING:
    import pandas as pd

_METRIC = metric_column()
_INTERVAL = "[95\N{NO-BREAK SPACE}%\N{NO-BREAK SPACE}CI]"
NAIVE = "naive p (as published papers report)"


def first_pair(comparisons: pd.DataFrame) -> pd.DataFrame:
    """The rows of the first two encoders of the study."""
    first = comparisons.iloc[0]
    is_pair = (comparisons["encoder_a"] == first["encoder_a"]) & (
        comparisons["encoder_b"] == first["encoder_b"]
    )
    rows: pd.DataFrame = comparisons[is_pair].reset_index(drop=True)
    return rows


def comparison_table(
    name: str, caption: str, rows: pd.DataFrame, *, by: str, n_shown: int | None = None
) -> Table:
    """A table of comparisons, one row a metric, class or gene (``by``) and pair of encoders."""
    columns = [_METRIC if by == "metric" else text_column(by, "target")]
    if by != "metric" and rows["metric"].nunique() > 1:
        columns.append(_METRIC)
    if len(rows[["encoder_a", "encoder_b"]].drop_duplicates()) > 1:
        columns += [text_column("A", "encoder_a"), text_column("B", "encoder_b")]
        names = ("A", "B")
    else:
        names = (str(rows["encoder_a"].iloc[0]), str(rows["encoder_b"].iloc[0]))
    columns += [
        Column(heading=f"{names[1]} − {names[0]} {_INTERVAL}", text=difference, is_number=True),
        score_column(names[0], "mean_a"),
        score_column(names[1], "mean_b"),
        p_column(f"p, {tests_in_words(rows)}", "p"),
    ]
    if rows["q"].notna().any():
        columns.append(p_column("q over genes", "q"))
    columns.append(p_column(NAIVE, "p_naive"))
    if has_folds(rows):
        is_one_pair = names != ("A", "B")
        columns += (
            [_folds(rows, names[0], "a"), _folds(rows, names[1], "b")]
            if is_one_pair
            else [_optimisms(rows)]
        )
    columns += _published(rows, published_value)
    return Table(name=name, caption=caption, frame=rows, columns=tuple(columns), n_shown=n_shown)


def _optimisms(rows: pd.DataFrame) -> Column:
    """What random folds add to either encoder, where a row has no room for more."""
    return Column(
        heading=f"optimism A / B (whole {kept_whole(rows)})",
        text=lambda row: " / ".join(_signed(row, side) for side in "ab") if _known(row) else NONE,
        is_number=True,
    )


def _folds(rows: pd.DataFrame, name: str, side: str) -> Column:
    """One encoder under the folds that the study does not use, and what random folds add."""
    other = "kept" if own_are_random(rows) else "random"
    folds = f"whole {kept_whole(rows)}" if other == "kept" else "random folds"
    return Column(
        heading=f"{name}, {folds} (optimism)",
        text=lambda row: (
            f"{score(row[f'{other}_{side}'], row['metric'])} ({_signed(row, side)})"
            if _known(row)
            else NONE
        ),
        is_number=True,
    )


def _signed(row: Row, side: str) -> str:
    added = optimism(row, side)
    size = score(abs(added), row["metric"]).removesuffix(" %")
    return minus(f"{'-' if added < 0 else '+'}{size}")


def _known(row: Row) -> bool:
    return isinstance(row["kept"], str)


def _published(rows: pd.DataFrame, text: Callable[[Row], str]) -> list[Column]:
    """The column of published numbers, where the paper says something to any of the rows."""
    is_known = any(text(row) != NONE for row in rows.to_dict(orient="records"))
    return [Column(heading=HEADING, text=text)] if is_known else []


def counts_table(task: str, better: pd.DataFrame) -> Table:
    """Of how many genes each encoder is better, with what chance gives."""
    return Table(
        name=f"{task}_better_counts",
        caption=(
            "Genes that B predicts better than A. By chance: median and central 95 % when the two "
            "encoders' predictions are exchanged patient by patient, all genes of a patient at "
            "once."
        ),
        frame=better.reset_index(drop=True),
        columns=(
            text_column("A", "encoder_a"),
            text_column("B", "encoder_b"),
            text_column("genes", "genes"),
            Column(
                heading="better with B",
                text=lambda row: (
                    f"{count(row['n_better_b'])} of {number_of(row['n_genes'], 'gene')}"
                ),
                is_number=True,
            ),
            Column(
                heading="by chance [95 %]",
                text=lambda row: (
                    f"{row['null_median']:.0f} [{row['null_low']:.0f}, {row['null_high']:.0f}]"
                ),
                is_number=True,
            ),
            p_column("p, exchange of encoders", "p_swap"),
            *_published(better, published_count),
        ),
    )


def predictable_table(task: str, predictable: pd.DataFrame) -> Table:
    """How many genes each encoder predicts at all."""
    return Table(
        name=f"{task}_predictable_counts",
        caption=(
            "Genes that are predictable at all, by a permutation test of the whole procedure; "
            "q is corrected over an encoder's genes (Benjamini–Hochberg)."
        ),
        frame=predictable.reset_index(drop=True),
        columns=(
            text_column("encoder", "encoder"),
            count_column("genes", "n_genes"),
            count_column("q < 0.05", "n_predictable"),
            count_column("p < 0.05, uncorrected (as the paper counts)", "n_uncorrected"),
            Column(
                heading="by chance at p < 0.05",
                text=lambda row: f"{0.05 * row['n_genes']:.0f}",
                is_number=True,
            ),
        ),
    )
