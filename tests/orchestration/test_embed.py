"""``ffpe embed``: shards by plain processes, whose rows are those of one undisturbed process."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import dagster as dg
import numpy as np
import pytest
from PIL import Image
from sqlalchemy import func, select
from sqlalchemy.orm import Session
from typer.testing import CliRunner

from featurestore.errors import StoreError, StudyError
from featurestore.tables import (
    DatasetTile,
    Embedding,
    EmbeddingClaim,
    ModelVersionRow,
    RejectRow,
    Tile,
)
from orchestration.cli import app
from orchestration.home import Home
from orchestration.instance import open_instance
from orchestration.naming import GROUPS
from orchestration.run import Launch, run_study, stale_launches
from orchestration.study import Study, read_study

# Three blocks of 256 tiles.
N_TILES = 530
STUDY = """
name = "sharded"
[tissue]
tiles = "tiles"
folds = 3
repeats = 2
[[encoders]]
name = "imgnet-2048"
input_px = 40
"""
ENCODER = "imgnet-2048"

Rows = dict[tuple[str, str], bytes]


@pytest.fixture(scope="module")
def tissue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise of two classes, and a study on it."""
    folder = tmp_path_factory.mktemp("sharded")
    rng = np.random.default_rng(1)
    for number in range(N_TILES):
        file = folder / "tiles" / "ab"[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (40, 40, 3), dtype=np.uint8)).save(file)
    (folder / "study.toml").write_text(STUDY)
    return folder


@pytest.fixture
def study(tissue: Path, tmp_path: Path) -> Study:
    """The study in a folder of its own, whose tiles a test may spoil."""
    shutil.copytree(tissue, tmp_path / "study")
    return read_study(tmp_path / "study" / "study.toml")


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


def prepare(home: Home, study: Study) -> None:
    """All that embedding needs."""
    run(home, study, groups=("sources",))
    run(home, study, groups=("models",))


def environment(home: Home) -> dict[str, str]:
    return {"FFPE_HOME": str(home.folder), "FFPE_DATABASE_URL": str(home.database_url)}


def command(study: Study, *options: str) -> list[str]:
    return [sys.executable, "-m", "orchestration", "embed", str(study.path), *options]


def embed(home: Home, study: Study, *options: str) -> str:
    """What the command says, with the spaces of a line; an error of ours is raised."""
    done = CliRunner().invoke(
        app, ["embed", str(study.path), *options], env=environment(home), catch_exceptions=False
    )
    assert done.exit_code == 0
    return " ".join(done.stderr.split())


def rows(home: Home) -> Rows:
    """Every embedding, by its network and its tile's digest."""
    with Session(home.engine) as session:
        found = session.execute(
            select(ModelVersionRow.network, Tile.sha256, Embedding.embedding)
            .join(Embedding, Embedding.model_version_id == ModelVersionRow.model_version_id)
            .join(Tile, Tile.tile_id == Embedding.tile_id)
        )
        return {
            (network, sha): np.asarray(vector, np.float16).tobytes()
            for network, sha, vector in found
        }


def count(home: Home, table: type, *where: object) -> int:
    with Session(home.engine) as session:
        query = select(func.count()).select_from(table).where(*where)  # type: ignore[arg-type]
        return session.scalar(query) or 0


@pytest.fixture(scope="module")
def expected(tissue: Path, xception_weights: Path) -> Rows:
    """Rows of one undisturbed process, in a database of its own."""
    study = read_study(tissue / "study.toml")
    with TemporaryDirectory(prefix="ffpe-test-", ignore_cleanup_errors=True) as folder:
        quiet = Home(Path(folder))
        for file in xception_weights.glob("*.safetensors"):
            shutil.copy(file, quiet.weights)
        run(quiet, study, groups=("sources",))
        run(quiet, study, groups=("models",))
        run(quiet, study, launches=[Launch(("embeddings",), ENCODER)])
        found = rows(quiet)
        quiet.close()
    assert len(found) == N_TILES
    return found


@pytest.mark.slow
def test_shards_in_any_order_and_twice_end_as_one_process_does(
    home: Home, study: Study, expected: Rows
) -> None:
    prepare(home, study)
    for shard, n_new in (("3/3", 18), ("1/3", 256), ("3/3", 0), ("2/3", 256)):
        assert materialisations(home, study)[ENCODER] == 0
        said = embed(home, study, "--encoder", ENCODER, "--shard", shard)
        rest = "every shard is done" if shard == "2/3" else "others are not done yet"
        assert said.endswith(
            f"shard {shard} of sharded is done: {n_new} tiles embedded now, 0 left out; {rest}"
        )
    assert rows(home) == expected
    assert count(home, EmbeddingClaim) == 0
    # Dagster was told by whoever came last, and its check has looked.
    assert materialisations(home, study)[ENCODER] == 1
    assert checks(home, study) == [True]
    # `ffpe run` goes on with what follows.
    follows = [one.assets for one in stale_launches(home, study, GROUPS) if one.encoder == ENCODER]
    assert len(follows) == 1
    assert "search_index" in follows[0]
    assert "embeddings" not in follows[0]
    # Once more is no work, and no news to Dagster.
    assert "0 tiles embedded now" in embed(home, study, "--encoder", ENCODER)
    assert materialisations(home, study)[ENCODER] == 1


