"""Many processes embed one data set: claims and rows a second, what waits, and what a kill costs.

In an embedded Postgres of its own, in a temporary folder (about 1 GB for a million tiles)::

    python benchmarks/shard_load.py --tiles 1000000 --workers 8 --kill 2

The network is simulated: vectors of few features follow from the tile's id, so that the
database is all that works. Each worker is a process that claims, writes and commits as
``ffpe embed`` does. Halfway some are killed. The end is compared, row by row, with what one
process would have written. Machines are shared and noisy: ratios within one run are what holds.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import signal
import tempfile
import time
from collections import Counter
from itertools import islice
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Barrier
from pathlib import Path
from threading import Event, Thread

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from featurestore import schema, versions
from featurestore.claims import BLOCK_TILES, WHOLE, Claims, Shard
from featurestore.embedded import EmbeddedPostgres
from featurestore.embeddings import partition_name, write_embeddings
from featurestore.engine import connect
from featurestore.model_versions import ModelVersion, content_sha256

BATCH = 256
SAMPLE_SECONDS = 0.05
LOADS = ["one", "queue", "shards", "kills"]


def main() -> None:
    """Time one worker and many, with and without kills, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tiles", type=int, default=1_000_000)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--kill", type=int, default=2, help="workers killed halfway")
    parser.add_argument("--dim", type=int, default=16, help="features of the simulated network")
    parser.add_argument("--loads", nargs="+", default=LOADS, choices=LOADS)
    parser.add_argument("--json", type=Path, help="write the numbers here, too")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ffpe-benchmark-", ignore_cleanup_errors=True) as root:
        server = EmbeddedPostgres(Path(root) / "postgres")
        url = server.acquire()
        try:
            engine = connect(url)
            schema.upgrade(engine)
            dataset_id = add_dataset(engine, arguments.tiles)
            n, kill = arguments.workers, arguments.kill
            loads = {
                "one": ("one worker", 1, 0, WHOLE),
                "queue": (f"{n} workers, one queue", n, 0, WHOLE),
                "shards": (f"{n} workers, a shard each", n, 0, None),
                "kills": (f"{n} workers, {kill} killed and started again", n, kill, None),
            }
            found = {}
            for number, key in enumerate(arguments.loads):
                name, n_workers, n_killed, shard = loads[key]
                version_id = add_version(engine, number, arguments.dim)
                found[name] = load(engine, url, version_id, dataset_id, n_workers, n_killed, shard)
                found[name] |= proof(engine, version_id, arguments.tiles, arguments.dim)
                say(f"{name}: {json.dumps(found[name])}")
                drop(engine, version_id)
            engine.dispose()
        finally:
            server.release()
    say(as_table(found))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(found, indent=2))


def say(line: str) -> None:
    """Print at once: a long run is watched."""
    print(line, flush=True)


def add_dataset(engine: Engine, n_tiles: int) -> int:
    """A data set of tiles that nobody will read."""
    with Session(engine) as session, session.begin():
        digest = content_sha256(["shard load", n_tiles])
        dataset_id = session.execute(
            text(
                "INSERT INTO datasets (digest, name, root, listing_sha256, n_tiles)"
                " VALUES (:digest, 'load', '/nowhere', :digest, :n) RETURNING dataset_id"
            ),
            {"digest": digest, "n": n_tiles},
        ).scalar_one()
        session.execute(
            text(
                "INSERT INTO tiles (sha256, width_px, height_px)"
                " SELECT encode(sha256(int8send(n)), 'hex'), 224, 224"
                " FROM generate_series(1, :n) AS n"
            ),
            {"n": n_tiles},
        )
        session.execute(
            text(
                "INSERT INTO dataset_tiles (dataset_id, tile_id, path)"
                " SELECT :id, tile_id, tile_id || '.png' FROM tiles"
            ),
            {"id": dataset_id},
        )
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE tiles, dataset_tiles"))
    return int(dataset_id)


def add_version(engine: Engine, number: int, dim: int) -> int:
    """A model version without embeddings."""
    version = ModelVersion(
        network=f"simulated-{number}",
        weights_sha256=content_sha256(number),
        input_px=224,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        interpolation="bicubic",
        pooling="avg",
        precision="float32",
        dim=dim,
        licence="none",
        trained_on="nothing",
    )
    with Session(engine) as session, session.begin():
        return versions.register(session, version)


def vectors_of(ids: NDArray[np.int64], dim: int) -> NDArray[np.float32]:
    """What the simulated network sees in a tile."""
    return 1 + ((ids[:, None] * np.arange(1, dim + 1)) % 101).astype(np.float32)


def work(
    url: str, version_id: int, dataset_id: int, shard: Shard, dim: int, ready: Barrier | None
) -> None:
    """A worker, as ``ffpe embed`` without a network; all begin at once."""
    engine = connect(url)
    if ready is not None:
        ready.wait()
    with Claims(engine, version_id, dataset_id, shard) as claims:
        while claims.take():
            tiles = claims.tiles()
            while batch := [tile.tile_id for tile in islice(tiles, BATCH)]:
                ids = np.asarray(batch, np.int64)
                with Session(engine) as session, session.begin():
                    write_embeddings(session, version_id, ids, vectors_of(ids, dim))
                claims.done(len(batch))
    engine.dispose()


