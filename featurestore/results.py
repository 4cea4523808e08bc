"""Results: experiments with their scores, predictions and comparisons, written as one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sqlalchemy import delete, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from featurestore.copy import copy_rows
from featurestore.model_versions import content_sha256
from featurestore.tables import Comparison, CvPrediction, CvScore, Experiment, ExperimentEncoder

SCORE_COLUMNS = [
    ("experiment_id", "int8"),
    ("model_version_id", "int8"),
    ("target", "text"),
    ("metric", "text"),
    ("repeat", "int2"),
    ("fold", "int2"),
    ("value", "float8"),
    ("n_train", "int4"),
    ("n_test", "int4"),
]
_PREDICTION_COLUMNS = [
    ("experiment_id", "int8"),
    ("model_version_id", "int8"),
    ("target", "text"),
    ("repeat", "int2"),
    ("fold", "int2"),
    ("tile_id", "int8"),
    ("observed", "float8"),
    ("predicted", "float8"),
    ("probabilities", "float4[]"),
]
# The order in which people read a comparison; further columns follow in the table's order.
COMPARISON_COLUMNS = [
    "task",
    "target",
    "metric",
    "encoder_a",
    "encoder_b",
    "mean_a",
    "mean_b",
    "difference",
    "ci_low",
    "ci_high",
    "test",
    "p",
    "q",
    "p_holm",
    "p_corrected",
    "p_naive",
    "standard_error",
    "rope",
    "p_a_better",
    "p_equivalent",
    "p_b_better",
    "n_splits",
    "n_repeats",
    "n_folds",
    "t_naive",
    "t_corrected",
    "leakage_checked",
    "leakage_note",
]


@dataclass(frozen=True, kw_only=True)
class ExperimentKey:
    """What an experiment's results depend on, and therefore what identifies it.

    Attributes
    ----------
    study, task : str
    dataset_digest : str
    encoders : mapping of str to str
        Encoder name to model version digest, in the order of the study file.
    settings : mapping
        Everything that was set: folds, repeats, seed, the estimator's strength, …
    """

    study: str
    task: str
    dataset_digest: str
    encoders: Mapping[str, str]
    settings: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """SHA-256 (hexadecimal) over all of it; the order of the encoders counts."""
        return content_sha256(
            [self.study, self.task, self.dataset_digest, list(self.encoders.items()), self.settings]
        )


@dataclass(frozen=True, slots=True)
class TilePredictions:
    """Out-of-fold predictions of one encoder for every tile and repeat.

    Attributes
    ----------
    tile_ids : (n,) int array
    observed : (n,) int array
        Class indices.
    folds : (n_repeats, n) int array
        The fold that held each tile out.
    predicted : (n_repeats, n) int array
        Class indices.
    probabilities : (n_repeats, n, n_classes) float32 array
    """

    tile_ids: NDArray[np.int64]
    observed: NDArray[np.integer[Any]]
    folds: NDArray[np.integer[Any]]
    predicted: NDArray[np.integer[Any]]
    probabilities: NDArray[np.float32]


def find_experiment(session: Session, key: ExperimentKey) -> int | None:
    """The id of the experiment with exactly this content, or None."""
    return session.scalar(select(Experiment.experiment_id).where(Experiment.digest == key.digest))


def is_current(session: Session, key: ExperimentKey) -> bool:
    """Whether this experiment exists and is the one that the study shows."""
    return bool(
        session.scalar(select(Experiment.is_current).where(Experiment.digest == key.digest))
    )


def make_current(session: Session, key: ExperimentKey) -> None:
    """Let the study show this experiment from now on; the caller commits."""
    same = (Experiment.study == key.study, Experiment.task == key.task)
    session.execute(update(Experiment).where(*same, Experiment.is_current).values(is_current=False))
    session.execute(
        update(Experiment).where(Experiment.digest == key.digest).values(is_current=True)
    )


def write_experiment(
    session: Session,
    key: ExperimentKey,
    *,
    version_ids: Mapping[str, int],
    n_not_converged: Mapping[str, int],
    classes: Sequence[str],
    leakage_checked: bool,
    leakage_note: str,
    run_id: str | None,
) -> int:
    """Enter an experiment, to be shown once its comparisons exist; the caller commits.

    An experiment of the same content is replaced, with all that hangs on it.

    Returns
    -------
    int
        Its ``experiment_id``.
    """
    session.execute(delete(Experiment).where(Experiment.digest == key.digest))
    experiment_id = session.execute(
        insert(Experiment)
        .values(
            digest=key.digest,
            study=key.study,
            task=key.task,
            dataset_digest=key.dataset_digest,
            seed=key.settings["seed"],
            n_folds=key.settings["n_folds"],
            n_repeats=key.settings["n_repeats"],
            settings=dict(key.settings),
            classes=list(classes),
            leakage_checked=leakage_checked,
            leakage_note=leakage_note,
            is_current=False,
            dagster_run_id=run_id,
        )
        .returning(Experiment.experiment_id)
    ).scalar_one()
    session.execute(
        insert(ExperimentEncoder),
        [
            {
                "experiment_id": experiment_id,
                "encoder": encoder,
                "model_version_id": version_ids[encoder],
                "position": position,
                "n_not_converged": n_not_converged[encoder],
            }
            for position, encoder in enumerate(key.encoders)
        ],
    )
    return experiment_id


def write_scores(
    session: Session, experiment_id: int, version_ids: Mapping[str, int], scores: pd.DataFrame
) -> int:
    """Write scores (columns encoder, target, metric, repeat, fold, value, n_train, n_test).

    A score that is NaN was undefined on its split; in the database it is NULL, which SQL's
    own averages pass over.
    """
    columns = ["encoder", *(name for name, _ in SCORE_COLUMNS[2:])]
    values = scores["value"].astype(object).where(scores["value"].notna(), None)
    defined = scores.assign(value=values)
    rows = (
        (experiment_id, version_ids[encoder], *rest)
        for encoder, *rest in zip(*(defined[name].tolist() for name in columns), strict=True)
    )
    return copy_rows(session, CvScore.__tablename__, SCORE_COLUMNS, rows)


def write_tile_predictions(
    session: Session, experiment_id: int, model_version_id: int, predictions: TilePredictions
) -> int:
    """Write every out-of-fold prediction of one encoder; returns the number of rows."""
    return copy_rows(
        session,
        CvPrediction.__tablename__,
        _PREDICTION_COLUMNS,
        _prediction_rows(experiment_id, model_version_id, predictions),
    )


def _prediction_rows(
    experiment_id: int, model_version_id: int, predictions: TilePredictions
) -> Iterable[tuple[Any, ...]]:
    tile_ids = predictions.tile_ids.tolist()
    observed = predictions.observed.astype(float).tolist()
    for repeat, folds in enumerate(predictions.folds):
        predicted = predictions.predicted[repeat].astype(float).tolist()
        probabilities = predictions.probabilities[repeat].tolist()
        for row in zip(tile_ids, observed, folds.tolist(), predicted, probabilities, strict=True):
            tile_id, truth, fold, guess, shares = row
            yield (
                experiment_id,
                model_version_id,
                "all",
                repeat,
                fold,
                tile_id,
                truth,
                guess,
                shares,
            )


def write_comparisons(session: Session, experiment_id: int, comparisons: pd.DataFrame) -> int:
    """Write comparisons (columns as in :data:`COMPARISON_COLUMNS`); the caller commits.

    Comparisons that the experiment has already are replaced.
    """
    session.execute(delete(Comparison).where(Comparison.experiment_id == experiment_id))
    # A single question has no q-value; in the database that is NULL.
    whole = comparisons.reindex(columns=COMPARISON_COLUMNS).astype(object)
    rows: list[dict[Any, Any]] = whole.where(whole.notna(), None).to_dict(orient="records")
    session.execute(insert(Comparison), [{"experiment_id": experiment_id, **row} for row in rows])
    return len(rows)
