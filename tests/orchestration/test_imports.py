"""Imported features join the comparisons of a study: the whole way, on a cohort drawn here."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from featurestore import versions
from featurestore.errors import StudyError
from featurestore.molecular_frames import expression_frame
from featurestore.result_frames import comparisons_frame
from featurestore.tables import (
    CvGenePrediction,
    Embedding,
    MolecularSource,
    PatientFeature,
    RejectRow,
    Slide,
    StudyDataset,
    Tile,
)
from orchestration.home import Home
from orchestration.run import Launch, RunFailedError, run_study
from orchestration.study import Study, read_study

N_PATIENTS = 24
STUDY = """
name = "lung"
seed = 7
[luad]
slides = {{ synthetic = {n_patients}, seed = 3, slide_px = 512, n_planted = 2, n_null = 2 }}
tile_px = 112
max_tiles_per_slide = 2
folds = 3
repeats = 2
n_permutations = 20
[[encoders]]
name = "uni"
network = "UNI (ViT-L/16)"
features = "{features}"
{more}
"""


def study_of(folder: Path, more: str = "", features: str = "features/*.h5") -> Study:
    path = folder / "lung.toml"
    path.write_text(STUDY.format(n_patients=N_PATIENTS, features=features, more=more))
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


def write_features(home: Home, folder: Path, *, seed: int = 0) -> list[str]:
    """A file a slide as TRIDENT writes it, whose features tell the planted genes."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(seed)
    with Session(home.engine) as session:
        slides = session.execute(select(Slide.name, Slide.patient_id).order_by(Slide.name)).all()
        source = session.scalars(
            select(MolecularSource).where(MolecularSource.kind == "expression")
        ).one()
        genes = expression_frame(session, source.source_id)
    for name, patient in slides:
        coords = np.array([[0, 0], [128, 0], [0, 128]])
        signal = np.tile(genes.loc[patient].to_numpy(), (3, 1))
        features = np.hstack([signal, rng.normal(size=(3, 4))]).astype(np.float32)
        with h5py.File(folder / f"{Path(name).stem}.h5", "w") as file:
            file["features"] = features
            file["coords"] = coords
            file["coords"].attrs["patch_size"] = 64
            file["coords"].attrs["patch_size_level0"] = 128
    return [name for name, _ in slides]


@pytest.fixture
def imported(home: Home, tmp_path: Path) -> tuple[Study, list[str]]:
    """A study whose slides were read, and features of all of them."""
    (tmp_path / "features").mkdir()
    study = study_of(tmp_path)
    run(home, study, groups=("sources",))
    return study, write_features(home, tmp_path / "features")


def check_exports(home: Home, study: Study, folder: Path) -> None:
    """Every table of a whole study, by the command line, as the store has it."""
    out = {name: folder / f"out_{name}" for name in ("parquet", "csv", "h5ad")}
    for name, target in out.items():
        code, _, errors = command(
            home, "export", str(study.path), "--format", name, "--to", str(target)
        )
        assert code == 0, errors
    code, _, errors = command(home, "export", str(study.path), "--to", str(out["parquet"]))
    assert code == 1
    assert "is there already" in errors

    tables = {
        file.relative_to(out["parquet"]).as_posix(): pd.read_parquet(file)
        for file in out["parquet"].rglob("*.parquet")
    }
    baselines = ("colour-histogram", "mean-rgb")
    assert set(tables) == {
        *(f"{kind}/{encoder}.parquet" for kind in ("slide_tiles", "patient_features")
          for encoder in ("uni", *baselines)),
        "expression.parquet", "mutations.parquet", "scores.parquet", "comparisons.parquet",
        "gene_predictions.parquet", "predictability.parquet", "better_counts.parquet",
    }  # fmt: skip
    with Session(home.engine) as session:
        rows = comparisons_frame(session, "lung")
        source = session.scalars(
            select(MolecularSource).where(MolecularSource.kind == "expression")
        ).one()
        genes = expression_frame(session, source.source_id)
    exported = tables["comparisons.parquet"]
    keys = ["task", "target", "metric", "encoder_a", "encoder_b"]
    both = rows.merge(exported, on=keys, suffixes=("", "_exported"))
    assert len(both) == len(rows) == len(exported)
    assert np.array_equal(both["p_corrected"], both["p_corrected_exported"])
    values = tables["expression.parquet"].pivot(index="patient_id", columns="gene", values="value")
    assert np.allclose(values.to_numpy(), genes[values.columns].loc[values.index].to_numpy())
    again = pd.read_csv(out["csv"] / "comparisons.csv")
    assert np.allclose(again["p_corrected"], exported["p_corrected"])
    assert set(pd.read_csv(out["csv"] / "slide_tiles" / "uni.csv")["mpp"]) == {1.0}
    anndata = pytest.importorskip("anndata")
    found = anndata.read_h5ad(out["h5ad"] / "uni.h5ad")
    assert found.shape == (N_PATIENTS - 1, 8)
    assert {f"expression_{gene}" for gene in genes.columns} <= set(found.obs.columns)
    assert found.uns["model_version"]["network"] == "imported.UNI (ViT-L/16)"


