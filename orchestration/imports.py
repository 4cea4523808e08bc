"""Encoders whose features are imported: their version, their tiles, and their embeddings.

Everything but their origin is as for any encoder. Their tiles are those that the other tool
cut, so such an encoder has a data set of its own within the study; what comes after asks
:func:`tiles_of` for it. Patients are compared on those that every encoder has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from sqlalchemy.orm import Session

from featurestore import versions
from featurestore.embeddings import coverage
from featurestore.errors import Reject, SourceError, StudyError
from featurestore.imported import ImportedSlide, ImportSettings, read_imports, study_slides
from featurestore.imported_versions import (
    imported_version,
    refuse_other_values,
    settle,
    write_imported,
)
from featurestore.ledger import record_rejects
from featurestore.model_versions import content_sha256
from featurestore.slides import write_slides
from featurestore.sources.feature_files import FeatureFiles, find_features
from featurestore.study_datasets import is_as_read, point_dataset, study_dataset
from featurestore.versions import EncoderPointer
from orchestration.embedding import Embedded
from orchestration.home import Home
from orchestration.naming import SLIDE_TILES
from orchestration.outages import outlasting
from orchestration.resources import transaction
from orchestration.study import Study
from orchestration.study_encoders import EncoderEntry

if TYPE_CHECKING:
    from featurestore.tables import Dataset

_TILES = "imported_tiles"


def imports_features(study: Study, encoder: str) -> bool:
    """Whether an encoder of the study (or its clinical baseline) takes its features from files."""
    return any(e.name == encoder and e.features is not None for e in study.encoders)


def tiles_of(session: Session, study: Study, encoder: str, asset: str) -> Dataset:
    """The tiles of one of the study's sources that an encoder has embedded, or has to.

    Parameters
    ----------
    session : sqlalchemy.orm.Session
    study : Study
    encoder : str
        Name of an encoder of the study. Whichever tiles of slides are asked for, an imported
        one has those that came with its features.
    asset : str
        Name of the asset that read or chose the tiles.

    Raises
    ------
    StoreError
        If they were not read yet.
    """
    own = imports_features(study, encoder)
    return study_dataset(session, study.name, f"{_TILES}/{encoder}" if own else asset)


def import_recipe(session: Session, study: Study, entry: EncoderEntry) -> str:
    """Digest over what the study asks of an imported encoder: its files and slides included.

    Raises
    ------
    SourceError
        If there is no file of features.
    StoreError
        If the study's slides were not read yet.
    """
    asked = entry.model_dump(mode="json", exclude={"name"})
    slides = study_dataset(session, study.name, SLIDE_TILES).digest
    return content_sha256([asked, feature_files(entry).listing_sha256, slides])


def feature_files(entry: EncoderEntry) -> FeatureFiles:
    """The files that an imported encoder's features are in."""
    if entry.features is None:
        raise StudyError(f"encoder {entry.name!r} imports no features")
    return find_features(entry.features, entry.patches)


def import_version(
    home: Home, study: Study, entry: EncoderEntry, recipe: str, on_progress: Callable[..., None]
) -> tuple[EncoderPointer, tuple[Reject, ...]]:
    """Read an encoder's files, register the version they stand for, and write their tiles.

    One transaction: either version and tiles are both there, or neither. Features are written
    by :func:`embed_imports`.

    Raises
    ------
    SourceError
        If not one file can be used (the ledger says why), or the study tells the weights and
        the store has other features of them.
    """
    files, settings = feature_files(entry), _settings(entry)
    light, rejects = [], []
    with Session(home.engine) as session:
        root = study_dataset(session, study.name, SLIDE_TILES).root
    for outcome in _read(home, study, entry, files, settings, on_progress):
        if isinstance(outcome, Reject):
            rejects.append(outcome)
        else:
            with Session(home.engine) as session:
                refuse_other_values(session, settings, outcome)
            # Vectors are read again when they are written, so that one file is in memory.
            empty = np.empty((0, outcome.features.shape[1]), np.float32)
            light.append(replace(outcome, features=empty))
    try:
        settings, kept, others = settle(light, settings)
    except SourceError as error:
        with transaction(home) as session:
            record_rejects(session, study.name, rejects, run_id=None)
        why = f"; first: {rejects[0].item} {rejects[0].reason}" if rejects else ""
        raise SourceError(f"encoder {entry.name!r}: {error}{why}") from error
    listing = content_sha256([files.listing_sha256, recipe])
    with transaction(home) as session:
        version = imported_version(settings, [slide.sha256 for slide in kept])
        version_id = versions.register(session, version)
        tiles = (slide.tiles for slide in kept)
        written = write_slides(session, Path(root), tiles, listing_sha256=listing)
        point_dataset(
            session,
            study.name,
            f"{_TILES}/{entry.name}",
            written.dataset_id,
            listing_sha256=listing,
        )
    return EncoderPointer(version_id, recipe), (*rejects, *others, *written.rejects)


@outlasting
def embed_imports(
    home: Home,
    study: Study,
    entry: EncoderEntry,
    pointer: EncoderPointer,
    *,
    on_progress: Callable[..., None],
) -> Embedded:
    """Write the features of an imported encoder, slide by slide; each is one transaction.

    Killed at any moment it leaves whole slides behind, and the next call goes on with the rest.

    Raises
    ------
    SourceError
        If the files have changed since their version was registered.
    """
    version_id = pointer.model_version_id
    with Session(home.engine) as session:
        dataset = tiles_of(session, study, entry.name, SLIDE_TILES)
        version = versions.load(session, version_id)
        found = coverage(session, version_id, dataset.dataset_id, study.name)
        files = feature_files(entry)
        listing = content_sha256([files.listing_sha256, pointer.recipe_sha256])
        if not is_as_read(session, study.name, f"{_TILES}/{entry.name}", listing):
            raise SourceError(
                f"encoder {entry.name!r}: its files have changed since its model version was "
                f"registered; materialise {study.name}/model_version for it first"
            )
    if found.n_tiles == found.n_embedded:
        return Embedded(0, 0, "none: nothing was missing")
    settings = replace(
        _settings(entry), dim=version.dim, tile_px=int(version.network_options["tile_px"])
    )
    n_new = 0
    for outcome in _read(home, study, entry, files, settings, on_progress):
        if isinstance(outcome, ImportedSlide):
            with transaction(home) as session:
                n_new += write_imported(session, version_id, dataset.dataset_id, outcome)
    return Embedded(n_new, 0, "none: features were imported")


def _read(
    home: Home,
    study: Study,
    entry: EncoderEntry,
    files: FeatureFiles,
    settings: ImportSettings,
    on_progress: Callable[..., None],
) -> Iterator[ImportedSlide | Reject]:
    from models.feature_tensors import read_tensor

    with Session(home.engine) as session:
        dataset = study_dataset(session, study.name, SLIDE_TILES)
        slides = study_slides(session, dataset.dataset_id)
    return read_imports(
        files,
        slides,
        settings,
        read_tensor=read_tensor,
        on_progress=lambda n, total: on_progress(
            f"read features of {entry.name}", n, total, unit="files"
        ),
    )


def _settings(entry: EncoderEntry) -> ImportSettings:
    return ImportSettings(
        network=entry.network,
        weights_sha256=entry.weights_sha256,
        tile_px=entry.tile_px,
        mpp=entry.mpp,
        input_px=entry.input_px,
        dim=entry.dim,
        precision="unknown" if entry.precision == "auto" else entry.precision,
        licence=entry.licence or "unknown",
        trained_on=entry.trained_on or "unknown",
    )
