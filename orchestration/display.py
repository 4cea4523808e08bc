"""What the other listings look like in a terminal: status, doctor, ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from orchestration.doctor import Finding


def frame_table(frame: pd.DataFrame) -> Table:
    """Any small frame as a table."""
    table = Table(*map(str, frame.columns))
    for row in frame.itertuples(index=False):
        table.add_row(*[Text(str(value)) for value in row])
    return table


def status_view(found: Mapping[str, Any]) -> RenderableType:
    """The database, the services and the studies, as :mod:`orchestration.status` found them."""
    place = Table.grid(padding=(0, 2))
    for name, value in found["database"].items():
        place.add_row(f"database {name}", Text(str(value)))
    services = found["services"]
    place.add_row("interface", Text(services["url"] if services else "not up (`ffpe up STUDY`)"))
    if services:
        place.add_row("gallery", Text(services["gallery_url"]))
        for process in services["processes"]:
            state = "running" if process["alive"] else "ended"
            place.add_row(process["role"], f"{state}, pid {process['pid']}")
    return Group(place, frame_table(pd.DataFrame(found["studies"])))


def doctor_table(findings: Sequence[Finding]) -> Table:
    """Findings, one a row, with what to do about what is missing."""
    table = Table("", "what", "found", "what to do")
    for finding in findings:
        mark = Text("ok", style="green") if finding.ok else Text("missing", style="bold red")
        table.add_row(mark, finding.what, Text(finding.found), Text(finding.to_do))
    return table
