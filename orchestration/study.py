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
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails

from featurestore.errors import StudyError

# Colour alone classifies tissue surprisingly well; no comparison is shown without it.
BASELINES = {"mean-rgb": "colour.mean_rgb", "colour-histogram": "colour.histogram"}

_FOLDER_KEY = "study_folder"


def _beside_the_study(path: Path, info: ValidationInfo) -> Path:
    return (Path((info.context or {}).get(_FOLDER_KEY, ".")) / path.expanduser()).resolve()


StudyPath = Annotated[Path, AfterValidator(_beside_the_study)]
Mpp = Annotated[float, Field(ge=0.05, le=10)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Synthetic(_Section):
    """Tissue that ffpe draws itself, of the nine classes of NCT-CRC-HE.

    Attributes
    ----------
    synthetic : int
        Tiles a class.
    seed : int
        Another seed draws other tiles.
    tile_px : int
        Side of a tile in pixels.
    """

    synthetic: int = Field(ge=1)
    seed: int = 0
    tile_px: int = Field(default=224, ge=32, le=4096)


class TileSource(_Section):
    """A set of labelled tiles.

    Attributes
    ----------
    tiles : path or Synthetic
        Folder with one folder a class, or ``{ synthetic = N, seed = S }``.
    patients : path, optional
        CSV with the columns ``file`` and ``patient``.
    mpp : float, optional
        Resolution of the tiles in µm per pixel, where it is known.
    """

    tiles: StudyPath | Synthetic
    patients: StudyPath | None = None
    mpp: Mpp | None = None

    @field_validator("tiles", mode="before")
    @classmethod
    def _by_kind(cls, value: object, info: ValidationInfo) -> object:
        # Decided here, so that an error speaks of the kind that was meant and not of both.
        if isinstance(value, dict):
            return Synthetic.model_validate(value, context=info.context)
        return value


class Finetune(TileSource):
    """The two steps of fine-tuning: first the head, then the unfrozen part with it.

    The paper names neither rates nor epochs nor layers; these defaults are ours.

    Attributes
    ----------
    epochs : (int, int)
        Epochs of step 1 (head on the frozen network) and of step 2 (unfrozen part).
    unfreeze : str
        First block that step 2 trains; everything after it is trained too. ``"all"``
        trains the whole network.
    head_learning_rate, body_learning_rate : float
        Rates of step 1 and of step 2 (its one-cycle maximum).
    weight_decay : float
        AdamW's decoupled weight decay.
    batch_size : int
        Tiles a training step.
    validation_fraction : float
        Share of the tiles that is held out for early stopping.
    patience : int
        Epochs without improvement after which step 2 stops.
    stain_jitter : float
        Strength of the random change of staining, 0 for none.
    views : int
        Augmented views computed of every tile; epochs take turns among them.
    seed : int, optional
        The study's seed, unless given here.
    scratch_gb : float
        Room on disk for the frozen part's outputs; beyond it they are computed anew each
        epoch, with the same result.
    """

    epochs: tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]] = (1, 3)
    unfreeze: str = "block12"
    head_learning_rate: float = Field(default=1e-2, gt=0)
    body_learning_rate: float = Field(default=3e-4, gt=0)
    weight_decay: float = Field(default=1e-2, ge=0)
    batch_size: int = Field(default=32, ge=2)
    validation_fraction: float = Field(default=0.1, ge=0, lt=1)
    patience: int = Field(default=2, ge=1)
    stain_jitter: float = Field(default=0.05, ge=0, le=1)
    views: int = Field(default=2, ge=1)
    seed: int | None = None
    scratch_gb: float = Field(default=20, ge=0)


class Tissue(TileSource):
    """Task 1: tissue classification by repeated cross-validation.

    Attributes
    ----------
    folds, repeats : int
        Cross-validation: folds of each repeat, and how often it is repeated.
    c : float
        Inverse strength of the classifier's L2 penalty.
    """

    folds: int = Field(default=5, ge=2)
    repeats: int = Field(default=50, ge=1)
    c: float = Field(default=0.1, gt=0)


