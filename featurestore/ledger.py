"""The ledger of what was left out: written by every stage, read by whoever asks why.

A tile without features is explained by an entry that is not older than the last reading of its
data set. Clocks are set back, so either moment is at least that of what came before it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from datetime import timedelta

import pandas as pd
from sqlalchemy import ColumnElement, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from featurestore.errors import Reject
from featurestore.tables import Dataset, RejectRow


def record_rejects(
    session: Session, study: str, rejects: Iterable[Reject], *, run_id: str | None
) -> int:
    """Enter rejects into the ledger, each once a run; the caller commits.

    Returns
    -------
    int
        Number of rejects given.
    """
    rows = [asdict(reject) | {"study": study, "run_id": run_id} for reject in rejects]
    if rows:
        last_read = select(func.max(Dataset.read_at)).scalar_subquery()
        entered = insert(RejectRow).values(created_at=func.greatest(func.now(), last_read))
        session.execute(entered.on_conflict_do_nothing(), rows)
    return len(rows)


def reading_moment() -> ColumnElement[object]:
    """When a data set is being read: now, and after every entry that the ledger has."""
    last_entry = select(func.max(RejectRow.created_at) + timedelta(microseconds=1))
    return func.greatest(func.now(), last_entry.scalar_subquery())


def rejects_frame(session: Session, study: str) -> pd.DataFrame:
    """The ledger of a study, newest first: stage, item, reason, run_id, created_at."""
    columns = (
        RejectRow.stage,
        RejectRow.item,
        RejectRow.reason,
        RejectRow.run_id,
        RejectRow.created_at,
    )
    rows = session.execute(
        select(*columns)
        .where(RejectRow.study == study)
        .order_by(RejectRow.created_at.desc(), RejectRow.reject_id.desc())
    ).all()
    return pd.DataFrame(rows, columns=[column.key for column in columns])
