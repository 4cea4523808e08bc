"""What a store of millions of tiles takes: bytes a row measured here, and the arithmetic.

In an embedded Postgres of its own, in a temporary folder (about 1 GB)::

    python benchmarks/scale.py

First real rows are written and weighed: embeddings of 2,048 features, search codes with their
index, tiles, claims; the same codes once more in sub-partitions by hash. Then these figures are
multiplied. What is assumed and not measured is an option. Sizes are exact to some per cent and
the same anywhere; times are this machine's, and machines are shared and noisy.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pgvector import HalfVector
from shard_load import add_dataset, add_version
from sqlalchemy import Connection, Engine, text
from sqlalchemy.orm import Session

from featurestore import schema
from featurestore.claims import BLOCK_TILES
from featurestore.copy import copy_rows
from featurestore.embedded import EmbeddedPostgres
from featurestore.embeddings import partition_name, write_embeddings
from featurestore.engine import connect

DIM, CODE_DIM = 2_048, 256
COLUMNS = [("tile_id", "int8"), ("code", "halfvec")]
INDEX = "USING hnsw ((code::halfvec(256)) halfvec_l2_ops) WITH (m = 16, ef_construction = 100)"
NEAREST = (
    "SELECT tile_id FROM {table} ORDER BY (code::halfvec(256)) <-> CAST(:code AS halfvec(256))"
    " LIMIT 100"
)
N_PARTS = 8
# featurestore/search/codes.py gives a build no more than this.
BUILD_MEMORY_GB = 2.048


@dataclass
class Measured:
    """What was weighed and timed here; bytes are a tile's unless said otherwise."""

    embedding_bytes: float = 0
    embedding_key_bytes: float = 0
    embedding_wal_bytes: float = 0
    embedding_rows_per_second: float = 0
    code_bytes: float = 0
    hnsw_bytes: float = 0
    hnsw_seconds_small: float = 0
    hnsw_seconds_large: float = 0
    n_small: int = 0
    n_large: int = 0
    tile_bytes: float = 0
    claim_bytes_a_block: float = 0
    copy_into_parts_ratio: float = 0
    search_parts_ratio: float = 0
    parts_indexes_used: int = 0

    def build_hours(self, n_tiles: float) -> float:
        """Time of one index over so many codes, if it fits in memory: n log n from the larger."""
        per_step = self.hnsw_seconds_large / (self.n_large * math.log(self.n_large))
        return per_step * n_tiles * math.log(n_tiles) / 3600


