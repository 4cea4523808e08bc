"""The command ``ffpe export``: a study's tables as files for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestration.cli_home import open_home, standard_error


def export(
    study_file: Annotated[Path, typer.Argument(metavar="STUDY", help="A study file (TOML).")],
    format: Annotated[
        str, typer.Option("--format", help="parquet, csv, or h5ad (AnnData, patients × features).")
    ] = "parquet",
    to: Annotated[
        Path | None, typer.Option("--to", metavar="FOLDER", help="Default: STUDY_FORMAT, here.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier export.")] = False,
) -> None:
    """Write features, genes and results of a study to files: Parquet, CSV or AnnData."""
    from sqlalchemy.orm import Session

    from featurestore.exports import FORMATS, export_study
    from orchestration.exports import export_plan
    from orchestration.study import read_study

    if format not in FORMATS:
        raise typer.BadParameter(f"--format {format!r}; expected one of {', '.join(FORMATS)}")
    study = read_study(study_file)
    folder = Path(f"{study.name}_{format}") if to is None else to
    console = standard_error()
    with (
        open_home() as home,
        # All files show the store at one moment, whatever else is running.
        home.engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection,
        Session(connection) as session,
    ):
        plan, missing = export_plan(home, session, study)
        for sentence in missing:
            console.print(f"left out: {sentence}", soft_wrap=True, highlight=False, markup=False)
        files = export_study(session, plan, folder, format=format, force=force)
    for file in files:
        typer.echo(f"{folder / file.file}\t{file.n_rows}")
