"""The tables of an export: which rows and columns each file has.

Rows are read through a cursor of the server, so that no table is ever in memory as a whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Integer,
    Select,
    and_,
    cast,
    func,
    literal,
    select,
    type_coerce,
)
from sqlalchemy.orm import Session
from sqlalchemy.types import NullType, TypeEngine

from featurestore.exports.plan import ExportEncoder, ExportPlan, Genes
from featurestore.tables import (
    BetterCount,
    Comparison,
    CvGenePrediction,
    CvPrediction,
    CvScore,
    DatasetTile,
    Embedding,
    Experiment,
    ExperimentEncoder,
    Expression,
    Gene,
    ModelVersionRow,
    MolecularSource,
    Mutation,
    Patient,
    PatientFeature,
    Predictability,
    SequencedPatient,
    Slide,
    Tile,
)

# So much of a table is in memory at a time; it is also a Parquet row group.
_BATCH_BYTES = 8 << 20
_MOST_ROWS = 20_000
_AS_THE_DRIVER_HAS_IT: TypeEngine[Any] = NullType()

TEXT, INTEGER, NUMBER, TRUTH, VECTOR, NUMBERS = (
    "text",
    "integer",
    "number",
    "truth",
    "vector",
    "numbers",
)


@dataclass(frozen=True)
class ExportTable:
    """One file of an export.

    Attributes
    ----------
    name : str
        Path of the file within the export, without suffix.
    columns : tuple of (str, str)
        Name and kind of each column, in the order of the statement's.
    statement : Select
    dim : int
        Length of its vectors; 0 where it has none.
    """

    name: str
    columns: tuple[tuple[str, str], ...]
    statement: Select[Any]
    dim: int = 0

    def batches(self, session: Session) -> Iterator[Sequence[Any]]:
        """Its rows, some at a time."""
        n_rows = max(1, min(_MOST_ROWS, _BATCH_BYTES // (4 * max(1, self.dim))))
        result = session.execute(self.statement, execution_options={"yield_per": n_rows})
        yield from result.partitions()


def study_tables(session: Session, plan: ExportPlan) -> Iterator[ExportTable]:
    """The tables of a study, those that have no row included."""
    for encoder in plan.encoders:
        dim = session.get_one(ModelVersionRow, encoder.model_version_id).dim
        for name, dataset_id in encoder.datasets.items():
            yield _tiles(f"{name}/{encoder.name}", encoder, dataset_id, dim)
        if "slide_tiles" in encoder.datasets:
            yield patient_features(encoder, dim)
    if plan.expression is not None:
        yield _expression(plan.expression)
    if plan.mutation is not None:
        yield _mutation(plan.mutation)
    yield from (_scores(plan.study), _comparisons(plan.study), _tile_predictions(plan.study))
    yield from (_gene_predictions(plan.study), _predictable(plan.study), _better(plan.study))


def _table(name: str, dim: int, *columns: tuple[str, str, Any]) -> ExportTable:
    statement = select(*(expression.label(label) for label, _, expression in columns))
    return ExportTable(name, tuple((label, kind) for label, kind, _ in columns), statement, dim)


def _from(table: ExportTable, statement: Select[Any]) -> ExportTable:
    return ExportTable(table.name, table.columns, statement, table.dim)


def _tiles(name: str, encoder: ExportEncoder, dataset_id: int, dim: int) -> ExportTable:
    table = _table(
        name,
        dim,
        ("tile_sha256", TEXT, Tile.sha256),
        ("patient_id", TEXT, Tile.patient_id),
        ("path", TEXT, DatasetTile.path),
        ("slide_sha256", TEXT, Slide.sha256),
        ("x_px", INTEGER, Tile.x_px),
        ("y_px", INTEGER, Tile.y_px),
        ("width_px", INTEGER, Tile.width_px),
        ("height_px", INTEGER, Tile.height_px),
        ("mpp", NUMBER, Tile.mpp),
        ("stain", TEXT, Tile.stain),
        ("label", TEXT, DatasetTile.label),
        ("embedding", VECTOR, type_coerce(Embedding.embedding, _AS_THE_DRIVER_HAS_IT)),
    )
    return _from(
        table,
        table.statement.select_from(Embedding)
        .join(DatasetTile, DatasetTile.tile_id == Embedding.tile_id)
        .join(Tile, Tile.tile_id == Embedding.tile_id)
        .outerjoin(Slide, Slide.slide_id == Tile.slide_id)
        .where(
            Embedding.model_version_id == encoder.model_version_id,
            DatasetTile.dataset_id == dataset_id,
        )
        .order_by(Embedding.tile_id),
    )


def patient_features(encoder: ExportEncoder, dim: int) -> ExportTable:
    """Patients' pooled features under one encoder, by pooling and patient."""
    table = _table(
        f"patient_features/{encoder.name}",
        dim,
        ("patient_id", TEXT, PatientFeature.patient_id),
        ("tissue_source_site", TEXT, Patient.tissue_source_site),
        ("pooling", TEXT, PatientFeature.pooling),
        ("n_tiles", INTEGER, PatientFeature.n_tiles),
        ("n_slides", INTEGER, PatientFeature.n_slides),
        ("features", VECTOR, type_coerce(PatientFeature.embedding, _AS_THE_DRIVER_HAS_IT)),
    )
    return _from(
        table,
        table.statement.join(Patient, Patient.patient_id == PatientFeature.patient_id)
        .where(
            PatientFeature.model_version_id == encoder.model_version_id,
            PatientFeature.dataset_id == encoder.datasets["slide_tiles"],
        )
        .order_by(PatientFeature.pooling, PatientFeature.patient_id),
    )


