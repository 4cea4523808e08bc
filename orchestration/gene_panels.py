"""Making the panels of the best-predicted genes: models on all patients, tiles ranked by them.

Which tiles are shown follows from the models of :mod:`analysis.attribution`; their pixels are
read once more, from the files that they were cut from, and kept in the database.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image
from sqlalchemy import select
from sqlalchemy.orm import Session

from featurestore import browse, results
from featurestore.embeddings import matrix
from featurestore.errors import Reject, StoreError, UnreadableImageError
from featurestore.gene_panels import (
    PANEL_STAGE,
    BestGene,
    Panel,
    PanelTile,
    best_genes,
    has_panels,
    write_panels,
)
from featurestore.ledger import record_rejects
from featurestore.patient_features import tiles_of_patient, unrounded_means
from featurestore.prediction_frames import gene_predictions_frame
from featurestore.tables import Dataset, Experiment
from models.tiles import TileRef, read_unchanged
from orchestration.gene_inputs import GeneInputs, gene_inputs
from orchestration.home import Home
from orchestration.luad_sources import EXPRESSION, MUTATION
from orchestration.resources import transaction
from orchestration.study import Study
from orchestration.study_sections import BASELINES, CLINICAL

if TYPE_CHECKING:
    from analysis.attribution import LinearModel

N_GENES = 4
N_TILES = 8
"""Tiles a side of a panel, at most one a patient."""

_N_TRIED = 24  # tiles a side that may be tried where files are gone
_THUMBNAIL_PX = 224
_QUALITY = 85
# By task: what genes are ranked by, and what chance gives.
_METRICS = {EXPRESSION: ("pearson_r", 0.0), MUTATION: ("auroc", 0.5)}


@dataclass(frozen=True)
class _Ranking:
    """A gene's model, and of each patient the tile with the highest and the lowest score."""

    gene: BestGene
    model: LinearModel
    patients: frozenset[str]
    high: list[tuple[float, int]] = field(default_factory=list)
    low: list[tuple[float, int]] = field(default_factory=list)
    n_tiles: list[int] = field(default_factory=list)


def panels_are_made(
    session: Session, experiment_id: int, task: str, encoders: Iterable[str]
) -> bool:
    """Whether an experiment has its panels, or no gene that could have one."""
    return has_panels(session, experiment_id) or not _best(session, experiment_id, task, encoders)


def _best(
    session: Session, experiment_id: int, task: str, encoders: Iterable[str]
) -> list[BestGene]:
    metric, chance = _METRICS[task]
    networks = [name for name in encoders if name not in {*BASELINES, CLINICAL}]
    return best_genes(
        session,
        experiment_id,
        networks,
        metric=metric,
        above=chance,
        # Mutations have no permutation test.
        predictable=task == EXPRESSION,
        n=N_GENES,
    )


def make_panels(
    home: Home,
    study: Study,
    task: str,
    *,
    run_id: str | None,
    on_progress: Callable[[int, int], None],
) -> int:
    """Make the panels of a task's best-predicted genes, unless they are there.

    Parameters
    ----------
    home : Home
    study : Study
    task : str
        expression or mutation.
    run_id : str, optional
        For the ledger.
    on_progress : callable
        Called as ``on_progress(n_done, n_total)`` after each patient of each encoder.

    Returns
    -------
    int
        The ``experiment_id`` of the study as it is now.

    Raises
    ------
    StoreError
        If the scores of the study as it is now were not computed yet.
    """
    with Session(home.engine) as session:
        inputs = gene_inputs(home, session, study, task)
        experiment_id = results.find_experiment(session, inputs.key)
        if experiment_id is None:
            raise StoreError(
                f"study {study.name!r} was not scored as it is now: "
                f"materialise {study.name}/{task}_scores first"
            )
        if panels_are_made(session, experiment_id, task, inputs.version_ids):
            return experiment_id
        best = _best(session, experiment_id, task, inputs.version_ids)
        rankings = [_fit(session, experiment_id, inputs, task, gene) for gene in best]
        _rank(session, inputs, rankings, on_progress)
        panels, rejects = [], []
        for ranking in rankings:
            panel, lost = _panel(session, ranking, _METRICS[task][0])
            panels.append(panel)
            rejects += lost
    with transaction(home) as session:
        # Of two processes that made them at once, the first one's are kept.
        session.execute(
            select(Experiment.experiment_id)
            .where(Experiment.experiment_id == experiment_id)
            .with_for_update()
        )
        if not has_panels(session, experiment_id):
            record_rejects(session, study.name, rejects, run_id=run_id)
            write_panels(session, experiment_id, panels)
    return experiment_id


