"""Writing embeddings, against raw binary COPY; loading and indexing a large store.

Raw COPY is the loop of pgvector's own documentation: psycopg's binary COPY, a row at a time,
into a table with the same columns and a primary key, or one with the store's foreign keys and
check as well::

    python benchmarks/writing.py --load 100000

writes so many vectors of 2,048 features, codes and indexes them. What a store ten times as
large takes is extrapolated, and said so.
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from measure import Row, Turns, server_pids, show, write_rows
from numpy.typing import NDArray
from pgvector import HalfVector
from sqlalchemy import text
from sqlalchemy.orm import Session
from store import BenchmarkStore, benchmark_store, insert_tiles, register_version

from featurestore.embeddings import partition_name, write_embeddings
from featurestore.search.codes import build_index, start_codes, write_pending_codes

DIM = 2_048
BATCH = 512
BYTES_A_TILE = 14_000  # of disk while loading: vectors, codes, and the log of both
RESERVE_GB = 5
RULES = (
    ", CHECK (vector_dims(embedding) = 2048), FOREIGN KEY (tile_id) REFERENCES tiles"
    ", FOREIGN KEY (model_version_id) REFERENCES model_versions"
)


def main() -> None:
    """Measure, print and keep the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=8_192, help="a round of COPY")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--load", type=int, default=100_000, help="vectors to load and index")
    parser.add_argument("--folder", type=Path, help="where the server keeps its data")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    free_gb = shutil.disk_usage(arguments.folder or "/tmp").free / 1e9
    fits = int((free_gb - RESERVE_GB) * 1e9 / BYTES_A_TILE)
    n_load = max(0, min(arguments.load, fits))
    with benchmark_store(arguments.folder) as store:
        with Session(store.engine) as session, session.begin():
            insert_tiles(session, max(arguments.rows, n_load))
        rows = copying(store, arguments.rows, arguments.rounds)
        show(rows)
        with Session(store.engine) as session, session.begin():
            session.execute(text("TRUNCATE embeddings CASCADE"))
        rows += loading(store, n_load)
        show(rows[-1:])
    write_rows(rows, arguments.json)


def copying(store: BenchmarkStore, n: int, n_rounds: int) -> list[Row]:
    """The store's way and two raw ones in turns, all from the network's float32."""
    vectors = np.random.default_rng(0).random((n, DIM), np.float32)
    numbers = iter(range(10**6))
    session = Session(store.engine)
    with session.begin():
        raw_version = register_version(session, "raw", DIM)

    def raw(rules: str) -> int:
        name = f"raw_{next(numbers)}"
        session.execute(
            text(
                f"CREATE TABLE {name} (model_version_id int8, tile_id int8, embedding halfvec,"
                f" PRIMARY KEY (model_version_id, tile_id){rules})"
            )
        )
        session.commit()
        connection = session.connection().connection.driver_connection
        for start in range(0, n, BATCH):
            statement = f"COPY {name} FROM STDIN (FORMAT BINARY)"
            with connection.cursor() as cursor, cursor.copy(statement) as copy:
                copy.set_types(["int8", "int8", "halfvec"])
                for row in range(start, min(n, start + BATCH)):
                    copy.write_row((raw_version, row + 1, HalfVector(vectors[row])))
            session.commit()
            connection = session.connection().connection.driver_connection
        session.execute(text(f"DROP TABLE {name}"))
        session.commit()
        return n

    def ours(version_id: Callable[[], int]) -> int:
        version = version_id()
        for start in range(0, n, BATCH):
            ids = np.arange(start + 1, min(n, start + BATCH) + 1)
            write_embeddings(session, version, ids, vectors[start : start + BATCH])
            session.commit()
        return n

    def fresh() -> int:
        version = register_version(session, f"ours {next(numbers)}", DIM)
        session.commit()
        return version

    def with_codes() -> int:
        version = fresh()
        write_embeddings(session, version, np.arange(1, 4), vectors[:3])
        start_codes(session, version, seed=1)
        session.commit()
        return version

    turns = Turns(
        {
            "ours": lambda: ours(fresh),
            "same rules": lambda: raw(RULES),
            "key alone": lambda: raw(""),
            "coded": lambda: ours(with_codes),
        },
        n_rounds=n_rounds,
        pids=partial(server_pids, store.folder),
    )
    session.close()
    note = f"{n:,} x {DIM} a round, {n_rounds} rounds, batches of {BATCH} committed one by one"
    return [
        Row(
            piece="writing",
            what=what,
            value=f"{turns.rate(mine):,.0f} rows/s",
            baseline=f"raw binary COPY, {baseline}",
            baseline_value=f"{turns.rate(name):,.0f} rows/s",
            ratio=turns.ratio(mine, name),
            cpu_ratio=turns.ratio(mine, name, cpu=True),
            bar=bar,
            note=why,
        )
        for what, mine, name, baseline, bar, why in (
            ("write_embeddings", "ours", "same rules", "same keys and checks", 0.9, note),
            (
                "write_embeddings", "ours", "key alone", "primary key alone", 0.9,
                "what is missing is the price of two foreign keys and the check of dimension",
            ),
            (
                "write_embeddings into a version with search codes", "coded", "same rules",
                "same keys and checks", None, "every row also waits for its code",
            ),
        )
    ]  # fmt: skip


