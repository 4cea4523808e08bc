"""Currency of features: which vectors, maps, codes and classes a study's tiles still lack."""

from __future__ import annotations

from sqlalchemy.orm import Session

from featurestore.embeddings import coverage
from featurestore.errors import StoreError
from featurestore.patient_features import n_embedded_tiles, pooled_counts
from featurestore.search.codes import code_state
from featurestore.study_datasets import is_as_read, study_dataset
from featurestore.tile_classes import n_unclassified
from orchestration.home import Home
from orchestration.imports import tiles_of
from orchestration.map_making import stale_maps
from orchestration.naming import (
    EMBEDDINGS,
    PATIENT_FEATURES,
    RETRIEVAL_QUALITY,
    SEARCH_INDEX,
    SLIDE_EMBEDDINGS,
    SLIDE_TILES,
    TILE_CLASSES,
    TILE_MAPS,
    TISSUE_TILES,
    TUMOUR_TILES,
    cohort_tiles,
    evaluated_tiles,
)
from orchestration.registry import pointer_of
from orchestration.retrieval import quality_is_current
from orchestration.study import Study
from orchestration.study_encoders import EncoderEntry
from orchestration.tile_selection import classifier_version, tumour_listing


def feature_names(study: Study) -> list[str]:
    """Names of the feature assets that follow from a new version of an encoder alone."""
    names = [] if study.tissue is None else [EMBEDDINGS]
    names += [] if study.luad is None else [SLIDE_EMBEDDINGS]
    # Tumour tiles are known once another encoder has seen them all: see stale_pooling.
    names += [PATIENT_FEATURES] if study.luad is not None and _pools_all(study) else []
    return names + ([TILE_MAPS, SEARCH_INDEX, RETRIEVAL_QUALITY] if names else [])


def stale_features(home: Home, study: Study, entry: EncoderEntry) -> list[str]:
    """Names of the feature assets that lack something of the encoder's version."""
    with Session(home.engine) as session:
        try:
            version_id = pointer_of(session, study, entry.name).model_version_id
            stale = _stale_vectors(session, study, entry.name, version_id)
            if not evaluated_tiles(study):
                return stale
            anew = bool({EMBEDDINGS, SLIDE_EMBEDDINGS} & {*stale})
            stale += [TILE_MAPS] if anew or stale_maps(session, study, entry.name) else []
            return stale + _stale_search(session, study, entry.name, version_id, anew=anew)
        except StoreError:
            return feature_names(study)


def _stale_vectors(session: Session, study: Study, encoder: str, version_id: int) -> list[str]:
    stale = []
    if study.tissue is not None:
        dataset = tiles_of(session, study, encoder, TISSUE_TILES)
        if coverage(session, version_id, dataset.dataset_id, study.name).n_missing:
            stale.append(EMBEDDINGS)
    if study.luad is not None:
        slides = tiles_of(session, study, encoder, SLIDE_TILES).dataset_id
        anew = coverage(session, version_id, slides, study.name).n_missing > 0
        stale += [SLIDE_EMBEDDINGS] if anew else []
        if _pools_all(study) and (anew or not _is_pooled(session, version_id, slides)):
            stale.append(PATIENT_FEATURES)
    return stale


def _stale_search(
    session: Session, study: Study, encoder: str, version_id: int, *, anew: bool
) -> list[str]:
    if anew or not code_state(session, version_id).current:
        return [SEARCH_INDEX, RETRIEVAL_QUALITY]
    return [] if quality_is_current(session, study, encoder, version_id) else [RETRIEVAL_QUALITY]


def stale_classes(home: Home, study: Study) -> list[str]:
    """Names of the assets that tell classes of the slides' tiles, where they are not current."""
    if study.luad is None or study.classifier() is None:
        return []
    names = [TILE_CLASSES] if _pools_all(study) else [TILE_CLASSES, TUMOUR_TILES]
    with Session(home.engine) as session:
        try:
            version_id = classifier_version(session, study)
            slides = study_dataset(session, study.name, SLIDE_TILES).dataset_id
            if n_unclassified(session, version_id, slides):
                return names
            listing = tumour_listing(session, study)
        except StoreError:
            return names
        return [name for name in names[1:] if not is_as_read(session, study.name, name, listing)]


def stale_pooling(home: Home, study: Study, entry: EncoderEntry) -> list[str]:
    """The name of the patients' features, if the tumour tiles are not those that were pooled."""
    if study.luad is None or _pools_all(study):
        return []
    with Session(home.engine) as session:
        try:
            version_id = pointer_of(session, study, entry.name).model_version_id
            tumour = tiles_of(session, study, entry.name, TUMOUR_TILES).dataset_id
        except StoreError:
            return [PATIENT_FEATURES]
        return [] if _is_pooled(session, version_id, tumour) else [PATIENT_FEATURES]


def _pools_all(study: Study) -> bool:
    return cohort_tiles(study) == SLIDE_TILES


def _is_pooled(session: Session, version_id: int, dataset_id: int) -> bool:
    pooled = int(pooled_counts(session, version_id, dataset_id)["n_tiles"].sum())
    return pooled == n_embedded_tiles(session, version_id, dataset_id)
