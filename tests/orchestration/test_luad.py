"""Patients from slides to gene-by-gene comparisons, on a cohort whose truth is known."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from featurestore.gene_results import better_counts_frame, predictable_counts
from featurestore.result_frames import comparisons_frame
from featurestore.tables import (
    CvGenePrediction,
    CvScore,
    Embedding,
    Experiment,
    Expression,
    PatientFeature,
    RejectRow,
    SequencedPatient,
    Slide,
    Tile,
)
from orchestration.home import Home
from orchestration.luad_sources import cohort_files
from orchestration.run import Launch, run_study
from orchestration.study import Study, read_study

pytestmark = pytest.mark.slow

N_PATIENTS = 24
STUDY = """
name = "lung"
seed = 7
[luad]
slides = {{ synthetic = {n_patients}, seed = 3, slide_px = 512, n_planted = 4, n_null = 4 }}
tile_px = 112
max_tiles_per_slide = 3
folds = 3
repeats = {repeats}
group = "{group}"
n_permutations = 20
{keys}
[[encoders]]
name = "imgnet-2048"
input_px = 72
"""


def study_of(folder: Path, *, repeats: int = 2, group: str = "patient", keys: str = "") -> Study:
    path = folder / "lung.toml"
    path.write_text(STUDY.format(n_patients=N_PATIENTS, repeats=repeats, group=group, keys=keys))
    return read_study(path)


def run(home: Home, study: Study, **options: object) -> list[Launch]:
    launches: list[Launch] = []
    run_study(
        home,
        study,
        progress=lambda *_args, **_options: None,
        on_launch=launches.append,
        **options,  # type: ignore[arg-type]
    )
    return launches


def count(session: Session, table: type) -> int:
    return session.scalar(select(func.count()).select_from(table)) or 0


def test_a_cohort_goes_from_slides_to_genes_and_then_nothing_is_left_to_do(
    home: Home, tmp_path: Path
) -> None:
    study = study_of(tmp_path)
    launches = run(home, study)
    assert [str(launch) for launch in launches][::4] == [
        "slide_tiles and expression_table and mutation_table",
        "expression_scores and expression_comparison and expression_robustness and mutation_scores "
        "and mutation_comparison and mutation_robustness",
    ]
    with Session(home.engine) as session:
        assert count(session, Slide) == N_PATIENTS
        n_tiles = count(session, Tile)
        assert N_PATIENTS <= n_tiles <= 3 * N_PATIENTS
        assert count(session, Embedding) == 3 * n_tiles
        assert count(session, PatientFeature) == 3 * N_PATIENTS
        assert count(session, SequencedPatient) == N_PATIENTS
        assert count(session, Expression) == 8 * N_PATIENTS
        assert count(session, CvScore) > 0
        n_genes = session.scalar(select(func.count(func.distinct(CvGenePrediction.target)))) or 0
        assert n_genes > 8
        rows = comparisons_frame(session, "lung")
        assert set(rows["task"]) == {"expression", "mutation"}
        assert set(rows.loc[rows["task"] == "expression", "metric"]) == {"pearson_r", "r_squared"}
        assert set(rows.loc[rows["task"] == "mutation", "metric"]) == {"auroc", "auprc", "brier"}
        assert rows["q"].between(0, 1).all()
        assert (rows["q"] >= rows["p"] - 1e-12).all()
        assert rows["leakage_checked"].all()
        counts = better_counts_frame(session, "lung")
        assert set(counts["task"]) == {"expression", "mutation"}
        assert (counts["n_better_b"] <= counts["n_genes"]).all()
        assert predictable_counts(session, "lung")["n_genes"].tolist() == [8, 8, 8]
        # Pooling is SQL's own: the mean over a patient's tiles, and nothing else.
        wrong = session.scalar(
            text(
                """
                SELECT count(*) FROM patient_features AS pooled
                WHERE l2_distance(pooled.embedding, (
                    SELECT avg(e.embedding) FROM embeddings AS e JOIN tiles AS t USING (tile_id)
                    WHERE t.patient_id = pooled.patient_id
                      AND e.model_version_id = pooled.model_version_id)) > 1e-3
                """
            )
        )
        assert wrong == 0
    assert run(home, study) == []
    again = run(home, study_of(tmp_path, repeats=3))
    assert [launch.encoder for launch in again] == [None]


def test_whole_sites_are_kept_together_and_components_taken_where_asked(
    home: Home, tmp_path: Path
) -> None:
    run(home, study_of(tmp_path, group="site", keys="components = 5"))
    with Session(home.engine) as session:
        split_sites = session.scalar(
            text(
                """
                SELECT count(*) FROM (
                    SELECT target, r.repeat, p.tissue_source_site
                      FROM cv_gene_predictions AS c
                      JOIN patients AS p USING (patient_id)
                     CROSS JOIN LATERAL unnest(c.folds) WITH ORDINALITY AS r(fold, repeat)
                     GROUP BY c.experiment_id, target, r.repeat, p.tissue_source_site
                    HAVING count(DISTINCT r.fold) > 1) AS broken
                """
            )
        )
        assert split_sites == 0
        assert count(session, CvGenePrediction) > 0
        of_expression = select(Experiment.settings).where(Experiment.task == "expression")
        assert session.scalars(of_expression).one()["n_components"] == 5


def test_a_slide_that_vanishes_or_changes_after_tiling_is_in_the_ledger(
    home: Home, tmp_path: Path
) -> None:
    study = study_of(tmp_path)
    run(home, study, groups=("sources",))
    assert study.luad is not None
    changed, gone, *_ = sorted(cohort_files(home, study.luad).slides.glob("*.tif"))
    content = bytearray(changed.read_bytes())
    content[-1] ^= 0xFF
    changed.write_bytes(bytes(content))
    gone.unlink()
    run(home, study, groups=("models", "features", "analysis"))
    with Session(home.engine) as session:
        rejects = session.scalars(select(RejectRow).where(RejectRow.stage == "embed")).all()
        assert {row.item.partition("@")[0] for row in rejects} == {changed.name, gone.name}
        assert all("@" in row.item and row.reason for row in rejects)
        pooled = session.scalar(select(func.count(func.distinct(PatientFeature.patient_id))))
        assert pooled == N_PATIENTS - 2
        assert not comparisons_frame(session, "lung").empty
