"""The report's sections on the cohort, the guards and the maps of the feature spaces."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from analysis.map_figure import map_figure
from featurestore.cohort_frames import embedded_frame, evaluated_frame, inputs_frame, left_out_frame
from featurestore.gene_panels import PANEL_STAGE
from featurestore.guards import guards_frame
from featurestore.report_frames import maps_frame
from featurestore.tile_maps import map_frame
from orchestration.report.numbers import NONE, count, count_column, number_of, text_column
from orchestration.report.sections import Column, Figure, Row, Section, Step, Table

if TYPE_CHECKING:
    import pandas as pd
    from sqlalchemy.orm import Session

_READING = {"ingest", "tile", "import"}
_EMBEDDING = {"embed", "select"}
# What could not be shown was evaluated all the same.
_NO_LOSS = {PANEL_STAGE}
_TASKS = ("tissue", "expression", "mutation", "retrieval")
_N_REASONS = 6


def cohort_section(session: Session, study: str) -> Section:
    """How many came in, what was lost where and why, and how many were evaluated."""
    inputs = inputs_frame(session, study)
    lost = left_out_frame(session, study)
    table = Table(
        name="left_out",
        caption=(
            "What was left out, by stage and reason. The ledger keeps what was mended later, so "
            "that these numbers can exceed what is missing now."
        ),
        frame=lost,
        columns=(
            text_column("stage", "stage"),
            text_column("what", "kind"),
            count_column("items", "n_items"),
            text_column("why (of the example)", "reason"),
            text_column("example", "example", is_code=True),
        ),
    )
    return Section(
        key="cohort",
        title="Cohort",
        sentences=() if len(lost) else ("Nothing was left out.",),
        steps=(
            _read(inputs, _losses(lost, lambda stage: stage in _READING)),
            _embedded(
                embedded_frame(session, study), _losses(lost, lambda stage: stage in _EMBEDDING)
            ),
            _evaluated(
                evaluated_frame(session, study),
                _losses(lost, lambda stage: stage not in _READING | _EMBEDDING | _NO_LOSS),
            ),
        ),
        tables=(table,) if len(lost) else (),
    )


def guards_section(session: Session, study: str) -> Section | None:
    """What the guards against leakage found, passed and failed."""
    found = guards_frame(session, study)
    if found.empty:
        return None
    n_passed = int(found["passed"].eq(other=True).sum())
    n_failed = int(found["passed"].eq(other=False).sum())
    n_unknown = len(found) - n_passed - n_failed
    return Section(
        key="guards",
        title="Guards against leakage",
        sentences=(
            f"{n_passed} of {number_of(len(found), 'measurement')} are clean, {n_failed} found "
            f"something, {n_unknown} could not be made.",
        ),
        warnings=tuple(
            f"{row['guard']} ({row['target']}): {row['summary']}"
            for row in found.to_dict(orient="records")
            if row["passed"] is False
        ),
        tables=(
            Table(
                name="guards",
                caption="Every guard: what it looked at, and what it found last.",
                frame=found.drop(columns="created_at"),
                columns=(
                    Column(heading="", text=_verdict),
                    text_column("guard", "guard"),
                    Column(
                        heading="looked at",
                        text=lambda row: (
                            f"{row['target']} ({row['part']})" if row["part"] else row["target"]
                        ),
                    ),
                    Column(heading="measured", text=_measured, is_number=True),
                    text_column("what was found", "summary"),
                ),
            ),
        ),
    )


def maps_section(session: Session, study: str) -> Section | None:
    """The feature spaces, laid out: one figure a data set and encoder."""
    figures: list[Figure] = []
    for row in maps_frame(session, study).to_dict(orient="records"):
        points = map_frame(session, row["model_version_id"], row["dataset_id"])
        # Tiles of slides have no label; then the site says most.
        colour = "label" if points["label"].notna().any() else "site"
        figures.append(
            Figure(
                name=f"map_{row['asset']}_{len(figures) + 1}",
                title=f"{row['encoder']}: {row['dataset']}",
                caption=(
                    f"{count(len(points))} of {number_of(row['n_embedded'], 'embedded tile')}, "
                    f"coloured by {colour}; {row['method']}, seed {row['seed']}. Only nearness "
                    "means something, and a map is no evidence."
                ),
                drawing=map_figure(points, colour=colour),
            )
        )
    if not figures:
        return None
    return Section(key="maps", title="Feature spaces", figures=tuple(figures))


def _read(inputs: pd.DataFrame, losses: tuple[str, ...]) -> Step:
    counts = []
    for row in inputs.to_dict(orient="records"):
        parts = [number_of(row["n_tiles"], "tile")]
        parts += [number_of(row["n_slides"], "slide")] if row["n_slides"] else []
        parts += [number_of(row["n_patients"], "patient")] if row["n_patients"] else []
        parts += [number_of(row["n_labels"], "class", "classes")] if row["n_labels"] else []
        counts.append(f"{row['asset'].replace('_', ' ')}: {', '.join(parts)}")
    return Step("Read", tuple(counts), losses)


def _embedded(embedded: pd.DataFrame, losses: tuple[str, ...]) -> Step:
    counts = []
    for task in [task for task in _TASKS if (embedded["task"] == task).any()]:
        rows = embedded[embedded["task"] == task]
        shown = rows[["n_tiles", "n_embedded", "n_patients"]].drop_duplicates()
        for row in rows.to_dict(orient="records") if len(shown) > 1 else [rows.iloc[0].to_dict()]:
            who = row["encoder"] if len(shown) > 1 else "every encoder"
            pooled = f", {number_of(row['n_patients'], 'patient')}" if row["n_patients"] else ""
            counts.append(
                f"{task}, {who}: {count(row['n_embedded'])} of "
                f"{number_of(row['n_tiles'], 'tile')}{pooled}"
            )
    return Step("Embedded", tuple(counts), losses)


def _evaluated(evaluated: pd.DataFrame, losses: tuple[str, ...]) -> Step:
    counts = []
    for row in evaluated.to_dict(orient="records"):
        parts = [number_of(row["n_tiles"], "tile")] if row["n_tiles"] else []
        parts += [number_of(row["n_patients"], "patient")] if row["n_patients"] else []
        if row["task"] != "tissue":
            parts.append(number_of(row["n_targets"], "gene"))
        counts.append(f"{row['task']}: {', '.join(parts)}")
    return Step("Evaluated", tuple(counts), losses)


def _losses(lost: pd.DataFrame, is_here: Callable[[str], bool]) -> tuple[str, ...]:
    rows = [row for row in lost.to_dict(orient="records") if is_here(row["stage"])]
    sentences = [
        f"{number_of(row['n_items'], row['kind'] if row['kind'] != 'other' else 'item')}: "
        f"{row['reason'].partition(';')[0]}"
        for row in rows[:_N_REASONS]
    ]
    rest = len(rows) - _N_REASONS
    return (*sentences, *((f"{rest} more reasons in the table",) if rest > 0 else ()))


def _verdict(row: Row) -> str:
    if row["passed"] is None:
        return "not known"
    if row["passed"]:
        return "clean"
    return "blocks" if row["severity"] == "blocking" else "warning"


def _measured(row: Row) -> str:
    # A column of numbers has NaN where the database has NULL.
    if row["measured"] is None or math.isnan(row["measured"]):
        return NONE
    threshold = row["threshold"]
    limit = "" if threshold is None or math.isnan(threshold) else f" (limit {threshold:g})"
    return f"{row['measured']:.4g} {row['unit']}{limit}"
