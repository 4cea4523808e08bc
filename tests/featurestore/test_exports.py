"""Exports: what is read back is what the store holds, and no table is ever whole in memory."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import textwrap
from dataclasses import asdict
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from sqlalchemy import Engine, func, insert, select, text
from sqlalchemy.orm import Session

from featurestore import versions
from featurestore.embeddings import write_embeddings
from featurestore.errors import InputError, StoreError
from featurestore.exports import ExportEncoder, ExportPlan, Genes, export_study
from featurestore.exports.h5ad import write_h5ad
from featurestore.model_versions import ModelVersion, canonical_json
from featurestore.patient_features import patient_matrix, pool_patients
from featurestore.tables import (
    CvPrediction,
    CvScore,
    Dataset,
    DatasetTile,
    Experiment,
    ExperimentEncoder,
    Expression,
    Gene,
    MolecularSource,
    Mutation,
    Patient,
    SequencedPatient,
    Slide,
    Tile,
)

REPOSITORY = Path(__file__).parents[2]
DIM = 5
N_TILES = 30


def version(dim: int = DIM, network: str = "imported.UNI ünïcode") -> ModelVersion:
    return ModelVersion(
        network=network,
        network_options={"tile_px": 256, "features_sha256": "e" * 64},
        weights_sha256=None,
        input_px=256,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        interpolation="unknown",
        pooling="unknown",
        precision="float16",
        dim=dim,
        licence="unknown",
        trained_on="unknown",
    )


@pytest.fixture
def plan(session: Session) -> ExportPlan:
    """Three patients: one was not sequenced, one not measured, one has no known site."""
    patients = ["TCGA-AA-0001", "TCGA-BB-0002", "nobody/else"]
    session.execute(
        insert(Patient),
        [
            {"patient_id": p, "tissue_source_site": p[5:7] if "TCGA" in p else None}
            for p in patients
        ],
    )
    numbers = dict(session.execute(select(Patient.patient_id, Patient.patient_number)).all())
    dataset = Dataset(
        digest="d" * 64, name="s", root="/s", listing_sha256="d" * 64, n_tiles=N_TILES
    )
    session.add(dataset)
    slides = []
    for at, patient in enumerate(patients):
        slide = Slide(
            sha256=str(at) * 64, patient_id=patient, name=f"{at}.svs", width_px=9000,
            height_px=9000, mpp=0.25, mpp_source="slide",
        )  # fmt: skip
        slides.append(slide)
    session.add_all(slides)
    session.flush()
    tiles = [
        Tile(
            sha256=f"{at:064x}", width_px=256, height_px=256, mpp=0.5, x_px=512 * at, y_px=7,
            patient_id=patients[at % 3], slide_id=slides[at % 3].slide_id,
        )
        for at in range(N_TILES)
    ]  # fmt: skip
    session.add_all(tiles)
    session.flush()
    session.add_all(
        DatasetTile(dataset_id=dataset.dataset_id, tile_id=tile.tile_id, path=f"{at % 3}.svs")
        for at, tile in enumerate(tiles)
    )
    session.flush()
    version_id = versions.register(session, version())
    vectors = np.random.default_rng(1).normal(size=(N_TILES, DIM)).astype(np.float32)
    write_embeddings(session, version_id, np.array([t.tile_id for t in tiles]), vectors)
    pool_patients(session, version_id, dataset.dataset_id)
    sources = [
        MolecularSource(
            kind=kind, digest=mark * 64, name=kind, root="/x", listing_sha256="a" * 64,
            layout="matrix", unit="FPKM" if kind == "expression" else None, n_patients=2,
        )
        for kind, mark in (("expression", "b"), ("mutation", "c"))
    ]  # fmt: skip
    genes = [Gene(symbol=f"EXPORT{name}") for name in "AB"]
    session.add_all([*sources, *genes])
    session.flush()
    expression, mutation = (source.source_id for source in sources)
    session.execute(
        text(f"CREATE TABLE expression_x PARTITION OF expression FOR VALUES IN ({expression})")
    )
    for gene in genes:
        for patient in patients[:2]:
            session.add(
                Expression(
                    source_id=expression, gene_id=gene.gene_id,
                    patient_number=numbers[patient], value=1.5 + gene.gene_id % 2,
                )
            )  # fmt: skip
    for patient in patients[1:]:
        session.add(SequencedPatient(source_id=mutation, patient_number=numbers[patient]))
    session.flush()
    session.add(
        Mutation(
            source_id=mutation, gene_id=genes[0].gene_id, patient_number=numbers[patients[1]],
            n_variants=2, n_non_silent=1,
        )
    )  # fmt: skip
    session.flush()
    encoder = ExportEncoder("uni", version_id, {"slide_tiles": dataset.dataset_id})
    symbols = tuple(gene.symbol for gene in genes)
    return ExportPlan("exported", (encoder,), Genes(expression, symbols), Genes(mutation, symbols))


def stored(session: Session, plan: ExportPlan, patients: list[str]) -> np.ndarray:
    (encoder,) = plan.encoders
    return patient_matrix(
        session, encoder.model_version_id, encoder.datasets["slide_tiles"], patients
    )


def test_parquet_reads_back_as_the_store_has_it(session, plan, tmp_path: Path):
    files = export_study(session, plan, tmp_path / "out", format="parquet")

    assert [(file.file, file.n_rows) for file in files] == [
        ("slide_tiles/uni.parquet", N_TILES),
        ("patient_features/uni.parquet", 3),
        ("expression.parquet", 4),
        ("mutations.parquet", 4),
    ]
    tiles = pq.read_table(tmp_path / "out" / "slide_tiles" / "uni.parquet")
    assert str(tiles.schema.field("embedding").type) == f"fixed_size_list<element: float>[{DIM}]"
    frame = tiles.to_pandas()
    assert frame["tile_sha256"].tolist() == [f"{at:064x}" for at in range(N_TILES)]
    assert frame["x_px"].tolist() == [512 * at for at in range(N_TILES)]
    assert frame["label"].isna().all()
    vectors = np.stack(frame["embedding"].tolist())
    mean = vectors[frame["patient_id"] == "TCGA-AA-0001"].mean(axis=0)
    patients = pq.read_table(tmp_path / "out" / "patient_features" / "uni.parquet").to_pandas()
    ids = patients["patient_id"].tolist()
    features = np.stack(patients["features"].tolist())
    assert np.array_equal(features, stored(session, plan, ids))
    assert np.allclose(features[ids.index("TCGA-AA-0001")], mean, atol=1e-3)
    mutations = pq.read_table(tmp_path / "out" / "mutations.parquet").to_pandas()
    assert set(mutations["patient_id"]) == {"TCGA-BB-0002", "nobody/else"}
    assert mutations["mutated"].sum() == 1
    manifest = json.loads((tmp_path / "out" / "export.json").read_text())
    assert manifest["encoders"]["uni"]["model_version_sha256"] == version().sha256
    assert manifest["encoders"]["uni"]["dataset_digests"] == {"slide_tiles": "d" * 64}


def test_csv_reads_back_as_the_store_has_it(session, plan, tmp_path: Path):
    export_study(session, plan, tmp_path / "out", format="csv")

    with (tmp_path / "out" / "patient_features" / "uni.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    ids = [row["patient_id"] for row in rows]
    features = np.array([[row[f"f{at}"] for at in range(DIM)] for row in rows], np.float32)
    assert np.array_equal(features.astype(np.float16), stored(session, plan, ids).astype("f2"))
    assert {row["tissue_source_site"] for row in rows} == {"AA", "BB", ""}
    frame = pd.read_csv(tmp_path / "out" / "mutations.csv")
    assert frame["mutated"].dtype == bool


def test_h5ad_reads_back_with_what_is_missing(session, plan, tmp_path: Path):
    anndata = pytest.importorskip("anndata")
    (file,) = export_study(session, plan, tmp_path / "out", format="h5ad")

    found = anndata.read_h5ad(tmp_path / "out" / "uni.h5ad")
    assert (file.file, file.n_rows, found.shape) == ("uni.h5ad", 3, (3, DIM))
    ids = found.obs_names.tolist()
    assert found.X.dtype == np.float32
    assert np.array_equal(found.X, stored(session, plan, ids))
    obs = found.obs
    assert obs["n_tiles"].tolist() == [10, 10, 10]
    assert obs["n_slides"].tolist() == [1, 1, 1]
    assert obs["tissue_source_site"].isna().tolist() == [name == "nobody/else" for name in ids]
    assert obs["expression_EXPORTA"].isna().tolist() == [name == "nobody/else" for name in ids]
    mutated = dict(zip(ids, obs["mutated_EXPORTA"].tolist(), strict=True))
    assert mutated["TCGA-AA-0001"] is pd.NA  # not sequenced, so not "false"
    assert mutated["TCGA-BB-0002"] is True
    assert mutated["nobody/else"] is False
    # A gene without any variant in the table is unknown to it: nothing is claimed of anybody.
    assert obs["mutated_EXPORTB"].isna().all()
    assert found.uns["model_version"]["network"] == "imported.UNI ünïcode"
    assert found.uns["model_version"]["network_options"]["tile_px"] == 256
    assert found.uns["model_version_json"] == canonical_json(asdict(version()))
    assert found.uns["dataset_digests"]["slide_tiles"] == "d" * 64
    assert (found.uns["study"], found.uns["pooling"]) == ("exported", "mean")


def test_thousands_of_genes_fit_an_h5ad(tmp_path: Path):
    # More than 64 KiB of names, which an attribute of the oldest format cannot hold.
    names = [f"expression_GENE{at}" for at in range(4200)]
    obs = pd.DataFrame(np.ones((2, 4200), np.float32), index=["a", "b"], columns=names)

    row = np.arange(3, dtype=np.float32)[None]
    write_h5ad(tmp_path / "a.h5ad", obs=obs, features=[row, row], dim=3, uns={})
    with h5py.File(tmp_path / "a.h5ad") as found:
        assert found["obs"].attrs["column-order"].tolist() == names
        assert found["obs"][names[-1]][()].tolist() == [1, 1]
        assert found["X"][()].tolist() == [[0, 1, 2], [0, 1, 2]]


@pytest.mark.parametrize("format", ["parquet", "csv"])
def test_an_export_twice_is_the_same(session, plan, tmp_path: Path, format: str):
    for name in ("a", "b"):
        export_study(session, plan, tmp_path / name, format=format)
    files = [p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*") if p.is_file()]
    assert len(files) == 5
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_nothing_is_overwritten_unasked_and_nothing_foreign_at_all(session, plan, tmp_path: Path):
    out = tmp_path / "out"
    export_study(session, plan, out, format="parquet")
    with pytest.raises(InputError, match="is there already"):
        export_study(session, plan, out, format="parquet")
    export_study(session, plan, out, format="csv", force=True)
    assert sorted(p.name for p in out.iterdir() if p.is_file()) == [
        "export.json", "expression.csv", "mutations.csv"
    ]  # fmt: skip
    (out / "export.json").unlink()
    with pytest.raises(InputError, match="so it is no export"):
        export_study(session, plan, out, format="csv", force=True)
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_failure_leaves_nothing_and_what_was_there(session, plan, tmp_path: Path):
    out = tmp_path / "out"
    export_study(session, plan, out, format="parquet")
    before = (out / "export.json").read_bytes()

    def fail(name: str) -> None:
        if name.startswith("mutations"):
            raise KeyboardInterrupt

    for folder in (out, tmp_path / "new"):
        with pytest.raises(KeyboardInterrupt):
            export_study(session, plan, folder, format="parquet", force=True, on_file=fail)
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    assert (out / "export.json").read_bytes() == before


def test_nothing_to_export_is_said_so(session, tmp_path: Path):
    version_id = versions.register(session, version(3, "imported.nothing"))
    plan = ExportPlan("empty", (ExportEncoder("uni", version_id, {}),))
    for format in ("parquet", "h5ad"):
        with pytest.raises(StoreError, match="nothing to export"):
            export_study(session, plan, tmp_path / "out", format=format)
    with pytest.raises(InputError, match="expected one of parquet, csv, h5ad"):
        export_study(session, plan, tmp_path / "out", format="pickle")
    assert not list(tmp_path.iterdir())


def test_results_of_the_current_experiment_only(session, plan, tmp_path: Path):
    (encoder,) = plan.encoders
    tile_id = session.scalars(select(DatasetTile.tile_id).limit(1)).one()
    for mark, is_current in (("1", False), ("2", True)):
        experiment = Experiment(
            digest=mark * 64, study="exported", task="tissue", dataset_digest="d" * 64, seed=1,
            n_folds=2, n_repeats=1, settings={}, classes=["ADI", "TUM"], leakage_checked=True,
            leakage_note="", is_current=is_current,
        )  # fmt: skip
        session.add(experiment)
        session.flush()
        of = {
            "experiment_id": experiment.experiment_id,
            "model_version_id": encoder.model_version_id,
        }
        session.add(ExperimentEncoder(**of, encoder="uni", position=0, n_not_converged=0))
        session.flush()
        session.add(
            CvScore(
                **of, target="all", metric="accuracy", repeat=0, fold=1, n_train=2, n_test=1,
                value=None if is_current else 0.5,
            )
        )  # fmt: skip
        session.add(
            CvPrediction(
                **of, target="all", repeat=0, fold=1, tile_id=tile_id, observed=0, predicted=1,
                probabilities=[0.25, 0.75],
            )
        )  # fmt: skip
    session.flush()

    export_study(session, plan, tmp_path / "p", format="parquet")
    export_study(session, plan, tmp_path / "c", format="csv")

    (score,) = pq.read_table(tmp_path / "p" / "scores.parquet").to_pylist()
    assert (score["encoder"], score["fold"], score["value"]) == ("uni", 1, None)
    (found,) = pq.read_table(tmp_path / "p" / "tile_predictions.parquet").to_pylist()
    assert (found["observed"], found["predicted"]) == ("ADI", "TUM")
    assert found["probabilities"] == [0.25, 0.75]
    assert (tmp_path / "c" / "scores.csv").read_text().splitlines()[1] == (
        "tissue,uni,all,accuracy,0,1,,2,1"
    )
    assert '"[0.25, 0.75]"' in (tmp_path / "c" / "tile_predictions.csv").read_text()


MEASURE = """
import resource, sys
from pathlib import Path
from sqlalchemy.orm import Session
from featurestore.engine import connect
from featurestore.exports import ExportEncoder, ExportPlan, export_study

