"""The study file: one readable TOML file says everything that a study depends on.

Every key has its place here, with its default. An unknown key is refused by name, since a
misspelt one would silently leave a default in force. Relative paths are relative to the
file, so that a study can be moved together with its data.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

from pydantic import (
    BaseModel,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails

from featurestore.errors import StudyError
from orchestration.study_encoders import EncoderEntry
from orchestration.study_sections import (
    BASELINES,
    CLINICAL,
    FOLDER_KEY,
    Finetune,
    Luad,
    Section,
    Synthetic,
    SyntheticCohort,
    Tissue,
)

_MAX_BYTES = 1 << 20


class Study(Section):
    """A whole study.

    Attributes
    ----------
    name : str
        Prefix of its assets and key of its results: lower case, digits, underscores.
    seed : int
        Seed of everything that is drawn at random, unless a section has its own.
    finetune, tissue, luad : optional sections
    encoders : tuple of EncoderEntry
        In the order in which they are compared; the colour baselines are added at the end.
    path : path
        The study file itself.
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=40)
    seed: int = Field(default=7, ge=0, lt=2**32)
    finetune: Finetune | None = None
    tissue: Tissue | None = None
    luad: Luad | None = None
    encoders: tuple[EncoderEntry, ...]
    path: Path = Field(exclude=True)

    @field_validator("encoders")
    @classmethod
    def _with_baselines(cls, entries: tuple[EncoderEntry, ...]) -> tuple[EncoderEntry, ...]:
        if not entries:
            raise ValueError("a study needs at least one [[encoders]] entry")
        names = [entry.name for entry in entries]
        twice = sorted(
            {name for name in names if names.count(name) > 1 or name in {*BASELINES, CLINICAL}}
        )
        if twice:
            raise ValueError(f"encoder name(s) taken twice or reserved: {', '.join(twice)}")
        baselines = (EncoderEntry(name=n, network=network) for n, network in BASELINES.items())
        return (*entries, *baselines)

    @model_validator(mode="after")
    def _parents_exist(self) -> Self:
        for entry in self.encoders:
            if entry.finetuned_from is None:
                continue
            parents = {
                e.name for e in self.encoders if e.finetuned_from is None and e.features is None
            }
            if entry.finetuned_from not in parents - BASELINES.keys():
                raise ValueError(
                    f"encoder {entry.name!r} is fine-tuned from {entry.finetuned_from!r}, which is "
                    f"not an encoder of this study that can be; expected one of "
                    f"{', '.join(sorted(parents - BASELINES.keys())) or 'none'}"
                )
            if self.finetune is None:
                raise ValueError(f"encoder {entry.name!r} is fine-tuned, but [finetune] is missing")
        return self

    @model_validator(mode="after")
    def _imports_have_slides(self) -> Self:
        for entry in self.encoders:
            if entry.features is not None and (self.luad is None or self.tissue is not None):
                raise ValueError(
                    f"encoder {entry.name!r} imports features of slides: they can answer [luad] "
                    "but not [tissue], whose tiles they have not seen; give them a study with "
                    "[luad] alone"
                )
        return self

    @model_validator(mode="after")
    def _tumour_can_be_told(self) -> Self:
        if self.luad is None or (self.luad.tiles == "all" and self.luad.tumour_by is None):
            return self
        imported = [entry.name for entry in self.encoders if entry.features is not None]
        if imported and self.luad.tiles == "tumour":
            raise ValueError(
                f"encoder {imported[0]!r} imports features of tiles that no classifier of this "
                'study has seen: use [luad].tiles = "all", or leave the encoder out'
            )
        if self.classifier() is None:
            tuned = [entry.name for entry in self.encoders if entry.finetuned_from is not None]
            asked = "" if self.luad.tumour_by is None else f" (tumour_by = {self.luad.tumour_by!r})"
            raise ValueError(
                f'[luad].tiles = "tumour"{asked} needs an encoder with finetuned_from, whose '
                f"classifier tells tumour; the study has {', '.join(tuned) or 'none'}"
            )
        return self

    def classifier(self) -> EncoderEntry | None:
        """The fine-tuned encoder whose classifier tells the class of the slides' tiles, if any."""
        asked = None if self.luad is None else self.luad.tumour_by
        tuned = [entry for entry in self.encoders if entry.finetuned_from is not None]
        return next((entry for entry in tuned if asked in (None, entry.name)), None)

    def encoder(self, name: str) -> EncoderEntry:
        """The entry of the encoder called ``name``.

        Raises
        ------
        StudyError
            If the study has none.
        """
        for entry in self.encoders:
            if entry.name == name:
                return entry
        known = ", ".join(entry.name for entry in self.encoders)
        raise StudyError(f"{self.path}: no encoder is called {name!r}; expected one of {known}")


