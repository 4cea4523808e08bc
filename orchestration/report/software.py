"""The software that wrote a report."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

import pandas as pd
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from featurestore import schema
from orchestration.report.numbers import text_column
from orchestration.report.sections import Table

_PACKAGES = ("ffpe", "numpy", "pandas", "scipy", "matplotlib", "SQLAlchemy", "dagster")


def software_table(session: Session) -> Table:
    """Programs and their versions, as they are now; the database's own included."""
    server = session.scalar(select(func.current_setting("server_version")))
    rows = [
        ("Python", platform.python_version()),
        *((name, _version(name)) for name in _PACKAGES),
        ("PostgreSQL", str(server)),
        ("schema of the store", str(schema.head())),
    ]
    return Table(
        name="software",
        caption=(
            "Software that wrote this report. The store does not record the versions that "
            "computed the results; model versions above hold all that can change a feature."
        ),
        frame=pd.DataFrame(rows, columns=["program", "version"]),
        columns=(text_column("program", "program"), text_column("version", "version")),
    )


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
