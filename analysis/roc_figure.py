"""ROC curves over the repeats of a cross-validation: their mean, and how far they spread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from analysis.figure_style import GREY, INK, PALETTE, new_figure, plain
from featurestore.errors import CohortError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GRID = np.linspace(0, 1, 201)
"""False-positive rates at which curves are averaged."""

_STYLES = ("-", "--", "-.", ":")


@dataclass(frozen=True)
class RocBand:
    """Mean ROC curve of several repeats on :data:`GRID`, and the middle 95 % of the repeats.

    Attributes
    ----------
    mean, low, high : ndarray of shape (201,)
        True-positive rates.
    n_repeats : int
    """

    mean: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    n_repeats: int


def roc_curve(observed: NDArray[np.bool_], scores: NDArray[np.floating]) -> NDArray[np.float64]:
    """True-positive rates on :data:`GRID`, where the curve steps up its upper end.

    Equal scores are one step of the curve, so ties are a slanted line, as the Mann-Whitney
    statistic counts them.

    Raises
    ------
    CohortError
        Only one class was observed.
    """
    n_positive = int(observed.sum())
    if n_positive in {0, len(observed)}:
        raise CohortError(
            f"a ROC curve needs both classes, got {n_positive} positive of {len(observed)}"
        )
    order = np.argsort(-scores, kind="stable")
    ranked, hits = scores[order], observed[order]
    last_of_ties = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
    tpr = np.concatenate([[0.0], np.cumsum(hits)[last_of_ties] / n_positive])
    fpr = np.concatenate([[0.0], np.cumsum(~hits)[last_of_ties] / (len(observed) - n_positive)])
    curve: NDArray[np.float64] = np.interp(GRID, fpr, tpr)
    return curve


def roc_band(curves: Sequence[NDArray[np.float64]]) -> RocBand:
    """Mean and middle 95 % of the curves of several repeats."""
    if not curves:
        raise CohortError("no repeat has both classes, so there is no ROC curve")
    stacked = np.stack(curves)
    low, high = np.percentile(stacked, [2.5, 97.5], axis=0)
    return RocBand(stacked.mean(axis=0), low, high, len(curves))


def roc_figure(panels: Mapping[str, Mapping[str, RocBand]]) -> Figure:
    """Draw ROC curves with bands, a panel a question and a curve an encoder.

    Parameters
    ----------
    panels : mapping of str to mapping of str to RocBand
        By title of the panel, then by encoder.

    Returns
    -------
    Figure
    """
    n_columns = min(len(panels), 2)
    n_rows = -(-len(panels) // n_columns)
    figure = new_figure(4.1 * n_columns + 0.3, 4.1 * n_rows)
    axes = figure.subplots(n_rows, n_columns, squeeze=False)
    for position, panel in enumerate(axes.flat):
        if position >= len(panels):
            panel.set_axis_off()
            continue
        title = list(panels)[position]
        panel.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=":")
        for number, (encoder, band) in enumerate(panels[title].items()):
            colour = PALETTE[number % len(PALETTE)]
            panel.fill_between(GRID, band.low, band.high, color=colour, alpha=0.18, linewidth=0)
            panel.plot(
                GRID, band.mean, _STYLES[number % len(_STYLES)], color=colour, linewidth=1.8,
                label=encoder,
            )  # fmt: skip
        panel.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
        panel.set_title(title.replace("$", r"\$"), loc="left", fontsize=11, color=INK)
        panel.set_xlabel("false-positive rate")
        panel.set_ylabel("true-positive rate")
        panel.legend(frameon=False, fontsize=8.5, loc="lower right")
        plain(panel)
    return figure