def materialisations(home: Home, study: Study) -> dict[str, int]:
    with open_instance(home) as instance:
        return {
            encoder.name: len(
                instance.fetch_materializations(
                    dg.AssetRecordsFilter(
                        asset_key=dg.AssetKey([study.name, "embeddings"]),
                        asset_partitions=[encoder.name],
                    ),
                    limit=10,
                ).records
            )
            for encoder in study.encoders
        }


def checks(home: Home, study: Study) -> list[bool]:
    key = dg.AssetCheckKey(
        dg.AssetKey([study.name, "embeddings"]), "complete_finite_right_dimension"
    )
    with open_instance(home) as instance:
        records = instance.event_log_storage.get_asset_check_execution_history(key, limit=10)
    return [record.status.value == "SUCCEEDED" for record in records]


@pytest.mark.slow
def test_overlapping_processes_one_of_which_is_killed_end_as_one_process_does(
    home: Home, study: Study, expected: Rows
) -> None:
    prepare(home, study)
    options = ("--encoder", ENCODER)
    with started(home, study, *options) as killed, started(home, study, *options) as other:
        deadline = time.monotonic() + 300
        while count(home, Embedding) == 0:
            assert time.monotonic() < deadline
            assert killed.poll() is None
            time.sleep(0.02)
        killed.send_signal(signal.SIGKILL)
        assert other.wait(timeout=300) == 0
    assert rows(home) == expected
    assert count(home, EmbeddingClaim) == 0


@contextmanager
def started(home: Home, study: Study, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        command(study, *options),
        env=os.environ | environment(home),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    yield process
    process.kill()
    process.wait(timeout=60)


def test_what_must_be_there_first_is_named_with_its_command(home: Home, study: Study) -> None:
    with pytest.raises(StoreError, match="not read yet: run `ffpe run .* --select sources`"):
        embed(home, study)
    run(home, study, groups=("sources",))
    with pytest.raises(StoreError, match="no model version .* run `ffpe run .* --select models`"):
        embed(home, study)


@pytest.mark.parametrize("shard", ["0/8", "9/8", "3", "x/y"])
def test_what_is_no_shard_is_a_usage_error(shard: str) -> None:
    refused = CliRunner().invoke(app, ["embed", "study.toml", "--shard", shard])
    assert refused.exit_code == 2
    assert "NUMBER/OF" in refused.output


def test_an_encoder_of_another_study_is_refused(home: Home, study: Study) -> None:
    with pytest.raises(StudyError, match="no encoder is called 'uni'; expected one of imgnet"):
        embed(home, study, "--encoder", "uni")


def test_a_tile_that_cannot_be_read_is_a_row_of_the_ledger_and_the_rest_goes_on(
    home: Home, study: Study
) -> None:
    prepare(home, study)
    (study.path.parent / "tiles" / "a" / "0.png").write_bytes(b"not an image")
    said = embed(home, study, "--encoder", "mean-rgb", "--encoder", "colour-histogram")
    assert f"{2 * (N_TILES - 1)} tiles embedded now, 2 left out; every shard is done" in said
    with Session(home.engine) as session:
        ledger = session.scalars(select(RejectRow)).all()
    assert {(row.item, row.stage) for row in ledger} == {("a/0.png", "embed")}
    # The run of Dagster that follows looks once more.
    assert None in {row.run_id for row in ledger}
    assert count(home, EmbeddingClaim) == 0


# Dagster's own client calls something that it still calls a preview.
@pytest.mark.filterwarnings("ignore:.*currently in preview")
def test_launched_by_dagster_through_pipes_it_reports_there(home: Home, study: Study) -> None:
    prepare(home, study)
    (study.path.parent / "tiles" / "a" / "0.png").unlink()
    told: list[object] = []

    @dg.op
    def launch(context, pipes: dg.PipesSubprocessClient) -> None:  # type: ignore[no-untyped-def]
        invocation = pipes.run(
            context=context,
            command=command(study, "--encoder", "mean-rgb", "--shard", "1/1"),
            env=environment(home),
        )
        told.extend(invocation.get_custom_messages())

    @dg.job(resource_defs={"pipes": dg.PipesSubprocessClient()})
    def job() -> None:
        launch()

    result = job.execute_in_process()
    assert told == [{"n_embedded": N_TILES - 1, "n_rejected": 1}]
    with Session(home.engine) as session:
        row = session.scalars(select(RejectRow)).one()
    assert (row.item, row.run_id) == ("a/0.png", result.run_id)
    # The run that launched it keeps the history.
    assert materialisations(home, study)["mean-rgb"] == 0


LUNG = """
name = "lung"
seed = 7
[luad]
slides = { synthetic = 10, seed = 3, slide_px = 512, n_planted = 2, n_null = 2 }
tile_px = 112
max_tiles_per_slide = 3
folds = 3
repeats = 2
[[encoders]]
name = "imgnet-2048"
"""


@pytest.mark.slow
def test_tiles_of_slides_are_sharded_as_any(home: Home, tmp_path: Path) -> None:
    (tmp_path / "lung.toml").write_text(LUNG)
    study = read_study(tmp_path / "lung.toml")
    prepare(home, study)
    n_tiles = count(home, DatasetTile)
    assert n_tiles > 8
    said = [embed(home, study, "--encoder", "mean-rgb", "--shard", part) for part in ("1/2", "2/2")]
    assert said[-1].endswith("every shard is done")
    assert count(home, Embedding) == n_tiles
    assert count(home, RejectRow, RejectRow.stage == "embed") == 0
    assert count(home, EmbeddingClaim) == 0
