"""The command line: ``ffpe``. Listings go to standard output, everything else to standard error.

Each command imports what it needs when it runs, so that ``ffpe --help`` is instant.
"""

from __future__ import annotations

import errno
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestration.cli_database import database
from orchestration.cli_embed import embed
from orchestration.cli_exchange import export
from orchestration.cli_guards import guards
from orchestration.cli_home import open_home, standard_error
from orchestration.cli_report import report
from orchestration.cli_search import search

if TYPE_CHECKING:
    from rich.console import Console

    from orchestration.home import Home

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)

app = typer.Typer(
    name="ffpe",
    help="Feature store For Pathology Embeddings: compare encoders of H&E images.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(database, name="db", no_args_is_help=True)
app.command()(embed)
app.command()(search)
app.command()(export)
app.command()(guards)
app.command()(report)

StudyFile = Annotated[Path, typer.Argument(metavar="STUDY", help="A study file (TOML).")]
AsJson = Annotated[bool, typer.Option("--json", help="Rows as JSON on standard output.")]


def main() -> None:
    """Entry point: an error that ffpe raises on purpose is one line, not a traceback."""
    from featurestore.errors import FfpeError
    from orchestration.stopping import stoppable

    try:
        with stoppable():
            app()
    except FfpeError as error:
        standard_error().print(
            f"[bold red]error:[/] {_escaped(error)}", soft_wrap=True, highlight=False
        )
        sys.exit(1)
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        standard_error().print(
            f"[bold red]error:[/] {_escaped(error)}: make room, and give the same command again",
            soft_wrap=True,
            highlight=False,
        )
        sys.exit(1)
    except Exception as error:
        # Looked up only now: importing SQLAlchemy would slow every `--help`.
        if type(error).__module__.partition(".")[0] not in ("sqlalchemy", "psycopg"):
            raise
        what = " ".join(str(getattr(error, "orig", error)).split())
        standard_error().print(
            f"[bold red]error:[/] the database says: {_escaped(what)}", soft_wrap=True
        )
        sys.exit(1)


@app.command()
def run(
    study_file: StudyFile,
    select: Annotated[
        str | None,
        typer.Option(metavar="GROUP", help="Only sources, models, features or analysis."),
    ] = None,
    as_json: AsJson = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show Dagster's log as well.")
    ] = False,
) -> None:
    """Materialise what is stale of a study and show the comparison."""
    from orchestration.naming import GROUPS
    from orchestration.progress import ConsoleProgress
    from orchestration.run import run_study
    from orchestration.study import read_study

    if select is not None and select not in GROUPS:
        raise typer.BadParameter(f"--select {select!r}; expected one of {', '.join(GROUPS)}")
    study = read_study(study_file)
    console = standard_error()
    with open_home() as home, ConsoleProgress(console) as progress:
        n_runs = run_study(
            home,
            study,
            groups=GROUPS if select is None else (select,),
            progress=progress,
            on_launch=lambda launch: console.print(
                f"[bold]{launch}[/]", highlight=False, soft_wrap=True
            ),
            log_level="INFO" if verbose else "CRITICAL",
        )
        if n_runs == 0:
            console.print("everything is up to date: nothing was recomputed")
        _show_results(home, study.name, as_json)


@app.command()
def results(study_file: StudyFile, as_json: AsJson = False) -> None:
    """Show the comparisons of a study as they stand in the database."""
    from orchestration.study import read_study

    study = read_study(study_file)
    with open_home() as home:
        _show_results(home, study.name, as_json)


@app.command()
def rejects(study_file: StudyFile, as_json: AsJson = False) -> None:
    """List what was left out of a study, where and why."""
    from sqlalchemy.orm import Session

    from featurestore.ledger import rejects_frame
    from orchestration.display import frame_table
    from orchestration.study import read_study

    study = read_study(study_file)
    with open_home() as home, Session(home.engine) as session:
        ledger = rejects_frame(session, study.name)
    if as_json:
        _print_json(json.loads(ledger.to_json(orient="records", date_format="iso")))
    elif ledger.empty:
        standard_error().print(f"nothing was left out of {study.name}")
    else:
        _stdout().print(frame_table(ledger[["stage", "item", "reason"]]))


