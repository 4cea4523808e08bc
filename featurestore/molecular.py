"""Molecular and clinical tables into the store: expression, mutations, clinical data, gene sets.

A table is known by its content: the same values again change nothing but where they were last
seen. What comes out again is in :mod:`featurestore.molecular_frames`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import delete, func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from featurestore.copy_arrays import copy_arrays
from featurestore.datasets import tissue_source_site
from featurestore.sources.clinical import ClinicalTable
from featurestore.sources.expression import ExpressionTable
from featurestore.sources.gene_sets import GeneSets
from featurestore.sources.mutations import MutationTable
from featurestore.tables import (
    Clinical,
    Gene,
    GeneSet,
    MolecularSource,
    Mutation,
    Patient,
    SequencedPatient,
)

_GENES_A_BLOCK = 500
_EXPRESSION_COLUMNS = [
    ("source_id", "int4"),
    ("gene_id", "int4"),
    ("patient_number", "int4"),
    ("value", "float4"),
]


@dataclass(frozen=True, slots=True)
class WrittenSource:
    """What writing a table came to.

    Attributes
    ----------
    source_id : int
    digest : str
    n_patients, n_rows : int
        Patients and values of the table.
    is_new : bool
        Whether the store did not hold it before.
    """

    source_id: int
    digest: str
    n_patients: int
    n_rows: int
    is_new: bool


def find_source(
    session: Session, root: Path, listing_sha256: str, *, kind: str | None = None
) -> MolecularSource | None:
    """The table that ``root`` held when its listing was ``listing_sha256``, if it was read."""
    query = select(MolecularSource).where(
        MolecularSource.root == str(root.absolute()),
        MolecularSource.listing_sha256 == listing_sha256,
    )
    if kind is not None:
        query = query.where(MolecularSource.kind == kind)
    return session.scalars(query.order_by(MolecularSource.read_at.desc()).limit(1)).first()


def write_expression(session: Session, table: ExpressionTable) -> WrittenSource:
    """Write a table of expression; the caller commits."""
    _lock(session)
    present = int(np.isfinite(table.values).sum())
    source_id, is_new = _source(session, "expression", table, unit=table.unit)
    if is_new:
        patients = _patient_numbers(session, table.patients)
        genes = _gene_ids(session, table.symbols)
        _load_expression(session, source_id, table, patients, genes)
    return WrittenSource(source_id, table.digest, len(table.patients), present, is_new)


def write_mutations(session: Session, table: MutationTable) -> WrittenSource:
    """Write a table of mutations with its sequenced patients; the caller commits."""
    _lock(session)
    source_id, is_new = _source(session, "mutation", table)
    if is_new:
        numbers = _patient_numbers(session, table.patients)
        genes = _gene_ids(session, sorted(set(table.counts["symbol"])))
        sequenced = np.array(sorted(numbers.values()), np.int32)
        copy_arrays(
            session,
            SequencedPatient.__tablename__,
            [("source_id", "int4"), ("patient_number", "int4")],
            [(np.full(len(sequenced), source_id, np.int32), sequenced)],
        )
        rows = table.counts
        columns = ["source_id", "gene_id", "patient_number", "n_variants", "n_non_silent"]
        arrays = [
            np.full(len(rows), source_id),
            rows["symbol"].map(genes).to_numpy(np.int32),
            rows["patient"].map(numbers).to_numpy(np.int32),
            rows["n_variants"].to_numpy(),
            rows["n_non_silent"].to_numpy(),
        ]
        copy_arrays(session, Mutation.__tablename__, [(name, "int4") for name in columns], [arrays])
        session.execute(text("ANALYZE mutations"))
    return WrittenSource(source_id, table.digest, len(table.patients), len(table.counts), is_new)


def write_clinical(session: Session, table: ClinicalTable) -> WrittenSource:
    """Write a clinical table; the caller commits."""
    _lock(session)
    rows = table.rows
    source_id, is_new = _source(session, "clinical", table)
    if is_new:
        numbers = _patient_numbers(session, table.patients)
        values = [
            {
                "source_id": source_id,
                "patient_number": numbers[patient],
                "variable": variable,
                "value": value,
            }
            for patient, variable, value in rows
        ]
        session.execute(insert(Clinical), values)
    return WrittenSource(source_id, table.digest, len(table.patients), len(rows), is_new)


def write_gene_sets(session: Session, genes: GeneSets) -> None:
    """Write the sets of a file in place of those it had before; the caller commits."""
    _lock(session)
    ids = _gene_ids(session, genes.symbols)
    names = list(genes.sets)
    session.execute(delete(GeneSet).where(GeneSet.source == genes.source, GeneSet.name.in_(names)))
    rows = [
        {"source": genes.source, "name": name, "gene_id": ids[symbol]}
        for name, symbols in genes.sets.items()
        for symbol in symbols
    ]
    session.execute(insert(GeneSet), rows)


def _lock(session: Session) -> None:
    # Attaching a partition needs this lock on the tables it refers to. Taken first and by every
    # writer here, nobody waits for it while others wait for the rows written meanwhile.
    session.execute(
        text("LOCK TABLE patients, genes, molecular_sources IN SHARE ROW EXCLUSIVE MODE")
    )


def _source(
    session: Session,
    kind: str,
    table: ExpressionTable | MutationTable | ClinicalTable,
    *,
    unit: str | None = None,
) -> tuple[int, bool]:
    """The source's id, and whether it is new."""
    seen: dict[str, Any] = {
        "name": "/".join(table.root.parts[-2:]),
        "root": str(table.root),
        "listing_sha256": table.listing_sha256,
        "read_at": func.now(),
    }
    before = session.scalar(
        select(MolecularSource.source_id).where(MolecularSource.digest == table.digest)
    )
    if before is not None:
        session.execute(
            update(MolecularSource).where(MolecularSource.source_id == before).values(seen)
        )
        return before, False
    source_id = session.execute(
        insert(MolecularSource)
        .values(
            **seen,
            kind=kind,
            digest=table.digest,
            layout=table.layout,
            unit=unit,
            n_patients=len(table.patients),
        )
        .returning(MolecularSource.source_id)
    ).scalar_one()
    return source_id, True


