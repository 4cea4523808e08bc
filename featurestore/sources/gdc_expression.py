"""Owns GDC's per-sample expression files: a folder of them, and the sheet that names samples.

Two formats, told by content: *STAR* (``# gene-model`` comment, ``gene_id gene_name …
tpm_unstranded fpkm_unstranded``; the rows ``N_…`` are no genes) and the older *headless* one
(``ENSG00000242268.2<TAB>0.03``, no header). Neither names its sample inside.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from featurestore.errors import Reject, SourceError
from featurestore.sources import delimited, gene_names, packed_text
from featurestore.sources.barcodes import choose_samples, some
from featurestore.sources.delimited import Head
from featurestore.sources.expression_units import Unit

_NO_GENES = ("N_unmapped", "N_multimapping", "N_noFeature", "N_ambiguous")
_STAR_COLUMNS = {
    "TPM": "tpm_unstranded",
    "FPKM": "fpkm_unstranded",
    "FPKM-UQ": "fpkm_uq_unstranded",
    "count": "unstranded",
}
_SHEET_ADVICE = (
    "GDC's files do not name their sample: put the sample sheet of the download (columns 'File "
    "Name', 'Case ID', 'Sample ID') into the folder, or name it in the study"
)


@dataclass
class Samples:
    """Per-sample files put side by side.

    Attributes
    ----------
    names : list of n_rows str
        Genes as published: symbols for STAR, Ensembl identifiers for headless files.
    patients : list of n_patients str
    values : (n_rows, n_patients) float64 array
        As published.
    unit : Unit
    layout : str
    rejects : list of Reject
    """

    names: list[str]
    patients: list[str]
    values: NDArray[np.float64]
    unit: Unit
    layout: str
    rejects: list[Reject]


@dataclass
class _Sheet:
    path: Path
    sample_of: dict[str, str] = field(default_factory=dict)


def is_sample_file(head: Head) -> bool:
    """Whether this is one sample's file rather than a matrix."""
    return _is_star(head) or _is_headless(head)


def _is_star(head: Head) -> bool:
    return head.header[0] == "gene_id" and "unstranded" in head.header


def _is_headless(head: Head) -> bool:
    return len(head.header) == 2 and gene_names.is_ensembl(head.header[0])


def read_samples(root: Path, *, unit: Unit | None, sample_sheet: Path | None) -> Samples:
    """Read the files of a folder that stand for a patient each.

    Normal samples and further samples of a patient are not even opened. A file that cannot
    be read, or that the sheet does not name, is a reject.

    Raises
    ------
    SourceError
        If there is no sheet, the unit is none of the files' own, the files are of two
        formats, or none is left.
    """
    files = delimited.table_files(root)
    rejects: list[Reject] = []
    sheet = _read_sheet(sample_sheet) if sample_sheet else _find_sheet(files, root)
    by_sample = _by_sample(
        [path for path in files if path.absolute() != sheet.path.absolute()], sheet, root, rejects
    )
    listed = list(by_sample)
    chosen = choose_samples(listed, where=sheet.path.name)
    rejects += chosen.rejects
    columns: dict[str, pd.Series] = {}
    symbol_of: dict[str, str] = {}
    layouts: dict[str, str] = {}
    for patient in sorted(chosen.positions):
        sample = listed[chosen.positions[patient][0]]
        try:
            layouts[patient], column, symbols = _read_sample(by_sample[sample], unit)
        except SourceError as error:
            rejects.append(Reject(sample, "ingest", str(error)))
            continue
        first = next(iter(columns.values()), column).index
        # One index for all: five hundred copies of 60,000 names would fill the memory.
        is_same = bool(columns) and column.index.equals(first)
        columns[patient] = column.set_axis(first) if is_same else column
        if not is_same and symbols is not None:
            symbol_of |= dict(zip(column.index, symbols, strict=True))
    if not columns:
        shown = "; ".join(f"{reject.item}: {reject.reason}" for reject in rejects[:3])
        raise SourceError(f"{root}: no sample could be read; first reasons: {shown}")
    if len(set(layouts.values())) > 1:
        raise SourceError(
            f"{root}: its files are of two formats ({', '.join(sorted(set(layouts.values())))}), "
            "whose values cannot be compared; keep one"
        )
    genes, values = _side_by_side(list(columns.values()))
    # A gene without a symbol keeps its Ensembl identifier.
    names = [symbol_of.get(gene) or gene for gene in genes]
    layout = next(iter(layouts.values()))
    if unit is None:
        unit = Unit("TPM", is_log=False) if layout == "GDC STAR" else _headless_unit(values, root)
    return Samples(names, list(columns), values, unit, layout, rejects)


def _find_sheet(files: list[Path], root: Path) -> _Sheet:
    for path in files:
        try:
            head = delimited.read_head(path)
        except SourceError:
            continue  # told again as a reject when it is read as a sample
        if delimited.column_named(head, ["File Name"]) is not None:
            return _read_sheet(path)
    raise SourceError(f"{root} has no sample sheet; {_SHEET_ADVICE}")


