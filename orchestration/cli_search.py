"""The command ``ffpe search``: tiles, patients and slides that look alike."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestration.cli_home import open_home, standard_error

if TYPE_CHECKING:
    from featurestore.search import SearchResult, UnitResult


def search(
    study_file: Annotated[Path, typer.Argument(metavar="STUDY", help="A study file (TOML).")],
    encoder: Annotated[str, typer.Option(help="Which of the study's encoders compares.")],
    tile: Annotated[int | None, typer.Option(help="Search with this tile of the store.")] = None,
    image: Annotated[
        Path | None, typer.Option(help="Search with this image file, embedded now.")
    ] = None,
    like_patient: Annotated[
        str | None, typer.Option(metavar="PATIENT", help="Find patients like this one.")
    ] = None,
    like_slide: Annotated[
        int | None, typer.Option(metavar="ID", help="Find slides like this one.")
    ] = None,
    k: Annotated[int, typer.Option("-k", help="Number of hits.")] = 20,
    label: Annotated[str | None, typer.Option(help="Only tiles of this class.")] = None,
    dataset: Annotated[
        str | None, typer.Option(help="Only tiles of the data sets of this name or digest.")
    ] = None,
    patient: Annotated[str | None, typer.Option(help="Only tiles of this patient.")] = None,
    exclude_same_patient: Annotated[
        bool, typer.Option("--exclude-same-patient", help="Only tiles of other patients.")
    ] = False,
    exclude_same_site: Annotated[
        bool, typer.Option("--exclude-same-site", help="Only tiles of other sites.")
    ] = False,
    exact: Annotated[bool, typer.Option("--exact", help="Compare every tile.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="The answer as JSON on standard output.")
    ] = False,
) -> None:
    """Find the tiles, patients or slides that look most like a given one."""
    from orchestration.search import Question, search_patients, search_slides, search_tiles
    from orchestration.study import read_study

    asked = [tile, image, like_patient, like_slide]
    if sum(one is not None for one in asked) != 1:
        raise typer.BadParameter("give one of --tile, --image, --like-patient and --like-slide")
    conditions = {
        "label": label,
        "dataset": dataset,
        "patient": patient,
        "exclude_same_patient": exclude_same_patient,
        "exclude_same_site": exclude_same_site,
        "exact": exact,
    }
    if tile is None and image is None and any(conditions.values()):
        raise typer.BadParameter("conditions on tiles go with --tile or --image")
    study = read_study(study_file)
    with open_home() as home:
        if like_patient is not None:
            units = search_patients(home, study, encoder, patient_id=like_patient, k=k)
            _show_units(units, as_json)
        elif like_slide is not None:
            _show_units(search_slides(home, study, encoder, slide_id=like_slide, k=k), as_json)
        else:
            question = Question(tile, image, {"k": k, **conditions})
            _show_tiles(search_tiles(home, study, encoder, question), as_json)


def _show_tiles(found: SearchResult, as_json: bool) -> None:
    from dataclasses import asdict

    if as_json:
        typer.echo(json.dumps(asdict(found), indent=2, ensure_ascii=False))
        return
    rows = [
        {
            "rank": hit.rank,
            "tile": hit.tile_id,
            "distance": f"{hit.distance:.4f}",
            "label": hit.label,
            "patient": hit.patient_id,
            "site": hit.site,
            "file": hit.slide or hit.path,
            "x": hit.x_px,
            "y": hit.y_px,
            "mpp": hit.mpp,
            "data set": hit.dataset,
        }
        for hit in found.hits
    ]
    _print_table(rows)
    waiting = f"; {found.n_uncoded} tiles wait for a search code" if found.n_uncoded else ""
    standard_error().print(
        f"{len(rows)} of {found.k} hits, found by: {found.how}{waiting}", highlight=False
    )


def _show_units(found: UnitResult, as_json: bool) -> None:
    from dataclasses import asdict

    if as_json:
        typer.echo(json.dumps(asdict(found), indent=2, ensure_ascii=False))
        return
    rows = [
        {
            "rank": hit.rank,
            found.unit: hit.name,
            "site": hit.site,
            "median of minimum distances": f"{hit.median_minimum:.4f}",
            "votes": f"{100 * hit.vote_share:.0f} %",
            "tiles": hit.n_tiles,
        }
        for hit in found.hits
    ]
    _print_table(rows)
    standard_error().print(
        f"{len(rows)} of {found.k} hits for {found.n_query_tiles} tiles; "
        "tiles of the same patient were left out",
        highlight=False,
    )


def _print_table(rows: Sequence[Mapping[str, object]]) -> None:
    import pandas as pd
    from rich.console import Console

    from orchestration.display import frame_table

    if rows:
        frame = pd.DataFrame(rows).dropna(axis="columns", how="all").astype(object)
        shown = frame.where(frame.notna(), "")
        Console(width=None if sys.stdout.isatty() else 140).print(frame_table(shown))
