"""What all figures share: colours, an empty figure on a canvas of its own, and the file it becomes.

Colours are Okabe and Ito's, which readers with any colour vision can tell apart.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, VERMILLION, GREY, INK = "#0072B2", "#D55E00", "#8A8A8A", "#222222"
PALETTE = (BLUE, VERMILLION, "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#F0E442", "#000000")


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, sizes in inches; nothing touches pyplot's global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1)  # inches
    figure = Figure(figsize=(width, height), layout=layout, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def png(figure: Figure, *, dpi: int = 160) -> bytes:
    """The figure as a PNG file, the same bytes for the same figure."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()


def svg(figure: Figure) -> bytes:
    """The figure as an SVG file, the same bytes for the same figure; letters are outlines."""
    import matplotlib as mpl

    buffer = io.BytesIO()
    # Names inside the file are drawn at random, and the date is written, unless told not to.
    with mpl.rc_context({"svg.hashsalt": "ffpe", "svg.fonttype": "path"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def plain(panel: Axes) -> None:
    """Take away what says nothing: two spines, and a grid that is stronger than the data."""
    panel.spines[["top", "right"]].set_visible(False)
    panel.grid(axis="x", color="#EEEEEE")
    panel.set_axisbelow(True)
