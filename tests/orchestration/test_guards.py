"""Guards as a study meets them: a planted leak stops it, clean tissue passes, and SQL knows."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sqlalchemy import func, select
from sqlalchemy.orm import Session
from typer.testing import CliRunner

from featurestore.guards import guards_frame
from featurestore.tables import Embedding, ModelVersionRow, TileFingerprint
from orchestration.cli import app
from orchestration.cli_guards import findings_table
from orchestration.home import Home
from orchestration.naming import SOURCES
from orchestration.run import RunFailedError, run_study
from orchestration.study import Study


def run(home: Home, study: Study, **options: object) -> None:
    run_study(
        home,
        study,
        progress=lambda *_args, **_options: None,
        on_launch=lambda _launch: None,
        **options,  # type: ignore[arg-type]
    )


def found(home: Home, study: str) -> pd.DataFrame:
    with Session(home.engine) as session:
        return guards_frame(session, study).set_index(["guard", "target", "part"])


@pytest.fixture
def tissue(small_tissue: Path, tmp_path: Path) -> Path:
    """The small tissue, to be changed."""
    shutil.copytree(small_tissue, tmp_path / "tissue")
    return tmp_path / "tissue"


def plant_copy(tissue: Path) -> str:
    """A turned, recompressed copy of a training tile among the test tiles."""
    source = sorted((tissue / "train" / "TUM").iterdir())[0]
    pixels = np.rot90(np.asarray(Image.open(source)), 1)[:, ::-1]
    Image.fromarray(np.ascontiguousarray(pixels)).save(
        tissue / "test" / "TUM" / "planted.jpg", quality=80
    )
    return "TUM/planted.jpg"


def test_clean_tissue_passes_every_blocking_guard_and_each_tile_is_hashed_once(
    home: Home, make_study: Callable[..., Study], tissue: Path
) -> None:
    run(home, make_study(tissue=tissue), groups=(SOURCES,))
    rows = found(home, "small")
    blocking = rows[rows["severity"] == "blocking"]
    assert blocking["passed"].all()
    assert ("near_duplicate_hash", "tissue_tiles", "copies") in blocking.index
    assert ("copies_within", "tissue_tiles", "two patients") in blocking.index
    assert rows.loc[("artefact_label", "tissue_tiles", "label in name"), "measured"] == 1
    assert rows["run_id"].notna().all()
    with Session(home.engine) as session:
        assert session.scalar(select(func.count()).select_from(TileFingerprint)) == 2 * 9 * 6
    # A table for people, and the same for programs.
    assert findings_table(rows.reset_index()).row_count == len(rows)


def test_a_changed_copy_of_a_training_tile_stops_the_study_before_anything_is_trained(
    home: Home,
    make_study: Callable[..., Study],
    tissue: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    planted = plant_copy(tissue)
    study = make_study(tissue=tissue)
    with pytest.raises(RunFailedError, match=f"no_copy_of_a_fine_tuning_tile.*{planted}"):
        run(home, study)
    with Session(home.engine) as session:
        assert session.scalar(select(func.count()).select_from(ModelVersionRow)) == 0
        assert session.scalar(select(func.count()).select_from(Embedding)) == 0
    leak = found(home, "small").loc[("near_duplicate_hash", "tissue_tiles", "copies")]
    assert leak["measured"] == 1
    assert leak["details"]["pairs"][0]["tile"] == planted
    monkeypatch.setattr("orchestration.cli_guards.open_home", lambda: _kept(home))
    shown = CliRunner().invoke(app, ["guards", str(study.path), "--json"])
    assert shown.exit_code == 1
    rows = json.loads(shown.stdout)
    assert (rows[0]["guard"], rows[0]["passed"]) == ("near_duplicate_hash", False)
    # Without the copy the study goes on, and the finding is no more.
    (tissue / "test" / planted).unlink()
    run(home, study, groups=(SOURCES,))
    assert found(home, "small").query("severity == 'blocking'")["passed"].all()


class _kept:
    def __init__(self, home: Home) -> None:
        self._home = home

    def __enter__(self) -> Home:
        return self._home

    def __exit__(self, *_: object) -> None:
        pass


def test_no_door_leads_round_a_leak_that_was_found(
    home: Home, make_study: Callable[..., Study], tissue: Path
) -> None:
    from analysis.cohort import refuse_found_leaks
    from featurestore.errors import LeakageError
    from featurestore.study_datasets import study_dataset

    plant_copy(tissue)
    study = make_study(tissue=tissue)
    with pytest.raises(RunFailedError):
        run(home, study, groups=(SOURCES,))
    with Session(home.engine) as session:
        dataset = study_dataset(session, study.name, "tissue_tiles")
        with pytest.raises(LeakageError, match="planted.jpg.*Remove"):
            refuse_found_leaks(session, study.name, dataset.dataset_id)


@pytest.mark.slow
def test_features_are_looked_at_once_they_are_there(
    home: Home, make_study: Callable[..., Study], tissue: Path
) -> None:
    run(home, make_study(tissue=tissue))
    rows = found(home, "small")
    assert rows.loc[("near_duplicate_features", "tissue_tiles", "copies"), "passed"]
    assert rows.loc[("patient_in_two_folds", "tissue", ""), "passed"]
    assert rows.loc[("pretrained_on_tcga", "tissue", "ftx-2048"), "passed"]
    first = rows["created_at"]
    run(home, make_study(tissue=tissue))
    assert (found(home, "small")["created_at"] == first).all()


def test_what_crc5_says(home: Home, shared_data: Path, tmp_path: Path) -> None:
    """Real tissue: no training tile among the test tiles, mirrored copies within them."""
    from orchestration.study import read_study

    (tmp_path / "crc5.toml").write_text(
        'name = "crc5"\nseed = 7\n'
        f'[finetune]\ntiles = "{shared_data / "crc5" / "train"}"\n'
        f'[tissue]\ntiles = "{shared_data / "crc5" / "test"}"\n'
        '[[encoders]]\nname = "imgnet-2048"\n'
        '[[encoders]]\nname = "ftx-2048"\nfinetuned_from = "imgnet-2048"\n'
    )
    run(home, read_study(tmp_path / "crc5.toml"), groups=(SOURCES,))
    rows = found(home, "crc5")
    assert rows.query("severity == 'blocking'")["passed"].all()
    copies = rows.loc[("near_duplicate_hash", "tissue_tiles", "copies"), "details"]
    assert copies["fewest_bits"] > 72
    within = rows.loc[("copies_within", "tissue_tiles", "no patient")]
    assert (within["passed"], within["severity"], within["measured"]) == (False, "warning", 8)
    colour = rows.loc[("artefact_label", "tissue_tiles", "mean colour"), "measured"]
    assert 0.7 < colour < 0.9
    assert rows.loc[("artefact_label", "tissue_tiles", "JPEG quality"), "passed"]
    assert rows.loc[("artefact_label", "tissue_tiles", "label in name"), "measured"] == 1
