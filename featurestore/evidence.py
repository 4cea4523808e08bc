"""What stands behind comparisons: further tests, ranks, and checks of robustness."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd
from sqlalchemy import and_, delete, inspect, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from featurestore.tables import (
    AddedValueRow,
    Base,
    ComparisonTest,
    EncoderRank,
    Experiment,
    ExperimentEncoder,
    FoldOptimism,
    Robustness,
    StratumDifference,
)

FOLDS, STRATA, ADDED_VALUE = KINDS = ("folds", "strata", "added_value")

TEST_COLUMNS = [
    "target", "metric", "encoder_a", "encoder_b", "test", "difference", "standard_error",
    "ci_low", "ci_high", "p", "n_patients", "variance_tested", "variance_pairs",
]  # fmt: skip
RANK_COLUMNS = [
    "encoder", "metric", "mean_rank", "mean_score", "critical_difference", "p_f", "n_targets",
]  # fmt: skip
FOLD_COLUMNS = [
    "encoder", "target", "metric", "kept", "random_score", "kept_score", "n_repeats",
]  # fmt: skip
STRATUM_COLUMNS = [
    "target", "metric", "encoder_a", "encoder_b", "variable", "stratum", "n_patients", "mean_a",
    "mean_b", "difference", "ci_low", "ci_high", "p", "p_holm",
]  # fmt: skip
ADDED_COLUMNS = [
    "encoder", "target", "metric", "clinical_score", "combined_score", "null_low", "null_high",
    "p", "q", "n_patients", "n_permutations",
]  # fmt: skip

_OF_KIND: dict[str, tuple[type[Base], list[str]]] = {
    FOLDS: (FoldOptimism, FOLD_COLUMNS),
    STRATA: (StratumDifference, STRATUM_COLUMNS),
    ADDED_VALUE: (AddedValueRow, ADDED_COLUMNS),
}
_GENERATED = {FOLDS: ["optimism"], STRATA: [], ADDED_VALUE: ["gain"]}


def write_tests(session: Session, experiment_id: int, tests: pd.DataFrame) -> int:
    """Write further tests (columns :data:`TEST_COLUMNS`) in place of those before."""
    return _replace(session, ComparisonTest, experiment_id, tests, TEST_COLUMNS, {})


def tests_frame(session: Session, experiment_id: int) -> pd.DataFrame:
    """Further tests of an experiment, columns :data:`TEST_COLUMNS`."""
    columns = [getattr(ComparisonTest, name) for name in TEST_COLUMNS]
    rows = session.execute(
        select(*columns).where(ComparisonTest.experiment_id == experiment_id).order_by(*columns[:5])
    )
    return pd.DataFrame(rows.all(), columns=TEST_COLUMNS)


def write_ranks(
    session: Session, experiment_id: int, version_ids: Mapping[str, int], ranks: pd.DataFrame
) -> int:
    """Write average ranks (columns :data:`RANK_COLUMNS`) in place of those before."""
    return _replace(session, EncoderRank, experiment_id, ranks, RANK_COLUMNS, version_ids)


def ranks_frame(session: Session, study: str) -> pd.DataFrame:
    """Average ranks of what a study shows, best first: task and :data:`RANK_COLUMNS`."""
    return _of_study(
        session, study, EncoderRank, RANK_COLUMNS, [EncoderRank.metric, EncoderRank.mean_rank]
    )


def write_robustness(
    session: Session,
    experiment_id: int,
    kind: str,
    found: pd.DataFrame,
    *,
    note: str,
    version_ids: Mapping[str, int],
) -> int:
    """Write one check of an experiment's robustness in place of the one before.

    Parameters
    ----------
    session : sqlalchemy.orm.Session
    experiment_id : int
    kind : str
        One of :data:`KINDS`.
    found : DataFrame
        Columns :data:`FOLD_COLUMNS`, :data:`STRATUM_COLUMNS` or :data:`ADDED_COLUMNS`; without
        rows where it could not be made.
    note : str
        What was left out and why; not empty where ``found`` is.
    version_ids : mapping of str to int
        By encoder.
    """
    model, columns = _OF_KIND[kind]
    n_rows = _replace(session, model, experiment_id, found, columns, version_ids)
    values = {"experiment_id": experiment_id, "kind": kind, "n_rows": n_rows, "note": note}
    session.execute(
        insert(Robustness)
        .values(values)
        .on_conflict_do_update(
            index_elements=["experiment_id", "kind"], set_={"n_rows": n_rows, "note": note}
        )
    )
    return n_rows


def known_kinds(session: Session, experiment_id: int) -> frozenset[str]:
    """The checks of robustness that an experiment has, made or explained."""
    return frozenset(
        session.scalars(select(Robustness.kind).where(Robustness.experiment_id == experiment_id))
    )


def robustness_frame(session: Session, study: str, kind: str) -> pd.DataFrame:
    """A check of what a study shows: task, the columns of its kind, and what is computed of them.

    ``fold_optimism`` has ``optimism`` besides, ``added_value`` has ``gain``.
    """
    model, columns = _OF_KIND[kind]
    keys = {column.name for column in inspect(model).primary_key}
    order = [getattr(model, name) for name in columns if name in keys]
    return _of_study(session, study, model, columns + _GENERATED[kind], order)


def robustness_notes(session: Session, study: str) -> pd.DataFrame:
    """What was not looked at and why, of what a study shows: task, kind, n_rows, note."""
    columns = [Experiment.task, Robustness.kind, Robustness.n_rows, Robustness.note]
    rows = session.execute(
        select(*columns)
        .join(Experiment, Experiment.experiment_id == Robustness.experiment_id)
        .where(Experiment.study == study, Experiment.is_current)
        .order_by(Experiment.task, Robustness.kind)
    )
    return pd.DataFrame(rows.all(), columns=[column.key for column in columns])


def _replace(
    session: Session,
    model: type[Base],
    experiment_id: int,
    found: pd.DataFrame,
    columns: Sequence[str],
    version_ids: Mapping[str, int],
) -> int:
    table = model.__table__
    session.execute(delete(model).where(table.c.experiment_id == experiment_id))
    whole = found.reindex(columns=list(columns)).astype(object)
    rows: list[dict[Any, Any]] = whole.where(whole.notna(), None).to_dict(orient="records")
    for row in rows:
        row["experiment_id"] = experiment_id
        if "encoder" in row:
            row["model_version_id"] = version_ids[row.pop("encoder")]
    if rows:
        session.execute(insert(model), rows)
    return len(rows)


def _of_study(
    session: Session, study: str, model: type[Base], columns: Sequence[str], order: Iterable[Any]
) -> pd.DataFrame:
    chosen = [
        ExperimentEncoder.encoder if name == "encoder" else getattr(model, name) for name in columns
    ]
    ids = model.__table__.c
    query = select(Experiment.task, *chosen).join(
        Experiment, Experiment.experiment_id == ids.experiment_id
    )
    in_order = [Experiment.task, *order]
    if "encoder" in columns:
        query = query.join(
            ExperimentEncoder,
            and_(
                ExperimentEncoder.experiment_id == ids.experiment_id,
                ExperimentEncoder.model_version_id == ids.model_version_id,
            ),
        )
        in_order.append(ExperimentEncoder.position)
    rows = session.execute(
        query.where(Experiment.study == study, Experiment.is_current).order_by(*in_order)
    )
    return pd.DataFrame(rows.all(), columns=["task", *columns])