class EncoderEntry(_Section):
    """One encoder of the comparison.

    Attributes
    ----------
    name : str
        Its name in tables and figures.
    network : str
        timm or ``hf-hub:`` name of the network.
    weights : path, optional
        File with the weights, in place of the network's own sources.
    weights_sha256 : str, optional
        The checksum that the weights must have; required with ``weights``.
    input_px : int, optional
        Side of the network's input in pixels.
    mpp : float, optional
        Resolution that the encoder is meant for, in µm per pixel of its input.
    precision : {"auto", "float32", "bfloat16"}
        ``auto`` takes bfloat16 where the processor has it.
    finetuned_from : str, optional
        Name of the encoder that ``[finetune]`` starts from; the rest is then its.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=60)
    network: str = "legacy_xception"
    weights: StudyPath | None = None
    weights_sha256: Sha256 | None = None
    input_px: int | None = Field(default=None, ge=32, le=2048)
    mpp: Mpp | None = None
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    finetuned_from: str | None = None

    @model_validator(mode="after")
    def _nothing_beside_the_parent(self) -> Self:
        extra = self.model_fields_set - {"name", "finetuned_from"}
        if self.finetuned_from is not None and extra:
            raise ValueError(
                f"encoder {self.name!r} is fine-tuned from {self.finetuned_from!r} and takes "
                f"{', '.join(sorted(extra))} from it: remove the key(s) or set them there"
            )
        return self


class Study(_Section):
    """A whole study.

    Attributes
    ----------
    name : str
        Prefix of its assets and key of its results: lower case, digits, underscores.
    seed : int
        Seed of everything that is drawn at random, unless a section has its own.
    finetune, tissue : optional sections
    encoders : tuple of EncoderEntry
        In the order in which they are compared; the colour baselines are added at the end.
    path : path
        The study file itself.
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=40)
    seed: int = Field(default=7, ge=0, lt=2**32)
    finetune: Finetune | None = None
    tissue: Tissue | None = None
    encoders: tuple[EncoderEntry, ...]
    path: Path = Field(exclude=True)

    @field_validator("encoders")
    @classmethod
    def _with_baselines(cls, entries: tuple[EncoderEntry, ...]) -> tuple[EncoderEntry, ...]:
        if not entries:
            raise ValueError("a study needs at least one [[encoders]] entry")
        names = [entry.name for entry in entries]
        twice = sorted({name for name in names if names.count(name) > 1 or name in BASELINES})
        if twice:
            raise ValueError(f"encoder name(s) taken twice or reserved: {', '.join(twice)}")
        baselines = (EncoderEntry(name=n, network=network) for n, network in BASELINES.items())
        return (*entries, *baselines)

    @model_validator(mode="after")
    def _parents_exist(self) -> Self:
        for entry in self.encoders:
            if entry.finetuned_from is None:
                continue
            parents = {e.name for e in self.encoders if e.finetuned_from is None}
            if entry.finetuned_from not in parents - BASELINES.keys():
                raise ValueError(
                    f"encoder {entry.name!r} is fine-tuned from {entry.finetuned_from!r}, which is "
                    f"not an encoder of this study that can be; expected one of "
                    f"{', '.join(sorted(parents - BASELINES.keys())) or 'none'}"
                )
            if self.finetune is None:
                raise ValueError(f"encoder {entry.name!r} is fine-tuned, but [finetune] is missing")
        return self

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
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise StudyError(f"{path}: cannot be read as a study file: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise StudyError(f"{path}: is not TOML: {error}") from error
    if "path" in content:
        raise StudyError(f"{path}: unknown key path")
    try:
        return Study.model_validate(
            content | {"path": path.resolve()}, context={_FOLDER_KEY: path.resolve().parent}
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
        "encoders": EncoderEntry,
        "tiles": Synthetic,
    }
    for part in location:
        section = sections.get(str(part), section)
    return [name for name in section.model_fields if name != "path"]
