"""Comparing what was scored: the same steps for tissue, search and genes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy.orm import Session

from featurestore import evidence, result_frames, results
from featurestore.errors import StoreError
from featurestore.results import ExperimentKey
from featurestore.tables import Experiment

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Compared:
    """An experiment as a study shows it."""

    experiment_id: int
    scores: pd.DataFrame
    comparisons: pd.DataFrame


def scored_experiment(session: Session, key: ExperimentKey) -> int:
    """The experiment of this content.

    Raises
    ------
    StoreError
        If it was not scored yet.
    """
    experiment_id = results.find_experiment(session, key)
    if experiment_id is None:
        raise StoreError(
            f"study {key.study!r} was not scored as it is now: materialise "
            f"{key.study}/{key.task}_scores first"
        )
    return experiment_id


def compare_scored(
    session: Session,
    key: ExperimentKey,
    version_ids: Mapping[str, int],
    *,
    rank_by: str,
    many_targets: bool = False,
) -> Compared:
    """Compare every pair of encoders and let the study show the result; the caller commits.

    Parameters
    ----------
    session : sqlalchemy.orm.Session
    key : ExperimentKey
    version_ids : mapping of str to int
        By encoder.
    rank_by : str
        Metric by which encoders are ranked over targets, where there are enough of both.
    many_targets : bool
        As for :func:`analysis.reported.reported`.

    Raises
    ------
    StoreError
        If the experiment was not scored yet.
    """
    from analysis.compare import compare_encoders
    from analysis.critical_difference import encoder_ranks
    from analysis.reported import reported

    experiment_id = scored_experiment(session, key)
    experiment = session.get_one(Experiment, experiment_id)
    scores = result_frames.scores_frame(session, experiment_id)
    comparisons = compare_encoders(
        scores,
        n_folds=experiment.n_folds,
        n_repeats=experiment.n_repeats,
        leakage_checked=experiment.leakage_checked,
        leakage_note=experiment.leakage_note,
        task=key.task,
    )
    tests = evidence.tests_frame(session, experiment_id)
    comparisons = reported(comparisons, tests, many_targets=many_targets)
    results.write_comparisons(session, experiment_id, comparisons)
    evidence.write_ranks(session, experiment_id, version_ids, encoder_ranks(scores, rank_by))
    results.make_current(session, key)
    return Compared(experiment_id, scores, comparisons)
