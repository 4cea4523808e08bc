"""Real tissue through the whole way: a small cut of the CRC study, and NCT-CRC-HE tiles."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from featurestore.result_frames import comparisons_frame
from featurestore.tables import DatasetTile, Embedding, ModelVersionRow, Patient, RejectRow, Tile
from orchestration.home import Home
from orchestration.naming import FEATURES, MODELS, SOURCES
from orchestration.run import run_study
from orchestration.study import Study

pytestmark = pytest.mark.slow


def run(home: Home, study: Study, **options: object) -> None:
    run_study(
        home,
        study,
        progress=lambda *_args, **_options: None,
        on_launch=lambda _launch: None,
        **options,  # type: ignore[arg-type]
    )


@pytest.fixture
def crc5_cut(shared_data: Path, tmp_path: Path) -> Path:
    """The first 24 training and 24 test tiles of each of the five classes."""
    for part in ("train", "test"):
        for folder in sorted((shared_data / "crc5" / part).iterdir()):
            target = tmp_path / part / folder.name
            target.mkdir(parents=True)
            for file in sorted(folder.iterdir())[:24]:
                shutil.copy(file, target)
    return tmp_path


def test_a_small_cut_of_the_crc_study(
    home: Home, crc5_cut: Path, make_study: Callable[..., Study]
) -> None:
    study = make_study("crc5", tissue=crc5_cut, repeats=5)
    run(home, study)
    with Session(home.engine) as session:
        rows = comparisons_frame(session, "crc5")
        assert session.scalar(select(func.count()).select_from(RejectRow)) == 0
    accuracy = rows[(rows["target"] == "all") & (rows["metric"] == "accuracy")]
    mean = dict(zip(accuracy["encoder_a"], accuracy["mean_a"], strict=True))
    mean |= dict(zip(accuracy["encoder_b"], accuracy["mean_b"], strict=True))
    # Five classes: chance is 20 %. At 72 px colour tells these classes as well as a network does.
    for encoder in ("imgnet-2048", "ftx-2048", "mean-rgb", "colour-histogram"):
        assert mean[encoder] > 0.5
    assert (rows["n_splits"] == 3 * 5).all()
    assert not rows["leakage_checked"].any()
    assert (rows["p_naive"] <= rows["p_corrected"] + 1e-12).all()


def test_nct_crc_he_tiles_embed_with_no_reject_and_no_invented_patient(
    home: Home, shared_data: Path, tmp_path: Path
) -> None:
    from orchestration.study import read_study

    tiles = shared_data / "nct_crc_he_7k_sample"
    (tmp_path / "nct.toml").write_text(
        f'name = "nct"\n[tissue]\ntiles = "{tiles}"\nmpp = 0.5\n'
        '[[encoders]]\nname = "imgnet-2048"\nmpp = 0.5\n'
    )
    run(home, read_study(tmp_path / "nct.toml"), groups=(SOURCES, MODELS, FEATURES))
    with Session(home.engine) as session:
        assert session.scalar(select(func.count()).select_from(RejectRow)) == 0
        assert session.scalar(select(func.count()).select_from(Patient)) == 0
        labels = session.execute(select(DatasetTile.label, DatasetTile.path)).all()
        assert len(labels) == 162
        # Where the archive's own name tells the class too, it is the label.
        named = [(label, path) for label, path in labels if "-TCGA-" in path]
        assert len(named) > 100
        assert all(path.startswith(f"{label}/{label}-TCGA-") for label, path in named)
        per_version = session.execute(
            select(ModelVersionRow.network, func.count())
            .join(Embedding, Embedding.model_version_id == ModelVersionRow.model_version_id)
            .group_by(ModelVersionRow.network)
        ).all()
        assert dict(tuple(row) for row in per_version) == {
            "legacy_xception": 162,
            "colour.mean_rgb": 162,
            "colour.histogram": 162,
        }
        sizes = session.execute(select(Tile.width_px, Tile.mpp).distinct()).all()
        assert [tuple(row) for row in sizes] == [(224, 0.5)]


NINE = """
name = "nine"
seed = 7
[luad]
slides = "{data}/tcga_luad_tiles"
mpp = 0.25
mpp_override = {{ "*" = 0.25 }}
expression = "{data}/tcga_luad/expression/fpkm_463cases_19578genes.csv.gz"
unit = "FPKM"
mutations = "{data}/tcga_luad/mutation/gdc_masked_618aliquots.maf.gz"
clinical = "{data}/tcga_luad/clinical/luad_tcga_gdc_clinical_data_cbioportal.tsv"
genes = ["CD8A", "CD3D", "NO_SUCH_GENE"]
folds = 3
repeats = 2
n_permutations = 20
[[encoders]]
name = "imgnet-2048"
input_px = 72
"""


def test_nine_real_patients_from_regions_to_genes(
    home: Home, shared_data: Path, tmp_path: Path
) -> None:
    from orchestration.study import read_study

    (tmp_path / "nine.toml").write_text(NINE.format(data=shared_data))
    study = read_study(tmp_path / "nine.toml")
    run(home, study, groups=(SOURCES, MODELS, FEATURES))
    with Session(home.engine) as session:
        rows = session.execute(
            text(
                """
                SELECT patient_id, n_tiles, vector_dims(features) AS n_features, expression,
                       (SELECT mutated FROM mutation_status AS m
                         WHERE m.patient_id = p.patient_id AND m.gene = 'TP53') AS tp53
                  FROM patient_genes AS p
                 WHERE gene = 'CD8A' AND network = 'legacy_xception'
                """
            )
        ).all()
        assert len(rows) == 9
        assert {row.n_features for row in rows} == {2048}
        assert all(row.n_tiles > 0 and row.expression > 0 for row in rows)
        assert sum(bool(row.tp53) for row in rows) == 4
        lost = session.scalars(select(RejectRow).where(RejectRow.stage == "tile")).all()
        assert len(lost) == 6
        assert all("smaller than one tile" in row.reason for row in lost)

    # Nine patients are too few for a mutation: every gene is refused by name, and nothing is left.
    expression_only = study.model_copy(
        update={"luad": study.luad.model_copy(update={"mutations": None})}  # type: ignore[union-attr]
    )
    run(home, expression_only)
    with Session(home.engine) as session:
        found = comparisons_frame(session, "nine")
        assert set(found["target"]) == {"CD8A", "CD3D"}
        assert "clinical" in set(found["encoder_b"])
        unknown = session.scalars(select(RejectRow).where(RejectRow.item == "NO_SUCH_GENE")).all()
        assert unknown
