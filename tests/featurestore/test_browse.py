"""Looking around in the store: data sets and samples of them, small and large."""

from __future__ import annotations

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from featurestore.browse import data_set, data_set_ids, sample_tiles, tile_facts

N_TILES = 12_000


@pytest.fixture
def large(session: Session) -> int:
    """A data set of many tiles of two classes, the tiles of another one between its own."""
    session.execute(
        text(
            "INSERT INTO tiles (sha256, width_px, height_px)"
            " SELECT encode(sha256(n::text::bytea), 'hex'), 4091, 8"
            " FROM generate_series(1, :n) AS n"
        ),
        {"n": N_TILES},
    )
    dataset_id = session.execute(
        text(
            "INSERT INTO datasets (digest, name, root, listing_sha256, n_tiles)"
            " VALUES (repeat('a', 64), 'large', '/large', repeat('b', 64), :n)"
            " RETURNING dataset_id"
        ),
        {"n": N_TILES // 2},
    ).scalar_one()
    session.execute(
        text(
            "INSERT INTO dataset_tiles (dataset_id, tile_id, label, path)"
            " SELECT :dataset_id, tile_id, CASE WHEN rank % 200 = 0 THEN 'rare' ELSE 'common' END,"
            "        rank || '.png'"
            " FROM (SELECT tile_id, row_number() OVER (ORDER BY tile_id) AS rank FROM tiles"
            "        WHERE width_px = 4091) AS numbered WHERE rank % 2 = 0"
        ),
        {"dataset_id": dataset_id},
    )
    return int(dataset_id)


def test_a_large_data_set_gives_distinct_tiles_of_its_own_and_others_by_another_seed(
    session: Session, large: int
) -> None:
    first = sample_tiles(session, large, None, n=50, seed=1)
    assert len(first) == len(set(first)) == 50
    assert sample_tiles(session, large, None, n=50, seed=1) == first
    assert len(set(first) & set(sample_tiles(session, large, None, n=50, seed=2))) < 10
    members = set(
        session.scalars(
            text("SELECT tile_id FROM dataset_tiles WHERE dataset_id = :id"), {"id": large}
        )
    )
    assert {tile_id for tile_id, _ in first} <= members
    # Drawn from all of it, not from one end.
    ids = sorted(tile_id for tile_id, _ in first)
    assert ids[0] < min(members) + N_TILES / 5
    assert ids[-1] > max(members) - N_TILES / 5


def test_a_rare_class_is_drawn_whole(session: Session, large: int) -> None:
    rare = sample_tiles(session, large, None, label="rare", n=100)
    assert len(rare) == N_TILES // 200
    assert {label for _, label in rare} == {"rare"}
    assert len(sample_tiles(session, large, None, label="rare", n=7)) == 7
    assert sample_tiles(session, large, None, label="'; DROP TABLE tiles") == []


def test_a_data_set_says_what_it_holds(session: Session, large: int) -> None:
    assert data_set_ids(session)[0] == large
    found = data_set(session, large)
    assert found is not None
    assert (found.name, found.n_tiles, found.n_slides) == ("large", N_TILES // 2, 0)
    assert found.labels == ("common", "rare")
    assert data_set(session, large + 1) is None
    assert tile_facts(session, 2**40) is None
