"""The ledger of what was left out: written by every stage, read by whoever asks why."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict

import pandas as pd
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from featurestore.errors import Reject
from featurestore.tables import RejectRow


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
        session.execute(insert(RejectRow).on_conflict_do_nothing(), rows)
    return len(rows)


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
