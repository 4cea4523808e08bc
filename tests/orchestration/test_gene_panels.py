"""Panels of tiles: exact, one a patient, of the planted morphology, kept when files are gone."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import ndimage
from sqlalchemy import Engine, delete, select
from sqlalchemy.orm import Session

from analysis.attribution import fit_expression, fit_mutation
from featurestore import schema, versions
from featurestore.browse import tile_facts
from featurestore.embeddings import matrix, write_embeddings
from featurestore.gene_panels import panel_tiles_frame, panels_frame
from featurestore.model_versions import ModelVersion
from featurestore.patient_features import (
    patient_matrix,
    pool_patients,
    tiles_of_patient,
    unrounded_means,
)
from featurestore.prediction_frames import gene_predictions_frame
from featurestore.sources.synthetic_molecules import (
    EXPRESSION_FILE,
    GENES_FILE,
    MUTATIONS_FILE,
    MoleculeSettings,
    simulate_molecules,
)
from featurestore.sources.synthetic_slides import draw_factors, draw_slide, write_cohort
from featurestore.study_datasets import study_dataset
from featurestore.tables import CvScore, Experiment, GenePanel, Predictability, RejectRow, Tile
from models.tiles import TileRef, read_unchanged
from orchestration import currency
from orchestration.gene_panels import N_GENES, N_TILES, make_panels
from orchestration.home import Home
from orchestration.naming import SLIDE_TILES
from orchestration.registry import pointer_of
from orchestration.report import build_report
from orchestration.report.page import report_page
from orchestration.run import Launch, run_study
from orchestration.study import Study, read_study

pytestmark = pytest.mark.slow

N_PATIENTS, SEED, SLIDE_PX, TILE_PX = 32, 3, 512, 112
NETWORK = "fibres"
STUDY = f"""
name = "lung"
seed = 7
[luad]
slides = "slides"
expression = "{EXPRESSION_FILE}"
unit = "log2(FPKM+1)"
mutations = "{MUTATIONS_FILE}"
genes = "{GENES_FILE}"
mutated_genes = ["MUTP01", "MUTP02", "MUTP03", "MUTP04", "MUTN01"]
tile_px = {TILE_PX}
max_tiles_per_slide = 6
folds = 3
repeats = 2
n_permutations = 40
[[encoders]]
name = "{NETWORK}"
"""


@dataclass(frozen=True)
class Cohort:
    """A study that was run, and what is true of its patients and genes."""

    home: Home
    study: Study
    slides: Path
    factors: pd.DataFrame
    truth: pd.DataFrame


@pytest.fixture(scope="module")
def cohort(module_engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cohort]:
    """Slides that differ in stroma, which drives genes, seen by an encoder that sees fibres.

    A network would learn less from so few patients, and take minutes.
    """
    folder = tmp_path_factory.mktemp("panels")
    factors = draw_factors(N_PATIENTS, seed=SEED)
    others = ["glands", "lymphocytes", "necrosis"]
    factors[others] = 0.4 + 0.05 * factors[others]
    settings = MoleculeSettings(
        n_planted=4, n_null=1, n_null_mutated=1, correlations=(0.9, 0.95), log_odds=3
    )
    truth = simulate_molecules(folder, factors=factors, seed=SEED, settings=settings)
    write_cohort(folder / "slides", factors=factors, seed=SEED, slide_px=SLIDE_PX)
    (folder / "lung.toml").write_text(STUDY)
    schema.upgrade(module_engine)
    url = module_engine.url.render_as_string(hide_password=False)
    home, study = Home(folder / "home", database_url=url), read_study(folder / "lung.toml")
    run(home, study, "sources")
    embed(home, study)
    run(home, study, "analysis")
    yield Cohort(home, study, folder / "slides", factors, truth)
    home.close()


def run(home: Home, study: Study, group: str) -> list[Launch]:
    launches: list[Launch] = []
    run_study(
        home,
        study,
        groups=(group,),
        progress=lambda *_args, **_options: None,
        on_launch=launches.append,
    )
    return launches


def embed(home: Home, study: Study) -> None:
    """Features of every tile for every encoder of the study, and their means by patient."""
    with Session(home.engine) as session, session.begin():
        dataset_id = study_dataset(session, study.name, SLIDE_TILES).dataset_id
        tile_ids = session.scalars(select(Tile.tile_id).order_by(Tile.tile_id)).all()
        found = [tile_facts(session, tile_id) for tile_id in tile_ids]
        tiles = [TileRef(t.tile_id, t.path, t.sha256, t.place) for t in found if t is not None]
        pixels = [read_unchanged(tile) for tile in tiles]
        fibres = np.stack([fibres_of(rgb) for rgb in pixels])
        colours = np.stack([rgb.mean(axis=(0, 1)) for rgb in pixels]).astype(np.float32)
        for entry in study.encoders:
            is_network = entry.name == NETWORK
            vectors = fibres if is_network else colours
            version = ModelVersion(
                network=NETWORK if is_network else entry.network,
                weights_sha256="ab" * 32 if is_network else None,
                input_px=TILE_PX, mean=(0.5,) * 3, std=(0.5,) * 3, interpolation="bicubic",
                pooling="avg", precision="float32", dim=vectors.shape[1], licence="none",
                trained_on="nothing",
            )  # fmt: skip
            version_id = versions.register(session, version)
            pointer = versions.EncoderPointer(version_id, "cd" * 32)
            versions.point_encoder(session, study.name, entry.name, pointer)
            write_embeddings(session, version_id, np.array(tile_ids), vectors)
            pool_patients(session, version_id, dataset_id)


def fibres_of(rgb: np.ndarray) -> np.ndarray:
    """How strong edges are, and how much they run alongside each other, at three scales."""
    density = -np.log((rgb.astype(np.float32) + 1) / 256).mean(axis=2)
    found = []
    for scale in (1, 2, 4):
        dy = ndimage.gaussian_filter(density, scale, order=(1, 0))
        dx = ndimage.gaussian_filter(density, scale, order=(0, 1))
        xx, yy, xy = (ndimage.gaussian_filter(p, 3 * scale) for p in (dx * dx, dy * dy, dx * dy))
        alongside = np.sqrt((xx - yy) ** 2 + 4 * xy**2) / (xx + yy + 1e-6)
        found += [np.log(np.hypot(dx, dy).mean() + 1e-4), alongside.mean()]
    return np.array(found, np.float32)


def experiment(session: Session, task: str) -> Experiment:
    return session.scalars(
        select(Experiment).where(Experiment.task == task, Experiment.is_current)
    ).one()


def test_the_best_genes_have_a_panel_and_then_nothing_is_left_to_do(
    cohort: Cohort,
) -> None:
    home, study = cohort.home, cohort.study
    assert run(home, study, "analysis") == []
    with Session(home.engine) as session:
        for task, metric in (("expression", "pearson_r"), ("mutation", "auroc")):
            found = experiment(session, task)
            panels = panels_frame(session, found.experiment_id)
            assert 1 <= len(panels) <= N_GENES
            assert set(panels["encoder"]) == {NETWORK}
            assert set(panels["metric"]) == {metric}
            assert panels["mean_score"].is_monotonic_decreasing
            assert (panels["n_tiles"] <= 6 * N_PATIENTS).all()
            version_id = pointer_of(session, study, NETWORK).model_version_id
            scores = dict(
                session.execute(
                    select(CvScore.target, CvScore.value).where(
                        CvScore.experiment_id == found.experiment_id,
                        CvScore.model_version_id == version_id,
                        CvScore.metric == metric,
                        CvScore.repeat == 0,
                        CvScore.fold == 0,
                    )
                ).all()
            )
            assert set(panels["target"]) <= set(scores)
            tiles = panel_tiles_frame(session, found.experiment_id)
            for (_, side), rows in tiles.groupby(["target", "side"]):
                assert rows["rank"].tolist() == list(range(1, N_TILES + 1))
                assert rows["patient_id"].is_unique
                descending = rows["score"] if side == "low" else -rows["score"]
                assert descending.is_monotonic_increasing
            for _, rows in tiles.groupby("target"):
                assert rows["tile_sha256"].is_unique
                high, low = (rows[rows["side"] == side]["score"] for side in ("high", "low"))
                assert high.min() > low.max()
            for jpeg, px in zip(tiles["thumbnail"], tiles["thumbnail_px"], strict=True):
                assert Image.open(io.BytesIO(jpeg)).size == (px, px)
                assert px == TILE_PX
        q = session.scalars(
            select(Predictability.q).join(
                GenePanel,
                (GenePanel.experiment_id == Predictability.experiment_id)
                & (GenePanel.model_version_id == Predictability.model_version_id)
                & (GenePanel.target == Predictability.target),
            )
        ).all()
        assert q
        assert max(q) < 0.05


@pytest.mark.parametrize("task", ["expression", "mutation"])
def test_tiles_add_up_to_the_models_prediction_for_their_patient(cohort: Cohort, task: str) -> None:
    home, study = cohort.home, cohort.study
    with Session(home.engine) as session:
        found = experiment(session, task)
        dataset_id = study_dataset(session, study.name, SLIDE_TILES).dataset_id
        version_id = pointer_of(session, study, NETWORK).model_version_id
        panel = panels_frame(session, found.experiment_id).iloc[0]
        known = gene_predictions_frame(session, found.experiment_id, NETWORK, [panel["target"]])
        patients = known["patient_id"].tolist()
        observed = known["observed"].to_numpy(dtype=float)
        means = unrounded_means(session, version_id, dataset_id, patients)
        # The same features but for the half precision that they are kept in.
        pooled = patient_matrix(session, version_id, dataset_id, patients)
        np.testing.assert_allclose(means, pooled, rtol=1e-3, atol=1e-4)
        fitted = (
            fit_mutation(means, observed > 0.5)
            if task == "mutation"
            else fit_expression(means, observed)
        )
        assert fitted.penalty == panel["penalty"]
        assert fitted.mean_prediction == pytest.approx(panel["mean_prediction"], abs=1e-9)
        of_patients = dict(zip(patients, fitted.predict(means), strict=True))
        tiles = panel_tiles_frame(session, found.experiment_id)
        tiles = tiles[tiles["target"] == panel["target"]]
        n_tiles = 0
        for patient in patients:
            tile_ids = tiles_of_patient(session, version_id, dataset_id, patient)
            scores = fitted.predict(matrix(session, version_id, tile_ids))
            assert scores.mean() == pytest.approx(of_patients[patient], abs=1e-4)
            n_tiles += len(tile_ids)
            shown = tiles[tiles["patient_id"] == patient]
            extremes = {"high": scores.max(), "low": scores.min()}
            for side, score in zip(shown["side"], shown["score"], strict=True):
                assert score == pytest.approx(extremes[side], abs=1e-9)
        assert n_tiles == panel["n_tiles"]
        # Nobody else's tile is more extreme than the last that is shown.
        assert len(tiles) == 2 * N_TILES


def test_the_panel_of_a_planted_gene_shows_the_planted_morphology(
    cohort: Cohort,
) -> None:
    """What a factor adds to a slide is what differs from the same slide drawn without it."""
    with Session(cohort.home.engine) as session:
        tiles = panel_tiles_frame(session, experiment(session, "expression").experiment_id)
    truth = cohort.truth.set_index("symbol")
    planted = [gene for gene in tiles["target"].unique() if truth.loc[gene, "factor"] == "stroma"]
    assert planted
    for gene in planted:
        share: dict[str, list[float]] = {"high": [], "low": []}
        for row in tiles[tiles["target"] == gene].to_dict(orient="records"):
            drawn = cohort.factors.loc[row["patient_id"]].to_dict()
            whole, without = (
                draw_slide(row["patient_id"], given, seed=SEED, slide_px=SLIDE_PX).astype(int)
                for given in (drawn, drawn | {"stroma": 0.0})
            )
            place = np.s_[row["y_px"] : row["y_px"] + TILE_PX, row["x_px"] : row["x_px"] + TILE_PX]
            changed = np.abs(whole - without).max(axis=2) > 12
            share[row["side"]].append(float(changed[place].mean()))
        more, less = ("high", "low") if truth.loc[gene, "effect"] > 0 else ("low", "high")
        assert np.mean(share[more]) > np.mean(share[less]) + 0.2, (gene, share)


def test_the_report_shows_them_when_every_slide_is_gone_and_says_what_was_lost(
    cohort: Cohort,
) -> None:
    """Last of the module: it takes the slides away."""
    home, study, slides = cohort.home, cohort.study, cohort.slides

    def page() -> str:
        with Session(home.engine) as session:
            report = build_report(session, study.name)
        return report_page(report, {figure.name: b"" for figure in report.figures})

    def make_anew() -> pd.DataFrame:
        with Session(home.engine) as session, session.begin():
            session.execute(delete(GenePanel))
        assert "expression_panels" in currency.stale_analysis(home, study)
        for task in ("expression", "mutation"):
            make_panels(home, study, task, run_id="anew", on_progress=lambda *_: None)
        assert currency.stale_analysis(home, study) == []
        with Session(home.engine) as session:
            return panel_tiles_frame(session, experiment(session, "expression").experiment_id)

    first = page()
    tiles = make_anew()
    assert page() == first
    for row in tiles.to_dict(orient="records"):
        where = f"slide {row['slide']} at ({row['x_px']}, {row['y_px']}) px"
        assert f"{row['side']}: patient {row['patient_id']}, {where}" in first
    assert first.count("data:image/jpeg;base64,") >= len(tiles)

    top = tiles["slide"].iloc[0]
    (slides / top).unlink()
    left = make_anew()
    assert top not in set(left["slide"])
    assert left.groupby(["target", "side"]).size().eq(N_TILES).all()
    with Session(home.engine) as session:
        panels = panels_frame(session, experiment(session, "expression").experiment_id)
        assert panels["n_unreadable"].iloc[0] >= 1
        rejects = session.scalars(select(RejectRow).where(RejectRow.stage == "panel")).all()
        assert {row.item.partition("@")[0] for row in rejects} == {top}
        assert {row.run_id for row in rejects} == {"anew"}
    told = page()
    assert "could not be read again" in told
    assert "were passed over because their files were gone" in told
    # They were evaluated all the same: nothing of them is lost in the cohort's flow.
    assert f"{slides / top}" in told
    assert '<ul class="lost">' not in told

    shutil.rmtree(slides)
    assert page() == told
    assert make_anew().empty
    last = page()
    assert "data:image/jpeg" not in last
    assert "were passed over because their files were gone" in last
