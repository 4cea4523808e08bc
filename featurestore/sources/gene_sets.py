"""Owns lists and sets of genes, and the default list of lung cancer drivers.

Told by content: one symbol a line; a signature matrix (LM22: genes × cell types, numbers); a
column a set (Hallmarks as CSV); a table of gene and set (MCP-counter); GMT, a set a line.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from featurestore.errors import Reject, SourceError
from featurestore.sources import delimited, gene_names, packed_text
from featurestore.sources.barcodes import some
from featurestore.sources.delimited import Head

LUNG_DRIVERS = ("TP53", "KRAS", "EGFR", "STK11", "KEAP1", "FAT1", "FAT4", "LRP1B", "NF1", "SETBP1")
"""The ten genes of Coudray et al., Nature Medicine 2018, doi 10.1038/s41591-018-0177-5."""

_SET_COLUMNS = ("Cell population", "Set", "Gene set", "gs_name", "Cell type")


@dataclass(frozen=True)
class GeneSets:
    """Genes of a file.

    Attributes
    ----------
    source : str
        Its file name.
    symbols : tuple of str
        Every gene of the sets asked for, each once, in the order of the file.
    sets : mapping of str to tuple of str
        Those sets; a plain list is one set with the file's name.
    layout : str
        The format that was recognised.
    """

    source: str
    symbols: tuple[str, ...]
    sets: Mapping[str, tuple[str, ...]]
    layout: str


def read_genes(path: Path, sets: Sequence[str] | None = None) -> GeneSets:
    """Read a list of genes, or some sets of a file of gene sets.

    A gene of a signature matrix belongs to the cell type in which its value is highest.

    Parameters
    ----------
    path : Path
        Plain or gzipped text.
    sets : sequence of str, optional
        Names of the sets wanted; all where left out.

    Raises
    ------
    SourceError
        If the file is absent or holds no gene, or a set is not in it; the message lists
        those that are.
    """
    head = delimited.read_head(path)
    layout, read = _read(head)
    found = {name: tuple(dict.fromkeys(genes)) for name, genes in read.items() if genes}
    if not found:
        raise SourceError(f"{path} holds no gene; expected symbols, one a line, or gene sets")
    missing = [name for name in sets or () if name not in found]
    if missing:
        raise SourceError(
            f"{path} has no set {some(missing)}; it has {some(sorted(found), 60)}; correct the name"
        )
    chosen = {name: found[name] for name in (sets or found)}
    symbols = tuple(dict.fromkeys(gene for genes in chosen.values() for gene in genes))
    return GeneSets(path.name, symbols, chosen, layout)


def known_genes(
    wanted: Sequence[str], known: Collection[str], where: str
) -> tuple[tuple[str, ...], tuple[Reject, ...]]:
    """Part genes into those that a table knows and those that it does not.

    Parameters
    ----------
    wanted : sequence of str
    known : collection of str
        Symbols of the table.
    where : str
        The table, for the rejects.

    Returns
    -------
    genes : tuple of str
        The known ones, in the order of ``wanted``.
    rejects : tuple of Reject
        The others, one each; with the table's spelling where only case or hyphens differ.
    """
    there = set(known)
    spelling = {_letters(symbol): symbol for symbol in sorted(there)}
    rejects = []
    for symbol in dict.fromkeys(wanted):
        if symbol not in there:
            near = spelling.get(_letters(symbol))
            hint = f"; it has {near}" if near else "; it may have another name there"
            rejects.append(Reject(symbol, "ingest", f"{where} has no gene of this name{hint}"))
    return tuple(dict.fromkeys(symbol for symbol in wanted if symbol in there)), tuple(rejects)


def _letters(symbol: str) -> str:
    return re.sub(r"[^A-Z0-9]", "", symbol.upper())


def _read(head: Head) -> tuple[str, dict[str, list[str]]]:
    set_column = delimited.column_named(head, _SET_COLUMNS)
    gene_column = delimited.column_named(head, gene_names.SYMBOL_COLUMNS)
    if set_column is not None and gene_column is not None:
        return "gene and set", _pairs(head, gene_column, set_column)
    if len(head.header) == 1:
        return "list", {head.path.name: _lines(head.path)}
    if _is_gmt(head):
        return "GMT", _gmt(head.path)
    if _is_signature(head):
        return "signature matrix", _signature(head)
    return "column a set", _columns(head)


def _pairs(head: Head, gene_column: int, set_column: int) -> dict[str, list[str]]:
    table = delimited.read_text_columns(head, [gene_column, set_column])
    found: dict[str, list[str]] = {}
    for gene, name in zip(table[gene_column], table[set_column], strict=True):
        if gene_names.tidy(gene) and name:
            found.setdefault(name, []).append(gene_names.tidy(gene))
    return found


def _text_lines(path: Path) -> list[str]:
    try:
        with packed_text.open_text(path) as file:
            return [line.strip() for line in file if line.strip() and not line.startswith("#")]
    except packed_text.BROKEN as error:
        raise delimited.broken(path, error) from error


def _lines(path: Path) -> list[str]:
    # What follows a symbol after a hash is a remark.
    genes = [gene_names.tidy(line.partition("#")[0]) for line in _text_lines(path)]
    if genes and genes[0].lower() in gene_names.SYMBOL_COLUMNS:
        genes = genes[1:]
    return [gene for gene in genes if gene]


def _is_gmt(head: Head) -> bool:
    lengths = {len(row) for row in (head.header, *head.rows)}
    second = head.header[1]
    return head.separator == "\t" and (
        second.startswith(("http://", "https://")) or (len(lengths) > 1 and second in ("", "na"))
    )


def _gmt(path: Path) -> dict[str, list[str]]:
    found = {}
    for line in _text_lines(path):
        name, *after = line.split("\t")
        genes = after[1:]  # the first is a description
        found[name] = [gene_names.tidy(gene) for gene in genes if gene_names.tidy(gene)]
    return found


def _is_signature(head: Head) -> bool:
    cells = [cell for row in head.rows for cell in row[1:]]
    return bool(cells) and all(_is_number(cell) for cell in cells)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _signature(head: Head) -> dict[str, list[str]]:
    columns = list(range(1, len(head.header)))
    genes = delimited.read_text_columns(head, [0])[0].map(gene_names.tidy)
    try:
        values = delimited.read_body(head, columns, dtype=np.float64).to_numpy()
    except ValueError as error:
        raise delimited.broken(head.path, error) from error
    found: dict[str, list[str]] = {head.header[at]: [] for at in columns}
    for gene, row in zip(genes, values, strict=True):
        if gene and not np.isnan(row).all():
            found[head.header[columns[int(np.nanargmax(row))]]].append(gene)
    return found


def _columns(head: Head) -> dict[str, list[str]]:
    columns = [at for at, name in enumerate(head.header) if name]
    table = delimited.read_text_columns(head, columns)
    return {
        head.header[at]: [gene_names.tidy(cell) for cell in table[at] if gene_names.tidy(cell)]
        for at in columns
    }
