"""Claims on a real Postgres: shared, lost, waited for, and never in the way of anybody."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, func, select, text
from sqlalchemy.orm import Session

from featurestore import claims as claims_module
from featurestore import schema, versions
from featurestore.claims import BLOCK_TILES, WHOLE, Claims, Shard, n_waiting
from featurestore.datasets import write_dataset
from featurestore.embeddings import embedded_tiles, write_embeddings
from featurestore.errors import InputError
from featurestore.model_versions import ModelVersion
from featurestore.sources.tile_folders import TileFile, TileFolder
from featurestore.tables import EmbeddingClaim

N_TILES = 5 * BLOCK_TILES + 7
N_BLOCKS = 6


def sha(text_: object) -> str:
    return hashlib.sha256(str(text_).encode()).hexdigest()


@pytest.fixture(scope="module")
def store(module_engine: Engine) -> Engine:
    schema.upgrade(module_engine)
    return module_engine


@pytest.fixture(scope="module")
def dataset_id(store: Engine) -> int:
    tiles = tuple(TileFile(f"a/{n}.png", "a", sha(n), 8, 8, None) for n in range(N_TILES))
    with Session(store) as session, session.begin():
        folder = TileFolder(Path("/tissue"), tiles, (), sha("listing"))
        return write_dataset(session, folder, mpp=None).dataset_id


_n_versions = iter(range(1_000_000))


def new_version(store: Engine) -> int:
    """A model version that has embedded nothing yet."""
    version = ModelVersion(
        network="net",
        weights_sha256=sha(("weights", next(_n_versions))),
        input_px=8,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        interpolation="bicubic",
        pooling="avg",
        precision="float32",
        dim=3,
        licence="none",
        trained_on="nothing",
    )
    with Session(store) as session, session.begin():
        return versions.register(session, version)


@pytest.fixture
def version_id(store: Engine) -> int:
    return new_version(store)


def write(store: Engine, version_id: int, tile_ids: list[int]) -> int:
    """Store vectors that follow from the tile, as a network's would."""
    ids = np.asarray(tile_ids, np.int64)
    with Session(store) as session, session.begin():
        return write_embeddings(session, version_id, ids, vectors_of(ids))


def vectors_of(ids: np.ndarray) -> np.ndarray:
    return np.stack([ids % 7, ids % 11, ids % 13], axis=1).astype(np.float32) + 1


def work(store: Engine, version_id: int, dataset_id: int, shard: Shard = WHOLE) -> list[int]:
    """A worker from beginning to end; returns the tiles that it computed."""
    done: list[int] = []
    with Claims(store, version_id, dataset_id, shard) as claims:
        while claims.take():
            tiles = claims.tiles()
            while batch := [tile.tile_id for tile in islice(tiles, 100)]:
                write(store, version_id, batch)
                claims.done(len(batch))
                done += batch
    return done


def n_embedded(store: Engine, version_id: int, dataset_id: int) -> int:
    with Session(store) as session:
        return len(embedded_tiles(session, version_id, dataset_id))


def n_rows(store: Engine, version_id: int, dataset_id: int) -> int:
    with Session(store) as session:
        return n_waiting(session, version_id, dataset_id)


@given(st.integers(0, 10_000_000), st.integers(1, 500))
def test_shards_are_a_partition_into_equal_parts(n_tiles: int, of: int) -> None:
    parts = [Shard(number, of).blocks(n_tiles) for number in range(1, of + 1)]
    assert parts[0].start == 0
    assert parts[-1].stop * BLOCK_TILES >= n_tiles
    assert parts[-1].stop == WHOLE.blocks(n_tiles).stop
    assert all(left.stop == right.start for left, right in pairwise(parts))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("text_", ["", "3", "3/", "/8", "0/8", "9/8", "-1/8", "1/0", "a/b"])
def test_what_is_no_shard_is_said_so(text_: str) -> None:
    with pytest.raises(InputError, match="expected NUMBER/OF"):
        Shard.parse(text_)


def test_a_shard_reads_as_it_is_written() -> None:
    assert Shard.parse("3/8") == Shard(3, 8)
    assert str(Shard(3, 8)) == "3/8"


def test_one_worker_gets_every_tile_once_in_order_and_leaves_no_row(
    store: Engine, version_id: int, dataset_id: int
) -> None:
    done = work(store, version_id, dataset_id)
    assert done == sorted(set(done))
    assert len(done) == N_TILES
    assert n_rows(store, version_id, dataset_id) == 0
    assert work(store, version_id, dataset_id) == []


def test_shards_together_are_the_whole_and_each_is_its_own_part(
    store: Engine, version_id: int, dataset_id: int
) -> None:
    parts = [work(store, version_id, dataset_id, Shard(n, 4)) for n in (3, 1, 4, 2)]
    assert sorted(tile for part in parts for tile in part) == work_of_all(store, dataset_id)
    assert max(map(len, parts)) <= 2 * BLOCK_TILES
    assert n_embedded(store, version_id, dataset_id) == N_TILES


