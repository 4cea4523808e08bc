"""What random folds add, beside every comparison: on the terminal and in the report alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


def with_folds(comparisons: pd.DataFrame, folds: pd.DataFrame) -> pd.DataFrame:
    """Put each encoder's scores under both kinds of folds beside its comparisons.

    Parameters
    ----------
    comparisons : DataFrame
        As :func:`featurestore.result_frames.comparisons_frame` gives it.
    folds : DataFrame
        As :func:`featurestore.evidence.robustness_frame` gives ``folds``.

    Returns
    -------
    DataFrame
        The same rows with the columns ``kept`` (what the second kind of folds keeps whole),
        ``random_a``, ``kept_a``, ``random_b`` and ``kept_b``; NaN where they were not compared.
    """
    found = comparisons
    for side in "ab":
        key = ["task", f"encoder_{side}", "target", "metric"]
        names = {
            "encoder": f"encoder_{side}",
            "random_score": f"random_{side}",
            "kept_score": f"kept_{side}",
        }
        columns = [*key, f"random_{side}", f"kept_{side}", *(["kept"] if side == "a" else [])]
        found = found.merge(folds.rename(columns=names)[columns], on=key, how="left")
    return found


def has_folds(rows: pd.DataFrame) -> bool:
    """Whether any row was judged under both kinds of folds."""
    return "kept" in rows and bool(rows["kept"].notna().any())


def kept_whole(rows: pd.DataFrame) -> str:
    """What the second kind of folds keeps whole, as a plural."""
    return f"{rows['kept'].dropna().iloc[0]}s"


def own_are_random(rows: pd.DataFrame) -> bool:
    """Whether the study's own folds are the random ones, whose scores its means are."""
    known = rows[rows["kept"].notna()]
    return bool((known["mean_a"] - known["random_a"]).abs().max() < 1e-9)


def optimism(row: Any, side: str) -> float:
    """What random folds add to one encoder's score; NaN where that is not known."""
    return float(row[f"random_{side}"]) - float(row[f"kept_{side}"])
