"""Owns reading matrices of mutation status.

Two layouts: genes × patients with 1 (mutated), 0 (not) and NA (not sequenced); and cBioPortal's
samples × genes with ``WT``, ``NS`` (not sequenced) or the protein changes.

The store knows sequenced patients, not sequenced genes. So a patient whose every gene is NA
was not sequenced, and a gene that is NA for some sequenced patient only is left out by name.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from featurestore.errors import Reject, SourceError
from featurestore.sources import barcodes, delimited, gene_names
from featurestore.sources.barcodes import shown
from featurestore.sources.delimited import Head

_MISSING = frozenset({"", "na", "nan", "null", "ns"})


@dataclass
class Matrix:
    """What a matrix tells: see :class:`featurestore.sources.mutations.MutationTable`."""

    patients: set[str]
    counts: pd.DataFrame
    layout: str
    rejects: list[Reject]


def is_matrix(head: Head) -> bool:
    """Whether this is a matrix rather than a list of variants."""
    return _is_wide_cbioportal(head) or _is_zero_one(head)


def _is_wide_cbioportal(head: Head) -> bool:
    cells = {cell for row in head.rows for cell in row}
    has_samples = delimited.column_named(head, ["SAMPLE_ID", "Sample ID"]) is not None
    return has_samples and bool(cells & {"WT", "NS"})


def _is_zero_one(head: Head) -> bool:
    cells = [cell.strip().lower() for row in head.rows for cell in row[1:]]
    known = sum(cell in _MISSING or cell in ("0", "1", "0.0", "1.0") for cell in cells)
    # The rest may be a gene's description, or the cell that is wrong and will be named.
    return len(head.header) > 1 and bool(cells) and known > 0.5 * len(cells)


def read_matrix(head: Head) -> Matrix:
    """Read a matrix that :func:`is_matrix` recognised.

    Raises
    ------
    SourceError
        If it is transposed, a cell is neither 0, 1 nor NA, or no patient is in it.
    """
    if _is_wide_cbioportal(head):
        status, rejects = _wide_cbioportal(head)
        layout = "cBioPortal matrix"
    else:
        status, rejects = _zero_one(head)
        layout = "0/1 matrix"
    status = status.groupby(level=0).max()
    status, of_patients = _one_sample_a_patient(status, head.path.name)
    status = status.dropna(axis=1, how="all")
    partly = [str(gene) for gene in status.index[status.isna().any(axis=1).to_numpy()]]
    if partly:
        reason = (
            f"{head.path.name}: NA for some sequenced patients; the store knows a patient as "
            "sequenced as a whole. Fill the cells, or take those patients out"
        )
        rejects += [Reject(gene, "ingest", reason) for gene in partly]
    status = status.drop(index=partly)
    n_variants = status.to_numpy(np.float64)
    gene, patient = np.nonzero(n_variants > 0)
    n_mutated = n_variants[gene, patient].astype(np.int64)
    counts = pd.DataFrame(
        {
            "symbol": status.index.to_numpy(str)[gene],
            "patient": status.columns.to_numpy(str)[patient],
            "n_variants": n_mutated,
            "n_non_silent": n_mutated,
        }
    ).sort_values(["symbol", "patient"], ignore_index=True)
    return Matrix({str(name) for name in status.columns}, counts, layout, rejects + of_patients)


def _zero_one(head: Head) -> tuple[pd.DataFrame, list[Reject]]:
    first = [row[0] for row in head.rows if row]
    if barcodes.share_of_barcodes(first) > 0.5:
        raise SourceError(
            f"{head.path}: the matrix is transposed (rows are {barcodes.some(first, 2)}); expected "
            "genes in rows and patients in columns: turn it"
        )
    about_genes = {*gene_names.SYMBOL_COLUMNS, *gene_names.OTHER_COLUMNS}
    by_symbol = delimited.column_named(head, gene_names.SYMBOL_COLUMNS)
    gene = 0 if by_symbol is None else by_symbol
    columns = [
        at
        for at, name in enumerate(head.header)
        if at not in (0, gene) and name.lower() not in about_genes
    ]
    delimited.require_even_rows(head)
    texts = delimited.read_text_columns(head, [gene, *columns])
    genes = texts[gene].map(gene_names.tidy)
    cells = texts[columns]
    numbers = cells.apply(pd.to_numeric, errors="coerce")
    wrong = ~(numbers.isin([0, 1]) | _is_missing(cells))
    if wrong.to_numpy().any():
        row, column = np.argwhere(wrong.to_numpy())[0]
        raise SourceError(
            f"{head.path}: gene {genes.iloc[row]}, column {shown(head.header[columns[column]])} "
            f"holds {shown(cells.iloc[row, column])!r}; expected 0, 1 or NA; correct the cell"
        )
    numbers.index = pd.Index(genes)
    numbers.columns = pd.Index([head.header[at] for at in columns])
    return numbers[numbers.index != ""], []


def _wide_cbioportal(head: Head) -> tuple[pd.DataFrame, list[Reject]]:
    sample = delimited.column_named(head, ["SAMPLE_ID", "Sample ID"])
    genes = [
        at for at, name in enumerate(head.header) if at != sample and name.lower() != "study_id"
    ]
    texts = delimited.read_text_columns(head, [at for at in (sample, *genes) if at is not None])
    cells = texts[genes]
    # Several changes of a gene stand in one cell, parted by spaces.
    n_changes = cells.apply(lambda column: column.str.split().str.len()).astype(float)
    n_changes = n_changes.mask(cells == "WT", 0.0).mask(_is_missing(cells))
    status = n_changes.T
    status.index = pd.Index([gene_names.tidy(head.header[at]) for at in genes])
    status.columns = pd.Index(texts[sample])
    return status[status.index != ""], []


def _is_missing(cells: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame({at: cells[at].str.lower().isin(_MISSING) for at in cells.columns})


def _one_sample_a_patient(status: pd.DataFrame, where: str) -> tuple[pd.DataFrame, list[Reject]]:
    chosen = barcodes.choose_samples([str(name) for name in status.columns], where=where)
    rejects = list(chosen.rejects)
    kept = {}
    for patient, (first, *others) in chosen.positions.items():
        if all(status.iloc[:, first].equals(status.iloc[:, other]) for other in others):
            kept[patient] = first
        else:
            reason = f"{where}: it stands there {1 + len(others)} times with different values"
            rejects.append(Reject(patient, "ingest", f"{reason}; remove the wrong one"))
    patients = sorted(kept)
    table = status.iloc[:, [kept[patient] for patient in patients]]
    table.columns = pd.Index(patients)
    return table, rejects
