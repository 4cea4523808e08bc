"""A study from its file to its comparison, on a real Postgres with real (small) networks."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from featurestore.result_frames import comparisons_frame
from featurestore.results import COMPARISON_COLUMNS
from featurestore.sources.synthetic import CLASSES
from featurestore.tables import (
    CvPrediction,
    CvScore,
    Embedding,
    Experiment,
    ModelVersionRow,
    RejectRow,
    Tile,
    TrainingEpoch,
)
from orchestration.home import Home
from orchestration.instance import open_instance
from orchestration.naming import asset_key
from orchestration.run import Launch, RunFailedError, run_study
from orchestration.study import Study

MakeStudy = Callable[..., Study]


def run(home: Home, study: Study, **options: object) -> list[Launch]:
    launches: list[Launch] = []
    n_runs = run_study(
        home,
        study,
        progress=lambda *_args, **_options: None,
        on_launch=launches.append,
        **options,  # type: ignore[arg-type]
    )
    assert n_runs == len(launches)
    return launches


def count(home: Home, table: type, *where: object) -> int:
    with Session(home.engine) as session:
        query = select(func.count()).select_from(table).where(*where)  # type: ignore[arg-type]
        return session.scalar(query) or 0


def comparisons(home: Home, study: str) -> pd.DataFrame:
    with Session(home.engine) as session:
        return comparisons_frame(session, study)


@pytest.mark.slow
def test_a_study_runs_once_and_then_only_what_changed(home: Home, make_study: MakeStudy) -> None:
    launches = run(home, make_study())
    features = "embeddings and tile_maps and search_index and retrieval_quality"
    encoders = ("imgnet-2048", "mean-rgb", "colour-histogram", "ftx-2048")
    assert [str(launch) for launch in launches] == [
        "finetune_tiles and tissue_tiles",
        *(f"model_version and {features} of {encoder}" for encoder in encoders),
        "tissue_scores and tissue_comparison and tissue_robustness and retrieval_comparison",
    ]
    assert count(home, Tile) == 2 * 9 * 6
    assert count(home, ModelVersionRow) == 4
    # Of the base encoder those of the training tiles too: the guard compares them.
    assert count(home, Embedding) == (4 + 1) * 9 * 6
    assert count(home, CvPrediction) == 4 * 2 * 9 * 6
    assert count(home, TrainingEpoch) == 2
    assert count(home, RejectRow) == 0
    rows = comparisons(home, "small")
    assert list(rows.columns) == COMPARISON_COLUMNS
    overall = rows[(rows["target"] == "all") & (rows["task"] == "tissue")]
    assert set(overall["metric"]) == {"accuracy", "balanced_accuracy", "macro_auroc"}
    assert len(overall) == 3 * 6  # six pairs of four encoders
    assert set(rows["target"]) == {"all", *CLASSES}
    as_search_engines = rows[rows["task"] == "retrieval"]
    assert set(as_search_engines["metric"]) == {"majority_accuracy_at_5", "map_at_5"}
    assert len(as_search_engines) == 2 * 6
    assert (rows["p_corrected"] >= rows["p_naive"] - 1e-12).all()
    assert not rows["leakage_checked"].any()
    assert rows["leakage_note"].str.contains("patient").all()

    # Again with nothing changed: nothing runs.
    assert run(home, make_study()) == []

    # More repeats are another experiment on the same features.
    launches = run(home, make_study(repeats=3))
    assert [launch.assets for launch in launches] == [
        ("tissue_scores", "tissue_comparison", "tissue_robustness", "retrieval_comparison")
    ]
    assert comparisons(home, "small")["n_repeats"].unique().tolist() == [3]
    # And back: the experiment is still there and only has to be shown again.
    launches = run(home, make_study())
    assert [launch.assets for launch in launches] == [("tissue_comparison", "retrieval_comparison")]
    pd.testing.assert_frame_equal(comparisons(home, "small"), rows)

    # Another study over the same tiles and encoders embeds and trains nothing.
    n_embeddings = count(home, Embedding)
    launches = run(home, make_study("other"))
    assert count(home, Embedding) == n_embeddings
    assert count(home, ModelVersionRow) == 4
    assert "embeddings" not in {name for launch in launches for name in launch.assets[1:]} or (
        count(home, Embedding) == n_embeddings
    )
    same = comparisons(home, "other").drop(columns="leakage_note")
    pd.testing.assert_frame_equal(same, rows.drop(columns="leakage_note"))

    # Dagster tells the same story: versions, row counts and the checks.
    with open_instance(home) as instance:
        key = asset_key(make_study(), "embeddings")
        event = instance.get_latest_materialization_event(key)
        assert event is not None
        assert event.asset_materialization is not None
        metadata = event.asset_materialization.metadata
        assert metadata["dagster/row_count"].value == 9 * 6
        assert event.asset_materialization.tags["dagster/data_version"]


@pytest.mark.slow
def test_the_same_study_in_two_homes_gives_the_same_numbers(
    home: Home, make_study: MakeStudy, server_folder: Path, with_weights: Callable[[Home], Home]
) -> None:
    run(home, make_study())
    first = comparisons(home, "small")
    other = with_weights(Home(server_folder / "home"))
    try:
        run(other, make_study())
        pd.testing.assert_frame_equal(comparisons(other, "small"), first, check_exact=True)
    finally:
        other.close()


def test_tiles_in_both_folders_block_everything_downstream(
    home: Home, make_study: MakeStudy, tmp_path: Path
) -> None:
    study = make_study()
    assert study.finetune is not None
    leaking = study.model_copy(
        update={"tissue": study.tissue.model_copy(update={"tiles": study.finetune.tiles})}  # type: ignore[union-attr]
    )
    with pytest.raises(RunFailedError, match="not_in_the_fine_tuning_set.*54 tiles"):
        run(home, leaking)
    assert count(home, ModelVersionRow) == 0
    assert count(home, Embedding) == 0


def colour_study(folder: Path) -> Study:
    from orchestration.study import read_study

    return read_study(folder / "study.toml")


def test_bad_tiles_go_to_the_ledger_and_the_rest_goes_on(home: Home, small_folder: Path) -> None:
    tiles = small_folder / "tiles"
    (tiles / "a" / "empty.png").write_bytes(b"")
    (tiles / "a" / "text.tif").write_text("not an image")
    good = (tiles / "a" / "0.png").read_bytes()
    (tiles / "a" / "truncated.png").write_bytes(good[: len(good) // 2])
    (tiles / "a" / "copy.png").write_bytes(good)
    (tiles / "empty_class").mkdir()
    Image.new("CMYK", (40, 40)).save(tiles / "b" / "cmyk.jpg")
    Image.new("RGB", (1, 1)).save(tiles / "b" / "one_pixel.png")
    run(home, colour_study(small_folder))
    with Session(home.engine) as session:
        ledger = {row.item: row for row in session.scalars(select(RejectRow))}
    assert set(ledger) == {
        "a/copy.png",
        "a/empty.png",
        "a/text.tif",
        "a/truncated.png",
        "b/cmyk.jpg",
        "b/one_pixel.png",
        "empty_class/",
    }
    assert all(row.stage == "ingest" and row.reason and row.run_id for row in ledger.values())
    assert count(home, Embedding) == 3 * 12
    assert not comparisons(home, "colour").empty


def test_a_tile_that_vanishes_or_changes_after_ingest_is_a_ledger_row(
    home: Home, small_folder: Path
) -> None:
    study = colour_study(small_folder)
    run(home, study, groups=("sources",))
    (small_folder / "tiles" / "b" / "0.png").unlink()
    Image.new("RGB", (40, 40), "red").save(small_folder / "tiles" / "a" / "0.png")
    run(home, study, groups=("models", "features", "analysis"))
    with Session(home.engine) as session:
        rejects = session.scalars(select(RejectRow)).all()
        assert {(row.stage, row.item) for row in rejects} == {
            ("embed", "a/0.png"),
            ("embed", "b/0.png"),
        }
        n_tiles = session.scalar(
            select(func.count(func.distinct(CvPrediction.tile_id))).select_from(CvPrediction)
        )
    assert n_tiles == 10
    # What is there now is another data set: it is read, and only its new tile is embedded.
    n_embeddings = count(home, Embedding)
    run(home, study)
    assert count(home, Embedding) == n_embeddings + 3
    assert run(home, study) == []


def test_a_class_with_fewer_tiles_than_folds_is_named(
    home: Home, small_folder: Path, add_class: Callable[[Path, str, int, int], None]
) -> None:
    add_class(small_folder / "tiles", "rare", 2, 3)
    with pytest.raises(RunFailedError, match=r"tissue_scores.*'?rare'?.*2.*3"):
        run(home, colour_study(small_folder))
    assert count(home, Experiment) == 0
    assert count(home, CvScore) == 0


def test_a_folder_that_does_not_exist_is_named(home: Home, small_folder: Path) -> None:
    (small_folder / "tiles").rename(small_folder / "moved")
    with pytest.raises(RunFailedError, match=r"^tissue_tiles failed: /.*tiles"):
        run(home, colour_study(small_folder))


def test_encoders_that_are_the_same_version_are_refused(home: Home, small_folder: Path) -> None:
    study_file = small_folder / "study.toml"
    study_file.write_text(study_file.read_text() + '[[encoders]]\nname = "again"\ninput_px = 40\n')
    with pytest.raises(RunFailedError, match="'imgnet-2048' and 'again' are the same model"):
        run(home, colour_study(small_folder))


def test_patients_are_kept_whole_where_they_are_known(home: Home, small_folder: Path) -> None:
    rows = ["file,patient"]
    rows += [f"{c}/{n}.png,TCGA-0{n // 2}-000{c.upper()}" for c in "ab" for n in range(6)]
    (small_folder / "patients.csv").write_text("\n".join(rows))
    study_file = small_folder / "study.toml"
    study_file.write_text(
        study_file.read_text().replace(
            'tiles = "tiles"', 'tiles = "tiles"\npatients = "patients.csv"'
        )
    )
    run(home, colour_study(small_folder))
    assert comparisons(home, "colour")["leakage_checked"].all()
    with Session(home.engine) as session:
        sides = session.execute(
            select(
                CvPrediction.repeat, Tile.patient_id, func.count(func.distinct(CvPrediction.fold))
            )
            .join(Tile, Tile.tile_id == CvPrediction.tile_id)
            .group_by(CvPrediction.repeat, Tile.patient_id)
        ).all()
    assert len(sides) == 2 * 6
    assert all(n_folds == 1 for *_, n_folds in sides)


def test_a_run_leaves_the_environment_as_it_was(home: Home) -> None:
    before = dict(os.environ)
    with open_instance(home):
        assert os.environ["DAGSTER_HOME"] == str(home.dagster)
    assert dict(os.environ) == before
