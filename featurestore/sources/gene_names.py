"""Owns what a gene is called in a table, and which row stands for a gene named twice.

Ensembl versions are stripped (``ENSG00000141510.16`` is ``ENSG00000141510``), and so are the
Entrez numbers of older matrices (``TP53|7157``). Where a table has a column of symbols it
counts, otherwise the gene keeps its Ensembl identifier: nothing is looked up. Of several rows
of one gene the one with the highest mean is kept.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import Reject
from featurestore.sources.barcodes import LONGEST_NAME, some

SYMBOL_COLUMNS = ("hugo_symbol", "hugo symbols", "gene_symbol", "gene symbol", "symbol",
                  "gene_name", "gene name", "gene")  # fmt: skip
"""Names of a column of symbols, in any case, the surest first."""

OTHER_COLUMNS = ("gene_id", "ensembl_id", "ensembl", "ensembl id", "entrez_gene_id", "entrezid",
                 "gene_type", "biotype", "description", "chromosome", "start", "end",
                 "strand", "length", "id")  # fmt: skip
"""Names of columns that describe a gene and are no sample, in any case."""

_ENSEMBL = re.compile(r"(ENSG\d{11})(?:\.\d+)?(?:_PAR_Y)?")
_WITH_ENTREZ = re.compile(r"(.+)\|\d+")
_DATE = re.compile(r"\d{1,2}-(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)", re.IGNORECASE)
_NO_NAME = frozenset({"", "?", "na", "nan", "null", "unknown", ".", "-", "---"})


def tidy(name: str) -> str:
    """The gene's name without version, number or space; empty where it is none."""
    text = name.strip().strip('"')
    for pattern in (_ENSEMBL, _WITH_ENTREZ):
        match = pattern.fullmatch(text)
        if match:
            text = match[1]
    return "" if text.lower() in _NO_NAME or len(text) > LONGEST_NAME else text


def is_ensembl(name: str) -> bool:
    """Whether the name is an Ensembl gene identifier, with or without a version."""
    return _ENSEMBL.fullmatch(name.strip().strip('"')) is not None


def one_row_a_gene(
    names: Sequence[str], values: NDArray[np.float32], where: str
) -> tuple[tuple[str, ...], NDArray[np.float32], list[Reject]]:
    """Resolve names and keep one row a gene, sorted by name.

    Parameters
    ----------
    names : sequence of n_rows str
        As published.
    values : (n_rows, n_patients) array
        log2(x + 1); NaN where missing.
    where : str
        The table, for the rejects.

    Returns
    -------
    symbols : tuple of n_genes str
        Sorted.
    values : (n_genes, n_patients) array
    rejects : list of Reject
        One for each reason, with the number of rows and the first names.
    """
    tidied = [tidy(name) for name in names]
    dates = [name for name in tidied if _DATE.fullmatch(name)]
    unnamed = sum(not name for name in tidied)
    has_value: NDArray[np.bool_] = ~np.asarray(np.isnan(values).all(axis=1))
    empty = [name for name, has in zip(tidied, has_value, strict=True) if name and not has]
    means = np.full(len(values), -np.inf)
    means[has_value] = np.nanmean(values[has_value], axis=1, dtype=np.float64)
    best: dict[str, int] = {}
    twice: dict[str, int] = {}
    for row, name in enumerate(tidied):
        if not name or not has_value[row] or _DATE.fullmatch(name):
            continue
        if name in best:
            twice[name] = twice.get(name, 0) + 1
            if means[row] <= means[best[name]]:
                continue
        best[name] = row
    symbols = tuple(sorted(best))
    kept = values[[best[name] for name in symbols]]
    reasons = {
        f"{unnamed} rows name no gene; expected a symbol or an Ensembl identifier": unnamed,
        f"{len(dates)} genes have become dates in a spreadsheet ({some(dates)}); take the table "
        "from its source again": len(dates),
        f"{len(empty)} genes have no value in any patient ({some(empty)})": len(empty),
        f"{sum(twice.values())} more rows of {len(twice)} genes that are there already "
        f"({some(sorted(twice))}); of each gene the row with the highest mean is kept": len(twice),
    }
    return symbols, kept, [Reject(where, "ingest", reason) for reason, n in reasons.items() if n]
