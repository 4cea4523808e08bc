"""Owns reading clinical tables as cBioPortal publishes them, one row a sample or patient.

Every column is kept as published. Three more are made of them where they can be: ``age``
(years at diagnosis), ``sex`` (``female`` or ``male``) and ``stage`` (``I`` to ``IV``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from featurestore.errors import Reject, SourceError
from featurestore.model_versions import content_sha256
from featurestore.sources import delimited
from featurestore.sources.barcodes import LONGEST_NAME, choose_samples, shown, some

_PATIENT = ("Patient ID", "PATIENT_ID", "bcr_patient_barcode", "submitter_id", "case_submitter_id")
_SAMPLE = ("Sample ID", "SAMPLE_ID")
_SOURCES = {
    "age": ("Diagnosis Age", "AGE", "age_at_initial_pathologic_diagnosis"),
    "sex": ("Sex", "SEX", "gender"),
    "stage": (
        "AJCC Pathologic Stage",
        "Neoplasm Disease Stage American Joint Committee on Cancer Code",
        "AJCC_PATHOLOGIC_TUMOR_STAGE",
        "ajcc_pathologic_stage",
        "STAGE",
    ),
}
_MISSING = frozenset(
    {"", "na", "nan", "n/a", "'--", "[not available]", "[not applicable]", "[unknown]",
     "[discrepancy]", "not reported", "not available", "unknown"}
)  # fmt: skip
_STAGE = re.compile(r"(?:stage\s+)?(IV|I{1,3})(?:[ABC]\d?)?", re.IGNORECASE)


@dataclass(frozen=True)
class ClinicalTable:
    """Clinical variables of patients.

    Attributes
    ----------
    root : Path
        The file, absolute.
    patients : tuple of str
        Those with a value, sorted.
    variables : DataFrame
        Text by patient (index) and variable; None where missing. ``age``, ``sex``, ``stage``
        come first, where the table tells them.
    layout : str
    rejects : tuple of Reject
    listing_sha256 : str
        See :func:`clinical_listing`.
    """

    root: Path
    patients: tuple[str, ...]
    variables: pd.DataFrame
    layout: str
    rejects: tuple[Reject, ...]
    listing_sha256: str

    @property
    def rows(self) -> list[tuple[str, str, str]]:
        """Patient, variable and value, sorted, without the missing ones."""
        return sorted(
            (str(patient), str(name), str(value))
            for name, column in self.variables.items()
            for patient, value in column.dropna().items()
        )

    @cached_property
    def digest(self) -> str:
        """Digest of the content."""
        return content_sha256(["clinical", self.rows])


def read_clinical(path: Path) -> ClinicalTable:
    """Read a clinical table.

    Of several rows of a patient the one of the best sample stands for it (see
    :mod:`featurestore.sources.barcodes`).

    Raises
    ------
    SourceError
        If the table is absent, damaged, names no patients, or two columns share a name.
    """
    path = path.absolute()
    head = delimited.read_head(path)
    patient = delimited.column_named(head, _PATIENT)
    sample = delimited.column_named(head, _SAMPLE)
    key = patient if sample is None else sample
    if key is None:
        raise SourceError(
            f"{path} names no patients: expected a column {' or '.join(_PATIENT[:2])}, it has "
            f"{some(head.header, 12)}"
        )
    twice = {name for name in head.header if head.header.count(name) > 1}
    if twice:
        raise SourceError(f"{path} has two columns {some(sorted(twice))}; rename one")
    long = next((name for name in head.header if len(name) > LONGEST_NAME), None)
    if long is not None:
        raise SourceError(f"{path} has a column {shown(long)}; expected a name; correct the header")
    delimited.require_even_rows(head)
    named = [at for at, name in enumerate(head.header) if name]
    table = delimited.read_text_columns(head, named)
    chosen = choose_samples(table[key].tolist(), where=path.name)
    table = table.mask(table.apply(lambda column: column.str.lower().isin(_MISSING)))
    patients = sorted(chosen.positions)
    rows = table.iloc[[chosen.positions[name][0] for name in patients]]
    given = rows.set_axis(patients, axis=0).set_axis([head.header[at] for at in named], axis=1)
    given = given.drop(columns=[head.header[at] for at in (patient, sample) if at is not None])
    made, rejects = _made(given, path.name)
    variables = pd.concat([made, given], axis=1)
    variables = variables.astype(object).where(variables.notna(), None)
    has_value = variables.notna().any(axis=1)
    if not has_value.any():
        raise SourceError(f"{path}: no patient has a value; first columns: {some(head.header)}")
    rejects += [
        Reject(name, "ingest", f"{path.name}: it has no value of any variable; left out")
        for name, has in zip(patients, has_value, strict=True)
        if not has
    ]
    return ClinicalTable(
        path,
        tuple(name for name, has in zip(patients, has_value, strict=True) if has),
        variables[has_value],
        "cBioPortal clinical",
        tuple(sorted([*chosen.rejects, *rejects], key=lambda reject: (reject.item, reject.reason))),
        clinical_listing(path),
    )


def clinical_listing(path: Path) -> str:
    """Digest that changes when the table may read differently; nothing is opened.

    Raises
    ------
    SourceError
        If the table is absent.
    """
    return delimited.tables_listing(path.absolute(), kind="clinical")


def _made(given: pd.DataFrame, where: str) -> tuple[pd.DataFrame, list[Reject]]:
    make = {"age": _age, "sex": _sex, "stage": _stage}
    by_lower = {str(name).lower(): name for name in given.columns}
    made: dict[str, list[str | None]] = {}
    rejects = []
    for variable, names in _SOURCES.items():
        column = next((by_lower[n.lower()] for n in names if n.lower() in by_lower), None)
        if column is None or variable in given.columns:
            continue  # a column that has the name already is kept as it is
        cells = given[column]
        made[variable] = [None if pd.isna(cell) else make[variable](cell) for cell in cells]
        rejects += [
            Reject(
                patient, "ingest", f"{where}: {column} {shown(cell)!r} is no {variable}; left out"
            )
            for patient, cell, value in zip(given.index, cells, made[variable], strict=True)
            if value is None and not pd.isna(cell)
        ]
    return pd.DataFrame(made, index=given.index, dtype=object), rejects


def _age(cell: str) -> str | None:
    try:
        years = float(cell)
    except ValueError:
        return None
    return f"{years:g}" if 0 <= years <= 120 else None


def _sex(cell: str) -> str | None:
    return {"f": "female", "female": "female", "m": "male", "male": "male"}.get(cell.lower())


def _stage(cell: str) -> str | None:
    match = _STAGE.fullmatch(cell)
    return match[1].upper() if match else None
