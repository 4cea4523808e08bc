"""What is exported: a study's encoders with their data sets, and the genes it asks about."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ExportEncoder:
    """An encoder of the study, and the data sets that it embedded.

    Attributes
    ----------
    name : str
        Its name in the study, and of its files.
    model_version_id : int
    datasets : dict of str to int
        ``tissue_tiles`` and ``slide_tiles``, those of them that the study has. Patients'
        features are pooled from the latter.
    """

    name: str
    model_version_id: int
    datasets: dict[str, int]


@dataclass(frozen=True, slots=True)
class Genes:
    """Genes of a molecular table."""

    source_id: int
    symbols: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ExportPlan:
    """Everything that an export of a study rests on.

    Attributes
    ----------
    study : str
    encoders : tuple of ExportEncoder
    expression, mutation : Genes or None
        None where the study has no such table.
    """

    study: str
    encoders: tuple[ExportEncoder, ...]
    expression: Genes | None = None
    mutation: Genes | None = None
