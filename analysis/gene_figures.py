"""Figures of genes: how much better one encoder is gene by gene, and how sure that is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from analysis.figure_style import BLUE, GREY, INK, VERMILLION, new_figure, plain
from featurestore.errors import CohortError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

METRIC_NAMES = {"pearson_r": "Pearson's r", "auroc": "AUROC"}
_N_NAMED = 8
_LEAST_P = 1e-16  # below it a double's p-value says nothing but "tiny"


def volcano_figure(genes: pd.DataFrame) -> Figure:
    """Difference of two encoders against the reported p-value, a point a gene.

    Parameters
    ----------
    genes : DataFrame
        Rows of :data:`analysis.compare.COMPARISON_COLUMNS` of one pair and one metric.

    Returns
    -------
    Figure
        Genes with q < 0.05 are filled, and the surest are named.

    Raises
    ------
    CohortError
        There is no gene.
    """
    encoder_a, encoder_b, metric = _one_question(genes)
    figure = new_figure(5.4, 5.2)
    panel = figure.subplots()
    height = -np.log10(genes["p"].to_numpy(dtype=float).clip(min=_LEAST_P))
    _draw_genes(panel, genes, genes["difference"].to_numpy(dtype=float), height)
    panel.axvline(0, color=INK, linewidth=1)
    panel.axhline(-np.log10(0.05), color=GREY, linewidth=1, linestyle=":")
    panel.annotate(
        "p = 0.05", (1, -np.log10(0.05)), xycoords=("axes fraction", "data"),
        xytext=(3, 0), textcoords="offset points", va="center", fontsize=8.5, color=INK,
    )  # fmt: skip
    _name_surest(panel, genes, genes["difference"].to_numpy(dtype=float), height)
    widest = float(np.abs(genes["difference"]).max()) or 1.0
    panel.set_xlim(-1.15 * widest, 1.15 * widest)
    panel.set_ylim(bottom=0)
    panel.set_xlabel(f"difference of {METRIC_NAMES.get(metric, metric)}, {encoder_b} − {encoder_a}")
    panel.set_ylabel("−log₁₀ p, corrected for shared patients")
    _finish(panel, encoder_a, encoder_b, genes)
    return figure


def paired_figure(genes: pd.DataFrame) -> Figure:
    """Scores of two encoders against each other, a point a gene, with the identity line.

    Parameters and errors are those of :func:`volcano_figure`.
    """
    encoder_a, encoder_b, metric = _one_question(genes)
    figure = new_figure(5.4, 5.2)
    panel = figure.subplots()
    x, y = (genes[name].to_numpy(dtype=float) for name in ("mean_a", "mean_b"))
    low, high = min(x.min(), y.min()), max(x.max(), y.max())
    margin = 0.06 * ((high - low) or 1.0)
    limits = (low - margin, high + margin)
    panel.plot(limits, limits, color=INK, linewidth=1)
    chance = {"auroc": 0.5, "pearson_r": 0.0}.get(metric)
    if chance is not None and limits[0] < chance < limits[1]:
        panel.axvline(chance, color=GREY, linewidth=1, linestyle=":")
        panel.axhline(chance, color=GREY, linewidth=1, linestyle=":")
    _draw_genes(panel, genes, x, y)
    _name_surest(panel, genes, x, y)
    panel.set(xlim=limits, ylim=limits, aspect="equal")
    name = METRIC_NAMES.get(metric, metric)
    panel.set_xlabel(f"{name}, {encoder_a}")
    panel.set_ylabel(f"{name}, {encoder_b}")
    _finish(panel, encoder_a, encoder_b, genes)
    return figure


def _one_question(genes: pd.DataFrame) -> tuple[str, str, str]:
    asked = genes[["encoder_a", "encoder_b", "metric"]].drop_duplicates()
    if len(asked) != 1:
        raise CohortError(
            f"a figure of genes is of one pair of encoders and one metric, got {len(asked)}"
        )
    encoder_a, encoder_b, metric = asked.iloc[0]
    return str(encoder_a), str(encoder_b), str(metric)


def _is_sure(genes: pd.DataFrame) -> pd.Series[bool]:
    # Where there is one gene only there is nothing to correct for.
    decisive = genes["q"].astype(float).fillna(genes["p"])
    return decisive < 0.05


def _draw_genes(panel: Axes, genes: pd.DataFrame, x: np.ndarray, y: np.ndarray) -> None:
    """Triangles point up where the second encoder is better, down where the first is."""
    is_better = genes["difference"].to_numpy(dtype=float) > 0
    is_sure = _is_sure(genes).to_numpy(dtype=bool)
    for better, marker, colour in ((True, "^", BLUE), (False, "v", VERMILLION)):
        for sure in (False, True):
            chosen = (is_better == better) & (is_sure == sure)
            panel.plot(
                x[chosen], y[chosen], marker, color=colour, linestyle="none", markersize=6,
                markerfacecolor=colour if sure else "white", alpha=0.95 if sure else 0.6,
            )  # fmt: skip


def _name_surest(panel: Axes, genes: pd.DataFrame, x: np.ndarray, y: np.ndarray) -> None:
    surest = np.argsort(genes["p"].to_numpy(dtype=float), kind="stable")[:_N_NAMED]
    is_sure = _is_sure(genes).to_numpy(dtype=bool)
    for row in surest[is_sure[surest]]:
        panel.annotate(
            str(genes["target"].iloc[row]).replace("$", r"\$"), (x[row], y[row]), xytext=(6, 0),
            textcoords="offset points", va="center", fontsize=8, color=INK,
        )  # fmt: skip


def _finish(panel: Axes, encoder_a: str, encoder_b: str, genes: pd.DataFrame) -> None:
    from matplotlib.lines import Line2D

    better = genes["difference"].astype(float) > 0
    sure = _is_sure(genes)
    handles = [
        Line2D(
            [], [], marker=marker, color=colour, linestyle="none",
            markerfacecolor=colour if filled else "white", label=label,
        )
        for marker, colour, filled, label in (
            ("^", BLUE, False, f"better with {encoder_b}: {int(better.sum())} of {len(genes)}"),
            ("^", BLUE, True, f"    of them q < 0.05: {int((better & sure).sum())}"),
            ("v", VERMILLION, False, f"not better: {int((~better).sum())}"),
            ("v", VERMILLION, True, f"    of them q < 0.05: {int((~better & sure).sum())}"),
        )
    ]  # fmt: skip
    panel.legend(
        handles=handles, frameon=False, fontsize=8.5, loc="upper center", ncols=2,
        bbox_to_anchor=(0.5, -0.14),
    )  # fmt: skip
    plain(panel)
