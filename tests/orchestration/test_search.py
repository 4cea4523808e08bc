"""Search by the command line and by assets: a study's own names, and every bad question."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session
from typer.testing import CliRunner

from featurestore import schema
from featurestore.engine import connect
from featurestore.errors import FfpeError
from featurestore.result_frames import comparisons_frame
from featurestore.search.codes import code_state
from featurestore.search.quality import quality_frame
from featurestore.tables import RetrievalQuality, SearchCode, Tile
from orchestration.cli import app
from orchestration.home import Home
from orchestration.run import run_study
from orchestration.study import Study, read_study

STUDY = """
name = "look"
[tissue]
tiles = "tiles"
patients = "patients.csv"
folds = 3
repeats = 2
[[encoders]]
name = "colour"
network = "colour.histogram"
input_px = 40
"""


@pytest.fixture(scope="module")
def made(
    postgres_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Home, Path]]:
    """A study of reddish and bluish tiles of six patients from three sites, run once."""
    folder = tmp_path_factory.mktemp("look")
    rng = np.random.default_rng(5)
    rows = ["file,patient"]
    for name, tint in (("red", (200, 60, 90)), ("blue", (60, 60, 210))):
        (folder / "tiles" / name).mkdir(parents=True)
        for number in range(12):
            noise = rng.normal(0, 25, (40, 40, 3)) + rng.normal(0, 12, 3)
            pixels = np.clip(np.array(tint) + noise, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / "tiles" / name / f"{number}.png")
            rows.append(f"{name}/{number}.png,TCGA-0{number % 3 + 1}-000{number % 6}")
    (folder / "patients.csv").write_text("\n".join(rows))
    (folder / "look.toml").write_text(STUDY)
    admin = connect(postgres_url)
    with admin.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("CREATE DATABASE look_tests"))
    url = admin.url.set(database="look_tests").render_as_string(hide_password=False)
    engine = connect(url)
    schema.upgrade(engine)
    engine.dispose()
    home = Home(folder / "home", database_url=url)
    run(home, read_study(folder / "look.toml"))
    yield home, folder / "look.toml"
    home.close()
    with admin.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("DROP DATABASE look_tests WITH (FORCE)"))
    admin.dispose()


@pytest.fixture
def studied(made: tuple[Home, Path], monkeypatch: pytest.MonkeyPatch) -> tuple[Home, Path]:
    """That study, its home being that of the environment."""
    monkeypatch.setenv("FFPE_HOME", str(made[0].folder))
    monkeypatch.setenv("FFPE_DATABASE_URL", str(made[0].database_url))
    return made


def run(home: Home, study: Study) -> list[str]:
    launches: list[str] = []
    run_study(
        home,
        study,
        progress=lambda *_args, **_options: None,
        on_launch=lambda launch: launches.append(str(launch)),
    )
    return launches


def ask(study_file: Path, *arguments: object) -> dict:
    result = CliRunner().invoke(
        app, ["search", str(study_file), *map(str, arguments), "--json"], catch_exceptions=False
    )
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_search_by_tile_image_patient_and_its_conditions(studied) -> None:
    home, study_file = studied
    with Session(home.engine) as session:
        tile = session.scalars(select(Tile).order_by(Tile.tile_id)).first()
        assert tile is not None
        tile_id, patient = tile.tile_id, tile.patient_id
    whole = ask(study_file, "--encoder", "colour", "--tile", tile_id, "-k", 999)
    assert len(whole["hits"]) == 23
    assert whole["how"] == "exact"
    assert whole["hits"][0]["label"] in ("red", "blue")
    assert {"x_px", "mpp", "slide", "path", "site", "dataset"} <= whole["hits"][0].keys()
    others = ask(
        study_file, "--encoder", "colour", "--tile", tile_id, "--exclude-same-patient", "-k", 99
    )
    assert {hit["patient_id"] for hit in others["hits"]} < {
        hit["patient_id"] for hit in whole["hits"]
    }
    assert patient not in {hit["patient_id"] for hit in others["hits"]}
    sites = ask(study_file, "--encoder", "colour", "--tile", tile_id, "--exclude-same-site")
    assert patient[5:7] not in {hit["site"] for hit in sites["hits"]}
    image = study_file.parent / "tiles" / "red" / "0.png"
    found = ask(study_file, "--encoder", "colour", "--image", image, "--label", "red", "-k", 3)
    assert [hit["label"] for hit in found["hits"]] == ["red"] * 3
    assert found["hits"][0]["path"] == "red/0.png"
    assert found["hits"][0]["distance"] == pytest.approx(0, abs=1e-5)
    units = ask(study_file, "--encoder", "mean-rgb", "--like-patient", patient)
    assert len(units["hits"]) == 5
    assert patient not in {hit["patient_id"] for hit in units["hits"]}
    medians = [hit["median_minimum"] for hit in units["hits"]]
    assert medians == sorted(medians)
    assert sum(hit["vote_share"] for hit in units["hits"]) == pytest.approx(1)


def test_the_listing_for_people(studied) -> None:
    _, study_file = studied
    result = CliRunner().invoke(
        app, ["search", str(study_file), "--encoder", "colour", "--tile", "1", "-k", "2"]
    )
    assert result.exit_code == 0
    assert "TCGA-" in result.stdout
    assert "2 of 2 hits, found by: exact" in " ".join(result.stderr.split())


def test_assets_are_made_once_and_quality_stands_beside(studied) -> None:
    home, study_file = studied
    study = read_study(study_file)
    assert run(home, study) == []
    with Session(home.engine) as session:
        assert session.scalar(select(func.count()).select_from(SearchCode)) == 2 * 3 * 12
        frame = quality_frame(session, "look").set_index("encoder")
        assert len(frame) == 3
        assert (frame["recall_at_10"] == 1).all()
        assert frame["patients_excluded"].all()
        assert frame.loc["colour", "majority_accuracy_at_5"] > 0.9
        assert (frame["same_site_by_chance"].between(0.1, 0.4)).all()
        rows = comparisons_frame(session, "look")
        assert set(rows["task"]) == {"tissue", "retrieval"}
        for version_id in frame["model_version_id"]:
            assert code_state(session, int(version_id)).current
    # Quality that is missing, and no more, is measured again.
    with Session(home.engine) as session, session.begin():
        lost = int(frame.loc["colour", "model_version_id"])
        session.delete(
            session.get_one(RetrievalQuality, (lost, int(frame.loc["colour", "dataset_id"])))
        )
    assert run(home, study) == ["retrieval_quality of colour"]


def bomb(path: Path) -> Path:
    Image.new("RGB", (20_000, 10_000)).save(path, compress_level=1)
    return path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tile", "999999"], "holds no tile 999999"),
        (["--tile", "-1"], "holds no tile -1"),
        (["--tile", "99999999999999999999999"], "holds no tile"),
        (["--tile", "1", "-k", "0"], "k = 0"),
        (["--image", "no_such.png"], "no such file"),
        (["--image", "{folder}/patients.csv"], "content is none of"),
        (["--image", "{folder}/bomb.png"], "20000 × 10000|decompression bomb|exceeds limit"),
        (["--image", "{folder}/wide.png"], "expected a square tile"),
        (["--like-patient", "'; DROP TABLE patients; --"], "holds no patient"),
        (["--like-patient", ""], "patient is empty"),
        (["--like-slide", "7"], "holds no slide 7"),
        (["--image", "{folder}/tiles/red/0.png", "--exclude-same-patient"], "patient of an image"),
    ],
)
def test_bad_questions_say_what_is_wrong(studied, arguments: list[str], message: str) -> None:
    _, study_file = studied
    folder = study_file.parent
    if "bomb" in str(arguments):
        bomb(folder / "bomb.png")
    Image.new("RGB", (80, 40)).save(folder / "wide.png")
    given = [one.replace("{folder}", str(folder)) for one in arguments]
    with pytest.raises(FfpeError, match=message):
        CliRunner().invoke(
            app,
            ["search", str(study_file), "--encoder", "colour", *given],
            catch_exceptions=False,
        )


def test_unknown_and_unembedded_encoders(studied) -> None:
    study_file = studied[1].with_name("other.toml")
    study_file.write_text(STUDY + '[[encoders]]\nname = "later"\nnetwork = "colour.mean_rgb"\n')
    for encoder, message in [("nobody", "no encoder is called"), ("later", "no model version yet")]:
        with pytest.raises(FfpeError, match=message):
            CliRunner().invoke(
                app,
                ["search", str(study_file), "--encoder", encoder, "--tile", "1"],
                catch_exceptions=False,
            )


@pytest.mark.parametrize(
    "arguments", [[], ["--tile", "1", "--image", "x.png"], ["--like-slide", "1", "--label", "x"]]
)
def test_one_thing_to_search_with(studied, arguments: list[str]) -> None:
    _, study_file = studied
    result = CliRunner().invoke(app, ["search", str(study_file), "--encoder", "colour", *arguments])
    assert result.exit_code == 2


def test_sql_in_every_text_finds_nothing_and_harms_nothing(studied) -> None:
    home, study_file = studied
    for option in ("--label", "--dataset", "--patient"):
        found = ask(
            study_file, "--encoder", "colour", "--tile", 1, option, "x'; DROP TABLE tiles; --"
        )
        assert found["hits"] == []
    with Session(home.engine) as session:
        assert session.scalar(select(func.count()).select_from(Tile)) == 24
