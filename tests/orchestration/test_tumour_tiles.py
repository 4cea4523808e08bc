"""Patients by their tumour tiles alone: what a fine-tuned encoder's classifier chooses."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from featurestore.study_datasets import study_dataset
from featurestore.tables import Embedding, Experiment, RejectRow, TileClass, TileSelection
from orchestration.home import Home
from orchestration.run import RunFailedError, run_study
from orchestration.study import Study, StudyError, read_study

pytestmark = pytest.mark.slow

STUDY = """
name = "lung"
seed = 7
[finetune]
tiles = "{tissue}/train"
epochs = [1, 1]
batch_size = 16
[luad]
slides = {{ synthetic = 24, seed = 3, slide_px = 512, n_planted = 2, n_null = 2 }}
tile_px = 112
max_tiles_per_slide = 3
tiles = "tumour"
{keys}
folds = 3
repeats = 2
n_permutations = 20
[[encoders]]
name = "imgnet-2048"
input_px = 72
[[encoders]]
name = "ftx-2048"
finetuned_from = "imgnet-2048"
"""
CHOSEN = """
    SELECT tile_id FROM tile_classes WHERE label IN ('TUM', 'STR')
     GROUP BY tile_id HAVING sum(probability) >= :minimum
"""


def study_of(folder: Path, tissue: Path, keys: str) -> Study:
    path = folder / "lung.toml"
    path.write_text(STUDY.format(tissue=tissue, keys=keys))
    return read_study(path)


def run(home: Home, study: Study) -> list[str]:
    launches: list[str] = []
    run_study(
        home,
        study,
        progress=lambda *_args, **_options: None,
        on_launch=lambda launch: launches.append(str(launch)),
    )
    return launches


def pooled(session: Session, study: str = "lung") -> dict[str, set[int]]:
    """Tiles that the study's patients stand for, and those that were pooled, by encoder."""
    dataset_id = study_dataset(session, study, "tumour_tiles").dataset_id
    rows = session.execute(
        text(
            """
            SELECT encoder, sum(n_tiles), min(n_tiles) FROM patient_features
              JOIN study_encoders USING (model_version_id)
             WHERE dataset_id = :dataset_id AND study = :study GROUP BY encoder
            """
        ),
        {"dataset_id": dataset_id, "study": study},
    )
    return {encoder: n for encoder, n, _ in rows}


def test_patients_are_pooled_from_the_tiles_that_the_classifier_calls_tumour(
    home: Home, small_tissue: Path, tmp_path: Path
) -> None:
    keys = 'tumour_labels = ["TUM", "STR"]\nmin_tumour = {}'
    with pytest.raises(RunFailedError, match=r"TUMOR is no class of \[finetune\].*ADI.*TUM"):
        run(home, study_of(tmp_path, small_tissue, 'tumour_labels = ["TUMOR"]'))
    with Session(home.engine) as session:
        launches = run(home, study_of(tmp_path, small_tissue, keys.format(0.3)))
        # What was embedded before the misspelt label was met is not embedded again.
        assert launches[0] == "tile_classes and tumour_tiles"
        sums = session.scalars(
            select(func.sum(TileClass.probability)).group_by(TileClass.tile_id)
        ).all()
        assert len(sums) == study_dataset(session, "lung", "slide_tiles").n_tiles
        assert all(total == pytest.approx(1, abs=1e-5) for total in sums)
        chosen = set(session.scalars(text(CHOSEN), {"minimum": 0.3}))
        assert 0 < len(chosen) < len(sums)
        assert pooled(session) == dict.fromkeys(
            ("imgnet-2048", "ftx-2048", "mean-rgb", "colour-histogram"), len(chosen)
        )
        # A slide without tumour is told, not silently gone.
        lost = session.scalars(select(RejectRow.item).where(RejectRow.stage == "select")).all()
        left = session.scalars(
            text("SELECT DISTINCT slides.name FROM tiles JOIN slides USING (slide_id)"
                 " WHERE tile_id = ANY(:chosen)"),
            {"chosen": list(chosen)},
        ).all()  # fmt: skip
        assert len(lost) == len(set(lost)) == 24 - len(left)
        assert not set(lost) & set(left)
        settings = session.scalars(select(Experiment.settings)).first()
        assert settings is not None
        assert settings["tiles"] == {"tumour": ["STR", "TUM"], "from": 0.3}
        n_embeddings = session.scalar(select(func.count()).select_from(Embedding))
        session.rollback()

        assert run(home, study_of(tmp_path, small_tissue, keys.format(0.3))) == []

        # Another bound chooses anew and pools anew; nothing is embedded again.
        study = study_of(tmp_path, small_tissue, keys.format(0.2))
        assert run(home, study)[0] == "tumour_tiles"
        chosen = set(session.scalars(text(CHOSEN), {"minimum": 0.2}))
        assert set(pooled(session).values()) == {len(chosen)}
        assert n_embeddings == session.scalar(select(func.count()).select_from(Embedding))
        rules = session.scalars(select(TileSelection.min_probability)).all()
        assert sorted(rules) == [0.2, 0.3]


def test_tumour_needs_an_encoder_that_can_tell_it(small_tissue: Path, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="needs an encoder with finetuned_from.*has ftx-2048"):
        study_of(tmp_path, small_tissue, 'tumour_by = "imgnet-2048"')