def main() -> None:
    """Weigh, time, multiply and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--embeddings", type=int, default=20_000, help="rows that are weighed")
    parser.add_argument("--codes", type=int, default=40_000, help="codes that are indexed")
    parser.add_argument(
        "--tiles", type=int, nargs="+", default=[1_000_000, 10_000_000, 100_000_000]
    )
    parser.add_argument(
        "--rates", type=int, nargs="+", default=[80, 1_000, 4_000], help="tiles/s of a worker"
    )
    parser.add_argument("--tile-kb", type=float, default=50, help="KB read of a slide for a tile")
    parser.add_argument("--worker-hour", type=float, default=1.0, help="price of a worker's hour")
    parser.add_argument("--gb-month", type=float, default=0.1, help="price of a GB of disk a month")
    parser.add_argument("--json", type=Path, help="write the numbers here, too")
    arguments = parser.parse_args()
    measured = Measured()
    with tempfile.TemporaryDirectory(prefix="ffpe-benchmark-", ignore_cleanup_errors=True) as root:
        server = EmbeddedPostgres(Path(root) / "postgres")
        try:
            engine = connect(server.acquire())
            schema.upgrade(engine)
            weigh_embeddings(engine, measured, arguments.embeddings)
            weigh_codes(engine, measured, arguments.codes)
            engine.dispose()
        finally:
            server.release()
    print("measured here:")
    for name, value in asdict(measured).items():
        print(f"  {name.replace('_', ' ')}: {value:,.2f}")
    print()
    print(as_table(measured, arguments))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(asdict(measured), indent=2))


def weigh_embeddings(engine: Engine, measured: Measured, n: int) -> None:
    """Write embeddings as ``ffpe embed`` does; weigh them, their tiles and their claims."""
    before = size(engine, "tiles", "dataset_tiles")
    dataset_id = add_dataset(engine, n)
    measured.tile_bytes = (size(engine, "tiles", "dataset_tiles") - before) / n
    version_id = add_version(engine, 0, DIM)
    measured.claim_bytes_a_block = weigh_claims(engine, version_id, dataset_id)
    rng = np.random.default_rng(1)
    ids = np.arange(1, n + 1, dtype=np.int64)
    seconds, start = 0.0, wal(engine)
    for first in range(0, n, BLOCK_TILES):
        some = ids[first : first + BLOCK_TILES]
        vectors = rng.random((len(some), DIM), dtype=np.float32)
        started = time.monotonic()
        with Session(engine) as session, session.begin():
            write_embeddings(session, version_id, some, vectors)
        seconds += time.monotonic() - started
    measured.embedding_wal_bytes = (wal(engine) - start) / n
    measured.embedding_rows_per_second = n / seconds
    name = partition_name(version_id)
    measured.embedding_key_bytes = number(engine, f"SELECT pg_indexes_size('{name}')") / n
    measured.embedding_bytes = number(engine, f"SELECT pg_table_size('{name}')") / n


def weigh_claims(engine: Engine, version_id: int, dataset_id: int, n: int = 50_000) -> float:
    """Bytes of a block that waits."""
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO embedding_claims"
                " SELECT :version, :dataset, n, n * 256 + 1, n * 256 + 256"
                " FROM generate_series(1, :n) AS n"
            ),
            {"version": version_id, "dataset": dataset_id, "n": n},
        )
    weight = size(engine, "embedding_claims") / n
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM embedding_claims"))
    return weight


def weigh_codes(engine: Engine, measured: Measured, n: int) -> None:
    """Index codes in one table and in parts of one, and search both."""
    codes = random_codes(n)
    measured.n_small, measured.n_large = n // 4, n
    plain = time_copy(engine, "small", codes[: n // 4], "")
    measured.hnsw_seconds_small = time_index(engine, "small")
    plain = time_copy(engine, "large", codes, "")
    measured.code_bytes = number(engine, "SELECT pg_table_size('large')") / n
    measured.hnsw_seconds_large = time_index(engine, "large")
    measured.hnsw_bytes = number(engine, "SELECT pg_relation_size('ix_large')") / n
    split = time_copy(engine, "parts", codes, "PARTITION BY HASH (tile_id)")
    measured.copy_into_parts_ratio = plain / split
    time_index(engine, "parts")
    queries = codes[:: max(1, n // 50)]
    with engine.connect() as connection:
        connection.execute(text("SET hnsw.ef_search = 100"))
        measured.search_parts_ratio = time_search(connection, "parts", queries) / time_search(
            connection, "large", queries
        )
        plan = "\n".join(
            connection.scalars(
                text("EXPLAIN " + NEAREST.format(table="parts")), {"code": HalfVector(codes[0])}
            )
        )
    measured.parts_indexes_used = plan.count("Index Scan using")


def random_codes(n: int) -> NDArray[np.float16]:
    """Codes with some structure: principal components have falling variance."""
    rng = np.random.default_rng(2)
    centres = rng.normal(size=(200, CODE_DIM))
    spread = centres[rng.integers(0, 200, n)] + rng.normal(size=(n, CODE_DIM))
    return (spread / np.sqrt(np.arange(1, CODE_DIM + 1)) * 0.1).astype(np.float16)


def time_copy(engine: Engine, table: str, codes: NDArray[np.float16], how: str) -> float:
    """Rows a second into a new table, or into one that is divided."""
    with engine.begin() as connection:
        connection.execute(
            text(
                f"CREATE TABLE {table} (tile_id bigint, code halfvec, PRIMARY KEY (tile_id)) {how}"
            )
        )
        for part in range(N_PARTS if how else 0):
            connection.execute(
                text(
                    f"CREATE TABLE {table}_{part} PARTITION OF {table}"
                    f" FOR VALUES WITH (MODULUS {N_PARTS}, REMAINDER {part})"
                )
            )
    started = time.monotonic()
    with Session(engine) as session, session.begin():
        copy_rows(session, table, COLUMNS, ((i, HalfVector(code)) for i, code in enumerate(codes)))
    return len(codes) / (time.monotonic() - started)


def time_index(engine: Engine, table: str) -> float:
    """Seconds of an index as search has it."""
    started = time.monotonic()
    with engine.begin() as connection:
        connection.execute(
            text(f"SET LOCAL maintenance_work_mem = '{int(BUILD_MEMORY_GB * 1e3)}MB'")
        )
        connection.execute(text(f"CREATE INDEX ix_{table} ON {table} {INDEX}"))
    seconds = time.monotonic() - started
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(f"VACUUM ANALYZE {table}"))
    return seconds


def time_search(connection: Connection, table: str, queries: NDArray[np.float16]) -> float:
    """Median seconds of the nearest hundred codes, the second time they are asked for."""
    seconds = []
    for _ in range(2):
        seconds = []
        for query in queries:
            started = time.monotonic()
            connection.execute(text(NEAREST.format(table=table)), {"code": HalfVector(query)}).all()
            seconds.append(time.monotonic() - started)
    return float(np.median(seconds))


def as_table(m: Measured, assumed: argparse.Namespace) -> str:
    """The measured figures times numbers of tiles, in Markdown."""
    rows: list[tuple[str, list[str]]] = []

    def row(what: str, *values: str) -> None:
        rows.append((what, list(values)))

    tiles = assumed.tiles
    whole = [
        n * (m.embedding_bytes + m.embedding_key_bytes + m.code_bytes + m.hnsw_bytes) for n in tiles
    ]
    row("embeddings, GB", *(f"{n * m.embedding_bytes / 1e9:,.1f}" for n in tiles))
    row("their primary key, GB", *(f"{n * m.embedding_key_bytes / 1e9:,.1f}" for n in tiles))
    row("search codes, GB", *(f"{n * m.code_bytes / 1e9:,.1f}" for n in tiles))
    row("HNSW on the codes, GB", *(f"{n * m.hnsw_bytes / 1e9:,.1f}" for n in tiles))
    row("**one encoder, GB**", *(f"**{each / 1e9:,.1f}**" for each in whole))
    row(
        "tiles and data set, once for all encoders, GB",
        *(f"{n * m.tile_bytes / 1e9:,.1f}" for n in tiles),
    )
    row(
        "write-ahead log while embedding, GB",
        *(f"{n * m.embedding_wal_bytes / 1e9:,.1f}" for n in tiles),
    )
    row(
        "claims, if nothing is embedded yet, MB",
        *(f"{n / BLOCK_TILES * m.claim_bytes_a_block / 1e6:,.1f}" for n in tiles),
    )
    row(
        "index build on this machine if it fits in memory, hours",
        *(f"{m.build_hours(n):,.1f}" for n in tiles),
    )
    row("memory for that, GB", *(f"{n * m.hnsw_bytes / 1e9:,.1f}" for n in tiles))
    parts = [max(1, math.ceil(n * m.hnsw_bytes / 1e9 / BUILD_MEMORY_GB)) for n in tiles]
    row("sub-partitions that each build in 2 GB", *(f"{part:,}" for part in parts))
    row(
        "writing through one model version's lock, hours",
        *(f"{n / m.embedding_rows_per_second / 3600:,.1f}" for n in tiles),
    )
    for rate in assumed.rates:
        row(
            f"embedding at {rate:,} tiles/s, worker-hours",
            *(f"{n / rate / 3600:,.0f}" for n in tiles),
        )
    row(
        f"read of slides at {assumed.tile_kb:g} KB a tile, TB",
        *(f"{n * assumed.tile_kb * 1e3 / 1e12:,.2f}" for n in tiles),
    )
    rate = assumed.rates[-1]
    row(
        f"price of embedding at {rate:,} tiles/s",
        *(f"{n / rate / 3600 * assumed.worker_hour:,.2f}" for n in tiles),
    )
    row("price of the disk a month", *(f"{each / 1e9 * assumed.gb_month:,.2f}" for each in whole))
    head = "| | " + " | ".join(f"{n:,} tiles" for n in tiles) + " |"
    body = [f"| {what} | " + " | ".join(values) + " |" for what, values in rows]
    return "\n".join([head, "|---" * (len(tiles) + 1) + "|", *body])


def size(engine: Engine, *tables: str) -> float:
    """Bytes of tables with their indexes."""
    return sum(number(engine, f"SELECT pg_total_relation_size('{table}')") for table in tables)


def wal(engine: Engine) -> float:
    """Bytes of write-ahead log since ever."""
    return number(engine, "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')")


def number(engine: Engine, query: str) -> float:
    """One number from the database."""
    with engine.connect() as connection:
        return float(connection.execute(text(query)).scalar_one())


if __name__ == "__main__":
    main()
