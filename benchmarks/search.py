"""Similarity search on 100,000 real vectors: exact scan, HNSW on whole vectors, and ours.

In an embedded Postgres of its own, in a temporary folder::

    python benchmarks/search.py --data FOLDER

The vectors are those of ``benchmarks/search_vectors.py``. For each way: recall@10 against exact
search (numpy), time of a query cold (first queries after a restart of the server) and warm,
queries a second of 8 clients, size and build time of the index. faiss and hnswlib on the same
vectors, in memory and without a database, stand beside as the reference. Machines are shared
and noisy: ratios within one run are what holds.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pgvector import HalfVector
from search_vectors import load_vectors
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from featurestore import schema, versions
from featurestore.copy import copy_rows
from featurestore.embedded import EmbeddedPostgres
from featurestore.embeddings import partition_name
from featurestore.engine import connect
from featurestore.model_versions import ModelVersion, content_sha256
from featurestore.search import similar
from featurestore.search.codes import build_index, start_codes, write_pending_codes

K = 10
N_CLIENTS = 8
WAYS = ["database", "whole", "memory"]
LABELS = ("common", "percent", "permille")
Search = Callable[[Session, int], list[int]]
Matrix = NDArray[np.float32]
Rows = NDArray[np.int64]


def main() -> None:
    """Time every way and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with crc5 and the rest")
    parser.add_argument("--n", type=int, default=106_496, help="vectors")
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--exact-queries", type=int, default=20, help="timed exact scans")
    parser.add_argument("--ways", nargs="+", default=WAYS, choices=WAYS, help="what to time")
    arguments = parser.parse_args()
    vectors = load_vectors(arguments.data, arguments.n)[: arguments.n]
    rng = np.random.default_rng(7)
    queries = rng.choice(len(vectors), arguments.queries, replace=False)
    units = vectors.astype(np.float32)
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    say(f"{len(vectors):,} vectors of {vectors.shape[1]} features, {len(queries)} queries")
    true = brute_force(units, queries, np.ones(len(units), bool))
    with tempfile.TemporaryDirectory(prefix="ffpe-benchmark-", ignore_cleanup_errors=True) as root:
        server = EmbeddedPostgres(Path(root) / "postgres")
        store = Store(server, vectors)
        try:
            if {"database", "whole"} & set(arguments.ways):
                in_postgres(store, units, queries, true, arguments)
        finally:
            server.release()
    if "memory" in arguments.ways:
        in_memory(units, queries, true)


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
        copy_rows(
            session,
            partition_name(self.version_id),
            [("model_version_id", "int8"), ("tile_id", "int8"), ("embedding", "halfvec")],
            ((self.version_id, i + 1, HalfVector(row)) for i, row in enumerate(vectors)),
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


def in_postgres(
    store: Store, units: Matrix, queries: Rows, true: Matrix, arguments: argparse.Namespace
) -> None:
    """Exact scan, ours and HNSW on halfvec(2048), in this order."""
    n_exact = arguments.exact_queries
    name, dim = partition_name(store.version_id), units.shape[1]

    def plain(session: Session, query: int) -> list[int]:
        rows = session.execute(
            text(
                f"SELECT tile_id FROM {name} WHERE tile_id <> :own ORDER BY"
                f" embedding::halfvec({dim}) <=> (SELECT embedding::halfvec({dim}) FROM {name}"
                f" WHERE tile_id = :own) LIMIT {K}"
            ),
            {"own": query + 1},
        )
        return [tile_id - 1 for (tile_id,) in rows]

    def ours(session: Session, query: int, **options: object) -> list[int]:
        found = similar(
            session, model_version_id=store.version_id, tile_id=query + 1, k=K, **options
        )
        return [hit.tile_id - 1 for hit in found.hits]

    exact = measure("exact scan", store, plain, units, queries[:n_exact], true[:n_exact])
    started = time.perf_counter()
    with Session(store.engine) as session, session.begin():
        fitted = start_codes(session, store.version_id, seed=7)
    n = 1
    while n:
        with Session(store.engine) as session, session.begin():
            n = write_pending_codes(session, store.version_id)
    coded = time.perf_counter()
    with Session(store.engine) as session, session.begin():
        build_index(session, store.version_id)
    built = time.perf_counter()
    index = f"ix_search_codes_v{store.version_id}_hnsw"
    say(
        f"ours: {coded - started:.0f} s for fit and codes ({fitted.explained_variance:.3f} of the "
        f"variance), {built - coded:.0f} s for the index, {store.megabytes(index):.0f} MB"
    )
    measured = measure("ours", store, ours, units, queries, true)
    say(f"ours: p50 is 1/{exact / measured:.0f} of the exact scan's")
    for label, code in (("percent", 1), ("permille", 2)):
        wanted = store.labels == code
        reach = brute_force(units, queries, wanted)
        filtered = f"ours, {wanted.mean():.2%} of rows"

        def search(session: Session, query: int, label: str = label) -> list[int]:
            return ours(session, query, label=label)

        measure(filtered, store, search, units, queries, reach, qps=False)
    common = brute_force(units, queries, store.labels == 0)
    measure(
        "ours, 99 % of rows",
        store,
        lambda session, query: ours(session, query, label="common"),
        units,
        queries,
        common,
        qps=False,
    )
    if "whole" not in arguments.ways:
        return
    started = time.perf_counter()
    with Session(store.engine) as session, session.begin():
        session.execute(text("SET LOCAL maintenance_work_mem = '1500MB'"))
        session.execute(
            text(
                f"CREATE INDEX whole_hnsw ON {name} USING hnsw"
                f" ((embedding::halfvec({dim})) halfvec_cosine_ops)"
                " WITH (m = 16, ef_construction = 100)"
            )
        )
    say(
        f"hnsw on halfvec({dim}): {time.perf_counter() - started:.0f} s, "
        f"{store.megabytes('whole_hnsw'):.0f} MB"
    )

    def by_index(session: Session, query: int) -> list[int]:
        session.execute(text("SET LOCAL hnsw.ef_search = 100"))
        session.execute(text("SET LOCAL enable_sort = off"))
        return plain(session, query)

    measure(f"hnsw on halfvec({dim})", store, by_index, units, queries, true)


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


def in_memory(units: Matrix, queries: Rows, true: Matrix) -> None:
    """The faiss and hnswlib libraries on the same vectors: m 16, ef 100 in build and search."""
    import faiss
    import hnswlib

    faiss_index = faiss.IndexHNSWFlat(units.shape[1], 16, faiss.METRIC_INNER_PRODUCT)
    faiss_index.hnsw.efConstruction = faiss_index.hnsw.efSearch = 100
    hnsw = hnswlib.Index("ip", units.shape[1])
    hnsw.init_index(len(units), M=16, ef_construction=100)

    def by_faiss(query: int) -> list[int]:
        return faiss_index.search(units[query : query + 1], K + 1)[1][0].tolist()

    def by_hnswlib(query: int) -> list[int]:
        return hnsw.knn_query(units[query : query + 1], K + 1, num_threads=1)[0][0].tolist()

    for name, build, search in (
        ("faiss HNSW", lambda: faiss_index.add(units), by_faiss),
        ("hnswlib", lambda: hnsw.add_items(units), by_hnswlib),
    ):
        started = time.perf_counter()
        build()
        seconds = time.perf_counter() - started
        if name == "hnswlib":
            hnsw.set_ef(100)
        times, found = [], []
        for query in queries.tolist():
            started = time.perf_counter()
            rows = search(query)
            times.append(1_000 * (time.perf_counter() - started))
            found.append([row for row in rows if row != query][:K])
        p50, p95 = np.percentile(times, 50), np.percentile(times, 95)
        say(
            f"{name}: recall@10 {recall(units, queries, true, found):.4f}, p50 {p50:.2f} ms, "
            f"p95 {p95:.2f} ms, built in {seconds:.0f} s"
        )


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


if __name__ == "__main__":
    main()
