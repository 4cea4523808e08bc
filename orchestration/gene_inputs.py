"""What an experiment on genes rests on, and so what identifies it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from featurestore import versions
from featurestore.errors import CohortError, Reject
from featurestore.results import ExperimentKey
from featurestore.study_datasets import study_dataset
from featurestore.tables import Dataset, MolecularSource
from orchestration.gene_choice import chosen_genes
from orchestration.home import Home
from orchestration.imports import imports_features, tiles_of
from orchestration.luad_sources import (
    EXPRESSION,
    expression_source,
    luad_section,
    mutation_source,
)
from orchestration.naming import SLIDE_TILES, cohort_tiles
from orchestration.registry import pointer_of
from orchestration.study import Study
from orchestration.study_sections import CLINICAL


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


def _data_sets_of_their_own(session: Session, study: Study) -> dict[str, Dataset]:
    return {
        entry.name: tiles_of(session, study, entry.name, SLIDE_TILES)
        for entry in study.encoders
        if imports_features(study, entry.name)
    }
