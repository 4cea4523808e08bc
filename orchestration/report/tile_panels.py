"""The report's panels of tiles: what the models of the best-predicted genes look at."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from analysis.gene_figures import METRIC_NAMES
from analysis.panel_figure import panel_figure
from featurestore.gene_panels import PANEL_TILE_COLUMNS, panel_tiles_frame, panels_frame
from orchestration.report.numbers import (
    count_column,
    minus,
    number_of,
    score,
    text_column,
)
from orchestration.report.sections import Column, Row, Table, TilePanel, TilePicture

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from sqlalchemy.orm import Session

    from featurestore.tables import Experiment

_WHAT = {"expression": "log₂(x + 1) expression", "mutation": "log odds of a mutation"}
_MODELS = {"expression": "ridge regression", "mutation": "logistic regression"}
_HEADINGS = {"high": "Taken for high", "low": "Taken for low"}


def tile_panels(session: Session, experiment: Experiment) -> list[TilePanel]:
    """The panels of an experiment, the best-predicted gene first; those without a tile left out."""
    tiles = panel_tiles_frame(session, experiment.experiment_id)
    return [
        _panel(experiment.task, number, row, tiles[tiles["target"] == row["target"]])
        for number, row in enumerate(_panels(session, experiment), 1)
        if (tiles["target"] == row["target"]).any()
    ]


def panel_sentences(session: Session, experiment: Experiment) -> tuple[str, ...]:
    """What has to be known to read the panels; nothing where none were made."""
    panels = _panels(session, experiment)
    if not panels:
        return ()
    task = experiment.task
    tested = "predictable (q < 0.05)" if task == "expression" else "above chance (not tested)"
    sentences = [
        f"Tiles for the {number_of(len(panels), 'gene')} that a network predicts best of those "
        f"{tested}, at most one a patient and side. The number below a tile is the {_WHAT[task]} "
        "that the model predicts of it alone. Its mean over all tiles of a patient is exactly the "
        f"model’s prediction for the patient: tiles are averaged, and {_MODELS[task]} is linear.",
        "These models are fitted on all patients: the tiles explain what was learned and are no "
        f"evidence that it is right. The {METRIC_NAMES[panels[0]['metric']]} beside a gene is the "
        "cross-validated one; genes were chosen by it after the fact, so it flatters.",
    ]
    lost = [row for row in panels if row["n_unreadable"]]
    if lost:
        named = ", ".join(f"{row['target']}: {row['n_unreadable']}" for row in lost)
        sentences.append(
            "More extreme tiles were passed over because their files were gone or changed when "
            f"the panels were made ({named}); the ledger of what was left out names them."
        )
    return tuple(sentences)


def panel_table(session: Session, experiment: Experiment) -> Table | None:
    """Which tiles the panels show, for the files."""
    tiles = panel_tiles_frame(session, experiment.experiment_id)
    if tiles.empty:
        return None
    return Table(
        name=f"{experiment.task}_tiles",
        caption="Tiles of the panels: where they lie, and what the model predicts of them alone.",
        frame=tiles[[name for name in PANEL_TILE_COLUMNS if name != "thumbnail"]],
        columns=(
            text_column("gene", "target"),
            text_column("encoder", "encoder"),
            text_column("side", "side"),
            count_column("rank", "rank"),
            Column(heading="score", text=lambda row: _score(row["score"]), is_number=True),
            text_column("patient", "patient_id"),
            text_column("slide", "slide", is_code=True),
            Column(heading="place in px", text=_place),
        ),
        n_shown=0,
    )


def _panels(session: Session, experiment: Experiment) -> Sequence[Row]:
    return panels_frame(session, experiment.experiment_id).to_dict(orient="records")


def _panel(task: str, number: int, row: Row, tiles: pd.DataFrame) -> TilePanel:
    metric = METRIC_NAMES[row["metric"]]
    measured = f"{metric} {score(row['mean_score'], row['metric'])}"
    sides = {
        f"{_HEADINGS[side]} ({_WHAT[task]})": tuple(
            _picture(tile) for tile in tiles[tiles["side"] == side].to_dict(orient="records")
        )
        for side in _HEADINGS
    }
    title = f"{row['target']}, {row['encoder']}: cross-validated {measured}"
    passed = (
        f" {number_of(row['n_unreadable'], 'more extreme tile')} could not be read again."
        if row["n_unreadable"]
        else ""
    )
    return TilePanel(
        name=f"{task}_tiles_{number}",
        title=title,
        caption=(
            f"Out of {number_of(row['n_tiles'], 'tile')}{_side_of(tiles)} of "
            f"{number_of(row['n_patients'], 'patient')}, whose mean prediction is "
            f"{_score(row['mean_prediction'])}.{passed}"
        ),
        sides=sides,
        drawing=panel_figure(
            title,
            {
                heading: [(_pixels(picture.jpeg), picture.score) for picture in pictures]
                for heading, pictures in sides.items()
            },
        ),
    )


def _side_of(tiles: pd.DataFrame) -> str:
    """How wide the tiles are, where that is known and the same of all."""
    widths = (tiles["width_px"] * tiles["mpp"].astype(float)).round(1).unique()
    return f" ({widths[0]:g} µm wide)" if len(widths) == 1 and widths[0] > 0 else ""


def _picture(tile: Row) -> TilePicture:
    where = f"patient {tile['patient_id']}"
    if tile["slide"] is not None:
        where += f", slide {tile['slide']} at {_place(tile)} px"
    return TilePicture(
        jpeg=bytes(tile["thumbnail"]),
        alt=f"Tile {tile['rank']} taken for {tile['side']}: {where}",
        score=_score(tile["score"]),
    )


def _place(tile: Row) -> str:
    return "–" if tile["x_px"] is None else f"({tile['x_px']:.0f}, {tile['y_px']:.0f})"


def _score(value: float) -> str:
    return minus(f"{value:.2f}")


def _pixels(jpeg: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(jpeg)) as image:
        return np.asarray(image.convert("RGB"))
