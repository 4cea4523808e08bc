"""The figure of a gene's panel: tiles that a model takes for high above those it takes for low."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from analysis.figure_style import BLUE, INK, VERMILLION, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Sides are told by words and by the line's style; colour only helps.
_STYLES = ((VERMILLION, "-"), (BLUE, (0, (3, 2))))
# Inches: a tile, what is between two, what a row has above and below its tiles.
_TILE, _GAP, _HEAD, _FOOT, _MARGIN = 1.0, 0.12, 0.32, 0.3, 0.12


def panel_figure(
    title: str, sides: Mapping[str, Sequence[tuple[NDArray[np.uint8], str]]]
) -> Figure:
    """Draw two rows of tiles, each tile with its score below.

    Parameters
    ----------
    title : str
    sides : mapping of str to sequence of (pixels, str)
        High and low by their headings, the most extreme tile first: pixels of shape
        (px, px, 3), and the score.

    Returns
    -------
    Figure
    """
    n_columns = max(8, *map(len, sides.values()))
    width = 2 * _MARGIN + n_columns * (_TILE + _GAP) - _GAP
    row_height = _HEAD + _TILE + _FOOT
    height = 2 * _MARGIN + _HEAD + len(sides) * row_height
    figure = new_figure(width, height)
    # Everything has its place already: a layout that is sought could come out otherwise.
    figure.set_layout_engine("none")

    def write(text: str, top: float, size: float) -> None:
        plain = text.replace("$", r"\$")
        figure.text(_MARGIN / width, 1 - top / height, plain, va="top", fontsize=size, color=INK)

    write(title, _MARGIN, 10.5)
    for row, ((heading, tiles), (colour, line)) in enumerate(
        zip(sides.items(), _STYLES, strict=True)
    ):
        top = _MARGIN + _HEAD + row * row_height
        write(heading, top + 0.08, 9)
        for column, (pixels, score) in enumerate(tiles):
            left = _MARGIN + column * (_TILE + _GAP)
            bottom = height - top - _HEAD - _TILE
            panel = figure.add_axes((left / width, bottom / height, _TILE / width, _TILE / height))
            panel.imshow(pixels, interpolation="none")
            panel.set(xticks=[], yticks=[])
            panel.set_xlabel(score, fontsize=8.5, color=INK, labelpad=3)
            for spine in panel.spines.values():
                spine.set(edgecolor=colour, linestyle=line, linewidth=1.6)
    return figure