@app.command()
def up(
    study_files: Annotated[list[Path], typer.Argument(metavar="STUDY…", help="Study files.")],
    port: Annotated[int | None, typer.Option(help="Port of the interface.")] = None,
) -> None:
    """Start the database, Dagster's interface and the gallery on 127.0.0.1 for these studies."""
    from orchestration.services import start_services
    from orchestration.study import read_studies

    studies = read_studies(study_files)
    with open_home() as home:
        services = start_services(home, [study.path for study in studies], port=port)
        _stdout().print(f"{services.url}  ({len(services.studies)} studies; `ffpe down` ends it)")
        _stdout().print(f"{services.gallery_url}  (gallery)")


@app.command()
def down() -> None:
    """End what `ffpe up` started; the embedded database stops if nobody else uses it."""
    from orchestration.home import Home
    from orchestration.services import stop_services

    home = Home.from_environment()
    ended = stop_services(home)
    if home.embedded is not None:
        home.embedded.release()
    standard_error().print(f"ended {', '.join(ended)}" if ended else "nothing was up")


@app.command()
def serve(
    role: Annotated[str, typer.Argument(help="code-server, webserver, daemon or gallery.")],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
    code_server: Annotated[str, typer.Option(help="Host of the code server.")] = "127.0.0.1",
    code_server_port: Annotated[int, typer.Option(help="Port of the code server.")] = 4000,
    check: Annotated[bool, typer.Option("--check", help="Only ask whether it is well.")] = False,
) -> None:
    """Run one process of `ffpe up` in the foreground, as containers do."""
    from orchestration import serve as roles
    from orchestration.home import Home

    if role not in roles.ROLES:
        raise typer.BadParameter(f"{role!r}; expected one of {', '.join(roles.ROLES)}")
    listen = roles.Address(host, port or roles.default_port(role))
    home = Home.from_environment()
    if check:
        roles.check(home, role, listen=listen)
    roles.serve(home, role, listen=listen, code_server=roles.Address(code_server, code_server_port))


@app.command()
def status(as_json: AsJson = False) -> None:
    """Show the database, the services and what every study has."""
    from orchestration.display import status_view
    from orchestration.status import installation_status

    with open_home() as home:
        found = installation_status(home)
    if as_json:
        _print_json(found)
    else:
        _stdout().print(status_view(found))


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Check this machine: what is installed, where weights come from, what is missing."""
    from orchestration.display import doctor_table
    from orchestration.doctor import examine
    from orchestration.home import Home

    findings = examine(Home.from_environment())
    if as_json:
        _print_json([finding.as_row() for finding in findings])
    else:
        _stdout().print(doctor_table(findings))
    if any(not finding.ok for finding in findings):
        raise typer.Exit(1)


def _show_results(home: Home, study: str, as_json: bool) -> None:
    from sqlalchemy.orm import Session

    from featurestore.evidence import FOLDS, robustness_frame
    from featurestore.gene_results import better_counts_frame, predictable_counts
    from featurestore.result_frames import comparisons_frame
    from orchestration.fold_columns import with_folds
    from orchestration.results_view import results_view

    with Session(home.engine) as session:
        folds = robustness_frame(session, study, FOLDS)
        comparisons = with_folds(comparisons_frame(session, study), folds)
        better = better_counts_frame(session, study)
        predictable = predictable_counts(session, study)
    if as_json:
        _print_json(json.loads(comparisons.to_json(orient="records", double_precision=15)))
    elif comparisons.empty:
        standard_error().print(f"study {study} has no comparison yet; `ffpe run` makes it")
    else:
        _stdout().print(results_view(comparisons, better, predictable))


def _print_json(rows: Any) -> None:
    typer.echo(json.dumps(rows, indent=2, ensure_ascii=False))


def _stdout() -> Console:
    from rich.console import Console

    # Piped into a file a table keeps its columns instead of wrapping at 80 characters.
    return Console(width=None if sys.stdout.isatty() else 140)


def _escaped(error: object) -> str:
    from rich.markup import escape

    return escape(str(error))
