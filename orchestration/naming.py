"""Names of a study's assets, so that no two places spell them."""

from __future__ import annotations

import dagster as dg

from orchestration.study import Study

SOURCES, MODELS, FEATURES, ANALYSIS = GROUPS = ("sources", "models", "features", "analysis")

FINETUNE_TILES = "finetune_tiles"
TISSUE_TILES = "tissue_tiles"
MODEL_VERSION = "model_version"
EMBEDDINGS = "embeddings"
TISSUE_SCORES = "tissue_scores"
TISSUE_COMPARISON = "tissue_comparison"


def asset_key(study: Study, name: str) -> dg.AssetKey:
    """The key of a study's asset; the prefix keeps studies of one instance apart."""
    return dg.AssetKey([study.name, name])


def encoder_partitions(study: Study) -> dg.StaticPartitionsDefinition:
    """One partition an encoder, in the order of the study file."""
    return dg.StaticPartitionsDefinition([entry.name for entry in study.encoders])
