"""What results look like in a terminal: the paper's three tables, and its sentences."""

from __future__ import annotations

from typing import Any

import pandas as pd
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from analysis.patients import METRIC_OF_TASK
from orchestration.fold_columns import has_folds, kept_whole, optimism
from orchestration.study_sections import BASELINES, CLINICAL

_SHARES = {"accuracy", "balanced_accuracy", "recall", "majority_accuracy_at_5", "map_at_5"}
_METRIC_ORDER = ["accuracy", "balanced_accuracy", "macro_auroc"]
# A baseline within two points of a network: the network has added next to nothing.
_AS_GOOD = 0.02
_N_GENES = 15
_SHOWN_AS = {"majority_accuracy_at_5": "majority vote at 5", "map_at_5": "mAP@5"}


def results_view(
    comparisons: pd.DataFrame, better: pd.DataFrame, predictable: pd.DataFrame
) -> RenderableType:
    """Everything that a study shows: tissue first, then search, expression and mutation.

    Parameters
    ----------
    comparisons : DataFrame
        As :func:`featurestore.result_frames.comparisons_frame` gives it.
    better, predictable : DataFrame
        As :mod:`featurestore.gene_results` gives them; empty for a study without genes.
    """
    parts: list[RenderableType] = []
    tissue = comparisons[comparisons["task"] == "tissue"]
    if not tissue.empty:
        parts.append(tissue_view(tissue))
    retrieval = comparisons[comparisons["task"] == "retrieval"]
    if not retrieval.empty:
        title = "Encoders compared as search engines"
        parts += [
            Text(""),
            _comparisons(title, retrieval.sort_values("metric", kind="stable"), "metric"),
        ]
    for task in METRIC_OF_TASK:
        rows = comparisons[comparisons["task"] == task]
        if not rows.empty:
            of_task = [frame[frame["task"] == task] for frame in (better, predictable)]
            parts.append(gene_view(task, rows, *of_task))
    return Group(*parts)


def tissue_view(comparisons: pd.DataFrame) -> RenderableType:
    """Comparisons over all classes, then those of the first pair a class.

    The reported p-value stands first; the naive one beside it is the paper's.
    """
    overall = comparisons[comparisons["target"] == "all"].copy()
    rank = {metric: position for position, metric in enumerate(_METRIC_ORDER)}
    overall["_rank"] = overall["metric"].map(rank).fillna(len(rank))
    overall = overall.sort_values("_rank", kind="stable")
    parts: list[RenderableType] = [_comparisons("Encoders compared", overall, "metric")]
    first = comparisons.iloc[0]
    per_class = comparisons[_is_pair(comparisons, first) & (comparisons["target"] != "all")]
    if not per_class.empty:
        title = f"Recall of each class: {first['encoder_a']} → {first['encoder_b']}"
        parts.append(_comparisons(title, per_class, "target"))
    parts += [Text(warning, style="bold yellow") for warning in colour_warnings(comparisons)]
    return Group(*parts, *_leakage_notes(comparisons))


def gene_view(
    task: str, comparisons: pd.DataFrame, better: pd.DataFrame, predictable: pd.DataFrame
) -> RenderableType:
    """The sentences of a task on genes, and the genes that differ most between the first pair."""
    first = comparisons.iloc[0]
    shown = comparisons[_is_pair(comparisons, first)]
    shown = shown[shown["metric"] == METRIC_OF_TASK[task]].sort_values("p", kind="stable")
    metric = METRIC_OF_TASK[task]
    title = f"{task.capitalize()}: {first['encoder_a']} → {first['encoder_b']}, {metric}"
    if len(shown) > _N_GENES:
        title += f" (the {_N_GENES} of {len(shown)} genes that differ most)"
    return Group(
        Text(""),
        *map(Text, gene_sentences(task, better, predictable)),
        *map(Text, significance_sentences(task, comparisons)),
        _comparisons(title, shown.head(_N_GENES), "target"),
        *_leakage_notes(comparisons),
    )


def gene_sentences(task: str, better: pd.DataFrame, predictable: pd.DataFrame) -> list[str]:
    """The paper's sentences, each with what chance would give."""
    sentences = [
        f"{task}: {row['n_predictable']} of {row['n_genes']} genes are predictable with "
        f"{row['encoder']} (q < 0.05; {row['n_uncorrected']} at p < 0.05 uncorrected, where chance "
        f"gives {0.05 * row['n_genes']:.0f})"
        for row in predictable.to_dict(orient="records")
    ]
    sentences += [
        f"{task}: of {row['n_genes']} {'predictable ' if row['genes'] == 'predictable' else ''}"
        f"genes, {row['n_better_b']} better with {row['encoder_b']} than with {row['encoder_a']} "
        f"(if nothing were there: {row['null_median']:.0f}, 95 % from {row['null_low']:.0f} to "
        f"{row['null_high']:.0f}; p = {p_value(row['p_swap'])})"
        for row in better.to_dict(orient="records")
        if row["encoder_b"] not in {*BASELINES, CLINICAL}
    ]
    return sentences


