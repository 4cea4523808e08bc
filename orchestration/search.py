"""Searching with what a study knows: an encoder's name, a tile, an image, a patient or a slide."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from featurestore import versions
from featurestore.errors import UnreadableImageError
from featurestore.model_versions import ModelVersion
from featurestore.search import (
    SearchResult,
    UnitResult,
    similar,
    similar_patients,
    similar_slides,
)
from featurestore.sources.images import pixel_sha256, read_rgb
from orchestration.home import Home
from orchestration.registry import pointer_of
from orchestration.study import Study


@dataclass(frozen=True)
class Question:
    """What to look for: exactly one of a tile of the store and an image, and any conditions.

    Attributes
    ----------
    tile_id : int or None
    image : path or None
        A file that need not be in the store.
    conditions : mapping
        The keyword arguments of :func:`featurestore.search.similar`, k included.
    """

    tile_id: int | None
    image: Path | None
    conditions: dict[str, Any]


def search_tiles(home: Home, study: Study, encoder: str, question: Question) -> SearchResult:
    """Search with the version that the study's encoder stands for.

    Raises
    ------
    StudyError
        If the study has no such encoder.
    StoreError, InputError, UnreadableImageError
        If the question cannot be answered; see :func:`featurestore.search.similar`.
    """
    version_id = _version_id(home, study, encoder)
    vector = None
    if question.image is not None:
        # Decoded first: a file that is no image should not cost the loading of a network.
        digest = pixel_sha256(read_rgb(question.image))
        with Session(home.engine) as session:
            version = versions.load(session, version_id)
        vector = embed_image(home, version, question.image, digest)
    with Session(home.engine) as session:
        return similar(
            session,
            model_version_id=version_id,
            tile_id=question.tile_id,
            vector=vector,
            **question.conditions,
        )


def search_patients(
    home: Home, study: Study, encoder: str, *, patient_id: str, k: int
) -> UnitResult:
    """The patients most like one, by the version that the study's encoder stands for."""
    version_id = _version_id(home, study, encoder)
    with Session(home.engine) as session:
        return similar_patients(session, model_version_id=version_id, patient_id=patient_id, k=k)


def search_slides(home: Home, study: Study, encoder: str, *, slide_id: int, k: int) -> UnitResult:
    """The slides of other patients most like one, as :func:`search_patients`."""
    version_id = _version_id(home, study, encoder)
    with Session(home.engine) as session:
        return similar_slides(session, model_version_id=version_id, slide_id=slide_id, k=k)


def embed_image(home: Home, version: ModelVersion, image: Path, digest: str) -> NDArray[np.float32]:
    """Features of one square image, computed as those of the store's tiles are.

    Raises
    ------
    UnreadableImageError
        If the file cannot be a tile.
    WeightsError
        If the version's weights are not on this machine.
    """
    from models.embed import embed
    from models.encoders import open_encoder
    from models.tiles import TileRef

    encoder = open_encoder(version, folder=home.weights)
    (batch,) = embed(encoder, [TileRef(0, image, digest)], batch_size=1, n_threads=1)
    if batch.rejects:
        raise UnreadableImageError(batch.rejects[0].reason)
    vector: NDArray[np.float32] = batch.vectors[0]
    return vector


def _version_id(home: Home, study: Study, encoder: str) -> int:
    study.encoder(encoder)
    with Session(home.engine) as session:
        return pointer_of(session, study, encoder).model_version_id
