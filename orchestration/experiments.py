"""Tissue experiments: what identifies one, computing it, and comparing what was computed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy.orm import Session

from featurestore import evidence, results, versions
from featurestore.errors import StoreError
from featurestore.results import ExperimentKey, TilePredictions
from featurestore.study_datasets import study_dataset
from orchestration.comparing import Compared, compare_scored
from orchestration.home import Home
from orchestration.naming import TISSUE_TILES
from orchestration.pretraining_note import note_with_pretraining
from orchestration.registry import pointer_of
from orchestration.resources import transaction
from orchestration.study import Study
from orchestration.study_sections import BASELINES, Tissue

TASK = "tissue"


@dataclass(frozen=True)
class TissueInputs:
    """What a tissue experiment of a study rests on, as the store is now."""

    key: ExperimentKey
    dataset_id: int
    version_ids: dict[str, int]


def tissue_inputs(session: Session, study: Study) -> TissueInputs:
    """Collect the data set, model versions and settings of a study's tissue experiment.

    Raises
    ------
    StoreError
        If a data set was not read or an encoder not registered yet.
    """
    section = tissue_section(study)
    dataset = study_dataset(session, study.name, TISSUE_TILES)
    version_ids: dict[str, int] = {}
    digests: dict[str, str] = {}
    for entry in study.encoders:
        version_id = pointer_of(session, study, entry.name).model_version_id
        twin = next((name for name, other in version_ids.items() if other == version_id), None)
        if twin is not None:
            raise StoreError(
                f"study {study.name!r}: encoders {twin!r} and {entry.name!r} are the same model "
                "version, so there is nothing to compare; remove one or change its settings"
            )
        version_ids[entry.name] = version_id
        digests[entry.name] = versions.load(session, version_id).sha256
    settings = {
        "n_folds": section.folds,
        "n_repeats": section.repeats,
        "seed": study.seed,
        "c": section.c,
    }
    key = ExperimentKey(
        study=study.name,
        task=TASK,
        dataset_digest=dataset.digest,
        encoders=digests,
        settings=settings,
    )
    return TissueInputs(key, dataset.dataset_id, version_ids)


def tissue_section(study: Study) -> Tissue:
    """The study's ``[tissue]`` section."""
    if study.tissue is None:
        raise StoreError(f"study {study.name!r} has no [tissue] section")
    return study.tissue


def score_tissue(
    home: Home, study: Study, *, run_id: str | None, on_progress: Callable[[int, int], None]
) -> tuple[int, bool]:
    """Cross-validate every encoder on the study's tiles; known results are kept.

    Returns
    -------
    (int, bool)
        The ``experiment_id``, and whether it was computed now.

    Raises
    ------
    LeakageError, StoreError, CohortError
        If the question must not or cannot be answered; see :mod:`analysis.cohort`.
    """
    from analysis.cohort import load_tissue_cohort
    from analysis.tissue import TissueSettings, evaluate_tissue
    from analysis.tissue_tests import tissue_tests

    with Session(home.engine) as session:
        inputs = tissue_inputs(session, study)
        known = results.find_experiment(session, inputs.key)
        if known is not None:
            return known, False
        cohort = load_tissue_cohort(
            session,
            study=study.name,
            dataset_id=inputs.dataset_id,
            version_ids=inputs.version_ids,
        )
    result = evaluate_tissue(cohort, TissueSettings(**inputs.key.settings), on_progress=on_progress)
    tests = tissue_tests(result, baselines=BASELINES)
    with transaction(home) as session:
        people = [] if cohort.patients is None else list(cohort.patients)
        note = note_with_pretraining(
            session, study, result.leakage_note, inputs.version_ids, people
        )
        experiment_id = results.write_experiment(
            session,
            inputs.key,
            version_ids=inputs.version_ids,
            n_not_converged={
                name: found.n_not_converged for name, found in result.predictions.items()
            },
            classes=cohort.classes,
            leakage_checked=result.leakage_checked,
            leakage_note=note,
            run_id=run_id,
        )
        results.write_scores(session, experiment_id, inputs.version_ids, result.scores)
        evidence.write_tests(session, experiment_id, tests)
        for encoder, version_id in inputs.version_ids.items():
            fold_predictions = result.predictions[encoder]
            predictions = TilePredictions(
                tile_ids=cohort.tile_ids,
                observed=cohort.labels,
                folds=result.folds,
                predicted=fold_predictions.predicted,
                probabilities=fold_predictions.probabilities,
            )
            results.write_tile_predictions(session, experiment_id, version_id, predictions)
    return experiment_id, True


def compare_tissue(home: Home, study: Study) -> Compared:
    """Compare every pair of encoders and let the study show the result.

    Raises
    ------
    StoreError
        If the scores of the study as it is now were not computed yet.
    """
    with transaction(home) as session:
        inputs = tissue_inputs(session, study)
        return compare_scored(session, inputs.key, inputs.version_ids, rank_by="recall")
