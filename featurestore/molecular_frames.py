"""Molecular and clinical data out of the store: frames by patient, missing where unknown."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from featurestore.tables import (
    Clinical,
    Expression,
    Gene,
    GeneSet,
    Mutation,
    Patient,
    SequencedPatient,
)


def source_patients(session: Session, source_id: int) -> tuple[str, ...]:
    """Patients of a table, sorted: with a value, or sequenced."""
    found: set[str] = set()
    for model in (SequencedPatient, Clinical):
        numbers = select(model.patient_number).where(model.source_id == source_id)
        found |= set(_patients(session, numbers.distinct()))
    # One gene tells most patients of an expression table, but not those that lack it.
    numbers = select(Expression.patient_number).where(Expression.source_id == source_id)
    return tuple(sorted(found | set(_patients(session, numbers.distinct()))))


def source_genes(session: Session, source_id: int) -> tuple[str, ...]:
    """Symbols that a table of expression or mutations names, sorted."""
    found: set[str] = set()
    for model in (Expression, Mutation):
        ids = select(model.gene_id).where(model.source_id == source_id).distinct()
        found |= set(session.scalars(select(Gene.symbol).where(Gene.gene_id.in_(ids))))
    return tuple(sorted(found))


def expression_frame(
    session: Session,
    source_id: int,
    *,
    patients: Sequence[str] | None = None,
    symbols: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Expression by patient and gene.

    Parameters
    ----------
    session : sqlalchemy.orm.Session
    source_id : int
    patients, symbols : sequence of str, optional
        Rows and columns wanted, in this order; all of the table, sorted, where left out.

    Returns
    -------
    DataFrame (n_patients, n_genes) of float32
        log2(x + 1); NaN where there is no value.
    """
    wanted_patients = list(source_patients(session, source_id) if patients is None else patients)
    wanted = list(source_genes(session, source_id) if symbols is None else symbols)
    rows = session.execute(
        select(
            Gene.symbol,
            func.array_agg(Expression.patient_number),
            func.array_agg(Expression.value),
        )
        .join(Gene, Gene.gene_id == Expression.gene_id)
        .where(Expression.source_id == source_id, Gene.symbol == func.any(wanted))
        .group_by(Gene.symbol)
    )
    place = _places(session, wanted_patients)
    values = np.full((len(wanted_patients), len(wanted)), np.nan, np.float32)
    column = {symbol: at for at, symbol in enumerate(wanted)}
    for symbol, numbers, of_gene in rows:
        at = _at(place, numbers)
        values[at[at >= 0], column[symbol]] = np.asarray(of_gene, np.float32)[at >= 0]
    return _frame(values, wanted_patients, wanted)


def mutation_frame(
    session: Session,
    source_id: int,
    *,
    patients: Sequence[str] | None = None,
    symbols: Sequence[str],
) -> pd.DataFrame:
    """Mutation status by patient and gene: 1 for at least one non-silent variant.

    Parameters
    ----------
    session : sqlalchemy.orm.Session
    source_id : int
    patients : sequence of str, optional
        Rows wanted, in this order; all sequenced ones, sorted, where left out.
    symbols : sequence of str
        Columns wanted, in this order.

    Returns
    -------
    DataFrame (n_patients, n_genes) of float32
        1, 0, or NaN where the patient was not sequenced or the table never names the gene.
    """
    numbers = select(SequencedPatient.patient_number).where(SequencedPatient.source_id == source_id)
    sequenced = set(_patients(session, numbers))
    wanted = list(sorted(sequenced) if patients is None else patients)
    rows = session.execute(
        select(
            Gene.symbol,
            func.array_agg(Mutation.patient_number).filter(Mutation.n_non_silent > 0),
        )
        .join(Gene, Gene.gene_id == Mutation.gene_id)
        .where(Mutation.source_id == source_id, Gene.symbol == func.any(list(symbols)))
        .group_by(Gene.symbol)
    )
    place = _places(session, wanted)
    is_sequenced = np.array([patient in sequenced for patient in wanted], bool)
    values = np.full((len(wanted), len(symbols)), np.nan, np.float32)
    column = {symbol: at for at, symbol in enumerate(symbols)}
    for symbol, mutated in rows:
        values[is_sequenced, column[symbol]] = 0
        at = _at(place, mutated or [])
        values[at[at >= 0], column[symbol]] = 1
    return _frame(values, wanted, list(symbols))