def _expression(genes: Genes) -> ExportTable:
    table = _table(
        "expression",
        0,
        ("patient_id", TEXT, Patient.patient_id),
        ("gene", TEXT, Gene.symbol),
        ("value", NUMBER, Expression.value),
        ("unit", TEXT, func.concat("log2(x + 1) of ", MolecularSource.unit)),
    )
    return _from(
        table,
        table.statement.select_from(Expression)
        .join(Gene, Gene.gene_id == Expression.gene_id)
        .join(Patient, Patient.patient_number == Expression.patient_number)
        .join(MolecularSource, MolecularSource.source_id == Expression.source_id)
        .where(Expression.source_id == genes.source_id, Gene.symbol.in_(genes.symbols))
        .order_by(Gene.symbol, Patient.patient_id),
    )


def _mutation(genes: Genes) -> ExportTable:
    # Only sequenced patients have rows: of the others nothing is known, which is not wild-type.
    table = _table(
        "mutations",
        0,
        ("patient_id", TEXT, Patient.patient_id),
        ("gene", TEXT, Gene.symbol),
        ("mutated", TRUTH, func.coalesce(Mutation.n_non_silent > 0, literal(False))),
        ("n_variants", INTEGER, func.coalesce(Mutation.n_variants, 0)),
    )
    return _from(
        table,
        table.statement.select_from(SequencedPatient)
        .join(Patient, Patient.patient_number == SequencedPatient.patient_number)
        .join(Gene, Gene.symbol.in_(genes.symbols))
        .outerjoin(
            Mutation,
            and_(
                Mutation.source_id == SequencedPatient.source_id,
                Mutation.patient_number == SequencedPatient.patient_number,
                Mutation.gene_id == Gene.gene_id,
            ),
        )
        .where(SequencedPatient.source_id == genes.source_id)
        .order_by(Gene.symbol, Patient.patient_id),
    )


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
    return _from(table, statement.order_by(Experiment.task, *order))


def _scores(study: str) -> ExportTable:
    table = _table(
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
    texts = ("task", "target", "metric", "encoder_a", "encoder_b", "leakage_note")
    kinds |= dict.fromkeys(texts, TEXT)
    names = [c.key for c in Comparison.__table__.columns if c.key != "experiment_id"]
    columns = [(name, kinds.get(name, NUMBER), getattr(Comparison, name)) for name in names]
    order = (Comparison.target, Comparison.metric, Comparison.encoder_a, Comparison.encoder_b)
    return _results(_table("comparisons", 0, *columns), study, Comparison, *order)


def _class(index: Any) -> ColumnElement[Any]:
    # Classes are counted from 0, elements of an array of the database from 1.
    return Experiment.classes[cast(index, Integer) + 1]


def _tile_predictions(study: str) -> ExportTable:
    table = _table(
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
    return _from(table, found.statement.join(Tile, Tile.tile_id == CvPrediction.tile_id))


def _gene_predictions(study: str) -> ExportTable:
    table = _table(
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
    table = _table(
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
    table = _table(
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
