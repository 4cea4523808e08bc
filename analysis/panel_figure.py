"""The figure of a gene's panel: tiles that a model takes for high above those it takes for low."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from analysis.figure_style import BLUE, INK, VERMILLION, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Sides are told by words and by the line's style; colour only helps.
_STYLES = ((VERMILLION, "-"), (BLUE, (0, (3, 2))))


def panel_figure(
    title: str, sides: Mapping[str, Sequence[tuple[NDArray[np.uint8], str]]]
) -> Figure:
    """Draw rows of tiles, each with its score below.

    Parameters
    ----------
    title : str
    sides : mapping of str to sequence of (pixels, str)
        By heading, the most extreme tile first: pixels of shape (px, px, 3), and the score.

    Returns
    -------
    Figure
    """
    n_columns = max(1, *map(len, sides.values()))
    figure = new_figure(1.15 * n_columns + 0.4, 1.6 * len(sides) + 0.4)
    figure.suptitle(_plain(title), x=0.012, ha="left", fontsize=11, color=INK)
    rows: Any = figure.subfigures(len(sides), 1, squeeze=False)
    for row, (heading, tiles), style in zip(
        rows[:, 0], sides.items(), _STYLES[: len(sides)], strict=True
    ):
        row.suptitle(_plain(heading), x=0.012, ha="left", fontsize=9, color=INK)
        for position, panel in enumerate(row.subplots(1, n_columns, squeeze=False)[0]):
            if position >= len(tiles):
                panel.set_axis_off()
                continue
            pixels, score = tiles[position]
            panel.imshow(pixels, interpolation="none")
            panel.set(xticks=[], yticks=[])
            panel.set_xlabel(score, fontsize=8.5, color=INK, labelpad=2)
            for spine in panel.spines.values():
                spine.set(edgecolor=style[0], linestyle=style[1], linewidth=1.6)
    return figure


def _plain(text: str) -> str:
    return text.replace("$", r"\$")
