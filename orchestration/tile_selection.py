"""Classes of the slides' tiles by a fine-tuned encoder, and the tumour among them."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy.orm import Session

from featurestore import versions
from featurestore.datasets import WrittenDataset
from featurestore.embeddings import matrix
from featurestore.errors import StudyError
from featurestore.ledger import record_rejects
from featurestore.model_versions import content_sha256
from featurestore.study_datasets import point_dataset, study_dataset
from featurestore.tile_classes import (
    TileRule,
    iter_unclassified,
    n_unclassified,
    select_tiles,
    write_tile_classes,
)
from orchestration.home import Home
from orchestration.luad_sources import luad_section
from orchestration.naming import SLIDE_TILES, TUMOUR_TILES
from orchestration.outages import outlasting
from orchestration.registry import pointer_of
from orchestration.resources import transaction
from orchestration.study import Study


@outlasting
def classify_tiles(home: Home, study: Study, on_progress: Callable[[int, int], None]) -> int:
    """Ask the study's classifier for the classes of every embedded tile that has none yet.

    Every page is a transaction, so a killed call goes on where it was.

    Returns
    -------
    int
        Number of tiles classified now.

    Raises
    ------
    StoreError
        If the classifier's encoder has no version, or the slides were not read yet.
    WeightsError
        If its weights are not on this machine, or hold no classifier.
    """
    from models.classify import open_classifier

    with Session(home.engine) as session:
        version_id = classifier_version(session, study)
        dataset_id = study_dataset(session, study.name, SLIDE_TILES).dataset_id
        version = versions.load(session, version_id)
        n_tiles = n_unclassified(session, version_id, dataset_id)
        if n_tiles == 0:
            return 0
        classifier = open_classifier(version, folder=home.weights)
        _require_labels(study, classifier.classes)
        n_done = 0
        for tile_ids in iter_unclassified(session, version_id, dataset_id):
            features = matrix(session, version_id, tile_ids.tolist())
            probabilities = classifier.probabilities(features)
            write_tile_classes(session, version_id, tile_ids, classifier.classes, probabilities)
            session.commit()
            n_done += len(tile_ids)
            on_progress(n_done, n_tiles)
    return n_done


def select_tumour(home: Home, study: Study, *, run_id: str | None) -> WrittenDataset:
    """Make the slides' tumour tiles the data set that patients' features are pooled from.

    Raises
    ------
    SourceError
        If no tile is tumour.
    """
    with transaction(home) as session:
        parent = study_dataset(session, study.name, SLIDE_TILES)
        listing = tumour_listing(session, study)
        written = select_tiles(
            session, parent.dataset_id, _rule(session, study), listing_sha256=listing
        )
        point_dataset(session, study.name, TUMOUR_TILES, written.dataset_id, listing_sha256=listing)
        record_rejects(session, study.name, written.rejects, run_id=run_id)
    return written


def tumour_listing(session: Session, study: Study) -> str:
    """Digest of everything that the choice of tumour tiles rests on.

    Raises
    ------
    StoreError
        If slides or classifier are not in the store yet.
    """
    parent = study_dataset(session, study.name, SLIDE_TILES)
    rule = _rule(session, study)
    version = versions.load(session, rule.model_version_id)
    return content_sha256(
        [parent.digest, version.sha256, sorted(rule.labels), rule.min_probability]
    )


def classifier_version(session: Session, study: Study) -> int:
    """The model version whose classifier tells the classes of the study's tiles."""
    entry = study.classifier()
    if entry is None:
        raise StudyError(f"study {study.name!r} has no fine-tuned encoder, so no classifier")
    return pointer_of(session, study, entry.name).model_version_id


def _rule(session: Session, study: Study) -> TileRule:
    luad = luad_section(study)
    return TileRule(classifier_version(session, study), luad.tumour_labels, luad.min_tumour)


def _require_labels(study: Study, classes: tuple[str, ...]) -> None:
    luad = luad_section(study)
    unknown = sorted(set(luad.tumour_labels) - set(classes))
    if luad.tiles == "tumour" and unknown:
        raise StudyError(
            f"[luad].tumour_labels: {', '.join(unknown)} is no class of [finetune]; expected some "
            f"of {', '.join(classes)}"
        )
