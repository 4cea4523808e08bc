"""Owns TCGA barcodes: which patient a sample is of, and which sample stands for a patient.

``TCGA-05-4244-01A-01D-1105-08``: characters 1-12 name the patient, 6-7 the tissue source site,
14-15 the kind of sample (01-09 tumour, 10-19 normal, 20-29 control).

One sample stands for a patient: the primary tumour (01) first, then the recurrent one (02),
then the other tumours in the order of their codes; of several of one kind the first by name.
Normal tissue never stands for a patient.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from featurestore.errors import Reject

LONGEST_NAME = 200
"""Characters of the longest name that anything here has: what is longer is damage."""

_BARCODE = re.compile(r"(TCGA-([0-9A-Z]{2})-[0-9A-Z]{4})(?:-([0-9]{2})[A-Z]?(?:-[0-9A-Z-]+)?)?")
_ANYWHERE = re.compile(r"TCGA-[0-9A-Z]{2}-[0-9A-Z]{4}(?:-[0-9]{2}[A-Z]?)?(?![0-9A-Z])")
_CLAIMS_TO_BE_ONE = re.compile(r"TCGA\b", re.IGNORECASE)
_MANGLED = re.compile(r"(?<=\w)\.(?=\w)")  # R writes TCGA.05.4244 for TCGA-05-4244


@dataclass(frozen=True, slots=True)
class Barcode:
    """A name read as a barcode.

    Attributes
    ----------
    text : str
        The name, upper case, with hyphens.
    patient_id : str
        Its first 12 characters.
    site : str
        Tissue source site.
    sample_type : int or None
        01-09 tumour, 10-19 normal, 20-29 control; None where the name ends with the patient.
    """

    text: str
    patient_id: str
    site: str
    sample_type: int | None

    @property
    def is_tumour(self) -> bool:
        """Whether it is tumour tissue; a bare patient is taken for it."""
        return self.sample_type is None or 1 <= self.sample_type <= 9

    @property
    def rank(self) -> tuple[int, str]:
        """Sorts the samples of a patient, the one that stands for it first."""
        # A bare patient barcode tells less than 01 and more than any other tumour.
        return (20 if self.sample_type is None else 10 * self.sample_type + 5, self.text)


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which of the named samples stand for patients.

    Attributes
    ----------
    positions : dict of str to tuple of int
        Patient to the positions of its sample among the names: several only where one name
        stands there several times, or where every tumour sample was asked for.
    rejects : tuple of Reject
        Every other name and why it was left out.
    """

    positions: dict[str, tuple[int, ...]]
    rejects: tuple[Reject, ...]


def parse(name: str) -> Barcode | None:
    """The barcode that ``name`` is, or None; ``tcga.05.4244.01a`` counts as well."""
    text = name.strip().strip('"')
    if _CLAIMS_TO_BE_ONE.match(text):
        text = _MANGLED.sub("-", text).upper()
    match = _BARCODE.fullmatch(text)
    if match is None:
        return None
    return Barcode(text, match[1], match[2], None if match[3] is None else int(match[3]))


def find(text: str) -> list[Barcode]:
    """Every barcode in a text, up to the vial, in the order of appearance, each once."""
    found = (parse(match[0]) for match in _ANYWHERE.finditer(text))
    return list(dict.fromkeys(barcode for barcode in found if barcode is not None))


def share_of_barcodes(names: Sequence[str]) -> float:
    """Share of the names that are barcodes, 0 for no names."""
    return sum(parse(name) is not None for name in names) / max(len(names), 1)


def choose_samples(names: Sequence[str], *, where: str, all_tumours: bool = False) -> Chosen:
    """Choose the samples that stand for their patients.

    Parameters
    ----------
    names : sequence of str
        Names of samples as published. Where not one of them is a TCGA barcode or claims to
        be one, they are taken for a cohort's own patient identifiers.
    where : str
        The table, for the rejects.
    all_tumours : bool
        Whether every tumour sample of a patient is kept, not only the first.
    """
    parsed = [parse(name) for name in names]
    if not any(parsed) and not any(_CLAIMS_TO_BE_ONE.match(name.strip('" ')) for name in names):
        return _own_identifiers(names, where)
    samples: dict[str, list[tuple[Barcode, int]]] = {}
    rejects = []
    for position, (name, barcode) in enumerate(zip(names, parsed, strict=True)):
        reason = _unusable(barcode)
        if barcode is None or reason:
            rejects.append(Reject(_item(name, position), "ingest", f"{where}: {reason}"))
        else:
            samples.setdefault(barcode.patient_id, []).append((barcode, position))
    positions = {}
    for patient, candidates in samples.items():
        candidates.sort(key=lambda candidate: candidate[0].rank)
        best = candidates[0][0]
        kept = [all_tumours or barcode.text == best.text for barcode, _ in candidates]
        both = list(zip(candidates, kept, strict=True))
        positions[patient] = tuple(position for (_, position), keep in both if keep)
        rejects += [
            Reject(
                names[position],
                "ingest",
                f"{where}: {best.text} stands for patient {patient} (primary tumour first, then "
                "recurrent)",
            )
            for (_, position), keep in both
            if not keep
        ]
    return Chosen(positions, tuple(rejects))


def _unusable(barcode: Barcode | None) -> str:
    if barcode is None:
        return "it is no TCGA barcode; expected e.g. TCGA-05-4244 or TCGA-05-4244-01A; correct it"
    if barcode.is_tumour:
        return ""
    kind = "normal tissue" if 10 <= (barcode.sample_type or 0) <= 19 else "no tumour"
    return f"its sample type {barcode.sample_type:02d} is {kind}, which never stands for a tumour"


def _own_identifiers(names: Sequence[str], where: str) -> Chosen:
    positions: dict[str, tuple[int, ...]] = {}
    rejects = []
    for position, name in enumerate(names):
        patient = name.strip().strip('"')
        if 0 < len(patient) <= LONGEST_NAME:
            positions[patient] = (*positions.get(patient, ()), position)
        else:
            found = f"a name of {len(patient)} characters is none" if patient else "it names none"
            reason = f"{where}: expected a patient of at most {LONGEST_NAME} characters, {found}"
            rejects.append(Reject(_item(name, position), "ingest", f"{reason}; correct it"))
    return Chosen(positions, tuple(rejects))


def _item(name: str, position: int) -> str:
    """How the ledger calls a name; one that is empty, by where it stands among the others."""
    return shown(name.strip()) or f"number {position + 1}"


def shown(text: str) -> str:
    """A cell or a name for a message: a damaged one may be millions of characters long."""
    return text if len(text) <= LONGEST_NAME else f"{text[:60]}… ({len(text)} characters)"


def some(names: Iterable[str], n: int = 5) -> str:
    """The first few names for a message, and how many more there are."""
    every = list(names)
    more = f" and {len(every) - n} more" if len(every) > n else ""
    return ", ".join(shown(name) for name in every[:n]) + more
