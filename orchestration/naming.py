"""Names of a study's assets, so that no two places spell them."""

from __future__ import annotations

import dagster as dg
from pydantic import BaseModel

from featurestore.model_versions import content_sha256
from orchestration.study import Study

SOURCES, MODELS, FEATURES, ANALYSIS = GROUPS = ("sources", "models", "features", "analysis")

FINETUNE_TILES = "finetune_tiles"
TISSUE_TILES = "tissue_tiles"
MODEL_VERSION = "model_version"
EMBEDDINGS = "embeddings"
TISSUE_SCORES = "tissue_scores"
TISSUE_COMPARISON = "tissue_comparison"
SLIDE_TILES = "slide_tiles"
EXPRESSION_TABLE = "expression_table"
MUTATION_TABLE = "mutation_table"
CLINICAL_TABLE = "clinical_table"
SLIDE_EMBEDDINGS = "slide_embeddings"
TILE_MAPS = "tile_maps"
TILE_CLASSES = "tile_classes"
TUMOUR_TILES = "tumour_tiles"
PATIENT_FEATURES = "patient_features"
EXPRESSION_SCORES = "expression_scores"
EXPRESSION_COMPARISON = "expression_comparison"
MUTATION_SCORES = "mutation_scores"
MUTATION_COMPARISON = "mutation_comparison"
SEARCH_INDEX = "search_index"
RETRIEVAL_QUALITY = "retrieval_quality"
RETRIEVAL_COMPARISON = "retrieval_comparison"
REPORT = "report"


def asset_key(study: Study, name: str) -> dg.AssetKey:
    """The key of a study's asset; the prefix keeps studies of one instance apart."""
    return dg.AssetKey([study.name, name])


def robustness_of(task: str) -> str:
    """The asset that asks whether something else explains a task's results."""
    return f"{task}_robustness"


def code_version(*sections: BaseModel | tuple[BaseModel, ...] | int | None) -> str:
    """Digest of the settings that an asset depends on, so that a changed key shows as stale."""
    plain = [
        [part.model_dump(mode="json") for part in section]
        if isinstance(section, tuple)
        else section.model_dump(mode="json")
        if isinstance(section, BaseModel)
        else section
        for section in sections
    ]
    return content_sha256(plain)[:12]


def cohort_tiles(study: Study) -> str:
    """The asset whose tiles are pooled to patients: those of the slides, or the tumour's alone."""
    by_tumour = study.luad is not None and study.luad.tiles == "tumour"
    return TUMOUR_TILES if by_tumour else SLIDE_TILES


def evaluated_tiles(study: Study) -> list[str]:
    """Names of the source assets whose tiles a study embeds."""
    tissue = [] if study.tissue is None else [TISSUE_TILES]
    return tissue + ([] if study.luad is None else [SLIDE_TILES])


def encoder_partitions(study: Study) -> dg.StaticPartitionsDefinition:
    """One partition an encoder, in the order of the study file."""
    return dg.StaticPartitionsDefinition([entry.name for entry in study.encoders])
