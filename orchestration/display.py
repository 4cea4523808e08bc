"""What listings look like in a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from orchestration.doctor import Finding
from orchestration.study import BASELINES

_SHARES = {"accuracy", "balanced_accuracy", "recall"}
# A baseline within two points of a network: the network has added next to nothing.
_AS_GOOD = 0.02
_METRIC_ORDER = ["accuracy", "balanced_accuracy", "macro_auroc"]


def comparison_table(comparisons: pd.DataFrame) -> RenderableType:
    """Comparisons over all classes, then those of the first pair a class.

    The corrected p-value stands first; the naive one beside it is the paper's.
    """
    overall = comparisons[comparisons["target"] == "all"].copy()
    rank = {metric: position for position, metric in enumerate(_METRIC_ORDER)}
    overall["_rank"] = overall["metric"].map(rank).fillna(len(rank))
    overall = overall.sort_values("_rank", kind="stable")
    parts: list[RenderableType] = [_comparisons("Encoders compared", overall, "metric")]
    first = comparisons.iloc[0]
    pair = (comparisons["encoder_a"] == first["encoder_a"]) & (
        comparisons["encoder_b"] == first["encoder_b"]
    )
    per_class = comparisons[pair & (comparisons["target"] != "all")]
    if not per_class.empty:
        title = f"Recall of each class: {first['encoder_a']} → {first['encoder_b']}"
        parts.append(_comparisons(title, per_class, "target"))
    parts += [Text(warning, style="bold yellow") for warning in colour_warnings(comparisons)]
    notes = [note for note in comparisons["leakage_note"].unique() if note]
    unchecked = not comparisons["leakage_checked"].all()
    parts += [Text(f"leakage_checked = {not unchecked}: {note}", style="dim") for note in notes]
    return Group(*parts)


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


def _comparisons(title: str, rows: pd.DataFrame, key: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column(key)
    for name in ("a", "b"):
        table.add_column(name)
    for name in ("mean a", "mean b", "difference", "95 % CI", "p corrected", "p naive", "splits"):
        table.add_column(name, justify="right")
    for row in rows.to_dict(orient="records"):
        scale, unit = (100, " %") if row["metric"] in _SHARES else (1, "")
        digits = 2 if scale == 100 else 4
        significant = row["p_corrected"] < 0.05
        table.add_row(
            str(row[key]),
            row["encoder_a"],
            row["encoder_b"],
            f"{scale * row['mean_a']:.{digits}f}{unit}",
            f"{scale * row['mean_b']:.{digits}f}{unit}",
            f"{scale * row['difference']:+.{digits}f}",
            f"{scale * row['ci_low']:+.{digits}f} … {scale * row['ci_high']:+.{digits}f}",
            Text(p_value(row["p_corrected"]), style="bold green" if significant else ""),
            Text(p_value(row["p_naive"]), style="dim"),
            str(row["n_splits"]),
        )
    return table


def p_value(p: float) -> str:
    """A p-value with two significant digits."""
    return f"{p:.2g}" if p >= 1e-4 else f"{p:.0e}"


def frame_table(frame: pd.DataFrame) -> Table:
    """Any small frame as a table."""
    table = Table(*map(str, frame.columns))
    for row in frame.itertuples(index=False):
        table.add_row(*[Text(str(value)) for value in row])
    return table


def status_view(found: Mapping[str, Any]) -> RenderableType:
    """The database, the services and the studies, as :mod:`orchestration.status` found them."""
    place = Table.grid(padding=(0, 2))
    for name, value in found["database"].items():
        place.add_row(f"database {name}", Text(str(value)))
    services = found["services"]
    place.add_row("interface", Text(services["url"] if services else "not up (`ffpe up STUDY`)"))
    if services:
        for process in services["processes"]:
            state = "running" if process["alive"] else "ended"
            place.add_row(process["role"], f"{state}, pid {process['pid']}")
    return Group(place, frame_table(pd.DataFrame(found["studies"])))


def doctor_table(findings: Sequence[Finding]) -> Table:
    """Findings, one a row, with what to do about what is missing."""
    table = Table("", "what", "found", "what to do")
    for finding in findings:
        mark = Text("ok", style="green") if finding.ok else Text("missing", style="bold red")
        table.add_row(mark, finding.what, Text(finding.found), Text(finding.to_do))
    return table
