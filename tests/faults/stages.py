"""The stages that are killed: what ``ffpe run`` does in each, by the functions that it calls."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sqlalchemy.orm import Session

from featurestore import versions
from featurestore.patient_features import pool_patients
from orchestration.embedding import embed_missing
from orchestration.experiments import compare_tissue, score_tissue
from orchestration.gene_experiments import compare_genes, score_genes
from orchestration.home import Home
from orchestration.imports import tiles_of
from orchestration.luad_sources import gene_tasks
from orchestration.naming import SLIDE_TILES, TISSUE_TILES, cohort_tiles
from orchestration.registry import pointer_of, register_encoder
from orchestration.resources import transaction
from orchestration.retrieval import compare_retrieval, index_version
from orchestration.robustness import check_genes, check_tissue
from orchestration.study import Study, read_study
from orchestration.tile_sources import take_in

RUN_ID = "00000000-0000-0000-0000-000000000000"


def ingest(home: Home, study: Study) -> None:
    assert study.tissue is not None
    take_in(home, study, TISSUE_TILES, study.tissue, run_id=RUN_ID, on_progress=_silent)


def embed(home: Home, study: Study) -> None:
    name = TISSUE_TILES if study.tissue is not None else SLIDE_TILES
    for entry in study.encoders:
        register_encoder(home, study, entry, _silent)
        with Session(home.engine) as session:
            version_id = pointer_of(session, study, entry.name).model_version_id
            version = versions.load(session, version_id)
            dataset_id = tiles_of(session, study, entry.name, name).dataset_id
        embed_missing(
            home,
            study=study.name,
            version=version,
            model_version_id=version_id,
            dataset_id=dataset_id,
            run_id=RUN_ID,
            on_progress=_silent,
        )


def index(home: Home, study: Study) -> None:
    for entry in study.encoders:
        with Session(home.engine) as session:
            version_id = pointer_of(session, study, entry.name).model_version_id
        index_version(home, version_id, seed=study.seed, on_progress=_silent)


def tissue(home: Home, study: Study) -> None:
    score_tissue(home, study, run_id=RUN_ID, on_progress=_silent)
    compare_tissue(home, study)
    compare_retrieval(home, study, run_id=RUN_ID)
    check_tissue(home, study, on_progress=_silent)


def genes(home: Home, study: Study) -> None:
    for entry in study.encoders:
        with transaction(home) as session:
            version_id = pointer_of(session, study, entry.name).model_version_id
            dataset = tiles_of(session, study, entry.name, cohort_tiles(study))
            pool_patients(session, version_id, dataset.dataset_id)
    for task in gene_tasks(study):
        score_genes(home, study, task, run_id=RUN_ID, on_progress=_silent)
        compare_genes(home, study, task)
        check_genes(home, study, task, on_progress=_silent)


STAGES: dict[str, Callable[[Home, Study], None]] = {
    "ingest": ingest,
    "embed": embed,
    "index": index,
    "tissue": tissue,
    "genes": genes,
}


def run_stage(stage: str, *, folder: str, study: str, url: str | None = None) -> None:
    """Do one stage of a study, from the start of a process to its end.

    Without the URL of a database it is the embedded one of the folder.
    """
    home = Home(Path(folder), database_url=url)
    try:
        STAGES[stage](home, read_study(Path(study)))
    finally:
        home.close()


def _silent(*_args: object, **_options: object) -> None:
    """Progress that nobody looks at."""
