"""What a study exports: its encoders and genes as the study file and the store are now."""

from __future__ import annotations

from sqlalchemy.orm import Session

from featurestore import versions
from featurestore.errors import FfpeError, StoreError
from featurestore.exports import ExportEncoder, ExportPlan, Genes
from featurestore.study_datasets import study_dataset
from orchestration.gene_choice import chosen_genes
from orchestration.home import Home
from orchestration.imports import tiles_of
from orchestration.luad_sources import (
    EXPRESSION,
    expression_source,
    gene_tasks,
    mutation_source,
)
from orchestration.naming import SLIDE_TILES, TISSUE_TILES
from orchestration.study import Study


def export_plan(home: Home, session: Session, study: Study) -> tuple[ExportPlan, tuple[str, ...]]:
    """Collect what of a study can be exported, and say what cannot yet.

    Returns
    -------
    ExportPlan
    tuple of str
        What is left out and why, a sentence each.

    Raises
    ------
    StoreError
        If the store has nothing of the study.
    """
    missing: list[str] = []
    pointers = versions.study_encoders(session, study.name)
    encoders = []
    for entry in study.encoders:
        if entry.name not in pointers:
            missing.append(f"encoder {entry.name!r} has no model version yet")
            continue
        datasets = _datasets(session, study, entry.name, missing)
        version_id = pointers[entry.name].model_version_id
        encoders.append(ExportEncoder(entry.name, version_id, datasets))
    if not encoders:
        raise StoreError(f"the store has nothing of study {study.name!r} yet; `ffpe run` makes it")
    genes = {task: _genes(home, session, study, task, missing) for task in gene_tasks(study)}
    plan = ExportPlan(study.name, tuple(encoders), genes.get("expression"), genes.get("mutation"))
    return plan, tuple(missing)


def _datasets(session: Session, study: Study, encoder: str, missing: list[str]) -> dict[str, int]:
    found = {}
    try:
        if study.tissue is not None:
            dataset = study_dataset(session, study.name, TISSUE_TILES)
            found[TISSUE_TILES] = dataset.dataset_id
        if study.luad is not None:
            found[SLIDE_TILES] = tiles_of(session, study, encoder, SLIDE_TILES).dataset_id
    except StoreError as error:
        missing.append(f"tiles of encoder {encoder!r}: {error}")
    return found


def _genes(
    home: Home, session: Session, study: Study, task: str, missing: list[str]
) -> Genes | None:
    find = expression_source if task == EXPRESSION else mutation_source
    try:
        source = find(home, session, study)
        symbols, _ = chosen_genes(home, session, study, task, source.source_id)
    except FfpeError as error:
        missing.append(f"{task}: {error}")
        return None
    return Genes(source.source_id, symbols)
