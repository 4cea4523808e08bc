"""Currency: which of a study's assets no longer say what the study asks for.

Every answer compares what the study file and the files on disk say now with what the
database holds; nothing is decoded, downloaded or computed for it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from sqlalchemy.orm import Session

from featurestore import results
from featurestore.errors import FfpeError, SourceError, StoreError
from featurestore.results import ExperimentKey
from featurestore.study_datasets import is_as_read
from orchestration.experiments import TASK, tissue_inputs
from orchestration.gene_inputs import gene_inputs
from orchestration.gene_panels import panels_are_made
from orchestration.home import Home
from orchestration.luad_sources import (
    EXPRESSION,
    MUTATION,
    clinical_source,
    expression_source,
    gene_tasks,
    mutation_source,
    slides_listing,
)
from orchestration.naming import (
    CLINICAL_TABLE,
    EXPRESSION_TABLE,
    FINETUNE_TILES,
    MODEL_VERSION,
    MUTATION_TABLE,
    RETRIEVAL_COMPARISON,
    SLIDE_TILES,
    TISSUE_COMPARISON,
    TISSUE_SCORES,
    TISSUE_TILES,
    robustness_of,
)
from orchestration.registry import pointer_of, recipe_sha256, weights_present
from orchestration.retrieval import retrieval_inputs
from orchestration.robustness import is_checked
from orchestration.study import Study
from orchestration.study_encoders import EncoderEntry
from orchestration.study_sections import CLINICAL
from orchestration.tile_sources import fingerprint


def stale_sources(home: Home, study: Study) -> list[str]:
    """Names of the source assets whose files changed since they were read."""
    with Session(home.engine) as session:
        tiles = {FINETUNE_TILES: study.finetune, TISSUE_TILES: study.tissue}
        stale = [
            name
            for name, source in tiles.items()
            if source is not None
            and not _is_as_read(session, study, name, partial(fingerprint, home, source))
        ]
        if study.luad is None:
            return stale
        if not _is_as_read(session, study, SLIDE_TILES, lambda: slides_listing(home, study)[1]):
            stale.append(SLIDE_TILES)
        tables: dict[str, Callable[[], object]] = {}
        if EXPRESSION in gene_tasks(study):
            tables[EXPRESSION_TABLE] = lambda: expression_source(home, session, study)
        if MUTATION in gene_tasks(study):
            tables[MUTATION_TABLE] = lambda: mutation_source(home, session, study)
        if study.luad.clinical is not None:
            tables[CLINICAL_TABLE] = lambda: _clinical_known(home, session, study)
        return stale + [name for name, look in tables.items() if not _succeeds(look)]


def _is_as_read(session: Session, study: Study, name: str, listing_now: Callable[[], str]) -> bool:
    try:
        return is_as_read(session, study.name, name, listing_now())
    except SourceError:
        return False  # reading it will say what is wrong, or draw it where it is synthetic


def _clinical_known(home: Home, session: Session, study: Study) -> None:
    clinical_source(home, session, study)
    pointer_of(session, study, CLINICAL)


def _succeeds(look: Callable[[], object]) -> bool:
    try:
        look()
    except FfpeError:
        return False
    return True


def stale_models(home: Home, study: Study, entry: EncoderEntry) -> list[str]:
    """The model asset's name, if the encoder's version is not what the study asks for."""
    with Session(home.engine) as session:
        try:
            pointer = pointer_of(session, study, entry.name)
            current = pointer.recipe_sha256 == recipe_sha256(session, study, entry)
        except (StoreError, SourceError):
            return [MODEL_VERSION]  # reading imported features again says what is wrong
        if current and weights_present(home, session, pointer.model_version_id):
            return []
    return [MODEL_VERSION]


def stale_analysis(home: Home, study: Study) -> list[str]:
    """Names of the analysis assets whose inputs or settings changed."""
    stale = []
    with Session(home.engine) as session:
        if study.tissue is not None:
            stale += _stale_experiment(
                session,
                lambda: tissue_inputs(session, study).key,
                [TISSUE_SCORES, TISSUE_COMPARISON],
            )
            # Its figure is drawn once the comparison stands, and may have found no room then.
            if not stale and not home.comparison_figure(study.name).exists():
                stale.append(TISSUE_COMPARISON)
            stale += _unchecked(session, TASK, lambda: tissue_inputs(session, study).key)
            stale += _stale_experiment(
                session, lambda: retrieval_inputs(session, study).key, [RETRIEVAL_COMPARISON]
            )
        for task in gene_tasks(study):
            key_now = partial(_gene_key, home, session, study, task)
            stale += _stale_experiment(session, key_now, [f"{task}_scores", f"{task}_comparison"])
            stale += _unchecked(session, task, key_now)
            stale += _stale_panels(home, session, study, task)
    return stale


def _gene_key(home: Home, session: Session, study: Study, task: str) -> ExperimentKey:
    return gene_inputs(home, session, study, task).key


def _unchecked(session: Session, task: str, key_now: Callable[[], ExperimentKey]) -> list[str]:
    try:
        return [] if is_checked(session, key_now()) else [robustness_of(task)]
    except FfpeError:
        return [robustness_of(task)]


def _stale_experiment(
    session: Session, key_now: Callable[[], ExperimentKey], names: list[str]
) -> list[str]:
    try:
        key = key_now()
    except FfpeError:
        return names
    if results.find_experiment(session, key) is None:
        return names
    return [] if results.is_current(session, key) else names[-1:]


def _stale_panels(home: Home, session: Session, study: Study, task: str) -> list[str]:
    try:
        inputs = gene_inputs(home, session, study, task)
    except FfpeError:
        return [f"{task}_panels"]
    found = results.find_experiment(session, inputs.key)
    made = found is not None and panels_are_made(session, found, task, inputs.version_ids)
    return [] if made else [f"{task}_panels"]
