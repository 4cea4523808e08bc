"""Weights that were cut short or swapped: named, and no vector can come of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from featurestore import schema, versions
from featurestore.errors import WeightsError
from featurestore.model_versions import ModelVersion
from featurestore.sources.synthetic import write_tissue
from featurestore.tables import Embedding
from models.encoders import EncoderSettings, describe
from models.weight_files import file_sha256
from models.weight_store import load_weights, save_weights, weights_path
from orchestration.embedding import embed_missing
from orchestration.home import Home
from orchestration.study import Study, read_study
from orchestration.tile_sources import take_in

STUDY = """
name = "checkpoint"
[tissue]
tiles = "tiles"
folds = 3
repeats = 1
"""


@pytest.fixture
def home(tmp_path: Path, empty_engine: Engine) -> Iterator[Home]:
    schema.upgrade(empty_engine)
    url = empty_engine.url.render_as_string(hide_password=False)
    home = Home(tmp_path / "home", database_url=url)
    yield home
    home.close()


@pytest.fixture
def study(tmp_path: Path, tiny_encoder: str) -> Study:
    write_tissue(tmp_path / "tiles", n_per_class=1, seed=1, tile_px=72)
    (tmp_path / "study.toml").write_text(STUDY + tiny_encoder)
    return read_study(tmp_path / "study.toml")


def two_versions(home: Home, study: Study) -> tuple[ModelVersion, ModelVersion]:
    """The study's encoder, and one of other weights."""
    entry = study.encoder("tiny")
    settings = EncoderSettings(
        network=entry.network, weights=entry.weights, weights_sha256=entry.weights_sha256
    )
    version = describe(settings, folder=home.weights)
    state = load_weights(home.weights, str(version.weights_sha256))
    other = save_weights({name: tensor + 0.01 for name, tensor in state.items()}, home.weights)
    return version, replace(version, weights_sha256=other)


def flip_last_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


CUT: dict[str, Callable[[Path], object]] = {
    "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "one byte": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "header": lambda path: path.write_bytes(path.read_bytes()[:4]),
    "empty": lambda path: path.write_bytes(b""),
}


def test_weights_that_were_cut_short_or_swapped_give_no_vector(home: Home, study: Study) -> None:
    mine, other = two_versions(home, study)
    assert study.tissue is not None
    silent = lambda *_args, **_options: None  # noqa: E731
    take_in(home, study, "tissue_tiles", study.tissue, run_id=None, on_progress=silent)
    with Session(home.engine) as session, session.begin():
        version_id = versions.register(session, mine)

    def embed() -> None:
        embed_missing(
            home,
            study=study.name,
            version=mine,
            model_version_id=version_id,
            dataset_id=1,
            run_id=None,
            on_progress=silent,
        )

    def n_embedded() -> int:
        with Session(home.engine) as session:
            return session.scalar(select(func.count()).select_from(Embedding)) or 0

    path = weights_path(home.weights, str(mine.weights_sha256))
    whole = path.read_bytes()
    for cut in CUT.values():
        path.write_bytes(whole)
        cut(path)
        with pytest.raises(WeightsError) as caught:
            embed()
        said = str(caught.value)
        # The file, what it should hold, what it is, and what to do.
        for part in (str(path), str(mine.weights_sha256), file_sha256(path), "Delete"):
            assert part in said
    swapped = weights_path(home.weights, str(other.weights_sha256)).read_bytes()
    path.write_bytes(swapped)
    with pytest.raises(WeightsError) as caught:
        embed()
    for part in (str(path), str(mine.weights_sha256), str(other.weights_sha256), "Delete"):
        assert part in str(caught.value)
    path.write_bytes(whole)
    flip_last_byte(path)
    with pytest.raises(WeightsError, match="was altered"):
        embed()
    path.unlink()
    with pytest.raises(WeightsError, match="does not exist"):
        embed()
    assert n_embedded() == 0

    # What it says to do helps: deleted, the weights are kept anew from where they came.
    assert two_versions(home, study)[0] == mine
    embed()
    assert n_embedded() == 9