def _read_sheet(path: Path) -> _Sheet:
    head = delimited.read_head(path)
    file = delimited.column_named(head, ["File Name"])
    sample = delimited.column_named(head, ["Sample ID", "Case ID"])
    if file is None or sample is None:
        raise SourceError(
            f"{path} is no sample sheet: it has the columns {some(head.header, 10)}; "
            f"{_SHEET_ADVICE}"
        )
    sheet = _Sheet(path)
    rows = delimited.read_text_columns(head, [file, sample])
    for name, barcode in zip(rows[file], rows[sample], strict=True):
        if not name or not barcode:
            continue  # its file, if it is there, is one that the sheet does not name
        known = sheet.sample_of.setdefault(_bare(name), barcode)
        if known != barcode:
            raise SourceError(
                f"{path} gives the file {name} to two samples, {known} and {barcode}; correct it"
            )
    return sheet


def _bare(name: str) -> str:
    return name.rpartition("/")[2].removesuffix(".gz")


def _by_sample(
    files: list[Path], sheet: _Sheet, root: Path, rejects: list[Reject]
) -> dict[str, Path]:
    """Files by sample; what has no sample, and which sample has no file, is rejected."""
    found: dict[str, list[Path]] = {}
    for path in files:
        sample = sheet.sample_of.get(_bare(path.name))
        shown = path.name if path == root else path.relative_to(root).as_posix()
        if sample is None:
            reason = f"the sample sheet {sheet.path.name} does not name it"
            rejects.append(Reject(shown, "ingest", reason))
        else:
            found.setdefault(sample, []).append(path)
    for sample in sorted(set(sheet.sample_of.values()) - set(found)):
        reason = f"{sheet.path.name} names it, but its file is not in {root.name}"
        rejects.append(Reject(sample, "ingest", reason))
    by_sample = {}
    for sample, paths in found.items():
        first, *others = sorted(paths)
        if any(other.read_bytes() != first.read_bytes() for other in others):
            reason = f"{len(paths)} different files are of it ({some([p.name for p in paths])})"
            rejects.append(Reject(sample, "ingest", f"{reason}; keep the right one"))
        else:
            by_sample[sample] = first
    return by_sample


def _read_sample(path: Path, unit: Unit | None) -> tuple[str, pd.Series, pd.Series | None]:
    """Layout, values by Ensembl identifier, and the symbols where the file tells them."""
    head = delimited.read_head(path)
    if unit is not None and unit.is_log:
        raise SourceError(f"{path.name} holds linear values by its format, not {unit}")
    if _is_star(head):
        return "GDC STAR", *_read_star(head, unit.base if unit else "TPM")
    if _is_headless(head):
        table = _numbers(path, sep="\t", header=None, names=["gene", "value"], dtype={"gene": str})
        genes = table[~table["gene"].str.startswith("__", na=False)].set_index("gene")
        return "GDC headless", _once(genes, path)["value"], None
    raise SourceError(
        f"{path.name} is no expression file of GDC: its first line is {some(head.header, 3)}; "
        "expected STAR counts with a header, or ENSG… and a value"
    )


def _read_star(head: Head, base: str) -> tuple[pd.Series, pd.Series]:
    column = _STAR_COLUMNS.get(base)
    if column is None or column not in head.header:
        raise SourceError(
            f"{head.path.name} has no {base}; expected one of {', '.join(_STAR_COLUMNS)}"
        )
    wanted = ["gene_id", "gene_name", column]
    texts = {"gene_id": str, "gene_name": str}
    table = _numbers(head.path, sep="\t", skiprows=head.n_ahead - 1, usecols=wanted, dtype=texts)
    genes = _once(table[~table["gene_id"].isin(_NO_GENES)].set_index("gene_id"), head.path)
    # The symbol is not unique: two genes may share it, so both stay until one is chosen.
    return genes[column].astype(np.float64), genes["gene_name"].fillna("")


def _once(genes: pd.DataFrame, path: Path) -> pd.DataFrame:
    if genes.index.hasnans:
        raise SourceError(f"{path.name} has a row that names no gene; download it again")
    if genes.index.has_duplicates:
        twice = genes.index[genes.index.duplicated()][0]
        raise SourceError(f"{path.name} names the gene {twice} twice; download it again")
    return genes


def _numbers(path: Path, **options: Any) -> pd.DataFrame:
    try:
        table = delimited.read_csv(path, **options)
    except (*packed_text.BROKEN, ValueError) as error:
        raise delimited.broken(path, error) from error
    numbers = table.select_dtypes("number")
    if numbers.empty or not np.isfinite(numbers.to_numpy(np.float64)).any():
        raise SourceError(f"{path.name}: its values are no numbers")
    return table


def _side_by_side(columns: list[pd.Series]) -> tuple[list[str], NDArray[np.float64]]:
    first = columns[0].index
    if not all(column.index.equals(first) for column in columns):
        for column in columns:
            first = first.union(column.index)
        columns = [column.reindex(first) for column in columns]
    values = np.column_stack([column.to_numpy(np.float64) for column in columns])
    return [str(gene) for gene in first], values


def _headless_unit(values: NDArray[np.float64], root: Path) -> Unit:
    sums = np.nansum(values, axis=0)
    is_whole = bool((values == np.round(values)).all())
    # FPKM sum to a few hundred thousand; FPKM-UQ to many millions.
    if not is_whole and (sums < 1.5e6).all() and (sums > 2e4).all():
        return Unit("FPKM", is_log=False)
    kind = "whole numbers" if is_whole else "fractions"
    raise SourceError(
        f"{root}: its files do not say their unit ({kind}, sum {np.median(sums):.4g} a sample); "
        "declare it: 'FPKM', 'FPKM-UQ', 'TPM' or 'count'"
    )