def read_study(path: Path) -> Study:
    """Read and check a study file.

    Parameters
    ----------
    path : pathlib.Path
        A TOML file.

    Raises
    ------
    StudyError
        If it cannot be read or a key is unknown, missing or out of range; every fault is
        named in one message.
    """
    try:
        if path.exists() and not path.is_file():
            raise StudyError(f"{path}: is no regular file; expected a study file (TOML)")
        if path.stat().st_size > _MAX_BYTES:
            raise StudyError(
                f"{path}: has {path.stat().st_size} bytes; expected a study file (TOML) of at most "
                f"{_MAX_BYTES}"
            )
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise StudyError(f"{path}: cannot be read as a study file: {error}") from error
    except (ValueError, RecursionError) as error:  # numbers too long, brackets too deep
        raise StudyError(f"{path}: is not TOML: {error}") from error
    if "path" in content:
        raise StudyError(f"{path}: unknown key path")
    try:
        return Study.model_validate(
            content | {"path": path.resolve()}, context={FOLDER_KEY: path.resolve().parent}
        )
    except ValidationError as error:
        faults = "; ".join(_fault(item, content) for item in error.errors())
        raise StudyError(f"{path}: {faults}") from error


def read_studies(paths: Iterable[Path]) -> tuple[Study, ...]:
    """Read several studies, which must not share a name.

    Raises
    ------
    StudyError
        As :func:`read_study`, or if two files use the same study name.
    """
    studies: dict[str, Study] = {}
    for path in paths:
        study = read_study(path)
        other = studies.setdefault(study.name, study)
        if other.path != study.path:
            raise StudyError(
                f"{study.path}: the study name {study.name!r} is also that of {other.path}; "
                "rename one of them"
            )
    return tuple(studies.values())


def _fault(item: ErrorDetails, content: dict[str, Any]) -> str:
    location = item["loc"]
    where = _dotted(location, content)
    if item["type"] == "extra_forbidden":
        close = difflib.get_close_matches(str(location[-1]), _known_keys(location[:-1]), n=1)
        return f"unknown key {where}" + (f"; did you mean {close[0]}?" if close else "")
    if item["type"] == "missing":
        return f"missing key {where}"
    message = item["msg"].removeprefix("Value error, ")
    # A section as a whole would be printed at length and say nothing.
    got = "" if isinstance(item["input"], dict | list | tuple) else f", got {item['input']!r}"
    return f"{where}: {message}{got}"


def _dotted(location: tuple[int | str, ...], content: Any) -> str:
    """The key as it is written in TOML: ``[tissue].repeats``, ``[[encoders]] ftx: mpp``."""
    if not location:
        return "the study"
    first, *rest = location
    if not rest:
        return str(first)
    if first == "encoders" and isinstance(rest[0], int):
        entry = content["encoders"][rest[0]]
        name = entry.get("name", f"number {rest[0] + 1}") if isinstance(entry, dict) else rest[0]
        return f"[[encoders]] {name}" + "".join(f".{part}" for part in rest[1:])
    return f"[{first}]." + ".".join(str(part) for part in rest)


def _known_keys(location: tuple[int | str, ...]) -> list[str]:
    section: type[BaseModel] = Study
    sections: dict[str, type[BaseModel]] = {
        "finetune": Finetune,
        "tissue": Tissue,
        "luad": Luad,
        "slides": SyntheticCohort,
        "encoders": EncoderEntry,
        "tiles": Synthetic,
    }
    for part in location:
        section = sections.get(str(part), section)
    return [name for name in section.model_fields if name != "path"]
