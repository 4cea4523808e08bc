"""What search is timed on, and how: a store of vectors, and recall, latency, throughput of a way.

``benchmarks/search.py`` says what is compared.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from featurestore import schema, versions
from featurestore.copy import copy_rows
from featurestore.copy_arrays import copy_arrays
from featurestore.embedded import EmbeddedPostgres
from featurestore.embeddings import partition_name
from featurestore.engine import connect
from featurestore.model_versions import ModelVersion, content_sha256

K = 10
N_CLIENTS = 8
LABELS = ("common", "percent", "permille")
Search = Callable[[Session, int], list[int]]
Matrix = NDArray[np.float32]
Rows = NDArray[np.int64]


def say(line: str) -> None:
    """Print at once: a long run is watched."""
    print(line, flush=True)


def brute_force(units: Matrix, queries: Rows, wanted: NDArray[np.bool_]) -> Matrix:
    """Similarity of the tenth nearest to each query, itself left out: what a hit must reach."""
    similarity = units[queries] @ units[wanted].T
    own = {row: position for position, row in enumerate(np.flatnonzero(wanted).tolist())}
    for position, query in enumerate(queries.tolist()):
        if query in own:
            similarity[position, own[query]] = -2
    return np.sort(similarity, axis=1)[:, -K]


def recall(units: Matrix, queries: Rows, true: Matrix, found: list[list[int]]) -> float:
    """Share of the ten that are at least as near as the true tenth; equals count alike."""
    shares = [
        np.mean(np.append(units[rows] @ units[query] >= reach - 1e-6, [False] * (K - len(rows))))
        for query, reach, rows in zip(queries, true, found, strict=True)
    ]
    return float(np.mean(shares))


class Store:
    """The vectors in a Postgres of their own, tile ids as row numbers from 1."""

    def __init__(self, server: EmbeddedPostgres, vectors: NDArray[np.float16]) -> None:
        self.server = server
        self.engine: Engine = connect(server.acquire())
        schema.upgrade(self.engine)
        rng = np.random.default_rng(11)
        chosen = rng.random(len(vectors))
        # 1 % and 0.1 % of the tiles, drawn at random.
        self.labels = np.where(chosen < 0.001, 2, np.where(chosen < 0.011, 1, 0))
        started = time.perf_counter()
        with Session(self.engine) as session, session.begin():
            self.version_id = versions.register(session, _version(vectors.shape[1]))
            self._write(session, vectors)
        with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("VACUUM ANALYZE"))
        say(f"written in {time.perf_counter() - started:.0f} s")

    def _write(self, session: Session, vectors: NDArray[np.float16]) -> None:
        n = len(vectors)
        session.execute(
            text(
                "INSERT INTO tiles (tile_id, sha256, width_px, height_px) OVERRIDING SYSTEM VALUE"
                " SELECT i, lpad(to_hex(i), 64, '0'), 224, 224 FROM generate_series(1, :n) AS i"
            ),
            {"n": n},
        )
        dataset_id = session.execute(
            text(
                "INSERT INTO datasets (digest, name, root, listing_sha256, n_tiles)"
                " VALUES (repeat('a', 64), 'benchmark', '/', repeat('a', 64), :n)"
                " RETURNING dataset_id"
            ),
            {"n": n},
        ).scalar_one()
        columns = [("dataset_id", "int8"), ("tile_id", "int8"), ("label", "text"), ("path", "text")]
        rows = ((dataset_id, i + 1, LABELS[one], str(i)) for i, one in enumerate(self.labels))
        copy_rows(session, "dataset_tiles", columns, rows)
        copy_arrays(
            session,
            partition_name(self.version_id),
            [("model_version_id", "int8"), ("tile_id", "int8"), ("embedding", "halfvec")],
            [
                (np.full(len(ids), self.version_id), ids, vectors[ids - 1])
                for ids in np.array_split(np.arange(1, n + 1), -(-n // 4_096))
            ],
        )

    def restart(self) -> None:
        """Stop and start the server: nothing is in its own buffers afterwards."""
        self.engine.dispose()
        self.server.release()
        self.engine = connect(self.server.acquire())

    def megabytes(self, index: str) -> float:
        """Size of an index."""
        with Session(self.engine) as session:
            query = text("SELECT pg_relation_size(to_regclass(:name)) / 1e6")
            return float(session.execute(query, {"name": index}).scalar_one())


def measure(
    name: str,
    store: Store,
    search: Search,
    units: Matrix,
    queries: Rows,
    true: Matrix,
    *,
    qps: bool = True,
) -> float:
    """Print recall, latency and throughput of one way; returns its warm median in ms."""
    store.restart()
    with Session(store.engine) as session:
        session.execute(text("SELECT 1"))
        cold = timed(session, search, queries[: max(5, len(queries) // 4)])[0]
        timed(session, search, queries)
        warm, found = timed(session, search, queries)
    row = {
        "recall@10": round(recall(units, queries, true, found), 4),
        "cold p50 / p95 ms": [round(float(np.percentile(cold, p)), 2) for p in (50, 95)],
        "warm p50 / p95 ms": [round(float(np.percentile(warm, p)), 2) for p in (50, 95)],
    }
    if qps:
        row["QPS of 8 clients"] = round(throughput(store, search, queries), 1)
    say(f"{name}: {json.dumps(row)}")
    return float(np.percentile(warm, 50))


def timed(session: Session, search: Search, queries: Rows) -> tuple[list[float], list[list[int]]]:
    """Milliseconds and hits of each query."""
    times, found = [], []
    for query in queries.tolist():
        started = time.perf_counter()
        found.append(search(session, query))
        times.append(1_000 * (time.perf_counter() - started))
    return times, found


def throughput(store: Store, search: Search, queries: Rows) -> float:
    """Queries a second of 8 clients, each on a connection of its own, for a fixed time."""
    ends = time.perf_counter() + 8

    def client(number: int) -> int:
        n = 0
        with Session(store.engine) as session:
            while time.perf_counter() < ends:
                search(session, int(queries[(number * 37 + n) % len(queries)]))
                n += 1
        return n

    started = time.perf_counter()
    with ThreadPoolExecutor(N_CLIENTS) as pool:
        n_done = sum(pool.map(client, range(N_CLIENTS)))
    return n_done / (time.perf_counter() - started)


def _version(dim: int) -> ModelVersion:
    return ModelVersion(
        network="legacy_xception",
        weights_sha256=content_sha256("benchmark"),
        input_px=224,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        interpolation="bicubic",
        pooling="avg",
        precision="float32",
        dim=dim,
        licence="none",
        trained_on="ImageNet",
    )