def mutation_counts(session: Session, source_id: int, symbols: Sequence[str]) -> pd.DataFrame:
    """How many sequenced patients are mutated, the most frequent gene first.

    Returns
    -------
    DataFrame
        symbol, n_mutated, n_sequenced, share (0-1); genes that the table never names are
        absent. Ties are in the order of the symbols.
    """
    frame = mutation_frame(session, source_id, symbols=list(dict.fromkeys(symbols)))
    counts = pd.DataFrame(
        {
            "symbol": frame.columns,
            "n_mutated": frame.sum().to_numpy(),
            "n_sequenced": frame.notna().sum().to_numpy(),
        }
    )
    counts = counts[counts["n_sequenced"] > 0].astype({"n_mutated": "int64"})
    counts["share"] = counts["n_mutated"] / counts["n_sequenced"]
    return counts.sort_values(["n_mutated", "symbol"], ascending=[False, True], ignore_index=True)


def clinical_frame(
    session: Session,
    source_id: int,
    *,
    patients: Sequence[str] | None = None,
    variables: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Clinical variables as text by patient; None where missing."""
    query = (
        select(Patient.patient_id, Clinical.variable, Clinical.value)
        .join(Patient, Patient.patient_number == Clinical.patient_number)
        .where(Clinical.source_id == source_id)
    )
    if variables is not None:
        query = query.where(Clinical.variable.in_(list(variables)))
    rows = session.execute(query).all()
    table = pd.DataFrame(rows, columns=["patient_id", "variable", "value"], dtype=object)
    wide = table.pivot(index="patient_id", columns="variable", values="value")
    index = sorted(wide.index) if patients is None else list(patients)
    columns = sorted(wide.columns) if variables is None else list(variables)
    wide = wide.reindex(index=index, columns=columns).astype(object)
    wide = wide.where(wide.notna(), None)
    return wide.rename_axis(index="patient_id", columns=None)


def gene_set(session: Session, source: str, names: Sequence[str] | None = None) -> tuple[str, ...]:
    """Symbols of the sets of a file, sorted."""
    query = select(Gene.symbol).join(GeneSet, GeneSet.gene_id == Gene.gene_id)
    query = query.where(GeneSet.source == source)
    if names is not None:
        query = query.where(GeneSet.name.in_(list(names)))
    return tuple(sorted(set(session.scalars(query))))


def _patients(session: Session, numbers: object) -> Sequence[str]:
    return session.scalars(
        select(Patient.patient_id).where(Patient.patient_number.in_(numbers))  # type: ignore[arg-type]
    ).all()


def _places(session: Session, patients: Sequence[str]) -> dict[int, int]:
    """Row of each patient by its number."""
    row = {patient: at for at, patient in enumerate(patients)}
    found = session.execute(
        select(Patient.patient_number, Patient.patient_id).where(
            Patient.patient_id == func.any(list(patients))
        )
    )
    return {number: row[patient] for number, patient in found}


def _at(place: dict[int, int], numbers: Sequence[int]) -> NDArray[np.intp]:
    return np.array([place.get(number, -1) for number in numbers], np.intp)


def _frame(
    values: NDArray[np.float32], patients: Sequence[str], symbols: Sequence[str]
) -> pd.DataFrame:
    index = pd.Index(list(patients), name="patient_id")
    return pd.DataFrame(values, index=index, columns=list(symbols))
