"""A store of its own for a benchmark: an embedded Postgres in a folder that goes afterwards."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from featurestore import schema, versions
from featurestore.embedded import EmbeddedPostgres
from featurestore.engine import connect
from featurestore.model_versions import ModelVersion, content_sha256


@dataclass(frozen=True)
class BenchmarkStore:
    """An empty, migrated store, and where its server keeps its data."""

    engine: Engine
    folder: Path


@contextmanager
def benchmark_store(parent: Path | None = None) -> Iterator[BenchmarkStore]:
    """Start a server in a new folder, and remove it in the end."""
    with tempfile.TemporaryDirectory(
        prefix="ffpe-benchmark-", dir=parent, ignore_cleanup_errors=True
    ) as root:
        server = EmbeddedPostgres(Path(root) / "postgres")
        engine = connect(server.acquire())
        schema.upgrade(engine)
        try:
            yield BenchmarkStore(engine, server.folder)
        finally:
            engine.dispose()
            server.release()


def register_version(session: Session, name: str, dim: int) -> int:
    """A made-up model version with a partition of its own."""
    return versions.register(
        session,
        ModelVersion(
            network="legacy_xception",
            weights_sha256=content_sha256(name),
            input_px=224,
            mean=(0.5, 0.5, 0.5),
            std=(0.5, 0.5, 0.5),
            interpolation="bicubic",
            pooling="avg",
            precision="float32",
            dim=dim,
            licence="none",
            trained_on="nothing",
        ),
    )


def insert_tiles(session: Session, n: int) -> int:
    """Tiles 1 to ``n`` in a data set of their own; its id."""
    session.execute(
        text(
            "INSERT INTO tiles (tile_id, sha256, width_px, height_px) OVERRIDING SYSTEM VALUE"
            " SELECT i, lpad(to_hex(i), 64, '0'), 224, 224 FROM generate_series(1, :n) AS i"
        ),
        {"n": n},
    )
    dataset_id: int = session.execute(
        text(
            "INSERT INTO datasets (digest, name, root, listing_sha256, n_tiles)"
            " VALUES (repeat('a', 64), 'benchmark', '/', repeat('a', 64), :n)"
            " RETURNING dataset_id"
        ),
        {"n": n},
    ).scalar_one()
    session.execute(
        text(
            "INSERT INTO dataset_tiles (dataset_id, tile_id, label, path)"
            " SELECT :id, i, 'any', i::text FROM generate_series(1, :n) AS i"
        ),
        {"id": dataset_id, "n": n},
    )
    return dataset_id
