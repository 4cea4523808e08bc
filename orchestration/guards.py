"""The guards of a study: each collects what it looks at, looks, and writes what it found.

What a guard found of the very same inputs is not looked for again. Everything here returns
findings; whether they stop a run is for ``orchestration/defs/guards.py`` to say.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from sqlalchemy.orm import Session

from featurestore import leakage, near_duplicates, results, versions
from featurestore.datasets import labelled_tiles
from featurestore.errors import StoreError
from featurestore.fingerprints import hashes_of, mean_colours
from featurestore.guards import BLOCKING, GuardFinding, known_findings, write_findings
from featurestore.model_versions import content_sha256
from featurestore.sources.file_facts import name_facts, read_file_facts
from featurestore.study_datasets import study_dataset
from featurestore.tables import Dataset
from orchestration.embedding import embed_missing
from orchestration.experiments import TASK, tissue_inputs
from orchestration.fingerprints import fingerprint_missing
from orchestration.gene_inputs import gene_inputs
from orchestration.home import Home
from orchestration.naming import FINETUNE_TILES
from orchestration.progress import OnProgress
from orchestration.registry import pointer_of
from orchestration.resources import transaction
from orchestration.study import Study

SLIDE_GUARD = "slide_of_two_patients"
FOLD_GUARD = "patient_in_two_folds"

# Raised when a guard looks differently, so that it looks again.
_REVISION = 1


def look_for_copies(
    home: Home, study: Study, asset: str, *, run_id: str | None, on_progress: OnProgress
) -> list[GuardFinding]:
    """Copies of fine-tuning tiles among an asset's tiles, by their hashes."""
    with Session(home.engine) as session:
        dataset = study_dataset(session, study.name, asset)
        training = study_dataset(session, study.name, FINETUNE_TILES)
    inputs = [dataset.digest, training.digest]

    def find() -> list[GuardFinding]:
        for each in (training, dataset):
            _hash(home, study, each, run_id, on_progress)
        with Session(home.engine) as session:
            tiles, known = (hashes_of(session, each.dataset_id) for each in (dataset, training))
        return near_duplicates.copies_by_hash(tiles, known, target=asset)

    guard = near_duplicates.HASH_GUARD
    return _look(home, study, guard, asset, inputs, dataset.digest, run_id, find)


def look_within(
    home: Home, study: Study, asset: str, *, run_id: str | None, on_progress: OnProgress
) -> list[GuardFinding]:
    """Copies within an asset's tiles that folds may put on two sides."""
    with Session(home.engine) as session:
        dataset = study_dataset(session, study.name, asset)

    def find() -> list[GuardFinding]:
        _hash(home, study, dataset, run_id, on_progress)
        with Session(home.engine) as session:
            return near_duplicates.copies_within(
                hashes_of(session, dataset.dataset_id), target=asset
            )

    guard = near_duplicates.PATIENT_GUARD
    return _look(home, study, guard, asset, [dataset.digest], dataset.digest, run_id, find)


def look_at_features(
    home: Home,
    study: Study,
    asset: str,
    encoder: str,
    *,
    run_id: str | None,
    on_progress: OnProgress,
) -> list[GuardFinding]:
    """Copies of fine-tuning tiles among an asset's tiles, by features.

    They are those of the encoder that the given one is fine-tuned from (or itself, where others
    are fine-tuned from it), so that tiles it was trained on are not told apart better. Embeds
    the fine-tuning tiles where that was not done.

    Returns
    -------
    list of GuardFinding
        Empty where no fine-tuning hangs on this encoder.
    """
    entry = study.encoder(encoder)
    base = entry.finetuned_from or entry.name
    if base not in {other.finetuned_from for other in study.encoders}:
        return []
    with Session(home.engine) as session:
        dataset = study_dataset(session, study.name, asset)
        training = study_dataset(session, study.name, FINETUNE_TILES)
        version_id = pointer_of(session, study, base).model_version_id
        version = versions.load(session, version_id)
    inputs = [dataset.digest, training.digest, version.sha256]

    def find() -> list[GuardFinding]:
        embed_missing(
            home,
            study=study.name,
            version=version,
            model_version_id=version_id,
            dataset_id=training.dataset_id,
            run_id=run_id,
            on_progress=on_progress,
        )
        for each in (training, dataset):
            _hash(home, study, each, run_id, on_progress)
        with Session(home.engine) as session:
            return near_duplicates.copies_by_features(
                session,
                version_id,
                hashes_of(session, dataset.dataset_id),
                dataset.dataset_id,
                hashes_of(session, training.dataset_id),
                training.dataset_id,
                target=asset,
            )

    guard = near_duplicates.FEATURE_GUARD
    return _look(home, study, guard, asset, inputs, dataset.digest, run_id, find)