url, folder, version_id, small, large = sys.argv[1:]
engine = connect(url)
peak = []
for name, dataset_id in (("small", small), ("large", large)):
    encoder = ExportEncoder(name, int(version_id), {"tissue_tiles": int(dataset_id)})
    with Session(engine) as session:
        export_study(
            session, ExportPlan(name, (encoder,)), Path(folder, name), format="parquet"
        )
    peak.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
print(peak[1] - peak[0])
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_table(engine: Engine, tmp_path: Path):
    """50,000 vectors are 102 MB; the process may grow by a third of that."""
    n, dim = 50_000, 512
    with Session(engine) as session:
        version_id = versions.register(session, version(dim, "imported.memory"))
        session.execute(
            text(
                "INSERT INTO tiles (sha256, width_px, height_px) SELECT"
                " encode(sha256(('memory' || i)::bytea), 'hex'), 8, 8"
                " FROM generate_series(1, :n) AS i"
            ),
            {"n": n},
        )
        ids = []
        for mark, limit in (("7", 2_000), ("8", n)):
            dataset = Dataset(
                digest=mark * 64, name="m", root="/m", listing_sha256="d" * 64, n_tiles=limit
            )
            session.add(dataset)
            session.flush()
            ids.append(str(dataset.dataset_id))
            session.execute(
                text(
                    "INSERT INTO dataset_tiles (dataset_id, tile_id, path) SELECT :d, tile_id, 'x'"
                    " FROM tiles WHERE width_px = 8 AND height_px = 8 LIMIT :n"
                ),
                {"d": dataset.dataset_id, "n": limit},
            )
        session.execute(
            text(
                "INSERT INTO embeddings SELECT :v, tile_id,"
                " array_fill(random()::real, ARRAY[:dim])::halfvec(512)"
                " FROM tiles WHERE width_px = 8 AND height_px = 8"
            ),
            {"v": version_id, "dim": dim},
        )
        session.commit()
    url = engine.url.render_as_string(hide_password=False)
    found = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(MEASURE), url, str(tmp_path), str(version_id), *ids],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    metadata = pq.ParquetFile(tmp_path / "large" / "tissue_tiles" / "large.parquet").metadata
    assert metadata.num_rows == n
    assert metadata.num_row_groups >= 12
    grown_kib = int(found.stdout)
    assert grown_kib * 1024 < n * dim * 4 / 3, f"grew by {grown_kib} KiB"
    with Session(engine) as session:
        assert (
            session.scalar(select(func.count()).where(DatasetTile.dataset_id == int(ids[1]))) == n
        )
