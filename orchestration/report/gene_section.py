"""The report's sections on expression and mutation of genes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from analysis.gene_figures import METRIC_NAMES, paired_figure, volcano_figure
from analysis.patients import METRIC_OF_TASK
from analysis.reliability_figure import reliability, reliability_figure
from analysis.roc_figure import RocBand, roc_band, roc_curve, roc_figure
from featurestore.gene_results import better_counts_frame, predictable_counts
from featurestore.prediction_frames import gene_predictions_frame
from orchestration.report.comparison_tables import (
    comparison_table,
    counts_table,
    first_pair,
    predictable_table,
)
from orchestration.report.published import SENTENCES
from orchestration.report.sections import Figure, Section, Table
from orchestration.report.tile_panels import panel_sentences, panel_table, tile_panels
from orchestration.report.tissue_section import leakage_warnings
from orchestration.results_view import significance_sentences, tests_in_words

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray
    from sqlalchemy.orm import Session

    from featurestore.tables import Experiment

_TITLES = {"expression": "Gene expression", "mutation": "Gene mutation"}
_N_SHOWN = 25
_N_ROC = 4


def gene_section(
    session: Session, experiment: Experiment, comparisons: pd.DataFrame
) -> Section | None:
    """One task on genes: how many are better, gene by gene, and curves of the best predicted."""
    task = experiment.task
    rows = comparisons[comparisons["task"] == task].reset_index(drop=True)
    if rows.empty:
        return None
    pair = first_pair(rows)
    genes = pair[pair["metric"] == METRIC_OF_TASK[task]]
    genes = genes.sort_values(["p", "target"], kind="stable").reset_index(drop=True)
    figures = _gene_figures(task, genes) if len(genes) else []
    if task == "mutation" and len(genes):
        figures += _probability_figures(session, experiment, genes)
    return Section(
        key=task,
        title=_TITLES[task],
        sentences=tuple(
            f"{sentence[0].upper()}{sentence[1:]}."
            for sentence in significance_sentences(task, rows)
        ),
        warnings=leakage_warnings(rows),
        published=SENTENCES[task],
        figures=tuple(figures),
        tables=tuple(_tables(session, experiment, rows, genes)),
        panels=tuple(tile_panels(session, experiment)),
        panels_told=panel_sentences(session, experiment),
    )


def _tables(
    session: Session, experiment: Experiment, rows: pd.DataFrame, genes: pd.DataFrame
) -> list[Table]:
    task, found = experiment.task, []
    better = better_counts_frame(session, experiment.study)
    better = better[better["task"] == task]
    if len(better):
        # In the order of the study's encoders, which comparisons have.
        pairs = rows[["encoder_a", "encoder_b"]].drop_duplicates()
        better = pairs.merge(better, on=["encoder_a", "encoder_b"])[list(better.columns)]
        found.append(counts_table(task, better))
    predictable = predictable_counts(session, experiment.study)
    predictable = predictable[predictable["task"] == task]
    if len(predictable):
        found.append(predictable_table(task, predictable))
    if len(genes):
        caption = (
            f"{METRIC_NAMES[METRIC_OF_TASK[task]]} of each gene, mean within test folds; the genes "
            "surest to differ first."
        )
        if len(genes) > _N_SHOWN:
            caption += f" The first {_N_SHOWN} of {len(genes)} genes; all are in the files."
        found.append(comparison_table(f"{task}_genes", caption, genes, by="gene", n_shown=_N_SHOWN))
    others = rows[rows["metric"] != METRIC_OF_TASK[task]].reset_index(drop=True)
    if len(others):
        caption = "Other metrics of each gene and pair of encoders."
        table = comparison_table(f"{task}_other_metrics", caption, others, by="gene", n_shown=0)
        found.append(table)
    tiles = panel_table(session, experiment)
    return found if tiles is None else [*found, tiles]


def _gene_figures(task: str, genes: pd.DataFrame) -> list[Figure]:
    marks = (
        "Up-pointing marks: better with the second encoder; filled: q < 0.05, corrected for "
        "patients that splits share and over genes; the surest are named."
    )
    return [
        Figure(
            name=f"{task}_volcano",
            title="How much better, and how surely, gene by gene",
            caption=(
                "Mean difference within test folds against the p-value of the "
                f"{tests_in_words(genes)}. {marks}"
            ),
            drawing=volcano_figure(genes),
        ),
        Figure(
            name=f"{task}_paired",
            title="The two encoders gene by gene",
            caption=(
                "Mean score within test folds; the full line is equality, dotted lines are "
                f"chance. {marks}"
            ),
            drawing=paired_figure(genes),
        ),
    ]


def _probability_figures(
    session: Session, experiment: Experiment, genes: pd.DataFrame
) -> list[Figure]:
    encoders = [str(genes["encoder_a"].iloc[0]), str(genes["encoder_b"].iloc[0])]
    found = {
        encoder: gene_predictions_frame(session, experiment.experiment_id, encoder)
        for encoder in encoders
    }
    figures = []
    best = genes[["mean_a", "mean_b"]].max(axis=1).sort_values(ascending=False, kind="stable")
    panels = {}
    for gene in genes.loc[best.index, "target"].head(_N_ROC):
        bands = {name: _gene_band(frame[frame["target"] == gene]) for name, frame in found.items()}
        drawn = {name: band for name, band in bands.items() if band is not None}
        if drawn:
            panels[str(gene)] = drawn
    if panels:
        figures.append(
            Figure(
                name="mutation_roc",
                title="ROC of the best-predicted genes",
                caption=(
                    "Mean over the repeats of curves from pooled out-of-fold probabilities, of the "
                    f"{len(panels)} genes of highest mean AUROC with either encoder (chosen after "
                    "the fact, so they flatter). Bands hold the middle 95 % of the repeats: they "
                    "show what the dealing of folds does, not what other patients would."
                ),
                drawing=roc_figure(panels),
            )
        )
    curves = {
        name: reliability(*_flat(frame), seed=experiment.seed)
        for name, frame in found.items()
        if len(frame)
    }
    if curves:
        figures.append(
            Figure(
                name="mutation_calibration",
                title="Calibration of the mutation probabilities",
                caption=(
                    "All genes and repeats in ten bins of equally many out-of-fold predictions: "
                    "their mean probability against the share of mutated. Bars are 95 % bootstrap "
                    "intervals over patients; the line is perfect calibration."
                ),
                drawing=reliability_figure(curves, what="mutated"),
            )
        )
    return figures


def _gene_band(rows: pd.DataFrame) -> RocBand | None:
    mutated = rows["observed"].to_numpy(dtype=float) > 0.5
    if not 0 < mutated.sum() < len(mutated):
        return None
    predicted = np.array(rows["predicted"].tolist(), dtype=float)
    return roc_band([roc_curve(mutated, column) for column in predicted.T])


def _flat(
    rows: pd.DataFrame,
) -> tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.bool_]]:
    """Patients, probabilities and outcomes, one a gene, patient and repeat."""
    predicted = np.array(rows["predicted"].tolist(), dtype=float)
    _, patients = np.unique(rows["patient_id"].to_numpy(dtype=str), return_inverse=True)
    n_repeats = predicted.shape[1]
    mutated = rows["observed"].to_numpy(dtype=float) > 0.5
    return np.repeat(patients, n_repeats), predicted.ravel(), np.repeat(mutated, n_repeats)