def look_at_artefacts(
    home: Home, study: Study, asset: str, *, run_id: str | None, on_progress: OnProgress
) -> list[GuardFinding]:
    """Whether an asset's labels can be told from files and colours alone."""
    from analysis.artefact_guard import ArtefactTable, artefact_findings

    with Session(home.engine) as session:
        dataset = study_dataset(session, study.name, asset)
    # Files may be written anew with the same pixels, so what counts is the listing.
    inputs = [dataset.digest, dataset.listing_sha256, study.seed]

    def find() -> list[GuardFinding]:
        _hash(home, study, dataset, run_id, on_progress)
        with Session(home.engine) as session:
            colours = mean_colours(session, dataset.dataset_id)
            tiles = [
                tile
                for tile in labelled_tiles(session, dataset.dataset_id)
                if tile.tile_id in colours
            ]
        root = Path(dataset.root)
        table = ArtefactTable(
            labels=[tile.label for tile in tiles],
            patients=[tile.patient_id for tile in tiles],
            files=[read_file_facts(tile.path) for tile in tiles],
            names=[
                name_facts(tile.path.relative_to(root).as_posix(), tile.label) for tile in tiles
            ],
            mean_rgb=np.array([colours[tile.tile_id] for tile in tiles]),
        )
        return artefact_findings(table, target=asset, seed=study.seed)

    return _look(home, study, "artefact_label", asset, inputs, dataset.digest, run_id, find)


def look_at_slides(
    home: Home, study: Study, asset: str, *, run_id: str | None
) -> list[GuardFinding]:
    """Slides whose tiles stand under two patients."""
    with Session(home.engine) as session:
        dataset = study_dataset(session, study.name, asset)
        found = list(leakage.slides_of_two_patients(session, dataset.dataset_id))
    finding = _listed(SLIDE_GUARD, asset, found, "slides", "stand under two patients")
    # Patients can be corrected without another data set, so this is looked at every time.
    return write_found(home, study, [finding], dataset.digest, [dataset.digest, *found], run_id)


def look_at_folds(home: Home, study: Study, task: str, *, run_id: str | None) -> list[GuardFinding]:
    """Patients (and sites) in two folds of a stored experiment."""
    with Session(home.engine) as session:
        key = (
            tissue_inputs(session, study).key
            if task == TASK
            else gene_inputs(home, session, study, task).key
        )
        experiment_id = results.find_experiment(session, key)
        if experiment_id is None:
            raise StoreError(f"study {study.name!r}: the {task} task was not scored yet")
        found = list(leakage.units_on_two_sides(session, experiment_id))
    finding = _listed(FOLD_GUARD, task, found, "patients or sites", "are in two folds of a repeat")
    return write_found(home, study, [finding], key.dataset_digest, [key.digest, *found], run_id)


def _listed(guard: str, target: str, found: Sequence[str], unit: str, what: str) -> GuardFinding:
    first = f"; first: {found[0]}" if found else ""
    return GuardFinding(
        guard=guard,
        target=target,
        passed=not found,
        severity=BLOCKING,
        measured=len(found),
        unit=unit,
        threshold=1,
        summary=f"{len(found)} {unit} {what}{first}",
        details={"found": list(found[:20])},
    )


def _hash(
    home: Home, study: Study, dataset: Dataset, run_id: str | None, on_progress: OnProgress
) -> None:
    fingerprint_missing(
        home,
        study=study.name,
        dataset_id=dataset.dataset_id,
        run_id=run_id,
        on_progress=on_progress,
    )


def _look(
    home: Home,
    study: Study,
    guard: str,
    target: str,
    inputs: Sequence[object],
    dataset_digest: str,
    run_id: str | None,
    find: Callable[[], list[GuardFinding]],
) -> list[GuardFinding]:
    digest = content_sha256([_REVISION, *inputs])
    with Session(home.engine) as session:
        known = known_findings(session, study.name, guard, target, digest)
    return known or write_found(home, study, find(), dataset_digest, [_REVISION, *inputs], run_id)


def write_found(
    home: Home,
    study: Study,
    findings: list[GuardFinding],
    dataset_digest: str,
    inputs: Sequence[object],
    run_id: str | None,
) -> list[GuardFinding]:
    """Keep what a guard found of these inputs, and hand it on."""
    with transaction(home) as session:
        write_findings(
            session,
            study.name,
            findings,
            dataset_digest=dataset_digest,
            inputs_sha256=content_sha256(list(inputs)),
            run_id=run_id,
        )
    return findings
