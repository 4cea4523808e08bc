"""Encoders as search engines: the search index, its quality, and the corrected comparison."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from featurestore import results
from featurestore.embeddings import matrix, n_embedded
from featurestore.errors import InputError, StoreError
from featurestore.results import ExperimentKey
from featurestore.search import similar
from featurestore.search.codes import (
    CodeState,
    build_index,
    code_state,
    start_codes,
    take_turns,
    write_pending_codes,
)
from featurestore.search.quality import (
    EmbeddedTiles,
    Quality,
    embedded_tile_frame,
    embedding_blocks,
    write_quality,
)
from featurestore.tables import RetrievalQuality
from orchestration.comparing import Compared, compare_scored
from orchestration.experiments import TissueInputs, tissue_inputs
from orchestration.home import Home
from orchestration.imports import tiles_of
from orchestration.naming import evaluated_tiles
from orchestration.outages import outlasting
from orchestration.registry import pointer_of
from orchestration.resources import transaction
from orchestration.study import Study

TASK = "retrieval"
_N_SEARCHED = 200
_N_JUDGED = 2_000


@outlasting
def index_version(
    home: Home, model_version_id: int, *, seed: int, on_progress: Callable[[int, int], None]
) -> CodeState:
    """Give every embedding of a version its search code; every batch is one transaction.

    Killed at any moment it leaves whole batches, and search right; the next call goes on.
    """
    with transaction(home) as session:
        take_turns(session, model_version_id)
        state = code_state(session, model_version_id)
        if state.n_embeddings and (state.fit is None or state.outgrown):
            start_codes(session, model_version_id, seed=seed)
            state = code_state(session, model_version_id)
    n_done = 0
    while state.n_pending:
        with transaction(home) as session:
            n_coded = write_pending_codes(session, model_version_id)
        if n_coded == 0:
            break
        n_done += n_coded
        on_progress(n_done, max(n_done, state.n_pending))
    with transaction(home) as session:
        if state.fit is not None:
            build_index(session, model_version_id)
        return code_state(session, model_version_id)


def quality_is_current(session: Session, study: Study, encoder: str, model_version_id: int) -> bool:
    """Whether quality was measured on what the study's data sets are now."""
    for tiles in evaluated_tiles(study):
        dataset_id = tiles_of(session, study, encoder, tiles).dataset_id
        row = session.get(RetrievalQuality, (model_version_id, dataset_id))
        n_tiles = n_embedded(session, model_version_id, dataset_id)
        # No tile at all leaves nothing to measure.
        if n_tiles and (row is None or (row.n_tiles, row.seed) != (n_tiles, study.seed)):
            return False
    return True


def measure_quality(home: Home, study: Study, encoder: str) -> None:
    """Measure an encoder as a search engine on each of the study's data sets."""
    for tiles in evaluated_tiles(study):
        with Session(home.engine) as session:
            model_version_id = pointer_of(session, study, encoder).model_version_id
            dataset_id = tiles_of(session, study, encoder, tiles).dataset_id
            found = embedded_tile_frame(session, model_version_id, dataset_id)
            if not len(found.tile_ids):
                continue
            quality = _quality(session, model_version_id, found, study.seed)
        with transaction(home) as session:
            write_quality(session, model_version_id, dataset_id, quality)


def _quality(session: Session, version_id: int, found: EmbeddedTiles, seed: int) -> Quality:
    n = len(found.tile_ids)
    drawn = np.random.default_rng(seed).permutation(n)
    recall, times = _searched(session, version_id, found.tile_ids[drawn[:_N_SEARCHED]])
    judged = _judged(session, version_id, found, np.sort(drawn[:_N_JUDGED]))
    return Quality(
        n_tiles=n,
        n_queries=min(n, _N_JUDGED),
        seed=seed,
        recall_at_10=recall,
        p50_ms=float(np.percentile(times, 50)),
        p95_ms=float(np.percentile(times, 95)),
        **judged,  # type: ignore[arg-type]
    )


def _searched(
    session: Session, version_id: int, tile_ids: NDArray[np.int64]
) -> tuple[float, list[float]]:
    """Recall of the ten nearest over the whole store, and the time of each search in ms."""
    n_right = n_true = 0
    times = []
    for tile_id in tile_ids.tolist():
        started = time.perf_counter()
        try:
            found = similar(session, model_version_id=version_id, tile_id=tile_id, k=10)
        except InputError:
            continue  # black throughout for a colour baseline: it has no neighbours
        times.append(1_000 * (time.perf_counter() - started))
        true = similar(session, model_version_id=version_id, tile_id=tile_id, k=10, exact=True)
        n_true += len(true.hits)
        # By distance, since of tiles that are equally near any will do.
        reach = max((hit.distance for hit in true.hits), default=0.0) + 1e-9
        n_right += sum(hit.distance <= reach for hit in found.hits)
    if not times:
        raise StoreError(
            f"all features of model version {version_id} are zero on the tiles searched with: "
            "look at the tiles"
        )
    return (n_right / n_true if n_true else 1.0), times


