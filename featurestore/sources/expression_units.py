"""Owns units of expression: what they are called, what values they allow, log2(x + 1).

A wrong unit changes every value and stops nothing, so a table that contradicts the unit it is
said to have is refused with the numbers that show it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import SourceError

_BASES = ("TPM", "FPKM", "FPKM-UQ", "RPKM", "CPM", "count", "norm_count", "x")
_LOG = re.compile(r"log2\(\s*(.+?)\s*\+\s*1\s*\)", re.IGNORECASE)
# A log2 of 30 would be a billion; the largest counts of a gene are some ten millions.
_MAX_LOG2 = 30.0
# Below so many genes a table is a selection, and sums and maxima tell nothing.
_N_GENES_ALL = 15_000
_N_GENES_MANY = 1_000
_MILLION = 1e6


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit of expression, e.g. ``TPM`` or ``log2(TPM+1)``."""

    base: str
    is_log: bool

    def __str__(self) -> str:
        return f"log2({self.base}+1)" if self.is_log else self.base


def parse_unit(text: str) -> Unit:
    """The unit that a study names.

    Raises
    ------
    SourceError
        If it is not known.
    """
    match = _LOG.fullmatch(text.strip())
    name = match[1] if match else text.strip()
    known = {base.lower(): base for base in _BASES}
    if name.lower() not in known:
        raise SourceError(
            f"unit of expression {text!r} is not known; expected one of {', '.join(_BASES)}, or "
            "log2(… + 1) of it, e.g. 'log2(TPM+1)'"
        )
    return Unit(known[name.lower()], match is not None)


def infer_unit(values: NDArray[np.float64], where: str) -> Unit:
    """The unit of a table that none was declared for, where its values leave only one.

    Raises
    ------
    SourceError
        If they leave several; the message says what was seen.
    """
    sums = _column_sums(values)
    if len(values) >= _N_GENES_ALL and (np.abs(sums / _MILLION - 1) < 0.005).all():
        return Unit("TPM", is_log=False)
    raise SourceError(
        f"{where}: the table does not say what unit its values are in (range "
        f"{_range(values)}, median column sum {np.median(sums):.4g}); declare it, e.g. 'FPKM' or "
        "'log2(TPM+1)'"
    )


def require_unit(values: NDArray[np.float64], unit: Unit, where: str) -> None:
    """Refuse values that contradict their unit.

    Parameters
    ----------
    values : (n_genes, n_samples) array
        As published; NaN where missing.
    unit : Unit
    where : str
        The table, for the message.

    Raises
    ------
    SourceError
        With the evidence and what it may be instead.
    """
    contradiction = _of_log(values) if unit.is_log else _of_linear(values, unit)
    contradiction = contradiction or _of_sums(values, unit)
    if contradiction:
        raise SourceError(f"{where}: declared as {unit}, but {contradiction}; correct the unit")


def to_log2(values: NDArray[np.float64], unit: Unit) -> NDArray[np.float32]:
    """log2(x + 1) of the values, whatever their unit; NaN stays NaN."""
    return (values if unit.is_log else np.log2(values + 1)).astype(np.float32)


def _of_log(values: NDArray[np.float64]) -> str:
    if np.nanmax(values) > _MAX_LOG2:
        return (
            f"its largest value is {np.nanmax(values):.6g}, where log2 ends below {_MAX_LOG2:g}: "
            "these are not logarithms"
        )
    if np.nanmin(values) < 0:
        return (
            f"{int((values < 0).sum())} values are negative, the lowest {np.nanmin(values):.6g}, "
            "where log2(x + 1) is not: it may be centred, or log2 with an offset below 1"
        )
    return ""


def _of_linear(values: NDArray[np.float64], unit: Unit) -> str:
    if np.nanmin(values) < 0:
        return (
            f"{int((values < 0).sum())} values are negative, the lowest {np.nanmin(values):.6g}: "
            "these are logarithms or centred values"
        )
    if len(values) >= _N_GENES_MANY and np.nanmax(values) <= _MAX_LOG2 and unit.base != "x":
        return (
            f"the largest value of {len(values)} genes is {np.nanmax(values):.4g}: these look like "
            "log2 values"
        )
    present = values[np.isfinite(values)]
    is_whole = bool((present == np.round(present)).all())
    if unit.base == "count" and not is_whole:
        return "it holds fractions, which counts are not: it may be normalised ('norm_count')"
    if unit.base not in ("count", "norm_count", "x") and is_whole and len(values) >= _N_GENES_MANY:
        return "it holds whole numbers only: these look like counts"
    return ""


def _of_sums(values: NDArray[np.float64], unit: Unit) -> str:
    if unit.base not in ("TPM", "FPKM"):
        return ""
    sums = _column_sums(np.exp2(values) - 1 if unit.is_log else values)
    shown = f"the values of a sample sum to {np.median(sums):.4g} (median)"
    has_all = len(values) >= _N_GENES_ALL
    if unit.base == "FPKM":
        is_million = has_all and (np.abs(sums / _MILLION - 1) < 0.001).all()
        return f"{shown}, to a million in every one: these are TPM" if is_million else ""
    if sums.max() > 1.02 * _MILLION:
        return f"{shown}, at most {sums.max():.4g}, where TPM sum to a million"
    # Protein-coding genes alone make up most of the million, but not always all of it.
    if has_all and np.median(sums) < 0.5 * _MILLION:
        return f"{shown}, where TPM sum to about a million: it may be FPKM"
    return ""


def _column_sums(values: NDArray[np.float64]) -> NDArray[np.float64]:
    sums: NDArray[np.float64] = np.nansum(values, axis=0)
    return sums


def _range(values: NDArray[np.float64]) -> str:
    return f"{np.nanmin(values):.4g} to {np.nanmax(values):.4g}"
