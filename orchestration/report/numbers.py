"""How numbers are written in a report: the same on the page, in LaTeX and in sentences."""

from __future__ import annotations

import math
from collections.abc import Callable

from orchestration.report.sections import Column, Row

_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_SHARES = {"accuracy", "balanced_accuracy", "recall", "majority_accuracy_at_5", "map_at_5"}
NONE = "–"

METRICS = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_auroc": "macro AUROC",
    "recall": "recall",
    "pearson_r": "Pearson's r",
    "r_squared": "R²",
    "auroc": "AUROC",
    "auprc": "average precision",
    "brier": "Brier score (less is better)",
    "majority_accuracy_at_5": "majority of the 5 nearest",
    "map_at_5": "mean average precision of the 5 nearest",
}


def minus(text: str) -> str:
    """With a minus sign instead of a hyphen."""
    return text.replace("-", "−")


def p_value(p: float | None) -> str:
    """A p-value with two significant digits; small ones as a power of ten."""
    if p is None or math.isnan(p):
        return NONE
    if p >= 0.001 or p == 0:
        return f"{p:.2g}"
    digits, exponent = f"{p:.1e}".split("e")
    return f"{digits} × 10{str(int(exponent)).translate(_RAISED)}"


def p_is(p: float) -> str:
    """A p-value in a sentence."""
    return f"p = {p_value(p)}".replace(" ", "\N{NO-BREAK SPACE}")


def score(value: float | None, metric: str) -> str:
    """A score: shares in per cent, correlations and the like with three decimals."""
    if value is None or math.isnan(value):
        return NONE
    return f"{100 * value:.2f} %" if metric in _SHARES else minus(f"{value:.3f}")


def difference(row: Row) -> str:
    """A difference with its 95 % interval, shares in percentage points."""
    scale, digits = (100, 2) if row["metric"] in _SHARES else (1, 3)
    middle, low, high = (
        minus(f"{scale * row[name]:+.{digits}f}") for name in ("difference", "ci_low", "ci_high")
    )
    return f"{middle} [{low}, {high}]"


def unit_of(metric: str) -> str:
    """Unit of a difference, with a space before it; nothing where it has none."""
    return " percentage points" if metric in _SHARES else ""


def count(n: int) -> str:
    """A whole number with thin spaces between thousands."""
    return f"{n:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def number_of(n: int, singular: str, plural: str | None = None) -> str:
    """A count with its noun."""
    return f"{count(n)} {singular if n == 1 else plural or singular + 's'}"


def text_column(heading: str, key: str, *, is_code: bool = False) -> Column:
    """A column that shows a text as it is, and a dash where there is none."""
    return Column(heading=heading, text=_plain(key), is_code=is_code)


def count_column(heading: str, key: str) -> Column:
    """A column of whole numbers."""
    return Column(heading=heading, text=lambda row: count(int(row[key])), is_number=True)


def p_column(heading: str, key: str) -> Column:
    """A column of p-values."""
    return Column(heading=heading, text=lambda row: p_value(row[key]), is_number=True)


def score_column(heading: str, key: str) -> Column:
    """A column of scores in the row's own metric."""
    return Column(heading=heading, text=lambda row: score(row[key], row["metric"]), is_number=True)


def metric_column() -> Column:
    """The metric of a row, as people call it."""
    return Column(
        heading="metric", text=lambda row: METRICS.get(str(row["metric"]), str(row["metric"]))
    )


def _plain(key: str) -> Callable[[Row], str]:
    def text(row: Row) -> str:
        value = row[key]
        missing = value is None or (isinstance(value, float) and math.isnan(value))
        return NONE if missing or value == "" else str(value)

    return text
