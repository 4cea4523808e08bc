"""The report's section on tissue classification, and the one on search."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from analysis.figures import comparison_figure, confusion_figure
from analysis.reliability_figure import Reliability, reliability, reliability_figure
from analysis.roc_figure import RocBand, roc_band, roc_curve, roc_figure
from featurestore.prediction_frames import tile_patients, tile_probabilities
from featurestore.pretraining import MARK
from featurestore.report_frames import encoder_scores_frame
from featurestore.result_frames import confusion_counts, scores_frame
from orchestration.report.comparison_tables import comparison_table, first_pair
from orchestration.report.numbers import (
    count_column,
    metric_column,
    score,
    score_column,
    text_column,
)
from orchestration.report.published import SENTENCES
from orchestration.report.sections import Column, Figure, Section, Table
from orchestration.results_view import colour_warnings

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray
    from sqlalchemy.orm import Session

    from featurestore.tables import Experiment

_ORDER = ["accuracy", "balanced_accuracy", "macro_auroc"]


def tissue_section(
    session: Session, experiment: Experiment, comparisons: pd.DataFrame
) -> Section | None:
    """Tissue classification: comparison, recalls, confusion, ROC and calibration."""
    rows = comparisons[comparisons["task"] == "tissue"].reset_index(drop=True)
    scores = encoder_scores_frame(session, experiment.study)
    scores = scores[scores["task"] == "tissue"].reset_index(drop=True)
    if rows.empty and scores.empty:
        return None
    tables = [_scores_table("tissue", scores)] if len(scores) else []
    if len(rows):
        tables = [*_comparison_tables(rows), *tables]
    return Section(
        key="tissue",
        title="Tissue classification",
        warnings=tuple(colour_warnings(rows)) + leakage_warnings(rows),
        published=SENTENCES["tissue"],
        figures=tuple(_figures(session, experiment, rows)),
        tables=tuple(tables),
    )


def retrieval_section(comparisons: pd.DataFrame) -> Section | None:
    """Encoders compared as search engines."""
    rows = comparisons[comparisons["task"] == "retrieval"].reset_index(drop=True)
    if rows.empty:
        return None
    caption = "Encoders compared as search engines: what the nearest tiles of a tile are."
    table = comparison_table("retrieval", caption, rows, by="metric")
    return Section(
        key="retrieval", title="Search", warnings=leakage_warnings(rows), tables=(table,)
    )


def leakage_warnings(rows: pd.DataFrame) -> tuple[str, ...]:
    """What could not be checked for leakage and why, and encoders that were trained on TCGA."""
    checked = rows["leakage_checked"].astype(bool)
    unchecked = rows.loc[~checked, "leakage_note"].unique()
    marked = [note for note in rows.loc[checked, "leakage_note"].unique() if MARK in note]
    return (*(f"not checked for leakage: {note}" for note in unchecked if note), *marked)


def _comparison_tables(rows: pd.DataFrame) -> list[Table]:
    overall = rows[rows["target"] == "all"]
    rank = {metric: position for position, metric in enumerate(_ORDER)}
    overall = overall.sort_values(
        "metric", key=lambda metric: metric.map(rank).fillna(len(rank)), kind="stable"
    )
    found = []
    if len(overall):
        caption = (
            "All classes together. Difference of the means over identical splits with the 95 % "
            "interval of the corrected resampled t-test."
        )
        found.append(
            comparison_table("tissue", caption, overall.reset_index(drop=True), by="metric")
        )
    pair = first_pair(rows)
    recall = pair[(pair["target"] != "all") & (pair["metric"] == "recall")]
    if len(recall):
        caption = "Recall of each class, of the first two encoders."
        found.append(
            comparison_table("tissue_recall", caption, recall.reset_index(drop=True), by="class")
        )
    return found


def _scores_table(task: str, scores: pd.DataFrame) -> Table:
    return Table(
        name=f"{task}_scores",
        caption=(
            "Scores of each encoder: mean and standard deviation over the splits. Splits share "
            "tiles, so this spread is no standard error of the mean."
        ),
        frame=scores,
        columns=(
            text_column("encoder", "encoder"),
            metric_column(),
            score_column("mean", "mean"),
            Column(
                heading="SD over splits",
                text=lambda row: score(row["sd"], row["metric"]),
                is_number=True,
            ),
            count_column("splits", "n_splits"),
            count_column("not converged", "n_not_converged"),
        ),
    )


def _figures(session: Session, experiment: Experiment, rows: pd.DataFrame) -> list[Figure]:
    found = []
    experiment_id = experiment.experiment_id
    if len(rows[rows["metric"].isin(["accuracy", "recall"])]):
        found.append(
            Figure(
                name="tissue_comparison",
                title="Accuracy of each encoder, and what the second adds to the first",
                caption=(
                    "Left bars hold the middle 95 % of the splits; right bars are 95 % confidence "
                    "intervals of the mean difference, of the corrected resampled t-test."
                ),
                drawing=comparison_figure(scores_frame(session, experiment_id), rows),
            )
        )
    counts = confusion_counts(session, experiment_id)
    classes = experiment.classes or []
    if counts:
        found.append(
            Figure(
                name="tissue_confusion",
                title="Confusion matrices",
                caption=(
                    "Out-of-fold predictions of all repeats; each row sums to 100 % of the tiles "
                    "of its true class."
                ),
                drawing=confusion_figure(counts, classes),
            )
        )
    shown = list(counts)[:2]
    bands, curves = _from_probabilities(session, experiment, shown)
    if bands:
        found.append(
            Figure(
                name="tissue_roc",
                title="ROC, one class against the rest",
                caption=(
                    "Mean over the classes, then over the repeats, of curves from pooled "
                    "out-of-fold probabilities. Bands hold the middle 95 % of the repeats: they "
                    "show what the dealing of folds does, not what other patients would."
                ),
                drawing=roc_figure({"mean of all classes": bands}),
            )
        )
        found.append(
            Figure(
                name="tissue_calibration",
                title="Calibration of the class that is predicted",
                caption=(
                    "Ten bins of equally many predictions: their mean probability against the "
                    "share that was right. Bars are 95 % bootstrap intervals over patients, or "
                    "over tiles where patients are not named; the line is perfect calibration."
                ),
                drawing=reliability_figure(curves, what="predicted class"),
            )
        )
    return found


def _from_probabilities(
    session: Session, experiment: Experiment, encoders: list[str]
) -> tuple[dict[str, RocBand], dict[str, Reliability]]:
    bands, curves = {}, {}
    of_tile = tile_patients(session, experiment.experiment_id)
    # A tile of no known patient stands for itself.
    owners = sorted({patient or f"tile {tile}" for tile, patient in of_tile.items()})
    number = {owner: position for position, owner in enumerate(owners)}
    for encoder in encoders:
        rocs, units, tops, right = [], [], [], []
        for ids, observed, p in tile_probabilities(session, experiment.experiment_id, encoder):
            rocs += _macro_roc(observed, p)
            names = [of_tile[tile] or f"tile {tile}" for tile in ids.tolist()]
            units.append(np.array([number[name] for name in names]))
            tops.append(p.max(axis=1))
            right.append(p.argmax(axis=1) == observed)
        if rocs:
            bands[encoder] = roc_band(rocs)
            curves[encoder] = reliability(
                np.concatenate(units),
                np.concatenate(tops),
                np.concatenate(right),
                seed=experiment.seed,
            )
    return bands, curves


def _macro_roc(
    observed: NDArray[np.int64], probabilities: NDArray[np.float32]
) -> list[NDArray[np.float64]]:
    """The mean curve of one repeat over the classes that have both sides; empty if none has."""
    curves = [
        roc_curve(observed == position, probabilities[:, position])
        for position in range(probabilities.shape[1])
        if 0 < (observed == position).sum() < len(observed)
    ]
    return [np.mean(curves, axis=0)] if curves else []
