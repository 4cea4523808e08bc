"""Figures of a study: encoders compared, confusion matrices, the course of fine-tuning.

Every function returns a :class:`matplotlib.figure.Figure`; no figure says anything by colour
alone.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from analysis.figure_style import BLUE, GREY, INK, VERMILLION, new_figure, plain
from analysis.metrics import ALL
from featurestore.errors import CohortError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def comparison_figure(
    scores: pd.DataFrame,
    comparisons: pd.DataFrame,
    *,
    encoder_a: str | None = None,
    encoder_b: str | None = None,
) -> Figure:
    """Accuracy of every encoder, and the difference of two of them class by class.

    Parameters
    ----------
    scores : DataFrame
        As :attr:`analysis.tissue.TissueResult.scores`.
    comparisons : DataFrame
        As :func:`analysis.compare.compare_encoders` gives it.
    encoder_a, encoder_b : str, optional
        The pair of the right panel; by default the first pair of ``comparisons``.

    Returns
    -------
    Figure

    Raises
    ------
    CohortError
        There is no comparison of the pair.
    """
    if len(comparisons) and (encoder_a is None or encoder_b is None):
        encoder_a, encoder_b = comparisons.iloc[0][["encoder_a", "encoder_b"]]
    pair = comparisons.query("encoder_a == @encoder_a and encoder_b == @encoder_b")
    shown = pair.query("metric == 'accuracy' or metric == 'recall'")
    # Over all classes first, then class by class, however the rows came.
    shown = shown.sort_values(["target"], kind="stable")
    shown = shown.sort_values(["target"], key=lambda target: target != ALL, kind="stable")
    if shown.empty:
        raise CohortError(
            f"no comparison of {encoder_a} with {encoder_b}; a comparison needs two encoders"
        )
    accuracy = scores.query("target == @ALL and metric == 'accuracy'")
    n_rows = max(len(shown), accuracy["encoder"].nunique() + 1)
    figure = new_figure(10, 2.3 + 0.36 * n_rows)
    left, right = figure.subplots(1, 2, gridspec_kw={"width_ratios": [1, 1.15]})
    _draw_accuracy(left, accuracy)
    _draw_differences(right, shown)
    right.set_title(f"{encoder_b} minus {encoder_a}", loc="left", fontsize=12, color=INK)
    figure.supxlabel(_caption(shown), x=0.01, ha="left", fontsize=9.5, color=INK)
    return figure


def confusion_figure(counts: Mapping[str, NDArray[np.integer]], classes: Sequence[str]) -> Figure:
    """Confusion matrices of several encoders side by side, as shares of the true class.

    Parameters
    ----------
    counts : mapping of str to ndarray of shape (n_classes, n_classes)
        By encoder, rows the true class; see :func:`analysis.metrics.confusion_counts`.
    classes : sequence of str
        Names of the classes.

    Returns
    -------
    Figure
    """
    n_columns = min(len(counts), 2 if len(counts) == 4 else 3)
    n_rows = -(-len(counts) // n_columns)
    side = 1.0 + 0.36 * max(len(classes), 5)
    figure = new_figure(max(side * n_columns, 4.2), (side + 0.35) * n_rows + 0.4)
    panels = figure.subplots(n_rows, n_columns, squeeze=False)
    for i, panel in enumerate(panels.flat):
        if i >= len(counts):
            panel.set_axis_off()
            continue
        encoder = list(counts)[i]
        _draw_confusion(panel, counts[encoder], classes, named=i % n_columns == 0)
        panel.set_title(encoder, fontsize=12, color=INK)
    figure.supxlabel(
        "Rows: true class; columns: predicted class; numbers: per cent of the true class",
        fontsize=9.5,
        color=INK,
    )
    return figure


def training_figure(epochs: pd.DataFrame) -> Figure:
    """Loss and accuracy of fine-tuning, epoch by epoch through both steps.

    Parameters
    ----------
    epochs : DataFrame
        One row an epoch, with the columns ``step`` (1 or 2), ``epoch``, ``train_loss``,
        ``train_accuracy``, ``validation_loss`` and ``validation_accuracy``.

    Returns
    -------
    Figure
    """
    ordered = epochs.sort_values(["step", "epoch"], kind="stable")
    figure = new_figure(9, 3.4)
    x = np.arange(1, len(ordered) + 1)
    n_first = int((ordered["step"] == 1).sum())
    for panel, what, scale, label in zip(
        figure.subplots(1, 2),
        ("loss", "accuracy"),
        (1, 100),
        ("cross-entropy", "accuracy, %"),
        strict=True,
    ):
        for part, colour, style in (("train", GREY, "o--"), ("validation", BLUE, "s-")):
            values = ordered[f"{part}_{what}"].to_numpy(dtype=float) * scale
            name = {"train": "training tiles", "validation": "held-out tiles"}[part]
            panel.plot(x, values, style, color=colour, label=name, markersize=6, linewidth=1.8)
        _mark_steps(panel, n_first, len(ordered))
        panel.set_xlabel("epoch")
        panel.set_ylabel(label)
        panel.set_xlim(0.5, len(ordered) + 0.5)
        panel.set_xticks(x[:: max(1, len(x) // 10)])
        panel.margins(y=0.15)
        plain(panel)
        panel.legend(frameon=False, loc="best")
    return figure


def _draw_accuracy(panel: Axes, accuracy: pd.DataFrame) -> None:
    """One row an encoder: every split, their middle 95 %, and the mean."""
    encoders = accuracy["encoder"].unique().tolist()
    jitter = np.random.default_rng(0)  # of the drawing only
    for row, encoder in enumerate(encoders):
        values = 100 * accuracy.loc[accuracy["encoder"] == encoder, "value"].to_numpy(dtype=float)
        offsets = row + jitter.uniform(-0.16, 0.16, len(values))
        panel.plot(values, offsets, ".", color=BLUE, alpha=0.25, markersize=4, markeredgewidth=0)
        low, high = np.percentile(values, [2.5, 97.5])
        panel.hlines(row, low, high, color=BLUE, linewidth=2)
        panel.plot(values.mean(), row, "o", color=BLUE, markersize=8, markeredgecolor="white")
        panel.text(
            values.mean(), row - 0.2, f"{values.mean():.1f} %",
            ha="center", va="bottom", fontsize=11, color=INK, fontweight="bold",
        )  # fmt: skip
    panel.set_yticks(range(len(encoders)), encoders, fontsize=11)
    panel.set_ylim(len(encoders) - 0.6, -0.6)
    panel.set_xlabel("accuracy, %")
    panel.set_title("Tissue classification", loc="left", fontsize=12, color=INK)
    panel.margins(x=0.08)
    plain(panel)


def _draw_differences(panel: Axes, shown: pd.DataFrame) -> None:
    """One row a class, all classes together first: the difference and its interval."""
    panel.axvline(0, color=INK, linewidth=1)
    names = []
    for row, found in enumerate(shown.to_dict("records")):
        low, middle, high = (100 * found[key] for key in ("ci_low", "difference", "ci_high"))
        colour = BLUE if low > 0 else VERMILLION if high < 0 else GREY
        panel.hlines(row, low, high, color=colour, linewidth=2)
        marker = "D" if found["target"] == ALL else "o"
        fill = colour if low > 0 or high < 0 else "white"
        panel.plot(middle, row, marker, color=colour, markerfacecolor=fill, markersize=7)
        names.append("accuracy" if found["target"] == ALL else f"{found['target']} recall")
    panel.set_yticks(range(len(names)), names, fontsize=11)
    panel.get_yticklabels()[0].set_fontweight("bold")
    panel.axhline(0.5, color="#DDDDDD", linewidth=1)
    panel.set_ylim(len(names) - 0.4, -0.6)
    panel.set_xlabel("difference, percentage points")
    plain(panel)


def _caption(shown: pd.DataFrame) -> str:
    """What the marks are, and the answer with both p-values."""
    overall = shown.iloc[0]
    caption = (
        f"Left: dots are {overall['n_repeats']} × {overall['n_folds']} cross-validation splits, "
        "bars the middle 95 % of them, large dots their mean. Right: mean difference over the "
        "same splits; bars are 95 % confidence intervals of the corrected resampled t-test "
        "(Nadeau & Bengio 2003), filled where they exclude 0. "
        f"Accuracy {100 * overall['difference']:+.2f} points, corrected "
        f"{_p_value(overall['p_corrected'])} (naive {_p_value(overall['p_naive'])})."
    )
    if not overall["leakage_checked"]:
        caption += f" Not checked for leakage: {overall['leakage_note']}."
    return textwrap.fill(caption, 128)


def _p_value(p: float) -> str:
    if p == 0:
        return "p = 0"
    if p >= 0.001:
        return f"p = {p:.2g}"
    digits, exponent = f"{p:.1e}".split("e")
    raised = str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"p = {digits} × 10{raised}"


def _draw_confusion(
    panel: Axes, counts: NDArray[np.integer], classes: Sequence[str], *, named: bool
) -> None:
    totals = counts.sum(axis=1, keepdims=True)
    shares = 100 * counts / np.maximum(totals, 1)
    panel.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    for (row, column), share in np.ndenumerate(shares):
        if share > 0:
            panel.text(
                column, row, _percent(share), ha="center", va="center", fontsize=9,
                color="white" if share > 55 else INK,
            )  # fmt: skip
    panel.set_xticks(range(len(classes)), classes, rotation=90, fontsize=10)
    panel.set_yticks(range(len(classes)), classes if named else [""] * len(classes), fontsize=10)
    panel.tick_params(length=0)
    panel.spines[:].set_visible(False)


def _percent(share: float) -> str:
    """At most three characters, and never a 0 or a 100 that is not one."""
    if share < 1:
        return "<1"
    return ">99" if 99.5 <= share < 100 else f"{share:.0f}"


def _mark_steps(panel: Axes, n_first: int, n_epochs: int) -> None:
    """Name the two steps above the panel, with a line between them."""
    if 0 < n_first < n_epochs:
        panel.axvline(n_first + 0.5, color=GREY, linewidth=1, linestyle=":")
    spans = (("step 1\nhead", 1, n_first), ("step 2\nunfrozen part", n_first + 1, n_epochs))
    for name, first, last in spans:
        if first <= last:
            panel.text(
                (first + last) / 2, 1.02, name, transform=panel.get_xaxis_transform(),
                ha="center", va="bottom", fontsize=9.5, color=INK,
            )  # fmt: skip
