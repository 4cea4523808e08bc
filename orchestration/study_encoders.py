"""The ``[[encoders]]`` of a study file: which encoders are compared.

Each key has its place and its default here. Relative paths are relative to the file.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from orchestration.study_sections import Mpp, Section, Sha256, StudyPath, StudyPattern

# What only an encoder whose features are imported may say.
IMPORT_KEYS = frozenset({"features", "patches", "tile_px", "dim", "licence", "trained_on"})


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
    precision : {"auto", "float32", "bfloat16", "float16"}
        ``auto`` takes bfloat16 where the processor has it. Of imported features: how they were
        computed (float16 is for them alone), ``auto`` where that is unknown.
    finetuned_from : str, optional
        Name of the encoder that ``[finetune]`` starts from; the rest is then its.
    trained_on_tcga : bool, optional
        Whether TCGA is among its training data, where ffpe does not know or knows wrongly;
        see :mod:`featurestore.pretraining`.
    features : str, optional
        Pattern of files of features that another tool computed, in place of running the
        network; ``network`` then says in words what made them, and ``weights_sha256`` by what
        weights, where that is known.
    patches : path, optional
        CLAM's folder of patch files, which tell the size of its tiles.
    tile_px, dim : int, optional
        Side of the imported tiles in pixels, and number of their features; ``tile_px`` and
        ``mpp`` are needed where the files do not tell them.
    licence, trained_on : str, optional
        Of the weights that made the imported features, in words.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=60)
    network: str = "legacy_xception"
    weights: StudyPath | None = None
    weights_sha256: Sha256 | None = None
    input_px: int | None = Field(default=None, ge=32, le=2048)
    mpp: Mpp | None = None
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    finetuned_from: str | None = None
    trained_on_tcga: bool | None = None
    features: StudyPattern | None = None
    patches: StudyPath | None = None
    tile_px: int | None = Field(default=None, ge=32, le=4096)
    dim: int | None = Field(default=None, ge=1, le=16_000)
    licence: str | None = None
    trained_on: str | None = None

    @model_validator(mode="after")
    def _nothing_beside_the_parent(self) -> Self:
        extra = self.model_fields_set - {"name", "finetuned_from", "trained_on_tcga"}
        if self.finetuned_from is not None and extra:
            raise ValueError(
                f"encoder {self.name!r} is fine-tuned from {self.finetuned_from!r} and takes "
                f"{', '.join(sorted(extra))} from it: remove the key(s) or set them there"
            )
        return self

    @model_validator(mode="after")
    def _of_files_or_of_a_network(self) -> Self:
        told = self.model_fields_set
        if self.features is None:
            alone = sorted((told & IMPORT_KEYS) - {"features"})
            alone += ["precision"] if self.precision == "float16" else []
            if alone:
                raise ValueError(
                    f"encoder {self.name!r} runs its network, but {', '.join(alone)} as given is "
                    "for imported features: remove it, or name their files as `features`"
                )
            return self
        if "network" not in told or not self.network.strip():
            raise ValueError(
                f"encoder {self.name!r} imports features: `network` must say what made them, "
                'e.g. "UNI (ViT-L/16, DINOv2)"'
            )
        if self.weights is not None:
            raise ValueError(
                f"encoder {self.name!r} imports features, so its network is never run: remove "
                "`weights` (`weights_sha256` may stay)"
            )
        return self
