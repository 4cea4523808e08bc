"""Findings of the guards against leakage: written where they are found, read by every report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import pandas as pd
from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from featurestore.errors import InputError
from featurestore.tables import GuardResult

BLOCKING, WARNING = "blocking", "warning"


@dataclass(frozen=True, kw_only=True)
class GuardFinding:
    """What one guard found of one thing.

    Attributes
    ----------
    guard, target, part : str
        Which guard, what it looked at, and which of its measurements this is.
    passed : bool or None
        False where a leak was found; None where it could not be looked for.
    severity : str
        :data:`BLOCKING` or :data:`WARNING`: what a leak means.
    measured, threshold : float or None
        The number found, and where it begins to be a leak.
    unit : str or None
        Of both.
    summary : str
        What was found, in one sentence.
    details : mapping
        Everything else, as JSON holds it.
    """

    guard: str
    target: str
    part: str = ""
    passed: bool | None
    severity: str
    measured: float | None = None
    unit: str | None = None
    threshold: float | None = None
    summary: str
    details: Mapping[str, Any] = field(default_factory=dict)


def write_findings(
    session: Session,
    study: str,
    findings: Sequence[GuardFinding],
    *,
    dataset_digest: str | None,
    inputs_sha256: str,
    run_id: str | None,
) -> None:
    """Write what one guard found of one target, in place of what it found before.

    The caller commits.

    Parameters
    ----------
    session : sqlalchemy.orm.Session
    study : str
    findings : sequence of GuardFinding
        All of one guard and target.
    dataset_digest : str or None
        The data set that was looked at.
    inputs_sha256 : str
        Digest of everything that was looked at.
    run_id : str or None

    Raises
    ------
    InputError
        If the findings are of several guards or targets.
    """
    guards = {(finding.guard, finding.target) for finding in findings}
    if len(guards) != 1:
        raise InputError(f"findings of {sorted(guards)}; expected those of one guard and target")
    ((guard, target),) = guards
    session.execute(
        delete(GuardResult).where(
            GuardResult.study == study, GuardResult.guard == guard, GuardResult.target == target
        )
    )
    session.execute(
        insert(GuardResult),
        [
            asdict(finding)
            | {
                "study": study,
                "dataset_digest": dataset_digest,
                "inputs_sha256": inputs_sha256,
                "run_id": run_id,
            }
            for finding in findings
        ],
    )


def known_findings(
    session: Session, study: str, guard: str, target: str, inputs_sha256: str
) -> list[GuardFinding]:
    """What the guard found of the very same inputs before; empty if it never looked at them."""
    rows = session.scalars(
        select(GuardResult)
        .where(
            GuardResult.study == study,
            GuardResult.guard == guard,
            GuardResult.target == target,
            GuardResult.inputs_sha256 == inputs_sha256,
        )
        .order_by(GuardResult.part)
    )
    names = GuardFinding.__dataclass_fields__
    return [GuardFinding(**{name: getattr(row, name) for name in names}) for row in rows]


def guards_frame(session: Session, study: str) -> pd.DataFrame:
    """Every finding of a study, blocking ones first, then what was found, then by name."""
    names = [column.key for column in GuardResult.__table__.columns]
    rows = session.execute(
        select(*(GuardResult.__table__.c[name] for name in names))
        .where(GuardResult.study == study)
        .order_by(
            GuardResult.passed.is_not(False),
            GuardResult.severity,
            GuardResult.guard,
            GuardResult.target,
            GuardResult.part,
        )
    ).all()
    return pd.DataFrame(rows, columns=names).drop(columns=["guard_result_id", "study"])


def blocking_leaks(session: Session, study: str, dataset_digest: str) -> Sequence[str]:
    """What blocks a study's data set, in sentences; empty if nothing was found."""
    return list(
        session.scalars(
            select(GuardResult.summary)
            .where(
                GuardResult.study == study,
                GuardResult.dataset_digest == dataset_digest,
                GuardResult.severity == BLOCKING,
                GuardResult.passed.is_(False),
            )
            .order_by(GuardResult.guard, GuardResult.target, GuardResult.part)
        )
    )


def worst(findings: Iterable[GuardFinding]) -> GuardFinding:
    """The finding that matters most: a blocking leak, another leak, the unknown, the rest."""
    return min(findings, key=lambda f: (f.passed is not False, f.severity, f.passed is not None))