def loading(store: BenchmarkStore, n: int) -> list[Row]:
    """So many vectors from nothing to an index that is used."""
    seconds: dict[str, float] = {}

    def step(name: str, do: Callable[[Session], None]) -> None:
        started = time.perf_counter()
        with Session(store.engine) as session, session.begin():
            do(session)
        seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - started

    with Session(store.engine) as session, session.begin():
        version = register_version(session, "load", DIM)
    for ids, vectors in simulated(n):
        step("load", partial(_write, version, ids, vectors))
    step("fit", lambda session: _fit(session, version))
    waiting = True
    while waiting:
        started = time.perf_counter()
        with Session(store.engine) as session, session.begin():
            waiting = write_pending_codes(session, version) > 0
        seconds["codes"] = seconds.get("codes", 0.0) + time.perf_counter() - started
    step("index", lambda session: build_index(session, version))
    with Session(store.engine) as session:
        sizes = session.execute(
            text(
                "SELECT pg_total_relation_size(CAST(:table AS regclass)) / 1e9,"
                " pg_total_relation_size(CAST(:codes AS regclass)) / 1e9"
            ),
            {"table": partition_name(version), "codes": f"search_codes_v{version}"},
        ).one()
    table_gb, codes_gb = map(float, sizes)
    spent = ", ".join(f"{name} {took:.0f} s" for name, took in seconds.items())
    whole = sum(seconds.values())
    # Fitting takes a sample of a fixed size; HNSW grows a little faster than the number of rows.
    million = 1e6 / n if n else 0.0
    growth = million * (1 + 0.15 * np.log10(max(1.0, million)))
    later = sum(seconds[k] * million for k in ("load", "codes")) + seconds["index"] * growth
    return [
        Row(
            piece="writing",
            what=f"{n:,} x {DIM} loaded and indexed",
            value=f"{whole:.0f} s ({spent}); {table_gb:.2f} GB vectors, {codes_gb:.2f} GB codes "
            "and index",
            note=f"1,000,000 x {DIM}, extrapolated: {(later + seconds['fit']) / 60:.0f} min, "
            f"{table_gb * million:.1f} GB + {codes_gb * million:.1f} GB"
            if n < 1_000_000
            else "",
        )
    ]


def simulated(n: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """Vectors of 64 directions and noise, as features are few-dimensional, in blocks."""
    rng = np.random.default_rng(5)
    directions = rng.normal(size=(64, DIM)).astype(np.float32)
    for start in range(0, n, 4_096):
        size = min(4_096, n - start)
        weights = rng.normal(size=(size, 64)).astype(np.float32)
        yield np.arange(start + 1, start + size + 1), np.abs(weights @ directions)


def _write(
    version: int, ids: NDArray[np.int64], vectors: NDArray[np.float32], session: Session
) -> None:
    write_embeddings(session, version, ids, vectors)


def _fit(session: Session, version: int) -> None:
    start_codes(session, version, seed=7)


if __name__ == "__main__":
    main()
