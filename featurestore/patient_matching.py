"""Owns telling where tables about the same patients do not meet or do not agree.

Nothing is decided here: what is missing or contradictory is told by name, for the ledger.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from featurestore.errors import CohortError, Reject
from featurestore.sources.barcodes import some

_STAGE = "cohort"
_FEWEST_GENES = 20
_LEAST_ALIKE = 0.8


@dataclass(frozen=True, slots=True)
class Matched:
    """Patients that every table has, and who is missing where.

    Attributes
    ----------
    patients : tuple of str
        Those in every table, sorted.
    rejects : tuple of Reject
        One a patient of the tissue that a table lacks, one a table with patients that have no
        tissue: all of them named.
    """

    patients: tuple[str, ...]
    rejects: tuple[Reject, ...]


def match_patients(tissue: Collection[str], tables: Mapping[str, Collection[str]]) -> Matched:
    """Match the patients of the tissue with those of molecular tables.

    Parameters
    ----------
    tissue : collection of str
        Patients with features.
    tables : mapping of str to collection of str
        A table's name in words, e.g. ``"expression"``, to its patients.

    Raises
    ------
    CohortError
        If a table and the tissue have not one patient in common; names of both are shown.
    """
    patients = set(tissue)
    known = {name: set(theirs) for name, theirs in tables.items()}
    rejects = []
    for name, theirs in known.items():
        if not patients & theirs:
            raise CohortError(
                f"no patient has both tissue and {name}: the tissue is of "
                f"{some(sorted(patients), 3)}, the table of {some(sorted(theirs), 3)}; both must "
                "name patients alike, e.g. TCGA-05-4244"
            )
        without_tissue = sorted(theirs - patients)
        if without_tissue:
            reason = f"{len(without_tissue)} of its {len(theirs)} patients have no tissue here: "
            rejects.append(Reject(name, _STAGE, reason + ", ".join(without_tissue)))
    for patient in sorted(patients):
        missing = [name for name, theirs in known.items() if patient not in theirs]
        if missing:
            reason = f"the patient has tissue, but is not in the table of {' and '.join(missing)}"
            rejects.append(Reject(patient, _STAGE, reason))
    common = patients.intersection(*known.values())
    return Matched(tuple(sorted(common)), tuple(rejects))


def expression_disagreements(
    first: pd.DataFrame, second: pd.DataFrame, names: Sequence[str]
) -> tuple[Reject, ...]:
    """Patients whose expression two tables tell differently.

    Compared by Spearman's rank correlation over the genes of both, which a change of unit
    does not touch. Patients of one cancer are much alike (0.83 to 0.97 over all genes of 60
    TCGA-LUAD patients), so no fixed limit tells them apart: a patient is told where the second
    table has another patient that resembles it more than itself, or where even the least alike
    would (below 0.8).

    Parameters
    ----------
    first, second : DataFrame (n_patients, n_genes)
        As :func:`featurestore.molecular_frames.expression_frame` gives them; a gene that is
        missing for one of the common patients is not compared.
    names : sequence of two str
        The tables, for the message.
    """
    symbols = list(first.columns.intersection(second.columns, sort=False))
    patients = sorted(set(first.index) & set(second.index))
    a, b = first.loc[patients, symbols], second.loc[patients, symbols]
    shared = (a.notna().all() & b.notna().all()).to_numpy()
    if not patients or int(shared.sum()) < _FEWEST_GENES:
        return ()
    ranks = [table.loc[:, shared].rank(axis=1).to_numpy(np.float64) for table in (a, b)]
    rho = _correlations(ranks[0], ranks[1])
    best = rho.argmax(axis=1)
    rejects = []
    for row, patient in enumerate(patients):
        own, other = rho[row, row], rho[row, best[row]]
        told = f"rank correlation {own:.3f} over {int(shared.sum())} genes"
        if other > own:
            told += f", but {other:.3f} with {patients[best[row]]} of {names[1]}"
        elif not own < _LEAST_ALIKE:
            continue
        reason = f"{names[0]} and {names[1]} disagree on the patient's expression: {told}"
        rejects.append(
            Reject(patient, _STAGE, f"{reason}; find out which sample each of them shows")
        )
    return tuple(rejects)


def _correlations(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Pearson's r of every row of ``a`` with every row of ``b``; 1 where nothing varies."""
    a, b = (x - x.mean(axis=1, keepdims=True) for x in (a, b))
    norm = np.sqrt((a**2).sum(axis=1))[:, None] * np.sqrt((b**2).sum(axis=1))[None, :]
    # A row in which nothing varies contradicts nothing.
    rho: NDArray[np.float64] = np.ones_like(norm)
    np.divide(a @ b.T, norm, out=rho, where=norm > 0)
    return rho


def mutation_disagreements(
    first: pd.DataFrame, second: pd.DataFrame, names: Sequence[str]
) -> tuple[Reject, ...]:
    """Patients of whom two tables tell different mutated genes.

    Parameters
    ----------
    first, second : DataFrame (n_patients, n_genes)
        1, 0 or NaN, as :func:`featurestore.molecular_frames.mutation_frame` gives them; only
        genes and patients that both know are compared.
    names : sequence of two str
        The tables, for the message.
    """
    symbols = list(first.columns.intersection(second.columns, sort=False))
    patients = sorted(set(first.index) & set(second.index))
    a, b = first.loc[patients, symbols], second.loc[patients, symbols]
    differs = a.notna() & b.notna() & (a != b)
    rejects = []
    for patient in differs.index[differs.any(axis=1)]:
        genes = [symbol for symbol in symbols if differs.loc[patient, symbol]]
        only = [names[0] if a.loc[patient, gene] == 1 else names[1] for gene in genes]
        told = [f"{gene} only in {name}" for gene, name in zip(genes, only, strict=True)]
        reason = f"{names[0]} and {names[1]} disagree on its mutations: {some(told)}"
        rejects.append(Reject(str(patient), _STAGE, reason))
    return tuple(rejects)
