"""The command ``ffpe guards``: what the guards against leakage found of a study."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestration.cli_home import open_home, standard_error

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table


def guards(
    study_file: Annotated[Path, typer.Argument(metavar="STUDY", help="A study file (TOML).")],
    as_json: Annotated[
        bool, typer.Option("--json", help="Rows as JSON on standard output.")
    ] = False,
) -> None:
    """Show what the guards against leakage found of a study; 1 where a leak blocks it."""
    from rich.console import Console
    from sqlalchemy.orm import Session

    from featurestore.guards import BLOCKING, guards_frame
    from orchestration.study import read_study

    study = read_study(study_file)
    with open_home() as home, Session(home.engine) as session:
        found = guards_frame(session, study.name)
    if as_json:
        rows = json.loads(found.to_json(orient="records", date_format="iso", double_precision=15))
        typer.echo(json.dumps(rows, indent=2, ensure_ascii=False))
    elif found.empty:
        standard_error().print(f"no guard has looked at {study.name} yet; `ffpe run` lets them")
    else:
        # Piped into a file a table keeps its columns instead of wrapping at 80 characters.
        width = None if sys.stdout.isatty() else 140
        Console(width=width).print(findings_table(found))
    blocks = (found["severity"] == BLOCKING) & found["passed"].eq(other=False)
    if blocks.any():
        raise typer.Exit(1)


def findings_table(found: pd.DataFrame) -> Table:
    """Findings, one a row, leaks first."""
    from rich.table import Table
    from rich.text import Text

    table = Table("", "guard", "looked at", "what was found")
    for row in found.to_dict(orient="records"):
        if row["passed"] is None:
            mark = Text("not known", style="dim")
        elif row["passed"]:
            mark = Text("clean", style="green")
        else:
            blocks = row["severity"] == "blocking"
            mark = Text("blocks", style="bold red") if blocks else Text("warning", style="yellow")
        part = f" ({row['part']})" if row["part"] else ""
        table.add_row(mark, Text(row["guard"]), Text(row["target"] + part), Text(row["summary"]))
    return table
