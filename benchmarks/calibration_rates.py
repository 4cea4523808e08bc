"""How often each test found a difference, from the rows that ``calibration.py`` keeps."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

TESTS = ("naive", "repeat_means", "corrected", "bootstrap", "delong", "jackknife")


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Share of p < 0.05 of every test, with its exact interval, by true difference and target."""
    lines = []
    for (points, target, metric), these in rows.groupby(["points", "target", "metric"], sort=False):
        line: dict[str, object] = {
            "points": points,
            "target": target,
            "metric": metric,
            "cohorts": len(these),
            "mean_a": round(these["mean_a"].mean(), 3),
            "difference": round(these["difference"].mean(), 4),
            "sd": round(these["difference"].std(), 4),
        }
        if "se_corrected" in these:
            line["se_corrected"] = round(np.sqrt(these["se_corrected"].pow(2).mean()), 4)
        for test in TESTS:
            p = these[f"p_{test}"].dropna() if f"p_{test}" in these else []
            line[test] = share(int((p < 0.05).sum()), len(p)) if len(p) else ""
        lines.append(line)
    return pd.DataFrame(lines)


def shifted(rows: pd.DataFrame) -> pd.DataFrame:
    """Share of equal encoders that would be told apart if B were better by so much.

    A first look at power that costs nothing: the null cohorts' differences, moved, against
    their own standard errors. ``--points`` draws encoders that do differ.
    """
    lines = []
    for (target, metric), these in rows[rows["points"] == 0].groupby(
        ["target", "metric"], sort=False
    ):
        if "se_corrected" in these:
            test, error, df = "corrected", these["se_corrected"], 5 * these["n_repeats"] - 1
        else:
            variance = these["variance_tested"] + these["variance_pairs"] / 2
            test, error, df = "jackknife", np.sqrt(variance), np.inf
        line: dict[str, object] = {"target": target, "metric": metric, "test": test}
        for gain in (0.01, 0.02, 0.05, 0.1):
            found = (these["difference"] + gain).abs() > stats.t.ppf(0.975, df) * error
            line[f"+{gain}"] = share(int(found.sum()), len(these))
        lines.append(line)
    return pd.DataFrame(lines)


def share(n_found: int, n: int) -> str:
    """A share with its exact 95 % interval (Clopper & Pearson 1934)."""
    low, high = stats.binomtest(n_found, n).proportion_ci()
    return f"{n_found / n:.3f} ({low:.3f}-{high:.3f})"
