"""From an encoder entry of a study to a registered model version, training it if need be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd
from sqlalchemy.orm import Session

from featurestore import versions
from featurestore.datasets import labelled_tiles
from featurestore.errors import Reject, StoreError
from featurestore.imported_versions import is_imported
from featurestore.model_versions import content_sha256
from featurestore.study_datasets import study_dataset
from featurestore.versions import EncoderPointer
from orchestration.home import Home
from orchestration.imports import import_recipe, import_version
from orchestration.naming import FINETUNE_TILES
from orchestration.study import Study
from orchestration.study_encoders import IMPORT_KEYS, EncoderEntry
from orchestration.study_sections import Finetune, TileSource


@dataclass(frozen=True)
class Registered:
    """The version that an encoder entry came to.

    Attributes
    ----------
    pointer : EncoderPointer
    trained_now : bool
        Whether it was trained just now rather than found.
    rejects : tuple of Reject
        Training tiles, or files of imported features, that were left out.
    """

    pointer: EncoderPointer
    trained_now: bool = False
    rejects: tuple[Reject, ...] = ()


def pointer_of(session: Session, study: Study, encoder: str) -> EncoderPointer:
    """The version that an encoder of the study stands for now.

    Raises
    ------
    StoreError
        If it was not registered yet.
    """
    pointer = versions.study_encoders(session, study.name).get(encoder)
    if pointer is None:
        raise StoreError(
            f"encoder {encoder!r} has no model version yet: "
            f"materialise {study.name}/model_version for it first"
        )
    return pointer


def recipe_sha256(session: Session, study: Study, entry: EncoderEntry) -> str:
    """Digest over everything that the study asks of an encoder."""
    if entry.features is not None:
        return import_recipe(session, study, entry)
    if entry.finetuned_from is None:
        # What the weights were trained on changes no feature: to say it makes nothing stale.
        silent = {"name", "trained_on_tcga", *IMPORT_KEYS}
        return content_sha256(entry.model_dump(mode="json", exclude=silent))
    parent = recipe_sha256(session, study, study.encoder(entry.finetuned_from))
    finetune = _finetune_section(study)
    dataset = study_dataset(session, study.name, FINETUNE_TILES)
    return content_sha256([parent, dataset.digest, _training(study, finetune)])


def register_encoder(
    home: Home,
    study: Study,
    entry: EncoderEntry,
    on_progress: Callable[..., None],
) -> Registered:
    """Find or make the version of an encoder, and let the study's name stand for it.

    Parameters
    ----------
    home : Home
    study : Study
    entry : EncoderEntry
        One of the study's.
    on_progress : callable
        Called with what, done and total.

    Raises
    ------
    WeightsError
        If the network's weights are nowhere to be had.
    TrainingError
        If the fine-tuning set cannot be trained on.
    StoreError
        If the fine-tuning set was not read yet.
    """
    with Session(home.engine) as session:
        recipe = recipe_sha256(session, study, entry)
    if entry.features is not None:
        pointer, rejects = import_version(home, study, entry, recipe, on_progress)
        registered = Registered(pointer, rejects=rejects)
    elif entry.finetuned_from is None:
        registered = Registered(EncoderPointer(_register_base(home, entry), recipe))
    else:
        registered = _register_finetuned(home, study, entry, recipe, on_progress)
    with Session(home.engine) as session, session.begin():
        versions.point_encoder(session, study.name, entry.name, registered.pointer)
    return registered


def _register_base(home: Home, entry: EncoderEntry) -> int:
    from models.encoders import EncoderSettings, describe

    names = ("network", "weights", "weights_sha256", "input_px", "mpp", "precision")
    settings = EncoderSettings(**{name: getattr(entry, name) for name in names})
    version = describe(settings, folder=home.weights)
    with Session(home.engine) as session, session.begin():
        return versions.register(session, version)


def _register_finetuned(
    home: Home,
    study: Study,
    entry: EncoderEntry,
    recipe: str,
    on_progress: Callable[[str, int, int], None],
) -> Registered:
    from models.finetune import TrainingTile, finetune

    section = _finetune_section(study)
    parent_id = _register_base(home, study.encoder(str(entry.finetuned_from)))
    with Session(home.engine) as session:
        parent = versions.load(session, parent_id)
        dataset = study_dataset(session, study.name, FINETUNE_TILES)
        known = versions.find_finetuned(
            session,
            parent_sha256=parent.sha256,
            trained_on_digest=dataset.digest,
            training=_training(study, section),
        )
        if known is not None and weights_present(home, session, known):
            return Registered(EncoderPointer(known, recipe))
        tiles = labelled_tiles(session, dataset.dataset_id)
    result = finetune(
        parent,
        [TrainingTile(t.path, t.sha256, t.label, t.patient_id) for t in tiles],
        trained_on=dataset.name,
        trained_on_digest=dataset.digest,
        settings=_settings(study, section),
        folder=home.weights,
        scratch=home.scratch,
        on_progress=on_progress,
    )
    with Session(home.engine) as session, session.begin():
        version_id = versions.register(session, result.version)
        versions.record_epochs(session, version_id, pd.DataFrame(map(asdict, result.epochs)))
    return Registered(EncoderPointer(version_id, recipe), True, tuple(result.rejects))


def weights_present(home: Home, session: Session, model_version_id: int) -> bool:
    """Whether the weights of a version are on this machine (or it needs none)."""
    version = versions.load(session, model_version_id)
    digest = version.weights_sha256
    return (
        digest is None or is_imported(version) or (home.weights / f"{digest}.safetensors").exists()
    )


def _finetune_section(study: Study) -> Finetune:
    if study.finetune is None:
        raise StoreError(f"study {study.name!r} has no [finetune] section")
    return study.finetune


def _settings(study: Study, section: Finetune) -> Any:
    from models.finetune import FinetuneSettings

    names = Finetune.model_fields.keys() - TileSource.model_fields.keys() - {"seed"}
    seed = study.seed if section.seed is None else section.seed
    return FinetuneSettings(**{name: getattr(section, name) for name in names}, seed=seed)


def _training(study: Study, section: Finetune) -> dict[str, Any]:
    from models.finetune import training_content

    return training_content(_settings(study, section))
