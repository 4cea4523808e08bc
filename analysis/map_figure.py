"""The figure of a map: tiles by the likeness of their features, in the colour of their label."""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis.figure_style import GREY, PALETTE, new_figure

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

_MARKERS = "os^Dv"
_MANY = 2_000  # points, from which on an SVG holds them as a picture


def map_figure(points: pd.DataFrame, *, colour: str = "label") -> Figure:
    """Draw a map; every group has a colour and a marker of its own.

    Parameters
    ----------
    points : DataFrame
        As :func:`featurestore.tile_maps.map_frame` gives it.
    colour : str
        Column that groups the points.

    Returns
    -------
    Figure
        Groups beyond the 40 largest, and points of none, are grey.
    """
    figure = new_figure(6.4, 4.8)
    panel = figure.subplots()
    is_large = len(points) >= _MANY
    size = 4 if is_large else 14
    n_styles = len(PALETTE) * len(_MARKERS)
    named = points[colour].value_counts().index[:n_styles]
    rest = points[~points[colour].isin(named)]
    if len(rest):
        panel.scatter(
            rest["x"], rest["y"], s=size, c=GREY, linewidths=0, label="other",
            rasterized=is_large,
        )  # fmt: skip
    for number, name in enumerate(named):
        group = points[points[colour] == name]
        marker = _MARKERS[number // len(PALETTE)]
        shade = PALETTE[number % len(PALETTE)]
        panel.scatter(
            group["x"], group["y"], s=size, c=shade, marker=marker, linewidths=0, alpha=0.8,
            label=str(name), rasterized=is_large,
        )  # fmt: skip
    panel.set(xticks=[], yticks=[], xlabel="UMAP 1", ylabel="UMAP 2")
    if 0 < len(named) <= 20:
        panel.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure
