"""Robustness of a study's results, from the study file to the database, the terminal and SQL."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session
from typer.testing import CliRunner

from featurestore import evidence
from featurestore.pretraining import MARK
from orchestration.cli import app
from orchestration.home import Home
from orchestration.run import Launch, run_study
from orchestration.study import Study, read_study

Give = Callable[[Home], Home]


def run(home: Home, study: Study) -> list[Launch]:
    launches: list[Launch] = []
    run_study(home, study, progress=lambda *_args, **_options: None, on_launch=launches.append)
    return launches


def environment(home: Home) -> dict[str, str]:
    return {
        "FFPE_HOME": str(home.folder),
        "FFPE_DATABASE_URL": str(home.database_url),
        "COLUMNS": "250",
    }


def with_patients(folder: Path, *, encoder: str = "") -> Study:
    """The small folder with three TCGA patients a class."""
    rows = ["file,patient"]
    rows += [f"{c}/{n}.png,TCGA-0{n // 2}-000{c.upper()}" for c in "ab" for n in range(6)]
    (folder / "patients.csv").write_text("\n".join(rows))
    path = folder / "study.toml"
    named = path.read_text().replace(
        'tiles = "tiles"', 'tiles = "tiles"\npatients = "patients.csv"'
    )
    path.write_text(named + encoder)
    return read_study(path)


def test_random_folds_stand_beside_folds_that_keep_patients_whole(
    home: Home, small_folder: Path
) -> None:
    study = with_patients(small_folder)
    run(home, study)
    with Session(home.engine) as session:
        folds = evidence.robustness_frame(session, study.name, evidence.FOLDS)
        # SQL alone, as a user would ask: own folds keep patients whole, the others are random.
        own = dict(
            session.execute(
                text(
                    "SELECT encoder, avg(value) FROM split_scores WHERE study = :study "
                    "AND task = 'tissue' AND target = 'all' AND metric = 'accuracy' "
                    "GROUP BY encoder"
                ),
                {"study": study.name},
            ).all()  # type: ignore[arg-type]
        )
    accuracy = folds[(folds["metric"] == "accuracy") & (folds["target"] == "all")]
    assert accuracy["encoder"].tolist() == ["imgnet-2048", "mean-rgb", "colour-histogram"]
    assert set(folds["kept"]) == {"patient"}
    for row in accuracy.to_dict(orient="records"):
        assert row["kept_score"] == pytest.approx(own[row["encoder"]])
        assert row["optimism"] == pytest.approx(row["random_score"] - row["kept_score"])
    assert run(home, study) == []
    shown = CliRunner().invoke(
        app, ["results", str(small_folder / "study.toml")], env=environment(home)
    )
    assert "optimism" in shown.stdout


def test_where_patients_are_unknown_that_is_the_reason(home: Home, small_folder: Path) -> None:
    study = read_study(small_folder / "study.toml")
    run(home, study)
    with Session(home.engine) as session:
        assert evidence.robustness_frame(session, study.name, evidence.FOLDS).empty
        (note,) = evidence.robustness_notes(session, study.name).to_dict(orient="records")
    assert note["kind"] == "folds"
    assert "nothing to keep whole" in note["note"]
    assert run(home, study) == []


def test_a_result_of_tcga_patients_carries_the_mark_of_an_encoder_trained_on_tcga(
    home: Home, small_folder: Path
) -> None:
    study = with_patients(small_folder, encoder="trained_on_tcga = true\n")
    run(home, study)
    runner, env, file = CliRunner(), environment(home), str(small_folder / "study.toml")
    results = runner.invoke(app, ["results", file], env=env)
    assert MARK in results.stdout
    guards = runner.invoke(app, ["guards", file], env=env)
    assert "pretrained_on_tcga" in guards.stdout
    report = runner.invoke(
        app, ["report", study.name, "--to", str(small_folder / "report")], env=env
    )
    assert report.exit_code == 0, report.output
    pages = list((small_folder / "report").rglob("*.html"))
    assert MARK in "".join(page.read_text() for page in pages)
    with Session(home.engine) as session:
        notes = session.scalars(
            text("SELECT DISTINCT leakage_note FROM study_comparisons WHERE task = 'tissue'")
        ).all()
    assert all(MARK in note for note in notes)
