"""A local Ray cluster of several nodes: splits run on it, shards do, and a node is killed."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd
import pytest
from joblib.parallel import get_active_backend
from PIL import Image
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from analysis.cores import on_every_core
from analysis.expression import ExpressionSettings, evaluate_expression
from analysis.patients import PatientCohort
from featurestore.claims import Shard
from featurestore.tables import DatasetTile, Embedding, EmbeddingClaim, ModelVersionRow, Tile
from orchestration import cluster
from orchestration.cluster import ClusterError, splits_on_cluster
from orchestration.home import Home
from orchestration.ray_shards import embed_on_cluster
from orchestration.resources import home_from_environment
from orchestration.run import Launch, run_study
from orchestration.study import Study, read_study

# Four blocks of 256 tiles, two a node.
N_TILES = 1000
STUDY = """
name = "clustered"
[tissue]
tiles = "tiles"
folds = 3
repeats = 2
[[encoders]]
name = "imgnet-2048"
input_px = 40
"""

with_ray = pytest.mark.filterwarnings(
    # Ray's own: what it deprecates in itself, and what it leaves open when it ends.
    "ignore::DeprecationWarning:ray",
    "ignore::FutureWarning:ray",
    "ignore::ResourceWarning",
)


@pytest.fixture(scope="module")
def two_nodes() -> Iterator[Any]:
    """Two raylets with a core each; the second is there to be killed."""
    pytest.importorskip("ray", reason="Ray is not installed: pip install -e '.[ray]'")
    from ray.cluster_utils import Cluster

    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    nodes.add_node(num_cpus=1)
    yield nodes
    import ray

    ray.shutdown()
    nodes.shutdown()


@pytest.fixture
def on_ray(two_nodes: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv(cluster.ADDRESS_VARIABLE, two_nodes.address)
    return two_nodes


def where(_: int) -> str:
    import ray

    time.sleep(0.5)  # or one node has done all before the other is awake
    return str(ray.get_runtime_context().get_node_id())


@with_ray
@pytest.mark.slow
def test_splits_run_on_every_node_and_give_the_same_bits(on_ray: Any) -> None:
    rng = np.random.default_rng(0)
    features = {name: rng.normal(size=(60, 3000)).astype(np.float32) for name in "ab"}
    targets = pd.DataFrame(rng.normal(size=(60, 3)), columns=["G0", "G1", "G2"])
    cohort = PatientCohort(tuple(f"P{i:02d}" for i in range(60)), features, targets, None)
    settings = ExpressionSettings(n_folds=3, n_repeats=4, seed=5)
    expected = evaluate_expression(cohort, settings)
    with splits_on_cluster():
        found = evaluate_expression(cohort, settings)
        assert len(set(on_every_core(where, range(8)))) == 2
    pd.testing.assert_frame_equal(found.scores, expected.scores, check_exact=True)
    for encoder, predictions in expected.predictions.items():
        assert predictions.tobytes() == found.predictions[encoder].tobytes()


@with_ray
@pytest.mark.slow
def test_a_step_of_dagster_finds_the_cluster(
    on_ray: Any, server_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FFPE_HOME", str(server_folder))
    seen = []

    @dg.asset(required_resource_keys={"home"})
    def step() -> None:
        seen.append(type(get_active_backend(prefer="threads")[0]).__name__)

    assert dg.materialize([step], resources={"home": home_from_environment}).success
    assert seen == ["RayBackend"]
    assert type(get_active_backend(prefer="threads")[0]).__name__ == "ThreadingBackend"


@pytest.fixture
def study(tmp_path: Path) -> Study:
    rng = np.random.default_rng(1)
    for number in range(N_TILES):
        file = tmp_path / "tiles" / "ab"[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (40, 40, 3), dtype=np.uint8)).save(file)
    (tmp_path / "study.toml").write_text(STUDY)
    return read_study(tmp_path / "study.toml")


def run(home: Home, study: Study, **options: object) -> None:
    run_study(
        home,
        study,
        progress=lambda *_args, **_options: None,
        on_launch=lambda _: None,
        **options,  # type: ignore[arg-type]
    )


def rows(home: Home) -> dict[str, bytes]:
    """Every embedding, by its tile's digest."""
    with Session(home.engine) as session:
        found = session.execute(
            select(Tile.sha256, Embedding.embedding).join(
                Embedding, Embedding.tile_id == Tile.tile_id
            )
        )
        return {sha: np.asarray(vector, np.float16).tobytes() for sha, vector in found}


