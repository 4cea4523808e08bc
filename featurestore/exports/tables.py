"""The tables of an export: which rows and columns each file has.

Rows are read through a cursor of the server, so that no table is ever in memory as a whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, LargeBinary, Select, and_, func, literal, select
from sqlalchemy.orm import Session

from featurestore.exports.plan import ExportEncoder, ExportPlan, Genes
from featurestore.tables import (
    DatasetTile,
    Embedding,
    Expression,
    Gene,
    ModelVersionRow,
    MolecularSource,
    Mutation,
    Patient,
    PatientFeature,
    SequencedPatient,
    Slide,
    Tile,
)

# So much of a table is in memory at a time; it is also a Parquet row group.
_BATCH_BYTES = 4 << 20
_MOST_ROWS = 20_000

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


def stored_tables(session: Session, plan: ExportPlan) -> Iterator[ExportTable]:
    """Features and genes of a study, tables that have no row included."""
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


def _bytes(vector: Any) -> ColumnElement[bytes]:
    # As text, which a cursor of the server gives by default, vectors take far longer to read.
    return func.halfvec_send(vector, type_=LargeBinary)


def vectors_of(column: Sequence[bytes], dim: int) -> NDArray[np.float32]:
    """A column of vectors as one (n, dim) matrix."""
    # A header of four bytes tells the length again; numbers are in the network's byte order.
    raw = np.frombuffer(b"".join(column), np.uint8).reshape(len(column), 4 + 2 * dim)
    return np.ascontiguousarray(raw[:, 4:]).view(">f2").astype(np.float32)


def table_of(name: str, dim: int, *columns: tuple[str, str, Any]) -> ExportTable:
    """A table by its columns: name, kind, and what is selected; rows are told afterwards."""
    statement = select(*(expression.label(label) for label, _, expression in columns))
    return ExportTable(name, tuple((label, kind) for label, kind, _ in columns), statement, dim)


def with_statement(table: ExportTable, statement: Select[Any]) -> ExportTable:
    """The same table with other rows."""
    return ExportTable(table.name, table.columns, statement, table.dim)


def _tiles(name: str, encoder: ExportEncoder, dataset_id: int, dim: int) -> ExportTable:
    table = table_of(
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
        ("embedding", VECTOR, _bytes(Embedding.embedding)),
    )
    return with_statement(
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
    table = table_of(
        f"patient_features/{encoder.name}",
        dim,
        ("patient_id", TEXT, PatientFeature.patient_id),
        ("tissue_source_site", TEXT, Patient.tissue_source_site),
        ("pooling", TEXT, PatientFeature.pooling),
        ("n_tiles", INTEGER, PatientFeature.n_tiles),
        ("n_slides", INTEGER, PatientFeature.n_slides),
        ("features", VECTOR, _bytes(PatientFeature.embedding)),
    )
    return with_statement(
        table,
        table.statement.join(Patient, Patient.patient_id == PatientFeature.patient_id)
        .where(
            PatientFeature.model_version_id == encoder.model_version_id,
            PatientFeature.dataset_id == encoder.datasets["slide_tiles"],
        )
        .order_by(PatientFeature.pooling, PatientFeature.patient_id),
    )


def _expression(genes: Genes) -> ExportTable:
    table = table_of(
        "expression",
        0,
        ("patient_id", TEXT, Patient.patient_id),
        ("gene", TEXT, Gene.symbol),
        ("value", NUMBER, Expression.value),
        ("unit", TEXT, func.concat("log2(x + 1) of ", MolecularSource.unit)),
    )
    return with_statement(
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
    table = table_of(
        "mutations",
        0,
        ("patient_id", TEXT, Patient.patient_id),
        ("gene", TEXT, Gene.symbol),
        ("mutated", TRUTH, func.coalesce(Mutation.n_non_silent > 0, literal(False))),
        ("n_variants", INTEGER, func.coalesce(Mutation.n_variants, 0)),
    )
    return with_statement(
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