def _patient_numbers(session: Session, patients: Sequence[str]) -> dict[str, int]:
    rows = [
        {"patient_id": patient, "tissue_source_site": tissue_source_site(patient)}
        for patient in sorted(patients)
    ]
    session.execute(insert(Patient).on_conflict_do_nothing(), rows)
    found = session.execute(
        select(Patient.patient_id, Patient.patient_number).where(
            Patient.patient_id.in_(list(patients))
        )
    )
    return {row.patient_id: row.patient_number for row in found}


def _gene_ids(session: Session, symbols: Iterable[str]) -> dict[str, int]:
    names = sorted(symbols)
    known = _known_genes(session, names)
    new = [{"symbol": name} for name in names if name not in known]
    if new:
        session.execute(insert(Gene).on_conflict_do_nothing(), new)
        known = _known_genes(session, names)
    return known


def _known_genes(session: Session, names: list[str]) -> dict[str, int]:
    rows = session.execute(select(Gene.symbol, Gene.gene_id).where(Gene.symbol == func.any(names)))
    return {row.symbol: row.gene_id for row in rows}


def _load_expression(
    session: Session,
    source_id: int,
    table: ExpressionTable,
    patients: dict[str, int],
    genes: dict[str, int],
) -> None:
    """Fill a table of its own and attach it: keys and references are then checked at once."""
    name = f"expression_s{int(source_id)}"
    # Identifiers and limits of DDL cannot be bound; they are integers of our own.
    session.execute(
        text(
            f"CREATE TABLE {name} "
            "(LIKE expression INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING COMMENTS)"
        )
    )
    copy_arrays(
        session,
        name,
        _EXPRESSION_COLUMNS,
        _blocks(source_id, table, patients, genes),
    )
    # The check lets Postgres attach without reading every row for the partition's limits.
    limit = f"ck_{name}_source"
    for statement in (
        f"ALTER TABLE {name} ADD CONSTRAINT {limit} CHECK (source_id = {int(source_id)})",
        f"ALTER TABLE expression ATTACH PARTITION {name} FOR VALUES IN ({int(source_id)})",
        f"ALTER TABLE {name} DROP CONSTRAINT {limit}",
        f"ANALYZE {name}",
    ):
        session.execute(text(statement))


def _blocks(
    source_id: int, table: ExpressionTable, patients: dict[str, int], genes: dict[str, int]
) -> Iterator[Sequence[NDArray[Any]]]:
    numbers = np.array([patients[patient] for patient in table.patients], np.int32)
    ids = np.array([genes[symbol] for symbol in table.symbols], np.int32)
    for start in range(0, len(ids), _GENES_A_BLOCK):
        values = table.values[start : start + _GENES_A_BLOCK]
        row, column = np.nonzero(~np.isnan(values))
        yield (
            np.full(len(row), source_id, np.int32),
            ids[start + row],
            numbers[column],
            values[row, column],
        )
