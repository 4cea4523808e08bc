"""The command ``ffpe embed``: a shard of a study's tiles, by one of any number of processes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestration.cli_home import open_home, standard_error

if TYPE_CHECKING:
    from orchestration.home import Home
    from orchestration.progress import ProgressReporter
    from orchestration.shards import Part
    from orchestration.study import Study


def embed(
    study_file: Annotated[Path, typer.Argument(metavar="STUDY", help="A study file (TOML).")],
    encoder: Annotated[
        list[str] | None,
        typer.Option(help="One of the study's encoders; may be repeated. All of them without."),
    ] = None,
    shard: Annotated[
        str, typer.Option(metavar="NUMBER/OF", help="Only this one of so many equal parts.")
    ] = "1/1",
) -> None:
    """Embed what a study's tiles still lack, or a shard of it, beside any number of others.

    The study's sources and models must be there (`ffpe run --select`). Shards may be killed,
    repeated and run at once; `ffpe run` goes on with what they stored.
    """
    from featurestore.claims import Shard
    from featurestore.errors import InputError
    from orchestration.progress import ConsoleProgress
    from orchestration.shards import embed_shard, is_complete, parts_of
    from orchestration.study import read_study

    try:
        part_of_all = Shard.parse(shard)
    except InputError as error:
        raise typer.BadParameter(f"--shard: {error}") from error
    study = read_study(study_file)
    console = standard_error()
    with open_home() as home, _dagster_pipes() as pipes:
        with ConsoleProgress(console) as progress:
            parts = parts_of(home, study, encoder or [])
            done = [
                embed_shard(
                    home,
                    study,
                    part,
                    part_of_all,
                    run_id=None if pipes is None else pipes.run_id,
                    progress=progress,
                )
                for part in parts
            ]
            complete = [part for part in parts if is_complete(home, study, part)]
            if pipes is None:
                _record(home, study, complete, progress)
        n_new, n_rejected = (sum(one.n_embedded for one in done), sum(o.n_rejected for o in done))
        if pipes is not None:
            pipes.report_custom_message({"n_embedded": n_new, "n_rejected": n_rejected})
        rest = "every shard is done" if len(complete) == len(parts) else "others are not done yet"
        console.print(
            f"shard {part_of_all} of {study.name} is done: {n_new} tiles embedded now, "
            f"{n_rejected} left out; {rest}",
            highlight=False,
            soft_wrap=True,
        )


def _record(home: Home, study: Study, complete: list[Part], progress: ProgressReporter) -> None:
    """Let Dagster find that nothing is missing: its history and checks, as by `ffpe run`."""
    if not complete:
        return
    from orchestration.run import Launch, run_study
    from orchestration.shards import unrecorded

    launches = [Launch((part.asset,), part.encoder) for part in unrecorded(home, study, complete)]
    run_study(home, study, launches=launches, progress=progress, on_launch=lambda _: None)


@contextmanager
def _dagster_pipes() -> Iterator[Any]:
    """The Dagster run that launched this process through Pipes, or None if none did."""
    from dagster_pipes import DAGSTER_PIPES_CONTEXT_ENV_VAR, open_dagster_pipes

    # Asked by itself, it would warn every other time that nobody launched it.
    if DAGSTER_PIPES_CONTEXT_ENV_VAR not in os.environ:
        yield None
        return
    with open_dagster_pipes() as context:
        yield context
