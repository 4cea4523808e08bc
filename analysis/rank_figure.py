"""The critical difference diagram: average ranks of encoders, and which cannot be told apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis.figure_style import BLUE, GREY, INK, new_figure
from featurestore.errors import CohortError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


def rank_figure(ranks: pd.DataFrame) -> Figure:
    """Average ranks on one axis, with bars over encoders within one critical difference.

    Parameters
    ----------
    ranks : DataFrame
        Columns of :data:`analysis.critical_difference.RANK_COLUMNS`, of one metric.

    Raises
    ------
    CohortError
        There is no encoder.

    References
    ----------
    Demšar, JMLR 7:1-30, 2006, figure 1.
    """
    if ranks.empty:
        raise CohortError("there is no rank to draw")
    ordered = ranks.sort_values("mean_rank", kind="stable").reset_index(drop=True)
    values, n = ordered["mean_rank"].to_list(), len(ordered)
    width = float(ordered["critical_difference"].iloc[0])
    figure = new_figure(6.4, 1.2 + 0.38 * n)
    panel = figure.subplots()
    for place, (encoder, rank) in enumerate(zip(ordered["encoder"], values, strict=True)):
        panel.plot([rank, rank], [place, n - 0.3], color="#DDDDDD", linewidth=1, zorder=1)
        panel.plot(rank, place, "o", color=BLUE, zorder=3)
        panel.annotate(
            f"{encoder}  {rank:.2f}", (rank, place), xytext=(8, 0), textcoords="offset points",
            va="center", fontsize=9, color=INK,
        )  # fmt: skip
    runs = _runs(values, width)
    for row, (first, last) in enumerate(runs):
        # Below the encoders, where no name is struck through.
        panel.plot(
            [values[first] - 0.03, values[last] + 0.03],
            [n - 0.3 + 0.35 * row] * 2,
            color=GREY,
            linewidth=4,
            solid_capstyle="butt",
        )
    panel.plot([1, 1 + width], [-1.1, -1.1], color=INK, linewidth=2)
    panel.annotate(
        f"critical difference {width:.2f}", (1 + width, -1.1), xytext=(6, 0),
        textcoords="offset points", va="center", fontsize=8.5, color=INK,
    )  # fmt: skip
    panel.set(
        xlim=(0.8, n + 1.0),
        ylim=(n - 0.1 + 0.35 * len(runs), -1.6),
        xlabel="average rank (1 is the best)",
    )
    panel.set_yticks([])
    panel.spines[["top", "right", "left"]].set_visible(False)
    return figure


def _runs(values: list[float], width: float) -> list[tuple[int, int]]:
    """Longest runs of neighbours within one critical difference."""
    found: list[tuple[int, int]] = []
    for first in range(len(values)):
        last = max(i for i, value in enumerate(values) if value - values[first] < width)
        if last > first and (not found or last > found[-1][1]):
            found.append((first, last))
    return found