def n_of_shards(home: Home) -> list[int]:
    """Tiles that are embedded of each half."""
    with Session(home.engine) as session:
        every = session.scalars(select(DatasetTile.tile_id).order_by(DatasetTile.tile_id)).all()
        half = every[256 * Shard(2, 2).blocks(len(every)).start]
        early, late = (
            session.scalar(select(func.count()).select_from(Embedding).where(part)) or 0
            for part in (Embedding.tile_id < half, Embedding.tile_id >= half)
        )
    return [early, late]


EMBEDDINGS = [Launch(("embeddings",), "imgnet-2048")]


@with_ray
@pytest.mark.slow
def test_a_node_is_killed_and_the_end_is_as_if_nothing_had_happened(
    on_ray: Any, home: Home, study: Study, xception_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(home, study, groups=("sources",))
    run(home, study, groups=("models",))
    seen: list[list[int]] = []

    def kill() -> None:
        deadline = time.monotonic() + 240
        while min(n_of_shards(home)) == 0:  # until both nodes are at work
            if time.monotonic() > deadline:
                return
            time.sleep(0.02)
        seen.append(n_of_shards(home))
        on_ray.remove_node(on_ray.worker_nodes.copy().pop(), allow_graceful=False)

    killer = threading.Thread(target=kill)
    killer.start()
    run(home, study, launches=EMBEDDINGS)
    killer.join()
    assert len(seen) == 1
    assert sum(seen[0]) < N_TILES, "it was killed too late to prove anything"
    found = rows(home)
    with Session(home.engine) as session:
        assert session.scalar(select(func.count()).select_from(EmbeddingClaim)) == 0
        assert session.scalar(select(func.count()).select_from(Embedding)) == N_TILES

    monkeypatch.delenv(cluster.ADDRESS_VARIABLE)
    with TemporaryDirectory(prefix="ffpe-test-", ignore_cleanup_errors=True) as folder:
        quiet = Home(Path(folder))
        for file in xception_weights.glob("*.safetensors"):
            shutil.copy(file, quiet.weights)
        run(quiet, study, groups=("sources",))
        run(quiet, study, groups=("models",))
        run(quiet, study, launches=EMBEDDINGS)
        expected = rows(quiet)
        quiet.close()
    assert found == expected


@with_ray
@pytest.mark.slow
def test_an_error_on_a_node_is_the_error_of_the_run(on_ray: Any, home: Home, study: Study) -> None:
    from featurestore import versions
    from featurestore.errors import WeightsError

    run(home, study, groups=("sources",))
    run(home, study, groups=("models",))
    with Session(home.engine) as session:
        version_id = session.scalars(
            select(ModelVersionRow.model_version_id).where(
                ModelVersionRow.network == "legacy_xception"
            )
        ).one()
        version = versions.load(session, version_id)
    for file in home.weights.iterdir():
        file.unlink()
    with pytest.raises(WeightsError):
        embed_on_cluster(
            home,
            study=study.name,
            version=version,
            model_version_id=version_id,
            dataset_id=1,
            run_id=None,
            on_progress=lambda *_: None,
        )


def test_a_cluster_without_ray_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> Any:
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setenv(cluster.ADDRESS_VARIABLE, "127.0.0.1:6379")
    monkeypatch.setattr(cluster, "import_module", absent)
    with pytest.raises(ClusterError, match=r"FFPE_RAY_ADDRESS.*ffpe\[ray\]"), splits_on_cluster():
        pass


@with_ray
def test_a_cluster_that_is_not_there_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install -e '.[ray]'")
    ray.shutdown()
    monkeypatch.setenv(cluster.ADDRESS_VARIABLE, "127.0.0.1:1")
    with (
        pytest.raises(ClusterError, match=r"127\.0\.0\.1:1.*ray start --head"),
        splits_on_cluster(),
    ):
        pass


def test_without_a_cluster_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(cluster.ADDRESS_VARIABLE, raising=False)
    with splits_on_cluster():
        assert type(get_active_backend(prefer="threads")[0]).__name__ == "ThreadingBackend"
