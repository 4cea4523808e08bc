"""Owns reading gene expression as its sources publish it, into log2(x + 1) by gene and patient.

Told by content, plain or gzipped:

- *Xena*: genes × samples, tab-separated, first column ``sample`` or ``Ensembl_ID``; log2(x + 1).
- *matrix*: symbols × patients or samples, comma or tab, in a declared unit.
- *GDC samples*: a folder of per-sample files with a sample sheet
  (:mod:`featurestore.sources.gdc_expression`).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from featurestore.errors import Reject, SourceError
from featurestore.model_versions import content_sha256
from featurestore.sources import delimited, gene_names
from featurestore.sources.barcodes import choose_samples, parse, share_of_barcodes, shown, some
from featurestore.sources.delimited import Head
from featurestore.sources.expression_units import (
    Unit,
    infer_unit,
    parse_unit,
    require_unit,
    to_log2,
)
from featurestore.sources.file_kinds import is_file
from featurestore.sources.gdc_expression import is_sample_file, read_samples

_XENA_CORNERS = ("sample", "ensembl_id", "xena_sample")
# Genes that every table of human expression has; a header with them is a transposed one.
_EVERYWHERE = frozenset({"ACTB", "GAPDH", "B2M", "TP53", "EGFR", "KRAS", "MYC", "CD8A", "CD3D"})


@dataclass(frozen=True)
class ExpressionTable:
    """Expression by gene and patient.

    Attributes
    ----------
    root : Path
        File or folder, absolute.
    patients, symbols : tuple of str
        Sorted; symbols are Ensembl identifiers where the source tells no others.
    values : (n_genes, n_patients) float32 array
        log2(x + 1); NaN where it was not measured.
    unit : str
        As published, e.g. ``FPKM`` or ``log2(TPM+1)``.
    layout : str
        The format that was recognised.
    rejects : tuple of Reject
        Samples and genes that were left out, sorted by item.
    listing_sha256 : str
        See :func:`expression_listing`.
    """

    root: Path
    patients: tuple[str, ...]
    symbols: tuple[str, ...]
    values: NDArray[np.float32]
    unit: str
    layout: str
    rejects: tuple[Reject, ...]
    listing_sha256: str

    @cached_property
    def digest(self) -> str:
        """Digest of the content, wherever it lies and in whatever format."""
        # NaN has many bit patterns; one of them stands for all.
        values = np.where(np.isnan(self.values), np.float32(np.nan), self.values)
        body = hashlib.sha256(np.ascontiguousarray(values, dtype="<f4").tobytes()).hexdigest()
        return content_sha256(["expression", self.unit, self.patients, self.symbols, body])


def read_expression(
    path: Path, *, unit: str | None = None, sample_sheet: Path | None = None
) -> ExpressionTable:
    """Read a table or folder of gene expression.

    Several samples of a patient: see :mod:`featurestore.sources.barcodes`; several rows of a
    gene: see :mod:`featurestore.sources.gene_names`. A value that is missing stays missing.

    Parameters
    ----------
    path : Path
        File or folder.
    unit : str, optional
        ``TPM``, ``FPKM``, ``FPKM-UQ``, ``RPKM``, ``CPM``, ``count``, ``norm_count``, ``x``
        (something linear), or ``log2(… + 1)`` of one. May be left out where the format or the
        values leave one possibility.
    sample_sheet : Path, optional
        GDC's sample sheet; looked for in the folder where it is not given.

    Raises
    ------
    SourceError
        If the source cannot be used as a whole: absent, damaged, no known layout, transposed,
        a unit that is missing or contradicts the values, or not one value left.
    """
    path = path.absolute()
    listing = expression_listing(path, unit=unit, sample_sheet=sample_sheet)
    declared = None if unit is None else parse_unit(unit)
    head = delimited.read_head(path) if is_file(path) else None
    if head is None or is_sample_file(head):
        samples = read_samples(path, unit=declared, sample_sheet=sample_sheet)
        names, patients, raw = samples.names, samples.patients, samples.values
        published, layout, rejects = samples.unit, samples.layout, samples.rejects
    else:
        names, patients, raw, rejects = _read_matrix(head)
        layout = "Xena" if _is_xena(head) else "matrix"
        if np.isnan(raw).all():
            raise SourceError(f"{path}: no value is left; expected numbers by gene and patient")
        published = declared or _inferred(raw, layout, str(path))
    require_unit(raw, published, str(path))
    values = to_log2(raw, published)
    return _table(path, names, patients, values, str(published), layout, rejects, listing)


def expression_listing(
    path: Path, *, unit: str | None = None, sample_sheet: Path | None = None
) -> str:
    """Digest that changes when the source may read differently; nothing is opened.

    Raises
    ------
    SourceError
        If the source is absent or an empty folder.
    """
    return delimited.tables_listing(path.absolute(), sample_sheet, unit=unit, kind="expression")


def _inferred(raw: NDArray[np.float64], layout: str, where: str) -> Unit:
    # Xena publishes logarithms of several units; which one stands on the data set's page only.
    return Unit("x", is_log=True) if layout == "Xena" else infer_unit(raw, where)


def _is_xena(head: Head) -> bool:
    samples = [parse(name) for name in head.header[1:]]
    return (
        head.separator == "\t"
        and head.header[0].lower() in _XENA_CORNERS
        and any(sample is not None and sample.sample_type is not None for sample in samples)
    )


def _read_matrix(
    head: Head,
) -> tuple[list[str], list[str], NDArray[np.float64], list[Reject]]:
    _refuse_transposed(head)
    by_symbol = delimited.column_named(head, gene_names.SYMBOL_COLUMNS)
    gene_column = 0 if by_symbol is None or parse(head.header[by_symbol]) else by_symbol
    about_genes = {*gene_names.SYMBOL_COLUMNS, *gene_names.OTHER_COLUMNS}
    columns = [
        position
        for position, name in enumerate(head.header)
        if position not in (0, gene_column) and name.lower() not in about_genes
    ]
    where = head.path.name
    chosen = choose_samples([head.header[position] for position in columns], where=where)
    if not chosen.positions:
        raise SourceError(
            f"{head.path}: no column is a tumour sample (columns: {some(head.header)}); expected "
            "genes in rows and TCGA barcodes of patients or tumour samples in columns"
        )
    patients = sorted(chosen.positions)
    wanted = [columns[p] for patient in patients for p in chosen.positions[patient]]
    names = delimited.read_text_columns(head, [gene_column])[gene_column].tolist()
    frame = _read_numbers(head, sorted(set(wanted)), names)
    rejects = list(chosen.rejects)
    kept = []
    for patient in patients:
        copies = [columns[position] for position in chosen.positions[patient]]
        if all(frame[copies[0]].equals(frame[other]) for other in copies[1:]):
            kept.append((patient, copies[0]))
        else:
            reason = (
                f"{where}: the column {head.header[copies[0]]} stands there {len(copies)} times "
                "with different values; remove the wrong one"
            )
            rejects.append(Reject(patient, "ingest", reason))
    if not kept:
        raise SourceError(f"{head.path}: no patient is left; first reason: {rejects[0].reason}")
    raw = frame[[column for _, column in kept]].to_numpy(np.float64)
    return names, [patient for patient, _ in kept], raw, rejects


def _refuse_transposed(head: Head) -> None:
    first = [row[0] for row in head.rows if row]
    patients_in_rows = share_of_barcodes(first) > 0.5
    genes_in_columns = len(_EVERYWHERE & set(head.header)) > 1 or (
        sum(gene_names.is_ensembl(name) for name in head.header) > 1
    )
    if patients_in_rows or genes_in_columns:
        found = f"rows are {some(first, 2)}, columns {some(head.header[1:], 2)}"
        raise SourceError(
            f"{head.path}: the table is transposed ({found}); expected genes in rows and patients "
            "in columns: turn it, e.g. pandas.read_csv(…, index_col=0).T.to_csv(…)"
        )


def _read_numbers(head: Head, columns: list[int], genes: list[str]) -> pd.DataFrame:
    delimited.require_even_rows(head)
    try:
        frame = delimited.read_body(head, columns, dtype=np.float64)
    except ValueError as error:
        texts = delimited.read_text_columns(head, columns)
        for column in columns:
            numbers = pd.to_numeric(texts[column], errors="coerce")
            bad = numbers.isna() & ~texts[column].str.lower().isin(["", "na", "nan", "null"])
            if bad.any():
                row = int(bad.to_numpy().argmax())
                raise SourceError(
                    f"{head.path}: gene {shown(genes[row])}, column "
                    f"{shown(head.header[column])} holds {shown(texts[column][row])!r}; "
                    "expected a number or NA; correct the cell"
                ) from error
        raise delimited.broken(head.path, error) from error
    if np.isinf(frame.to_numpy()).any():
        raise SourceError(f"{head.path} holds infinite values; expected numbers or NA: remove them")
    return frame


def _table(
    root: Path,
    names: list[str],
    patients: list[str],
    values: NDArray[np.float32],
    unit: str,
    layout: str,
    rejects: list[Reject],
    listing: str,
) -> ExpressionTable:
    empty: NDArray[np.bool_] = np.asarray(np.isnan(values).all(axis=0))
    rejects = rejects + [
        Reject(patient, "ingest", f"{root.name}: it has no value of any gene")
        for patient, is_empty in zip(patients, empty, strict=True)
        if is_empty
    ]
    symbols, values, of_genes = gene_names.one_row_a_gene(names, values[:, ~empty], root.name)
    if not symbols:
        raise SourceError(f"{root}: no gene is left; expected symbols or Ensembl identifiers")
    return ExpressionTable(
        root,
        tuple(patient for patient, gone in zip(patients, empty, strict=True) if not gone),
        symbols,
        values,
        unit,
        layout,
        tuple(sorted(rejects + of_genes, key=lambda reject: (reject.item, reject.reason))),
        listing,
    )