def significance_sentences(task: str, comparisons: pd.DataFrame) -> list[str]:
    """How many genes differ by the corrected test, and by the one that papers use."""
    rows = comparisons[
        (comparisons["metric"] == METRIC_OF_TASK[task])
        & ~comparisons["encoder_b"].isin([*BASELINES, CLINICAL])
    ]
    sentences = []
    for (a, b), pair in rows.groupby(["encoder_a", "encoder_b"], sort=False):
        better = pair["difference"] > 0
        found, naive = pair["q"] < 0.05, pair["p_naive"] < 0.05
        sentences.append(
            f"{task}: by the {tests_in_words(pair)} (q < 0.05) {(found & better).sum()} genes are "
            f"better with {b} and {(found & ~better).sum()} with {a}; the naive test "
            f"(p < 0.05) would say {(naive & better).sum()} and {(naive & ~better).sum()}"
        )
    return sentences


def tests_in_words(comparisons: pd.DataFrame) -> str:
    """The tests that rows report, as a person would say them."""
    names = {"corrected_t": "corrected t-test", "jackknife": "jackknife"}
    return " or ".join(names[test] for test in sorted(comparisons["test"].unique(), reverse=True))


def colour_warnings(comparisons: pd.DataFrame) -> list[str]:
    """What to say where colour alone does about as well as a network, or better.

    The labels may then follow the stain or the scanner rather than the tissue.
    """
    rows = comparisons[
        (comparisons["target"] == "all")
        & (comparisons["metric"] == "accuracy")
        & ~comparisons["encoder_a"].isin(BASELINES)
        & comparisons["encoder_b"].isin(BASELINES)
        & (comparisons["difference"] > -_AS_GOOD)
    ]
    return [
        f"colour alone does as well as {row['encoder_a']}: {row['encoder_b']} reaches "
        f"{100 * row['mean_b']:.1f} % against {100 * row['mean_a']:.1f} %; these labels may follow "
        "stain or scanner"
        for row in rows.to_dict(orient="records")
    ]


def p_value(p: float) -> str:
    """A p-value with two significant digits."""
    return f"{p:.2g}" if p >= 1e-4 else f"{p:.0e}"


def _is_pair(comparisons: pd.DataFrame, first: pd.Series[Any]) -> pd.Series[bool]:
    same_a: pd.Series[bool] = comparisons["encoder_a"] == first["encoder_a"]
    same_b: pd.Series[bool] = comparisons["encoder_b"] == first["encoder_b"]
    return same_a & same_b


def _leakage_notes(comparisons: pd.DataFrame) -> list[Text]:
    checked = bool(comparisons["leakage_checked"].all())
    notes = [note for note in comparisons["leakage_note"].unique() if note]
    return [Text(f"leakage_checked = {checked}: {note}", style="dim") for note in notes]


def _comparisons(title: str, rows: pd.DataFrame, key: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    for name in (key, "a", "b"):
        table.add_column(name)
    has_q = rows["q"].notna().any()
    numbers = ["mean a", "mean b", "difference", "95 % CI", f"p, {tests_in_words(rows)}"]
    extra = [f"optimism of a, b (whole {kept_whole(rows)})"] if has_folds(rows) else []
    for name in [*numbers, *(["q"] if has_q else []), "p naive", "splits", *extra]:
        table.add_column(name, justify="right")
    for row in rows.to_dict(orient="records"):
        scale, unit = (100, " %") if row["metric"] in _SHARES else (1, "")
        digits = 2 if scale == 100 else 4
        decisive = row["q"] if has_q else row["p"]
        style = "bold green" if decisive < 0.05 else ""
        table.add_row(
            _SHOWN_AS.get(str(row[key]), str(row[key])),
            row["encoder_a"],
            row["encoder_b"],
            f"{scale * row['mean_a']:.{digits}f}{unit}",
            f"{scale * row['mean_b']:.{digits}f}{unit}",
            f"{scale * row['difference']:+.{digits}f}",
            f"{scale * row['ci_low']:+.{digits}f} … {scale * row['ci_high']:+.{digits}f}",
            Text(p_value(row["p"]), style="" if has_q else style),
            *([Text(p_value(row["q"]), style=style)] if has_q else []),
            Text(p_value(row["p_naive"]), style="dim"),
            str(row["n_splits"]),
            *(
                ["  ".join(f"{scale * optimism(row, side):+.{digits}f}" for side in "ab")]
                if extra
                else []
            ),
        )
    return table
