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
import tempfile
import time
from pathlib import Path

import numpy as np
from search_timing import K, Matrix, Rows, Store, brute_force, measure, recall, say
from search_vectors import load_vectors
from sqlalchemy import text
from sqlalchemy.orm import Session

from featurestore.embedded import EmbeddedPostgres
from featurestore.embeddings import partition_name
from featurestore.search import similar
from featurestore.search.codes import build_index, start_codes, write_pending_codes

WAYS = ["database", "whole", "memory"]


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


if __name__ == "__main__":
    main()
