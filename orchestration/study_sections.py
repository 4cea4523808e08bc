"""The sections of a study file: what is fine-tuned, classified, and which encoders are compared.

Each key has its place and its default here. Relative paths are relative to the file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

# Colour alone classifies tissue surprisingly well; no comparison is shown without it.
CLINICAL = "clinical"
BASELINES = {"mean-rgb": "colour.mean_rgb", "colour-histogram": "colour.histogram"}

FOLDER_KEY = "study_folder"


def _beside_the_study(path: Path, info: ValidationInfo) -> Path:
    return (Path((info.context or {}).get(FOLDER_KEY, ".")) / path.expanduser()).resolve()


StudyPath = Annotated[Path, AfterValidator(_beside_the_study)]
Mpp = Annotated[float, Field(ge=0.05, le=10)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Section(BaseModel):
    """A part of a study file: unknown keys are refused, values cannot be changed."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Synthetic(Section):
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


class TileSource(Section):
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


class SyntheticCohort(Section):
    """Lung adenocarcinoma patients that ffpe draws itself, with tables of known truth.

    Attributes
    ----------
    synthetic : int
        Patients, of one slide each.
    seed : int
        Another seed draws another cohort.
    slide_px : int
        Side of a slide in pixels, of 0.5 µm each.
    n_planted, n_null : int
        Genes whose expression follows the morphology, and that follow nothing.
    """

    synthetic: int = Field(ge=10)
    seed: int = 0
    slide_px: int = Field(default=1024, ge=512)
    n_planted: int = Field(default=40, ge=1)
    n_null: int = Field(default=60, ge=0)


class Luad(Section):
    """Tasks 2 and 3: gene expression and mutation from the slides of patients.

    Attributes
    ----------
    slides : str or SyntheticCohort
        A file, a folder or a pattern; or ``{ synthetic = N, seed = S }``, which brings its
        own tables.
    patients : path, optional
        CSV with the columns ``file`` and ``patient``; otherwise TCGA barcodes in file names.
    mpp, tile_px : float, int
        Resolution (µm per pixel) and side (pixels) of the tiles.
    mpp_override : mapping
        Resolution of level 0 by slide name or pattern, where a file tells none or a wrong one.
    max_tiles_per_slide : int
        More are drawn at random, by the study's seed.
    min_tissue : float
        Share of a tile that must be tissue.
    stain : {"none", "macenko"}
        Stain normalisation of every tile.
    tiles : {"all", "tumour"}
        Which tiles stand for a patient; ``tumour`` asks the classifier of a fine-tuned encoder.
    tumour_labels : list of str
        Classes of ``[finetune]`` that count as tumour; their probabilities are summed.
    min_tumour : float
        A tile is tumour from this probability on.
    tumour_by : str, optional
        Name of the encoder whose classifier is asked; the first fine-tuned one if absent.
    expression, mutations, clinical : path, optional
        Tables; see their readers for the formats.
    unit, sample_sheet : optional
        What an expression table does not tell by itself.
    sequenced : path, optional
        Barcodes that were sequenced, with or without a variant.
    genes : path or list of str, optional
        Genes of the expression task; all genes of the table if absent.
    gene_sets : list of str, optional
        Names of sets within the file of ``genes``.
    mutated_genes : "drivers" or list of str
        Genes of the mutation task; ``drivers`` are Coudray et al. 2018's ten.
    top_mutated : int
        The most frequent of them are taken.
    folds, repeats : int
        Cross-validation.
    group : {"patient", "site"}
        What folds keep whole: patients, or whole tissue source sites.
    components : int, optional
        Principal components of the features that expression is predicted from, fitted inside
        each training fold; all features if absent.
    n_permutations : int
        Permutations of the test that asks whether a gene is predictable at all.
    """

    slides: str | SyntheticCohort
    patients: StudyPath | None = None
    mpp: Mpp = 0.5
    tile_px: int = Field(default=224, ge=32, le=2048)
    mpp_override: dict[str, Mpp] = Field(default_factory=dict)
    max_tiles_per_slide: int = Field(default=500, ge=1)
    min_tissue: float = Field(default=0.5, gt=0, le=1)
    stain: Literal["none", "macenko"] = "none"
    tiles: Literal["all", "tumour"] = "all"
    tumour_labels: tuple[str, ...] = Field(default=("TUM",), min_length=1)
    min_tumour: float = Field(default=0.5, gt=0, le=1)
    tumour_by: str | None = None
    expression: StudyPath | None = None
    unit: str | None = None
    sample_sheet: StudyPath | None = None
    mutations: StudyPath | None = None
    sequenced: StudyPath | None = None
    clinical: StudyPath | None = None
    genes: StudyPath | tuple[str, ...] | None = None
    gene_sets: tuple[str, ...] | None = None
    mutated_genes: Literal["drivers"] | tuple[str, ...] = "drivers"
    top_mutated: int = Field(default=9, ge=1)
    folds: int = Field(default=5, ge=2)
    repeats: int = Field(default=50, ge=1)
    group: Literal["patient", "site"] = "patient"
    components: int | None = Field(default=None, ge=1)
    n_permutations: int = Field(default=100, ge=20)

    @field_validator("slides", mode="before")
    @classmethod
    def _by_kind(cls, value: object, info: ValidationInfo) -> object:
        if isinstance(value, dict):
            return SyntheticCohort.model_validate(value, context=info.context)
        if isinstance(value, str):
            folder = Path((info.context or {}).get(FOLDER_KEY, "."))
            return str(folder / Path(value).expanduser())
        return value

    @field_validator("genes", mode="before")
    @classmethod
    def _list_or_file(cls, value: object) -> object:
        return tuple(value) if isinstance(value, list) else value

    @model_validator(mode="after")
    def _something_to_predict(self) -> Self:
        drawn = isinstance(self.slides, SyntheticCohort)
        given = self.expression is not None or self.mutations is not None
        if drawn and given:
            raise ValueError("a synthetic cohort brings its own tables; remove the others")
        if not drawn and not given:
            raise ValueError("[luad] needs `expression` or `mutations`, or there is no question")
        return self


class EncoderEntry(Section):
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
    trained_on_tcga : bool, optional
        Whether TCGA is among its training data, where ffpe does not know or knows wrongly;
        see :mod:`featurestore.pretraining`.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=60)
    network: str = "legacy_xception"
    weights: StudyPath | None = None
    weights_sha256: Sha256 | None = None
    input_px: int | None = Field(default=None, ge=32, le=2048)
    mpp: Mpp | None = None
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    finetuned_from: str | None = None
    trained_on_tcga: bool | None = None

    @model_validator(mode="after")
    def _nothing_beside_the_parent(self) -> Self:
        extra = self.model_fields_set - {"name", "finetuned_from", "trained_on_tcga"}
        if self.finetuned_from is not None and extra:
            raise ValueError(
                f"encoder {self.name!r} is fine-tuned from {self.finetuned_from!r} and takes "
                f"{', '.join(sorted(extra))} from it: remove the key(s) or set them there"
            )
        return self