def command(home: Home, *arguments: str) -> tuple[int, str, str]:
    """What ``ffpe`` ends with and prints."""
    environment = os.environ | {
        "FFPE_HOME": str(home.folder),
        "FFPE_DATABASE_URL": str(home.database_url),
    }
    found = subprocess.run(
        [sys.executable, "-W", "error", "-m", "orchestration", *arguments],
        cwd=Path(__file__).parents[2],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return found.returncode, found.stdout, found.stderr


@pytest.mark.slow
def test_imported_features_are_compared_like_any_other(
    home: Home, tmp_path: Path, imported: tuple[Study, list[str]]
) -> None:
    study, names = imported
    stems = [Path(name).stem for name in names]
    features = tmp_path / "features"
    (features / f"{stems[0]}.h5").write_bytes(b"\x89HDF\r\n\x1a\n and then nothing")
    shutil.copy(features / f"{stems[1]}.h5", features / "unknown slide.h5")
    with h5py.File(features / f"{stems[2]}.h5", "a") as file:
        file["features"][1] = np.nan
    launches = run(home, study)
    assert [launch.encoder for launch in launches][:2] == ["uni", "mean-rgb"]

    with Session(home.engine) as session:
        pointer = versions.study_encoders(session, "lung")["uni"]
        version = versions.load(session, pointer.model_version_id)
        assert version.network == "imported.UNI (ViT-L/16)"
        assert set(version.network_options) == {"tile_px", "features_sha256"}
        n = session.scalar(
            select(func.count()).where(Embedding.model_version_id == pointer.model_version_id)
        )
        assert n == 3 * (N_PATIENTS - 1) - 1
        # Provenance to the slide: 64 px of 1 µm, on a slide of 0.5 µm.
        tile = session.scalars(
            select(Tile)
            .join(Embedding, Embedding.tile_id == Tile.tile_id)
            .where(Embedding.model_version_id == pointer.model_version_id, Tile.x_px == 128)
            .limit(1)
        ).one()
        assert (tile.width_px, tile.mpp, tile.slide_id is not None) == (64, 1.0, True)
        pooled = select(PatientFeature).where(
            PatientFeature.model_version_id == pointer.model_version_id
        )
        counts = [row.n_tiles for row in session.scalars(pooled)]
        assert sorted(counts) == [2] + [3] * (N_PATIENTS - 2)
        assets = set(session.scalars(select(StudyDataset.asset)))
        assert assets == {"slide_tiles", "imported_tiles/uni"}

        rows = comparisons_frame(session, "lung")
        assert {"uni", "mean-rgb"} <= set(rows["encoder_a"]) | set(rows["encoder_b"])
        against = rows[(rows["metric"] == "pearson_r") & (rows["encoder_a"] == "uni")]
        assert (against["mean_a"] > 0.8).all()  # features that hold the answer find it
        assert (against["difference"] < 0).all()
        n_patients = session.scalar(select(func.count(func.distinct(CvGenePrediction.patient_id))))
        assert n_patients == N_PATIENTS - 1
        left_out = {(row.stage, row.item): row.reason for row in session.scalars(select(RejectRow))}
    assert "damaged" in left_out["import", f"{stems[0]}.h5"]
    assert "belongs to no slide" in left_out["import", "unknown slide.h5"]
    assert "1 of 3 tiles have features that are NaN" in left_out["import", f"{stems[2]}.h5"]
    assert any(
        stage == "cohort" and "has no features of uni" in reason
        for (stage, _), reason in left_out.items()
    )

    assert run(home, study) == []
    check_exports(home, study, tmp_path)
    # The damaged file is mended: another set of features is another model version.
    write_features(home, features)
    again = run(home, study)
    assert [launch.encoder for launch in again] == ["uni", None]
    with Session(home.engine) as session:
        after = versions.study_encoders(session, "lung")["uni"].model_version_id
        assert after != pointer.model_version_id
        assert (
            session.scalar(select(func.count()).where(Embedding.model_version_id == after))
            == 3 * N_PATIENTS
        )
    assert run(home, study) == []


@pytest.mark.slow
def test_known_weights_identify_and_other_values_are_refused(
    home: Home, tmp_path: Path, imported: tuple[Study, list[str]]
) -> None:
    del imported
    study = study_of(tmp_path, f'weights_sha256 = "{"b" * 64}"')
    run(home, study, groups=("models", "features"))
    with Session(home.engine) as session:
        first = versions.study_encoders(session, "lung")["uni"].model_version_id
    write_features(home, tmp_path / "features", seed=1)
    with pytest.raises(RunFailedError, match="have other features there"):
        run(home, study, groups=("models", "features"))
    write_features(home, tmp_path / "features")
    run(home, study, groups=("models", "features"))
    with Session(home.engine) as session:
        assert versions.study_encoders(session, "lung")["uni"].model_version_id == first
    assert run(home, study, groups=("models", "features")) == []


def test_files_of_nothing_are_refused_with_the_reason(
    home: Home, tmp_path: Path, imported: tuple[Study, list[str]]
) -> None:
    study, _ = imported
    for file in (tmp_path / "features").glob("*.h5"):
        file.write_bytes(b"nothing")
    with pytest.raises(RunFailedError, match="not one file of features can be used"):
        run(home, study, groups=("models",))
    for file in (tmp_path / "features").glob("*.h5"):
        file.unlink()
    with pytest.raises(RunFailedError, match="no file of features is there"):
        run(home, study, groups=("models",))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ('weights = "uni.pt"', "so its network is never run"),
        ('finetuned_from = "other"', "is fine-tuned from"),
    ],
)
def test_keys_that_contradict_an_import(tmp_path: Path, changed: str, message: str) -> None:
    with pytest.raises(StudyError, match=message):
        study_of(tmp_path, changed)


def test_an_import_says_what_made_it_and_has_slides(tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    luad = "[luad]\nslides = { synthetic = 12 }\n"
    import_it = '[[encoders]]\nname = "uni"\nfeatures = "*.h5"\n'
    path.write_text(f'name = "a"\n{luad}{import_it}')
    with pytest.raises(StudyError, match="must say what made them"):
        read_study(path)
    tissue = "[tissue]\ntiles = { synthetic = 4 }\n"
    path.write_text(f'name = "a"\n{tissue}{luad}{import_it}network = "UNI"\n')
    with pytest.raises(StudyError, match=r"can answer \[luad\] but not \[tissue\]"):
        read_study(path)
    path.write_text(f'name = "a"\n{luad}[[encoders]]\nname = "x"\ntile_px = 224\n')
    with pytest.raises(StudyError, match="runs its network, but tile_px"):
        read_study(path)
    path.write_text(
        f'name = "a"\n[finetune]\ntiles = {{ synthetic = 4 }}\n{luad}{import_it}'
        'network = "UNI"\n[[encoders]]\nname = "ftx"\nfinetuned_from = "uni"\n'
    )
    with pytest.raises(StudyError, match="is fine-tuned from 'uni', which is not an encoder"):
        read_study(path)
