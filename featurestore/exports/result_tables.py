"""The tables of an export that hold results: those of the study's current experiments."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import ColumnElement, Integer, and_, cast

from featurestore.exports.tables import (
    INTEGER,
    NUMBER,
    NUMBERS,
    TEXT,
    TRUTH,
    ExportTable,
    table_of,
    with_statement,
)
from featurestore.tables import (
    BetterCount,
    Comparison,
    CvGenePrediction,
    CvPrediction,
    CvScore,
    Experiment,
    ExperimentEncoder,
    Predictability,
    Tile,
)


def result_tables(study: str) -> Iterator[ExportTable]:
    """Scores, comparisons and predictions of a study, tables that have no row included."""
    yield from (_scores(study), _comparisons(study), _tile_predictions(study))
    yield from (_gene_predictions(study), _predictable(study), _better(study))


def _of_encoder(model: Any) -> ColumnElement[bool]:
    return and_(
        ExperimentEncoder.experiment_id == model.experiment_id,
        ExperimentEncoder.model_version_id == model.model_version_id,
    )


def _results(table: ExportTable, study: str, model: Any, *order: Any) -> ExportTable:
    """Rows of the study's current experiments, with the encoder's name where they have one."""
    statement = table.statement.select_from(model).join(
        Experiment, Experiment.experiment_id == model.experiment_id
    )
    if hasattr(model, "model_version_id"):
        statement = statement.join(ExperimentEncoder, _of_encoder(model))
        order = (ExperimentEncoder.position, *order)
    statement = statement.where(Experiment.study == study, Experiment.is_current)
    return with_statement(table, statement.order_by(Experiment.task, *order))


def _scores(study: str) -> ExportTable:
    table = table_of(
        "scores",
        0,
        ("task", TEXT, Experiment.task),
        ("encoder", TEXT, ExperimentEncoder.encoder),
        ("target", TEXT, CvScore.target),
        ("metric", TEXT, CvScore.metric),
        ("repeat", INTEGER, CvScore.repeat),
        ("fold", INTEGER, CvScore.fold),
        ("value", NUMBER, CvScore.value),
        ("n_train", INTEGER, CvScore.n_train),
        ("n_test", INTEGER, CvScore.n_test),
    )
    order = (CvScore.target, CvScore.metric, CvScore.repeat, CvScore.fold)
    return _results(table, study, CvScore, *order)


def _comparisons(study: str) -> ExportTable:
    kinds = {"n_splits": INTEGER, "n_repeats": INTEGER, "n_folds": INTEGER}
    kinds |= dict.fromkeys(("leakage_checked",), TRUTH)
    texts = ("task", "target", "metric", "encoder_a", "encoder_b", "test", "leakage_note")
    kinds |= dict.fromkeys(texts, TEXT)
    names = [c.key for c in Comparison.__table__.columns if c.key != "experiment_id"]
    columns = [(name, kinds.get(name, NUMBER), getattr(Comparison, name)) for name in names]
    order = (Comparison.target, Comparison.metric, Comparison.encoder_a, Comparison.encoder_b)
    return _results(table_of("comparisons", 0, *columns), study, Comparison, *order)


def _class(index: Any) -> ColumnElement[Any]:
    # Classes are counted from 0, elements of an array of the database from 1.
    return Experiment.classes[cast(index, Integer) + 1]


def _tile_predictions(study: str) -> ExportTable:
    table = table_of(
        "tile_predictions",
        0,
        ("encoder", TEXT, ExperimentEncoder.encoder),
        ("tile_sha256", TEXT, Tile.sha256),
        ("repeat", INTEGER, CvPrediction.repeat),
        ("fold", INTEGER, CvPrediction.fold),
        ("observed", TEXT, _class(CvPrediction.observed)),
        ("predicted", TEXT, _class(CvPrediction.predicted)),
        ("probabilities", NUMBERS, CvPrediction.probabilities),
    )
    found = _results(table, study, CvPrediction, CvPrediction.repeat, CvPrediction.tile_id)
    return with_statement(table, found.statement.join(Tile, Tile.tile_id == CvPrediction.tile_id))


def _gene_predictions(study: str) -> ExportTable:
    table = table_of(
        "gene_predictions",
        0,
        ("task", TEXT, Experiment.task),
        ("encoder", TEXT, ExperimentEncoder.encoder),
        ("gene", TEXT, CvGenePrediction.target),
        ("patient_id", TEXT, CvGenePrediction.patient_id),
        ("observed", NUMBER, CvGenePrediction.observed),
        ("predicted", NUMBERS, CvGenePrediction.predicted),
        ("folds", NUMBERS, CvGenePrediction.folds),
    )
    order = (CvGenePrediction.target, CvGenePrediction.patient_id)
    return _results(table, study, CvGenePrediction, *order)


def _predictable(study: str) -> ExportTable:
    names = ("r", "null_mean", "null_sd", "p", "q")
    table = table_of(
        "predictability",
        0,
        ("task", TEXT, Experiment.task),
        ("encoder", TEXT, ExperimentEncoder.encoder),
        ("gene", TEXT, Predictability.target),
        *((name, NUMBER, getattr(Predictability, name)) for name in names),
        ("n_permutations", INTEGER, Predictability.n_permutations),
    )
    return _results(table, study, Predictability, Predictability.target)


def _better(study: str) -> ExportTable:
    names = ("null_median", "null_low", "null_high", "p_swap")
    table = table_of(
        "better_counts",
        0,
        ("task", TEXT, Experiment.task),
        ("encoder_a", TEXT, BetterCount.encoder_a),
        ("encoder_b", TEXT, BetterCount.encoder_b),
        ("genes", TEXT, BetterCount.genes),
        ("n_genes", INTEGER, BetterCount.n_genes),
        ("n_better_b", INTEGER, BetterCount.n_better_b),
        *((name, NUMBER, getattr(BetterCount, name)) for name in names),
    )
    order = (BetterCount.encoder_a, BetterCount.encoder_b, BetterCount.genes)
    return _results(table, study, BetterCount, *order)
