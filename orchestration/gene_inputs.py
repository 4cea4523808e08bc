"""What an experiment on genes rests on, and so what identifies it; and its patients."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sqlalchemy.orm import Session

from featurestore import versions
from featurestore.errors import CohortError, Reject
from featurestore.molecular_frames import expression_frame, mutation_frame, source_patients
from featurestore.patient_matching import match_patients
from featurestore.results import ExperimentKey
from featurestore.study_datasets import study_dataset
from featurestore.tables import Dataset, MolecularSource
from orchestration.clinical_baseline import clinical_features
from orchestration.gene_choice import chosen_genes
from orchestration.home import Home
from orchestration.imports import imports_features, tiles_of
from orchestration.luad_sources import (
    EXPRESSION,
    clinical_source,
    expression_source,
    luad_section,
    mutation_source,
)
from orchestration.naming import SLIDE_TILES, cohort_tiles
from orchestration.registry import pointer_of
from orchestration.study import Study
from orchestration.study_sections import CLINICAL

if TYPE_CHECKING:
    from analysis.patients import PatientCohort


@dataclass(frozen=True)
class GeneInputs:
    """What an experiment on genes rests on, as the store is now."""

    key: ExperimentKey
    dataset_id: int
    own_dataset_ids: dict[str, int]
    version_ids: dict[str, int]
    source: MolecularSource
    genes: tuple[str, ...]
    rejects: tuple[Reject, ...]

    def dataset_of(self, encoder: str) -> int:
        """The data set that an encoder's patients are pooled from."""
        return self.own_dataset_ids.get(encoder, self.dataset_id)


def gene_inputs(home: Home, session: Session, study: Study, task: str) -> GeneInputs:
    """Collect data set, model versions, table, genes and settings of an experiment.

    Raises
    ------
    StoreError
        If something it rests on was not materialised yet.
    CohortError
        If no gene is left.
    """
    from analysis.gene_tests import N_REPEATS

    luad = luad_section(study)
    dataset = study_dataset(session, study.name, cohort_tiles(study))
    find = expression_source if task == EXPRESSION else mutation_source
    source = find(home, session, study)
    genes, rejects = chosen_genes(home, session, study, task, source.source_id)
    if not genes:
        raise CohortError(
            f"study {study.name!r}: no gene of the {task} task is in {source.name}; first: "
            f"{rejects[0].item if rejects else 'none was asked for'}"
        )
    names = [entry.name for entry in study.encoders]
    # The clinical table is a baseline like colour, where the study has one.
    names += [] if luad.clinical is None else [CLINICAL]
    version_ids, digests = {}, {}
    for name in names:
        version_ids[name] = pointer_of(session, study, name).model_version_id
        digests[name] = versions.load(session, version_ids[name]).sha256
    settings: dict[str, Any] = {
        "n_folds": luad.folds,
        "n_repeats": luad.repeats,
        "seed": study.seed,
        "group": luad.group,
        "source": source.digest,
        "genes": list(genes),
        "jackknife_repeats": N_REPEATS,
    }
    if luad.tiles == "tumour":
        # The data set says which tiles; this says why, where a person reads the settings.
        settings["tiles"] = {"tumour": sorted(luad.tumour_labels), "from": luad.min_tumour}
    own = _data_sets_of_their_own(session, study)
    if own:
        settings["imported"] = {name: own_set.digest for name, own_set in own.items()}
    if task == EXPRESSION:
        settings["n_permutations"] = luad.n_permutations
        settings["n_components"] = luad.components
    key = ExperimentKey(
        study=study.name,
        task=task,
        dataset_digest=dataset.digest,
        encoders=digests,
        settings=settings,
    )
    own_ids = {name: own_set.dataset_id for name, own_set in own.items()}
    return GeneInputs(key, dataset.dataset_id, own_ids, version_ids, source, genes, rejects)


def load_gene_cohort(
    home: Home, session: Session, study: Study, task: str, inputs: GeneInputs
) -> tuple[PatientCohort, tuple[Reject, ...]]:
    """Patients with features of every encoder and the genes of an experiment, and who is left out.

    Raises
    ------
    LeakageError, StoreError, CohortError
        If the question must not or cannot be answered; see :mod:`analysis.cohort`.
    """
    from analysis.cohort import Pooled, load_patient_cohort, pooled_patients

    encoders = {name: key for name, key in inputs.version_ids.items() if name != CLINICAL}
    pooled = Pooled(study.name, inputs.dataset_id, encoders, inputs.own_dataset_ids)
    tissue, lacking = pooled_patients(session, pooled)
    known = source_patients(session, inputs.source.source_id)
    matched = match_patients(tissue, {task: known})
    frame = expression_frame if task == EXPRESSION else mutation_frame
    targets = frame(
        session, inputs.source.source_id, patients=matched.patients, symbols=inputs.genes
    )
    by_site = luad_section(study).group == "site"
    cohort = load_patient_cohort(session, pooled, targets, by_site=by_site)
    if CLINICAL in inputs.version_ids:
        source = clinical_source(home, session, study)
        matrix, _ = clinical_features(session, source, matched.patients)
        cohort = replace(cohort, features={**cohort.features, CLINICAL: matrix})
    return cohort, (*lacking, *matched.rejects)


def _data_sets_of_their_own(session: Session, study: Study) -> dict[str, Dataset]:
    return {
        entry.name: tiles_of(session, study, entry.name, SLIDE_TILES)
        for entry in study.encoders
        if imports_features(study, entry.name)
    }
