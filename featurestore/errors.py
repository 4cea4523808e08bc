"""Every error that ffpe raises on purpose, and the ledger entry that outlives it.

::

    FfpeError
    ├── InputError                 something the user gave cannot be used
    │   ├── StudyError             the study file
    │   ├── SourceError            a folder, table or slide as a whole
    │   ├── UnreadableImageError   one image
    │   ├── UnreadableFeaturesError  one file of features that another tool computed
    │   ├── WeightsError           weights: missing, altered or of a refused kind
    │   ├── TrainingError          fine-tuning cannot start or did not converge
    │   └── CohortError            too few tiles, patients or classes for the question
    ├── LeakageError               a result would rest on data its encoder was trained on
    ├── OutageError                work was cut short as the database went away
    └── StoreError                 the database: absent, older schema, incomplete

A message says what is wrong and where, what was found, what was expected and what to do
next. Errors about one item of many are not raised through the batch: the item becomes a
:class:`Reject`, and the rest goes on.
"""

from __future__ import annotations

from dataclasses import dataclass


class FfpeError(Exception):
    """Base of every error that ffpe raises on purpose."""

    def __str__(self) -> str:
        return _storable(super().__str__())


class InputError(FfpeError):
    """Something that the user gave cannot be used."""


class StudyError(InputError):
    """The study file cannot be used."""


class SourceError(InputError):
    """A folder, table or slide cannot be used as a whole."""


class UnreadableImageError(InputError):
    """One image cannot be used as a tile."""


class UnreadableFeaturesError(InputError):
    """One file of features cannot be used."""


class WeightsError(InputError):
    """Weights are missing, altered, or of a kind that is never loaded."""


class TrainingError(InputError):
    """Fine-tuning cannot start on what it was given, or did not converge."""


class CohortError(InputError):
    """A cohort has too few tiles, patients or classes for what was asked."""


class LeakageError(FfpeError):
    """A result would rest on data that one of its encoders was trained on."""


class StoreError(FfpeError):
    """The database is absent, has an older schema, or lacks what was asked of it."""


class OutageError(FfpeError):
    """The database went away in the middle of work that may be begun again."""


@dataclass(frozen=True, slots=True)
class Reject:
    """One item left out of a batch, as it will stand in the ledger.

    Attributes
    ----------
    item : str
        What was left out: a path relative to its source, a tile, a patient, a gene.
    stage : str
        Where in the way of the data it happened: ``"ingest"``, ``"embed"``, …
    reason : str
        Why, and what to do about it.
    """

    item: str
    stage: str
    reason: str

    def __post_init__(self) -> None:
        # Names of files and cells of tables may be anything, but the ledger must be written.
        for name in ("item", "reason"):
            object.__setattr__(self, name, _storable(getattr(self, name)))


def _storable(text: str) -> str:
    """Text as a terminal and Postgres take it: UTF-8, without NUL."""
    return text.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode()