def work_of_all(store: Engine, dataset_id: int) -> list[int]:
    with Session(store) as session:
        return sorted(
            session.scalars(
                text("SELECT tile_id FROM dataset_tiles WHERE dataset_id = :id"), {"id": dataset_id}
            )
        )


def test_more_shards_than_blocks_leave_some_with_nothing(
    store: Engine, version_id: int, dataset_id: int
) -> None:
    parts = [work(store, version_id, dataset_id, Shard(n, 10)) for n in range(1, 11)]
    assert sum(map(len, parts)) == N_TILES
    assert [] in parts


def test_workers_at_once_share_and_compute_no_tile_twice(
    store: Engine, version_id: int, dataset_id: int
) -> None:
    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(lambda _: work(store, version_id, dataset_id), range(4)))
    computed = [tile for part in parts for tile in part]
    assert len(computed) == len(set(computed)) == N_TILES
    assert n_rows(store, version_id, dataset_id) == 0


def test_only_what_is_missing_of_a_block_is_given_out(
    store: Engine, version_id: int, dataset_id: int
) -> None:
    every = work_of_all(store, dataset_id)
    write(store, version_id, every[:300])
    with Claims(store, version_id, dataset_id) as claims:
        assert claims.n_missing == N_TILES - 300
        assert claims.take()
        assert next(claims.tiles()).tile_id == every[300]
    assert work(store, version_id, dataset_id) == every[300:]


WORKER = """
import sys
from featurestore import claims as claims_module
from featurestore.claims import Claims
from featurestore.engine import connect
url, version_id, dataset_id = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
claims = Claims(connect(url), version_id, dataset_id)
claims_module._QUICK_SECONDS = 0  # one block a claim
assert claims.take()
tiles = claims.tiles()
print(len([next(tiles) for _ in range(300)]), flush=True)  # so that two blocks are held
sys.stdin.read()
"""


