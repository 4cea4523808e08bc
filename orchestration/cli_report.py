"""The command ``ffpe report``: a study as a page, with its figures and tables."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated

import typer

from orchestration.cli_home import open_home, standard_error


def report(
    study: Annotated[
        str,
        typer.Argument(metavar="STUDY", help="A study file (TOML), or the name of its study."),
    ],
    to: Annotated[
        Path | None, typer.Option("--to", metavar="FOLDER", help="Default: STUDY_report, here.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier report.")] = False,
) -> None:
    """Write what a study found as one page, with figures (SVG, PNG) and tables (CSV, LaTeX).

    Everything comes from the database, so the study's files need not be there any more.
    """
    from sqlalchemy.orm import Session

    from orchestration.report import build_report, write_report
    from orchestration.report.event import record_report

    name = study_name(study)
    folder = Path(f"{name}_report") if to is None else to
    with open_home() as home:
        # All of it shows the store at one moment, whatever else is running.
        with (
            home.engine.connect().execution_options(
                isolation_level="REPEATABLE READ"
            ) as connection,
            Session(connection) as session,
        ):
            found = build_report(session, name)
        files = write_report(found, folder, force=force)
        told = record_report(home, found, folder)
    for file in files:
        typer.echo(folder / file)
    if told is not None:
        standard_error().print(told, markup=False, highlight=False, soft_wrap=True)


def study_name(study: str) -> str:
    """The name of a study, given itself or a file that may be all that is left of it.

    The file is not read as a study: what it names may be gone, and is not needed.

    Raises
    ------
    StudyError
        If a file was given that names no study.
    """
    from featurestore.errors import StudyError

    path = Path(study)
    if path.suffix != ".toml" and not path.is_file():
        return study
    try:
        name = tomllib.loads(path.read_text(encoding="utf-8")).get("name")
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise StudyError(f"{path}: cannot be read as a study file ({error})") from error
    if not isinstance(name, str):
        raise StudyError(f'{path}: names no study; expected a line like name = "crc5"')
    return name