def load(
    engine: Engine,
    url: str,
    version_id: int,
    dataset_id: int,
    n_workers: int,
    n_killed: int,
    shard: Shard | None,
) -> dict[str, object]:
    """Run workers to the end and say how fast they were, and what they waited for."""
    with Session(engine) as session:
        dim, n_tiles = session.execute(
            text(
                "SELECT dim, n_tiles FROM model_versions, datasets"
                " WHERE model_version_id = :v AND dataset_id = :d"
            ),
            {"v": version_id, "d": dataset_id},
        ).one()
    processes = multiprocessing.get_context("spawn")
    shards = [shard or Shard(number + 1, n_workers) for number in range(n_workers)]

    ready = processes.Barrier(n_workers + 1)

    def start(part: Shard, ready: Barrier | None = None) -> BaseProcess:
        worker = processes.Process(
            target=work, args=(url, version_id, dataset_id, part, dim, ready)
        )
        worker.start()
        return worker

    waits: Counter[str] = Counter()
    over = Event()
    watcher = Thread(target=watch, args=(engine, waits, over))
    workers = [start(part, ready) for part in shards]
    ready.wait()  # what it takes to start Python is not what is asked
    started = time.monotonic()
    watcher.start()
    if n_killed:
        while n_written(engine, version_id) < n_tiles // 2:
            time.sleep(0.1)
        for worker in workers[:n_killed]:
            os.kill(worker.pid or 0, signal.SIGKILL)
        workers += [start(part) for part in shards[:n_killed]]
    for worker in workers:
        worker.join()
    seconds = time.monotonic() - started
    over.set()
    watcher.join()
    n_seen = sum(waits.values()) or 1
    return {
        "workers": n_workers,
        "seconds": round(seconds, 1),
        "rows_per_second": round(n_tiles / seconds),
        "claims_per_second": round(n_tiles / BLOCK_TILES / seconds, 1),
        # Of all looks at workers in the middle of a statement.
        "share_waiting_to_write": round(waits["Lock/advisory"] / n_seen, 3),
        "share_waiting_for_a_row": round(
            (waits["Lock/transactionid"] + waits["Lock/tuple"]) / n_seen, 3
        ),
        "share_waiting_for_disk": round(
            sum(n for event, n in waits.items() if event.startswith("IO/")) / n_seen, 3
        ),
    }


def watch(engine: Engine, waits: Counter[str], over: Event) -> None:
    """Look again and again at what statements under way wait for."""
    query = text(
        "SELECT coalesce(wait_event_type || '/' || wait_event, 'running') FROM pg_stat_activity"
        " WHERE state = 'active' AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
    )
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        while not over.wait(SAMPLE_SECONDS):
            waits.update(connection.scalars(query))


def n_written(engine: Engine, version_id: int) -> int:
    """Rows that are committed, by the statistics: counting them would be a load of its own."""
    with Session(engine) as session:
        found = session.execute(
            text("SELECT n_live_tup FROM pg_stat_user_tables WHERE relname = :name"),
            {"name": partition_name(version_id)},
        ).scalar_one_or_none()
    return int(found or 0)


def proof(engine: Engine, version_id: int, n_tiles: int, dim: int) -> dict[str, object]:
    """Every tile has its vector, once, and no claim is left."""
    n_wrong = 0
    n_rows = 0
    with engine.connect() as connection:
        raw = connection.connection.driver_connection
        with raw.cursor("rows", binary=True) as cursor:  # type: ignore[union-attr]
            cursor.execute(f"SELECT tile_id, embedding FROM {partition_name(version_id)}")
            while rows := cursor.fetchmany(20_000):
                ids = np.array([row[0] for row in rows], np.int64)
                found = np.stack([row[1].to_numpy() for row in rows])
                n_wrong += int((found != vectors_of(ids, dim)).any(axis=1).sum())
                n_rows += len(rows)
        n_claims = connection.execute(text("SELECT count(*) FROM embedding_claims")).scalar_one()
    return {
        "n_rows": n_rows,
        "as_one_process": n_rows == n_tiles and n_wrong == 0 and n_claims == 0,
    }


def drop(engine: Engine, version_id: int) -> None:
    """Give the disk back."""
    with engine.begin() as connection:
        name = partition_name(version_id)
        connection.execute(text(f"ALTER TABLE embeddings DETACH PARTITION {name}"))
        connection.execute(text(f"DROP TABLE {name}"))


def as_table(found: dict[str, dict[str, object]]) -> str:
    """The loads as a table in Markdown."""
    columns = list(next(iter(found.values())))
    lines = [
        "| load | " + " | ".join(column.replace("_", " ") for column in columns) + " |",
        "|---" * (len(columns) + 1) + "|",
    ]
    lines += [
        f"| {name} | " + " | ".join(str(row[column]) for column in columns) + " |"
        for name, row in found.items()
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