def _fit(
    session: Session, experiment_id: int, inputs: GeneInputs, task: str, gene: BestGene
) -> _Ranking:
    from analysis.attribution import fit_expression, fit_mutation

    known = gene_predictions_frame(session, experiment_id, gene.encoder, [gene.target])
    patients = known["patient_id"].tolist()
    values = known["observed"].to_numpy(dtype=float)
    features = unrounded_means(
        session, gene.model_version_id, inputs.dataset_of(gene.encoder), patients
    )
    if task == MUTATION:
        model = fit_mutation(features, values > 0.5)
    else:
        model = fit_expression(features, values, n_components=inputs.key.settings["n_components"])
    return _Ranking(gene, model, frozenset(patients))


def _rank(
    session: Session,
    inputs: GeneInputs,
    rankings: list[_Ranking],
    on_progress: Callable[[int, int], None],
) -> None:
    """Score every tile, patient by patient, and keep the extremes of each."""
    groups = {
        encoder: list(group)
        for encoder, group in groupby(
            sorted(rankings, key=lambda ranking: ranking.gene.encoder),
            key=lambda ranking: ranking.gene.encoder,
        )
    }
    work = [
        (encoder, patient)
        for encoder, group in groups.items()
        for patient in sorted(frozenset().union(*(ranking.patients for ranking in group)))
    ]
    for n_done, (encoder, patient) in enumerate(work, 1):
        version_id = inputs.version_ids[encoder]
        tile_ids = tiles_of_patient(session, version_id, inputs.dataset_of(encoder), patient)
        features = matrix(session, version_id, tile_ids)
        for ranking in groups[encoder]:
            if patient in ranking.patients:
                scores = ranking.model.predict(features)
                for side, row in (("high", scores.argmax()), ("low", scores.argmin())):
                    getattr(ranking, side).append((float(scores[row]), tile_ids[row]))
                ranking.n_tiles.append(len(tile_ids))
        on_progress(n_done, len(work))


def _panel(session: Session, ranking: _Ranking, metric: str) -> tuple[Panel, list[Reject]]:
    """Take the most extreme tiles whose pixels can be read, and reject the others by name."""
    # Half of the patients a side, so that no tile can be on both.
    n_tried = min(_N_TRIED, len(ranking.patients) // 2)
    sides = {
        "high": sorted(ranking.high, key=lambda found: (-found[0], found[1]))[:n_tried],
        "low": sorted(ranking.low)[:n_tried],
    }
    tiles, rejects = [], []
    for side, candidates in sides.items():
        rank = 0
        for score, tile_id in candidates:
            if rank == N_TILES:
                break
            read = _read(session, tile_id)
            if isinstance(read, Reject):
                rejects.append(read)
            else:
                rank += 1
                tiles.append(PanelTile(side, rank, tile_id, score, *read))
    return (
        Panel(
            target=ranking.gene.target,
            model_version_id=ranking.gene.model_version_id,
            metric=metric,
            mean_score=ranking.gene.mean_score,
            penalty=ranking.model.penalty,
            mean_prediction=ranking.model.mean_prediction,
            n_patients=len(ranking.patients),
            n_tiles=sum(ranking.n_tiles),
            n_unreadable=len(rejects),
            tiles=tuple(tiles),
        ),
        rejects,
    )


def _read(session: Session, tile_id: int) -> tuple[bytes, int] | Reject:
    """The tile as a small JPEG and its side in pixels, or why there is none."""
    facts = browse.tile_facts(session, tile_id)
    if facts is None:
        return Reject(f"tile {tile_id}", PANEL_STAGE, "no data set holds the tile any more")
    tile = TileRef(tile_id, facts.path, facts.sha256, facts.place)
    try:
        image = Image.fromarray(read_unchanged(tile))
    except (UnreadableImageError, OSError) as error:
        # The ledger names files as data sets do, relative to their folder.
        root = session.get_one(Dataset, facts.dataset_id).root
        return Reject(Path(tile.item).relative_to(root).as_posix(), PANEL_STAGE, str(error))
    image.thumbnail((_THUMBNAIL_PX, _THUMBNAIL_PX), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue(), image.width