def _judged(
    session: Session, version_id: int, found: EmbeddedTiles, rows: NDArray[np.int64]
) -> dict[str, float | bool | None]:
    """Label and site metrics of exact search within the data set, own patients left out."""
    from analysis.retrieval import AT, label_scores, nearest, same_share, unit_vectors
    from analysis.splits import patient_groups

    n = len(found.tile_ids)
    groups, checked, _ = patient_groups(found.patients, n)
    # Where no tile names its patient, a tile is at least not its own neighbour.
    groups = np.arange(n, dtype=np.int64) if groups is None else groups
    queries = unit_vectors(matrix(session, version_id, found.tile_ids[rows].tolist()))
    blocks = embedding_blocks(session, version_id, found.tile_ids)
    hits = nearest(
        queries,
        ((block_rows, unit_vectors(block)) for block_rows, block in blocks),
        AT,
        query_groups=groups[rows],
        groups=groups,
    )
    label_codes, site_codes = pd.factorize(found.labels)[0], pd.factorize(found.sites)[0]
    labelled = label_codes[rows] >= 0
    scores: dict[str, float] = {}
    if labelled.any():
        scores = label_scores(label_codes[rows][labelled], _of_hits(label_codes, hits)[labelled])
    others = [site_codes[(groups != groups[row]) & (site_codes >= 0)] for row in rows]
    share, chance = same_share(site_codes[rows], _of_hits(site_codes, hits), others)
    known_sites = not np.isnan(share)
    return {
        "majority_accuracy_at_5": scores.get("majority_accuracy_at_5"),
        "map_at_5": scores.get("map_at_5"),
        "same_site_share": share if known_sites else None,
        "same_site_by_chance": chance if known_sites else None,
        "patients_excluded": checked,
    }


def _of_hits(codes: NDArray[np.int64], hits: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.where(hits >= 0, codes[hits], -1)


def retrieval_inputs(session: Session, study: Study) -> TissueInputs:
    """What the comparison of a study's encoders as search engines rests on.

    Raises
    ------
    StoreError
        As :func:`orchestration.experiments.tissue_inputs`.
    """
    inputs = tissue_inputs(session, study)
    settings = {name: value for name, value in inputs.key.settings.items() if name != "c"}
    key: ExperimentKey = replace(inputs.key, task=TASK, settings={**settings, "k": 5})
    return replace(inputs, key=key)


def compare_retrieval(home: Home, study: Study, *, run_id: str | None) -> Compared:
    """Score every encoder on the study's own splits and compare each pair; known scores are kept.

    Raises
    ------
    LeakageError, StoreError, CohortError
        If the question must not or cannot be answered; see :mod:`analysis.cohort`.
    """
    from analysis.cohort import load_tissue_cohort
    from analysis.retrieval import score_retrieval
    from analysis.splits import patient_groups, repeated_folds

    with transaction(home) as session:
        inputs = retrieval_inputs(session, study)
        if results.find_experiment(session, inputs.key) is None:
            cohort = load_tissue_cohort(
                session,
                study=study.name,
                dataset_id=inputs.dataset_id,
                version_ids=inputs.version_ids,
            )
            groups, checked, note = patient_groups(cohort.patients, len(cohort.labels))
            settings = inputs.key.settings
            # The same call as for tissue, so the same splits.
            folds = repeated_folds(
                np.asarray(cohort.classes)[cohort.labels],
                n_folds=settings["n_folds"],
                n_repeats=settings["n_repeats"],
                seed=settings["seed"],
                groups=groups,
            )
            experiment_id = results.write_experiment(
                session,
                inputs.key,
                version_ids=inputs.version_ids,
                n_not_converged=dict.fromkeys(inputs.version_ids, 0),
                classes=cohort.classes,
                leakage_checked=checked,
                leakage_note=note,
                run_id=run_id,
            )
            scored = score_retrieval(cohort.features, cohort.labels, folds)
            results.write_scores(session, experiment_id, inputs.version_ids, scored)
        return compare_scored(session, inputs.key, inputs.version_ids, rank_by="map_at_5")
