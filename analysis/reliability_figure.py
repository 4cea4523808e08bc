"""Calibration: of patients (or tiles) given a probability, to how many did it happen?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from analysis.figure_style import INK, PALETTE, new_figure, plain
from featurestore.errors import CohortError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

N_BINS = 10
N_DRAWS = 1_000
_MARKERS = "osD^v"


@dataclass(frozen=True)
class Reliability:
    """Observed shares by bins of predicted probability.

    Attributes
    ----------
    predicted, observed, low, high : ndarray of shape (n_bins,)
        Mean probability of a bin, the share to which it happened, and the 95 % interval of
        a bootstrap over units.
    n_units, n_predictions : int
    """

    predicted: NDArray[np.float64]
    observed: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    n_units: int
    n_predictions: int


def reliability(
    units: NDArray[np.integer],
    probabilities: NDArray[np.floating],
    happened: NDArray[np.bool_],
    *,
    seed: int,
    n_bins: int = N_BINS,
) -> Reliability:
    """Put predictions into bins of about equal number, and ask how often each came true.

    Predictions of one unit (a patient in several genes and repeats) are not independent, so
    the interval comes from drawing whole units with replacement.

    Parameters
    ----------
    units : ndarray of shape (n,)
        Which patient (or tile) each prediction is of, as whole numbers from 0.
    probabilities : ndarray of shape (n,)
    happened : ndarray of shape (n,), bool
    seed : int
        Seed of the bootstrap.
    n_bins : int

    Returns
    -------
    Reliability
        Fewer bins where probabilities are often the same.

    Raises
    ------
    CohortError
        There is no prediction.
    """
    if len(probabilities) == 0:
        raise CohortError("calibration needs predictions, got none")
    p = probabilities.astype(np.float64)
    inner = np.unique(np.quantile(p, np.linspace(0, 1, n_bins + 1)[1:-1]))
    bins = np.searchsorted(inner, p, side="right")
    _, bins = np.unique(bins, return_inverse=True)
    n_kept, n_units = int(bins.max()) + 1, int(units.max()) + 1
    cell = units.astype(np.intp) * n_kept + bins
    size = n_units * n_kept
    n = np.bincount(cell, minlength=size).reshape(n_units, n_kept)
    n_true = np.bincount(cell, weights=happened, minlength=size).reshape(n_units, n_kept)
    summed = np.bincount(bins, weights=p, minlength=n_kept)
    draws = np.random.default_rng(seed).multinomial(
        n_units, np.full(n_units, 1 / n_units), size=N_DRAWS
    )
    with np.errstate(invalid="ignore"):
        shares = (draws @ n_true) / (draws @ n)
    low, high = np.nanpercentile(shares, [2.5, 97.5], axis=0)
    total = n.sum(axis=0)
    return Reliability(
        predicted=summed / total,
        observed=n_true.sum(axis=0) / total,
        low=low,
        high=high,
        n_units=n_units,
        n_predictions=len(p),
    )


def reliability_figure(found: Mapping[str, Reliability], *, what: str) -> Figure:
    """Draw observed shares against predicted probabilities, with the identity line.

    Parameters
    ----------
    found : mapping of str to Reliability
        By encoder.
    what : str
        What was predicted, for the axes.
    """
    figure = new_figure(5.0, 4.8)
    panel = figure.subplots()
    panel.plot([0, 1], [0, 1], color=INK, linewidth=1)
    highest = 0.0
    for number, (encoder, curve) in enumerate(found.items()):
        colour = PALETTE[number % len(PALETTE)]
        # Side by side, so that one encoder's bars do not hide another's.
        x = curve.predicted + 0.004 * (number - (len(found) - 1) / 2)
        panel.vlines(x, curve.low, curve.high, color=colour, linewidth=1.5)
        panel.plot(
            x, curve.observed, _MARKERS[number % len(_MARKERS)], color=colour, markersize=6,
            markeredgecolor="white", linestyle="-", linewidth=1, label=encoder,
        )  # fmt: skip
        highest = max(highest, float(curve.high.max()), float(curve.predicted.max()))
    limit = min(1.02, 1.06 * highest) or 1.02
    panel.set(xlim=(-0.01, limit), ylim=(-0.01, limit), aspect="equal")
    panel.set_xlabel(f"predicted probability, {what}")
    panel.set_ylabel("observed share")
    panel.legend(frameon=False, fontsize=9, loc="upper left")
    plain(panel)
    return figure
