"""Imported features in the store: what it accepts, and that their migration goes back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, inspect, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from featurestore import schema, versions
from featurestore.embeddings import coverage, matrix
from featurestore.errors import SourceError
from featurestore.imported import ImportedSlide, ImportSettings
from featurestore.imported_versions import (
    imported_version,
    is_imported,
    refuse_other_values,
    write_imported,
)
from featurestore.slides import write_slides
from featurestore.sources.slides import SlideInfo
from featurestore.sources.tiling import SlideTile, SlideTiles, TilingSettings

SETTINGS = ImportSettings(network="UNI", dim=3, tile_px=256, precision="float16")
SLIDE = SlideInfo(
    Path("/slides"), "a.svs", "a1" * 32, "TCGA-05-4244", 9000, 9000, 0.25, "slide", (1.0,)
)


def imported(seed: int = 0, n_tiles: int = 4) -> ImportedSlide:
    tiles = tuple(SlideTile(512 * at, 0) for at in range(n_tiles))
    features = np.random.default_rng(seed).normal(size=(n_tiles, 3)).astype(np.float32)
    cut = TilingSettings(mpp=0.5, tile_px=256, max_tiles=None)
    placed = SlideTiles(SLIDE, cut, tiles, n_tiles, {}, 0.0, np.empty((0, 0, 3), np.uint8))
    return ImportedSlide("a.h5", "TRIDENT", placed, features, f"{seed:064x}")


def write(session: Session, found: ImportedSlide, settings: ImportSettings) -> tuple[int, int]:
    version = imported_version(settings, [found.sha256])
    version_id = versions.register(session, version)
    written = write_slides(session, Path("/slides"), [found.tiles], listing_sha256="b" * 64)
    write_imported(session, version_id, written.dataset_id, found)
    return version_id, written.dataset_id


def test_written_once_and_read_back(session: Session) -> None:
    found = imported()
    version_id, dataset_id = write(session, found, SETTINGS)
    assert write(session, found, SETTINGS) == (version_id, dataset_id)
    assert coverage(session, version_id, dataset_id, "s").n_embedded == 4
    ids = session.scalars(
        text(
            "SELECT tile_id FROM tiles JOIN dataset_tiles USING (tile_id)"
            " WHERE dataset_id = :dataset_id ORDER BY x_px"
        ),
        {"dataset_id": dataset_id},
    ).all()
    stored = matrix(session, version_id, list(ids))
    assert np.array_equal(stored, found.features.astype(np.float16).astype(np.float32))
    version = versions.load(session, version_id)
    assert is_imported(version)
    assert version.sha256 == imported_version(SETTINGS, [found.sha256]).sha256


def test_features_of_unknown_weights_never_mix(session: Session) -> None:
    first, _ = write(session, imported(0), SETTINGS)
    second, _ = write(session, imported(1), SETTINGS)
    assert first != second
    refuse_other_values(session, SETTINGS, imported(2))  # nothing to contradict


def test_known_weights_cannot_give_other_features(session: Session) -> None:
    known = ImportSettings(network="UNI", dim=3, tile_px=256, weights_sha256="c" * 64)
    refuse_other_values(session, known, imported(0))
    write(session, imported(0), known)
    refuse_other_values(session, known, imported(0))
    with pytest.raises(SourceError, match="4 of 4 tiles .* cannot have given both"):
        refuse_other_values(session, known, imported(1))


def test_a_file_that_changed_since_its_tiles_were_written(session: Session) -> None:
    version_id, dataset_id = write(session, imported(n_tiles=3), SETTINGS)
    with pytest.raises(SourceError, match="has changed since"):
        write_imported(session, version_id, dataset_id, imported(n_tiles=4))


@pytest.mark.parametrize(
    ("changed", "constraint"),
    [
        ("network_options = '{}'", "network_has_weights"),
        ('network_options = \'{"features_sha256": "x"}\'', "network_has_weights"),
        ("network = 'resnet50'", "network_has_weights"),
        ("network = 'resnet50', weights_sha256 = repeat('a', 64)", "precision_known"),
        ("precision = 'float8'", "precision_known"),
    ],
)
def test_the_database_refuses(session: Session, changed: str, constraint: str) -> None:
    write(session, imported(), SETTINGS)
    session.execute(text("ALTER TABLE model_versions DISABLE TRIGGER model_versions_immutable"))
    with pytest.raises(IntegrityError, match=f"ck_model_versions_{constraint}"):
        session.execute(text(f"UPDATE model_versions SET {changed}"))


def test_the_migration_goes_back_where_imports_are(empty_engine: Engine) -> None:
    schema.upgrade(empty_engine)
    with empty_engine.connect() as connection:
        scripts = ScriptDirectory.from_config(schema.alembic_config(connection))
        before = str(scripts.get_revision("0005").down_revision)
    with Session(empty_engine) as session:
        version_id, _ = write(session, imported(), SETTINGS)
        session.commit()
    schema.downgrade(empty_engine, before)
    with empty_engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM model_versions")) == 0
        assert f"embeddings_v{version_id}" not in inspect(empty_engine).get_table_names()
    schema.upgrade(empty_engine)