@pytest.fixture
def holder(store: Engine, version_id: int, dataset_id: int) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the first two blocks."""
    url = store.url.render_as_string(hide_password=False)
    process = subprocess.Popen(
        [sys.executable, "-c", WORKER, url, str(version_id), str(dataset_id)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "300\n"
    yield process
    process.kill()
    process.communicate()


def test_blocks_of_a_killed_process_are_free_at_once(
    store: Engine, version_id: int, dataset_id: int, holder: subprocess.Popen[str]
) -> None:
    every = work_of_all(store, dataset_id)
    with Claims(store, version_id, dataset_id) as claims:
        assert claims.take()
        others = [tile.tile_id for tile in claims.tiles()]
        assert others == every[2 * BLOCK_TILES :]
        write(store, version_id, others)
        claims.done(len(others))

        os.kill(holder.pid, signal.SIGKILL)
        started = time.monotonic()
        assert claims.take()
        assert time.monotonic() - started < 5
        assert [tile.tile_id for tile in claims.tiles()] == every[: 2 * BLOCK_TILES]


def test_a_process_that_hangs_keeps_its_blocks_for_a_limited_time(
    store: Engine, version_id: int, dataset_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = claims_module._LIMITS | {"idle_in_transaction_session_timeout": "300ms"}
    monkeypatch.setattr(claims_module, "_LIMITS", limits)
    with Claims(store, version_id, dataset_id) as hung:
        assert hung.take()
        mine = [tile.tile_id for tile in islice(hung.tiles(), BLOCK_TILES)]
        time.sleep(1)
        assert len(work(store, version_id, dataset_id)) == N_TILES
        # It wakes up, stores what it has (which is there already), and finds nothing more to do.
        assert write(store, version_id, mine) == 0
        hung.done(len(mine))
        assert not hung.take()
    assert n_rows(store, version_id, dataset_id) == 0


def end_sessions(store: Engine) -> int:
    """End the sessions that hold claims, as the server does with those that say nothing."""
    with store.connect() as connection:
        return len(
            connection.scalars(
                text(
                    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND state = 'idle in transaction'"
                    " AND pid <> pg_backend_pid()"
                )
            ).all()
        )


def test_whose_session_was_ended_leaves_without_a_word(
    store: Engine, version_id: int, dataset_id: int
) -> None:
    with Claims(store, version_id, dataset_id) as claims:
        assert claims.take()
        assert end_sessions(store) == 1
    assert len(work(store, version_id, dataset_id)) == N_TILES


def test_a_block_that_was_lost_is_not_given_out_again_while_it_is_worked_on(
    store: Engine, version_id: int, dataset_id: int
) -> None:
    with Claims(store, version_id, dataset_id) as claims:
        assert claims.take()
        tiles = claims.tiles()
        computed = [tile.tile_id for tile in islice(tiles, 10)]
        assert end_sessions(store) == 1
        computed += [tile.tile_id for tile in tiles]
        assert computed == work_of_all(store, dataset_id)
        write(store, version_id, computed)
        claims.done(len(computed))
        assert not claims.take()  # the lost one is struck out, since it lacks nothing
    assert n_rows(store, version_id, dataset_id) == 0


def test_whoever_has_nothing_left_waits_for_the_others(
    store: Engine, version_id: int, dataset_id: int
) -> None:
    with Claims(store, version_id, dataset_id) as slow, ThreadPoolExecutor(1) as pool:
        assert slow.take()
        mine = [tile.tile_id for tile in islice(slow.tiles(), BLOCK_TILES)]
        quick = pool.submit(work, store, version_id, dataset_id)
        deadline = time.monotonic() + 60
        while n_embedded(store, version_id, dataset_id) < N_TILES - BLOCK_TILES:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        time.sleep(0.2)
        assert not quick.done()
        write(store, version_id, mine)
        slow.done(len(mine))
        assert len(quick.result(timeout=30)) == N_TILES - BLOCK_TILES
    assert n_embedded(store, version_id, dataset_id) == N_TILES


def test_whoever_is_quick_claims_more_at_once(
    store: Engine, version_id: int, dataset_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def n_claims() -> int:
        with Claims(store, version_id, dataset_id) as claims:
            assert claims.take()
            assert len(list(claims.tiles())) == N_TILES
            return len(claims._held)

    assert n_claims() == 3  # one block, two, and the three that are left
    monkeypatch.setattr(claims_module, "_QUICK_SECONDS", 0)
    assert n_claims() == N_BLOCKS


def test_an_error_lets_go_of_everything(store: Engine, version_id: int, dataset_id: int) -> None:
    def fail() -> None:
        with Claims(store, version_id, dataset_id) as claims:
            assert claims.take()
            next(claims.tiles())
            raise ValueError("the network is gone")

    with pytest.raises(ValueError, match="network is gone"):
        fail()
    assert len(work(store, version_id, dataset_id)) == N_TILES


def test_rows_that_a_dead_process_left_over_are_cleared(
    store: Engine, version_id: int, dataset_id: int
) -> None:
    with Claims(store, version_id, dataset_id):
        assert n_rows(store, version_id, dataset_id) == N_BLOCKS
    write(store, version_id, work_of_all(store, dataset_id))
    assert work(store, version_id, dataset_id) == []
    assert n_rows(store, version_id, dataset_id) == 0


def test_a_data_set_takes_its_claims_along(store: Engine, version_id: int) -> None:
    tiles = (TileFile("a/1.png", "a", sha("alone"), 8, 8, None),)
    with Session(store) as session, session.begin():
        folder = TileFolder(Path("/other"), tiles, (), sha("other"))
        alone = write_dataset(session, folder, mpp=None).dataset_id
    with Claims(store, version_id, alone), Session(store) as session, session.begin():
        session.execute(text("DELETE FROM datasets WHERE dataset_id = :id"), {"id": alone})
        left = select(func.count()).where(EmbeddingClaim.dataset_id == alone)
        assert session.scalar(left) == 0


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.integers(0, 2), st.sampled_from(["work", "work", "work", "die"]), st.integers(1, 300)
        ),
        max_size=25,
    )
)
def test_no_order_of_work_and_deaths_gives_a_tile_to_two_or_loses_one(
    store: Engine, dataset_id: int, steps: list[tuple[int, str, int]]
) -> None:
    version_id = new_version(store)
    workers: dict[int, tuple[Claims, Iterator[object]]] = {}
    given_out: dict[int, set[int]] = {0: set(), 1: set(), 2: set()}
    for number, what, n_tiles in steps:
        if what == "die":
            if number in workers:
                workers.pop(number)[0].__exit__()
            given_out[number] = set()
            continue
        if number not in workers:
            claims = Claims(store, version_id, dataset_id)
            if not claims._next(wait=False):  # `take` would wait for another of this very thread
                continue
            workers[number] = (claims, claims.tiles())
        claims, tiles = workers[number]
        batch = [tile.tile_id for tile in islice(tiles, n_tiles)]  # type: ignore[attr-defined]
        given_out[number] |= set(batch)
        assert sum(map(len, given_out.values())) == len(set().union(*given_out.values()))
        write(store, version_id, batch)
        claims.done(len(batch))
    for claims, _ in workers.values():
        claims.__exit__()
    work(store, version_id, dataset_id)
    assert n_embedded(store, version_id, dataset_id) == N_TILES
    assert n_rows(store, version_id, dataset_id) == 0
