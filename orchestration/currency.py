"""Currency: which of a study's assets no longer say what the study asks for.

Every answer compares what the study file and the files on disk say now with what the
database holds; nothing is decoded, downloaded or computed for it.
"""

from __future__ import annotations

from sqlalchemy.orm import Session

from featurestore import results
from featurestore.datasets import find_dataset
from featurestore.embeddings import coverage
from featurestore.errors import SourceError, StoreError
from orchestration.experiments import tissue_inputs
from orchestration.home import Home
from orchestration.naming import (
    EMBEDDINGS,
    FINETUNE_TILES,
    MODEL_VERSION,
    TISSUE_COMPARISON,
    TISSUE_SCORES,
    TISSUE_TILES,
)
from orchestration.registry import dataset_of, pointer_of, recipe_sha256, weights_present
from orchestration.study import EncoderEntry, Study, TileSource
from orchestration.tile_sources import fingerprint, folder_of


def stale_sources(home: Home, study: Study) -> list[str]:
    """Names of the source assets whose files changed since they were read."""
    sources = {FINETUNE_TILES: study.finetune, TISSUE_TILES: study.tissue}
    with Session(home.engine) as session:
        return [
            name
            for name, source in sources.items()
            if source is not None and not _was_read(home, session, source)
        ]


def _was_read(home: Home, session: Session, source: TileSource) -> bool:
    try:
        listing = fingerprint(home, source)
    except SourceError:
        return False  # reading it will say what is wrong, or draw it where it is synthetic
    return find_dataset(session, folder_of(home, source), listing) is not None


def stale_models(home: Home, study: Study, entry: EncoderEntry) -> list[str]:
    """The model asset's name, if the encoder's version is not what the study asks for."""
    with Session(home.engine) as session:
        try:
            pointer = pointer_of(session, study, entry.name)
            current = pointer.recipe_sha256 == recipe_sha256(home, session, study, entry)
        except StoreError:
            return [MODEL_VERSION]
        if current and weights_present(home, session, pointer.model_version_id):
            return []
    return [MODEL_VERSION]


def stale_features(home: Home, study: Study, entry: EncoderEntry) -> list[str]:
    """The feature asset's name, if tiles lack a vector of the encoder's version."""
    if study.tissue is None:
        return []
    with Session(home.engine) as session:
        try:
            version_id = pointer_of(session, study, entry.name).model_version_id
            dataset = dataset_of(home, session, study.tissue, f"{study.name}/{TISSUE_TILES}")
        except StoreError:
            return [EMBEDDINGS]
        n_missing = coverage(session, version_id, dataset.dataset_id, study.name).n_missing
    return [EMBEDDINGS] if n_missing else []


def stale_analysis(home: Home, study: Study) -> list[str]:
    """Names of the analysis assets whose inputs or settings changed."""
    if study.tissue is None:
        return []
    with Session(home.engine) as session:
        try:
            key = tissue_inputs(home, session, study).key
        except StoreError:
            return [TISSUE_SCORES, TISSUE_COMPARISON]
        if results.find_experiment(session, key) is None:
            return [TISSUE_SCORES, TISSUE_COMPARISON]
        return [] if results.is_current(session, key) else [TISSUE_COMPARISON]
