"""Similarity search on a real Postgres: right whatever the filter, and it says how."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, func, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from featurestore import schema, versions
from featurestore.datasets import write_dataset
from featurestore.embeddings import matrix, write_embeddings
from featurestore.engine import connect
from featurestore.errors import InputError, StoreError
from featurestore.model_versions import ModelVersion
from featurestore.search import SearchResult, similar
from featurestore.search.codes import (
    build_index,
    code_state,
    load_projection,
    start_codes,
    write_pending_codes,
)
from featurestore.search.projection import fit_projection
from featurestore.search.tiles import BY_CODE, EXACT
from featurestore.sources.tile_folders import TileFile, TileFolder
from featurestore.tables import DatasetTile, Embedding, SearchCode, SearchPending, Tile

FUNCTIONS = Path(__file__).parents[2] / "featurestore" / "functions"
DIM = 24
N_TILES = 2_400
LABELS = ("common", "usual", "rare")


def sha(value: object) -> str:
    return hashlib.sha256(str(value).encode()).hexdigest()


def version(name: str = "net", dim: int = DIM) -> ModelVersion:
    return ModelVersion(
        network=name,
        weights_sha256=sha(name),
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


@dataclass(frozen=True)
class Store:
    """What is in the store: a row a tile, in the order of ``tile_ids``."""

    version_id: int
    tile_ids: np.ndarray
    vectors: np.ndarray
    labels: np.ndarray
    patients: np.ndarray

    def nearest(self, tile_id: int, k: int, wanted: np.ndarray) -> list[float]:
        """Distances of the k nearest by brute force."""
        units = self.vectors / np.linalg.norm(self.vectors, axis=1, keepdims=True)
        distances = 1 - units @ units[self.tile_ids == tile_id][0]
        return sorted(distances[wanted & (self.tile_ids != tile_id)])[:k]


def fill(session: Session, n: int, *, dim: int = DIM, seed: int = 1, name: str = "net") -> Store:
    rng = np.random.default_rng(seed)
    labels = rng.choice(LABELS, n, p=[0.55, 0.43, 0.02])
    # Some tiles carry no patient; the others belong to sites 01 to 04.
    numbers = rng.integers(0, 60, n)
    patients = [None if p < 6 else f"TCGA-0{p % 4 + 1}-{p:04d}" for p in numbers]
    tiles = tuple(
        TileFile(f"{label}/{i}.png", label, sha((name, i)), 224, 224, patient)
        for i, (label, patient) in enumerate(zip(labels, patients, strict=True))
    )
    written = write_dataset(session, TileFolder(Path("/tissue/set"), tiles, (), sha(n)), mpp=0.5)
    version_id = versions.register(session, version(name, dim))
    rows = session.execute(
        select(Tile.tile_id, DatasetTile.label, Tile.patient_id)
        .join(DatasetTile, DatasetTile.tile_id == Tile.tile_id)
        .where(DatasetTile.dataset_id == written.dataset_id)
        .order_by(Tile.tile_id)
    ).all()
    tile_ids = np.array([row.tile_id for row in rows])
    centres = rng.normal(size=(8, dim))
    vectors = centres[rng.integers(0, 8, n)] + 0.7 * rng.normal(size=(n, dim))
    write_embeddings(session, version_id, tile_ids, vectors.astype(np.float32))
    return Store(
        version_id,
        tile_ids,
        matrix(session, version_id, tile_ids.tolist()),
        np.array([row.label for row in rows]),
        np.array([row.patient_id for row in rows], dtype=object),
    )


def code_all(session: Session, version_id: int) -> None:
    start_codes(session, version_id, seed=7)
    while write_pending_codes(session, version_id, limit=1_000):
        pass
    build_index(session, version_id)


@pytest.fixture(scope="module")
def store(postgres_url: str):
    """A store large enough for codes to be used, in a database that no other test waits for."""
    admin = connect(postgres_url)
    with admin.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("CREATE DATABASE search_tests"))
    engine = connect(admin.url.set(database="search_tests"))
    schema.upgrade(engine)
    with Session(engine) as session:
        filled = fill(session, N_TILES)
        code_all(session, filled.version_id)
        session.commit()
        yield session, filled
    engine.dispose()
    with admin.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("DROP DATABASE search_tests WITH (FORCE)"))
    admin.dispose()


def check(found: SearchResult, expected: list[float]) -> None:
    distances = [hit.distance for hit in found.hits]
    assert len(distances) == len(expected)
    assert [hit.rank for hit in found.hits] == list(range(1, len(expected) + 1))
    assert len({hit.tile_id for hit in found.hits}) == len(expected)
    assert distances == sorted(distances)
    if found.how == EXACT:
        np.testing.assert_allclose(distances, expected, atol=2e-6)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    query=st.integers(0, N_TILES - 1),
    k=st.integers(1, 3_000),
    label=st.sampled_from([None, *LABELS, "no such class"]),
    patient=st.sampled_from([None, None, "TCGA-03-0010", "nobody"]),
    exact=st.booleans(),
    others=st.booleans(),
)
def test_as_many_as_exist_all_wanted_in_order(
    store, query: int, k: int, label: str | None, patient: str | None, exact: bool, others: bool
) -> None:
    session, known = store
    tile_id, own = int(known.tile_ids[query]), known.patients[query]
    others = others and own is not None
    wanted = np.ones(N_TILES, bool)
    if label is not None:
        wanted &= known.labels == label
    if patient is not None:
        wanted &= known.patients == patient
    if others:
        wanted &= (known.patients != own) & (known.patients != None)  # noqa: E711
    found = similar(
        session,
        model_version_id=known.version_id,
        tile_id=tile_id,
        k=k,
        label=label,
        patient=patient,
        exclude_same_patient=others,
        exact=exact,
    )
    check(found, known.nearest(tile_id, k, wanted))
    chosen = [np.flatnonzero(known.tile_ids == hit.tile_id)[0] for hit in found.hits]
    assert wanted[chosen].all()
    assert query not in chosen
    for row, hit in zip(chosen, found.hits, strict=True):
        assert (hit.label, hit.patient_id) == (known.labels[row], known.patients[row])
    if exact:
        assert found.how == EXACT


def test_codes_find_what_brute_force_finds(store) -> None:
    session, known = store
    recalls, hows = [], set()
    for tile_id in known.tile_ids[:100].tolist():
        found = similar(session, model_version_id=known.version_id, tile_id=tile_id, k=10)
        true = known.nearest(tile_id, 10, np.ones(N_TILES, bool))
        recalls.append(np.mean([hit.distance <= true[-1] + 2e-6 for hit in found.hits]))
        hows.add(found.how)
    assert hows == {BY_CODE}
    assert np.mean(recalls) >= 0.99


def test_a_common_filter_uses_codes_and_a_rare_one_compares_all(store) -> None:
    session, known = store
    tile_id = int(known.tile_ids[0])

    def how(**options: object) -> str:
        return similar(
            session,
            model_version_id=known.version_id,
            tile_id=tile_id,
            **options,  # type: ignore[arg-type]
        ).how

    assert how() == BY_CODE
    assert how(exclude_same_site=known.patients[0] is not None) in (BY_CODE, EXACT)
    assert how(label="rare") == EXACT
    assert how(k=251) == EXACT


def test_a_hit_says_where_it_is_from(store) -> None:
    session, known = store
    found = similar(session, model_version_id=known.version_id, tile_id=int(known.tile_ids[0]), k=1)
    (hit,) = found.hits
    row = int(np.flatnonzero(known.tile_ids == hit.tile_id)[0])
    assert hit.dataset == "tissue/set"
    assert hit.path is not None
    assert hit.path.startswith(f"{known.labels[row]}/")
    assert (hit.mpp, hit.width_px, hit.slide, hit.x_px) == (0.5, 224, None, None)
    assert hit.site == (None if hit.patient_id is None else hit.patient_id[5:7])
    assert (found.n_uncoded, found.k, found.tile_id) == (0, 1, int(known.tile_ids[0]))


def test_sql_gives_what_python_gives(store) -> None:
    session, known = store
    tile_id = int(known.tile_ids[5])
    found = similar(session, model_version_id=known.version_id, tile_id=tile_id, k=7, label="usual")
    rows = session.execute(
        text(
            "SELECT tile_id, distance, how FROM similar_tiles(tile_id => :tile,"
            " model_version_id => :version, k => 7, label => 'usual')"
        ),
        {"tile": tile_id, "version": known.version_id},
    ).all()
    assert [(row.tile_id, row.distance) for row in rows] == [
        (hit.tile_id, hit.distance) for hit in found.hits
    ]
    assert {row.how for row in rows} == {found.how}


def test_settings_of_the_session_are_as_they_were(store) -> None:
    session, known = store
    session.execute(text("SET LOCAL hnsw.ef_search = 55"))
    similar(session, model_version_id=known.version_id, tile_id=int(known.tile_ids[0]), k=200)
    shown = [
        session.execute(text(f"SHOW {name}")).scalar_one()
        for name in ("hnsw.ef_search", "enable_sort", "hnsw.iterative_scan")
    ]
    assert shown == ["55", "on", "off"]


def test_a_vector_finds_its_own_tile_first(store) -> None:
    session, known = store
    for row in (0, 17):
        vector = known.vectors[row]
        found = similar(session, model_version_id=known.version_id, vector=vector, k=3)
        assert found.hits[0].tile_id == known.tile_ids[row]
        assert found.hits[0].distance == pytest.approx(0, abs=1e-6)
        assert found.how == BY_CODE
        assert found.tile_id is None


def test_a_tile_embedded_later_is_found_at_once_and_coded_later(store) -> None:
    session, known = store
    with session.begin_nested() as savepoint:
        late = TileFolder(
            Path("/t/late"), (TileFile("x/1.png", "x", sha("l"), 64, 64, None),), (), sha(0)
        )
        write_dataset(session, late, mpp=None)
        tile_id = session.scalars(select(Tile.tile_id).where(Tile.sha256 == sha("l"))).one()
        close = known.vectors[:1] * 2 + 0.001
        write_embeddings(session, known.version_id, np.array([tile_id]), close)
        query = int(known.tile_ids[0])
        found = similar(session, model_version_id=known.version_id, tile_id=query, k=5)
        assert (found.hits[0].tile_id, found.how, found.n_uncoded) == (tile_id, BY_CODE, 1)
        # The late tile itself has no code yet and is searched with exactly.
        itself = similar(session, model_version_id=known.version_id, tile_id=tile_id, k=1)
        assert (itself.hits[0].tile_id, itself.how) == (query, EXACT)
        assert write_pending_codes(session, known.version_id) == 1
        found = similar(session, model_version_id=known.version_id, tile_id=query, k=5)
        assert (found.hits[0].tile_id, found.n_uncoded) == (tile_id, 0)
        savepoint.rollback()


def test_a_tile_in_two_data_sets_is_one_hit_that_names_the_one_asked_for(session: Session) -> None:
    known = fill(session, 30, dim=3)
    shared = session.scalars(
        select(Tile.sha256).where(Tile.tile_id.in_(known.tile_ids.tolist()))
    ).all()
    other = TileFolder(
        Path("/tissue/other"),
        tuple(
            TileFile(f"b/{i}.png", "b", digest, 224, 224, None) for i, digest in enumerate(shared)
        ),
        (),
        sha("other"),
    )
    write_dataset(session, other, mpp=0.5)
    query = int(known.tile_ids[0])

    def search(**options: object) -> SearchResult:
        return similar(session, model_version_id=known.version_id, tile_id=query, k=99, **options)  # type: ignore[arg-type]

    assert {(hit.dataset, hit.label) for hit in search().hits} == {("tissue/other", "b")}
    assert len(search().hits) == 29
    first = search(dataset="tissue/set")
    assert {hit.dataset for hit in first.hits} == {"tissue/set"}
    assert {hit.label for hit in search(label="usual").hits} == {"usual"}
    assert search(dataset="tissue/other", label="usual").hits == ()
    assert search(dataset="nothing").hits == ()


def test_zero_vectors_are_nobodys_neighbours_and_no_query(session: Session) -> None:
    known = fill(session, 20, dim=3)
    black = TileFolder(
        Path("/t/z"), (TileFile("x/1.png", "x", sha("z"), 64, 64, None),), (), sha(3)
    )
    write_dataset(session, black, mpp=None)
    tile_id = session.scalars(select(Tile.tile_id).where(Tile.sha256 == sha("z"))).one()
    write_embeddings(session, known.version_id, np.array([tile_id]), np.zeros((1, 3), np.float32))
    query = int(known.tile_ids[0])
    found = similar(session, model_version_id=known.version_id, tile_id=query, k=99)
    assert len(found.hits) == 19
    code_all(session, known.version_id)
    state = code_state(session, known.version_id)
    assert (state.n_embeddings, state.n_codes, state.n_pending) == (21, 20, 0)
    assert state.current
    with pytest.raises(InputError, match=f"all features of tile {tile_id} are zero"):
        similar(session, model_version_id=known.version_id, tile_id=tile_id)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_the_smallest_stores(session: Session, n: int) -> None:
    known = fill(session, n, dim=3)
    code_all(session, known.version_id)
    found = similar(session, model_version_id=known.version_id, tile_id=int(known.tile_ids[0]))
    assert len(found.hits) == n - 1


INJECTION = "'; DROP TABLE tiles; --"


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"tile_id": 0}, StoreError, "holds no tile 0"),
        ({"tile_id": 2**70}, StoreError, "holds no tile"),
        ({"tile_id": None}, InputError, "exactly one"),
        ({"k": 0}, InputError, "k = 0"),
        ({"k": -5}, InputError, "at least 1"),
        ({"label": ""}, InputError, "label is empty"),
        ({"label": "a\0b"}, InputError, "characters"),
        ({"patient": "\ud800"}, InputError, "characters"),
        ({"model_version_id": 10**9}, StoreError, "no model version"),
        ({"tile_id": None, "vector": np.ones(3)}, InputError, "shape"),
        ({"tile_id": None, "vector": np.full(DIM, np.nan)}, InputError, "NaN"),
        ({"tile_id": None, "vector": np.full(DIM, 1e6)}, InputError, "too large"),
        ({"tile_id": None, "vector": np.zeros(DIM)}, InputError, "zero"),
        (
            {"tile_id": None, "vector": np.ones(DIM), "exclude_same_patient": True},
            InputError,
            "patient of an image is unknown",
        ),
    ],
)
def test_bad_questions_are_refused(store, options, error, message) -> None:
    session, known = store
    asked = {"model_version_id": known.version_id, "tile_id": int(known.tile_ids[0])} | options
    with pytest.raises(error, match=message):
        similar(session, **asked)
    assert session.execute(select(func.count()).select_from(Embedding)).scalar_one()


@pytest.mark.parametrize("field", ["label", "dataset", "patient"])
def test_sql_in_a_text_is_a_text(store, field: str) -> None:
    session, known = store
    for value in (INJECTION, "$1", "%s", "x' OR '1'='1", ":k", "{}", "\\"):
        found = similar(
            session,
            model_version_id=known.version_id,
            tile_id=int(known.tile_ids[0]),
            **{field: value},
        )
        assert found.hits == ()
    assert session.execute(select(func.count()).select_from(Tile)).scalar_one() >= N_TILES


def test_the_own_patient_is_not_left_out_where_it_is_unknown(store) -> None:
    session, known = store
    nobody = int(known.tile_ids[[p is None for p in known.patients]][0])
    with pytest.raises(InputError, match=f"the patient of tile {nobody} is unknown"):
        similar(
            session, model_version_id=known.version_id, tile_id=nobody, exclude_same_patient=True
        )
    with session.begin_nested() as savepoint:
        with pytest.raises(DBAPIError, match="the patient of tile .* is unknown"):
            session.execute(
                text("SELECT * FROM similar_tiles(:t, :v, exclude_same_patient => true)"),
                {"t": nobody, "v": known.version_id},
            )
        savepoint.rollback()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("similar_tiles(1, 1, k => 0)", "no embedding|k = 0"),
        ("similar_tiles(NULL, NULL)", "no embedding"),
        ("search_tiles(987654321, '[1]', NULL)", "no model version 987654321"),
        ("search_tiles(NULL, '[1]', NULL)", "no model version"),
        ("search_tiles({v}, '[1]', NULL, k => 0)", "k = 0"),
        ("search_tiles({v}, '[1]', NULL, k => NULL)", "k = <NULL>"),
        ("search_tiles({v}, NULL, NULL)", "empty or zero"),
        ("search_tiles({v}, '[1]', NULL)", "different halfvec dimensions"),
    ],
)
def test_sql_refuses_bad_questions(store, call: str, message: str) -> None:
    session, known = store
    with session.begin_nested() as savepoint:
        with pytest.raises(DBAPIError, match=message):
            session.execute(text("SELECT * FROM " + call.format(v=known.version_id)))
        savepoint.rollback()


def test_a_reader_may_search(store) -> None:
    session, known = store
    with session.begin_nested() as savepoint:
        session.execute(text("CREATE ROLE search_reader NOLOGIN"))
        session.execute(text("GRANT SELECT ON ALL TABLES IN SCHEMA public TO search_reader"))
        session.execute(text("SET LOCAL ROLE search_reader"))
        session.execute(text("SET LOCAL transaction_read_only = on"))
        found = similar(session, model_version_id=known.version_id, tile_id=int(known.tile_ids[3]))
        assert len(found.hits) == 20
        savepoint.rollback()


def test_an_outgrown_projection_says_so_and_starting_again_repeats(session: Session) -> None:
    known = fill(session, 40)
    first = start_codes(session, known.version_id, seed=7)
    assert len(first.components) == DIM
    assert not code_state(session, known.version_id).current
    assert write_pending_codes(session, known.version_id, limit=25) == 25
    assert write_pending_codes(session, known.version_id, limit=25) == 15
    build_index(session, known.version_id)
    assert code_state(session, known.version_id).current
    again = start_codes(session, known.version_id, seed=7)
    np.testing.assert_array_equal(first.components, again.components)
    assert code_state(session, known.version_id).n_pending == 40
    stored = load_projection(session, known.version_id)
    assert stored is not None
    np.testing.assert_array_equal(stored.mean, first.mean)


def test_codes_go_with_their_embeddings(session: Session) -> None:
    known = fill(session, 10)
    start_codes(session, known.version_id, seed=7)
    write_pending_codes(session, known.version_id, limit=5)
    session.execute(
        text("DELETE FROM embeddings WHERE model_version_id = :v"), {"v": known.version_id}
    )
    for table in (SearchCode, SearchPending):
        of_version = table.model_version_id == known.version_id
        assert session.scalar(select(func.count()).select_from(table).where(of_version)) == 0


def test_a_version_without_embeddings_has_no_projection(session: Session) -> None:
    version_id = versions.register(session, version("empty"))
    with pytest.raises(StoreError, match="embed tiles first"):
        start_codes(session, version_id, seed=7)
    with pytest.raises(StoreError, match="no tile has an embedding"):
        similar(session, model_version_id=version_id, vector=np.ones(DIM))
    assert code_state(session, version_id).current


@given(st.integers(2, 40), st.integers(2, 30), st.integers(0, 2**32 - 1))
def test_a_projection_shortens_and_keeps_all_where_it_may(n: int, dim: int, seed: int) -> None:
    vectors = np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32)
    projection = fit_projection(vectors)
    kept = projection.components
    np.testing.assert_allclose(kept @ kept.T, np.eye(len(kept)), atol=1e-4)
    codes = projection.codes(vectors)
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    true = np.square(units[:, None] - units[None]).sum(axis=2)
    coded = np.square(codes[:, None] - codes[None]).sum(axis=2)
    assert (coded <= true + 1e-4).all()
    # The sample itself loses nothing as long as there are as many components as it needs.
    np.testing.assert_allclose(coded, true, atol=1e-4)
    assert projection.explained_variance == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("name", ["await_search_code", "similar_tiles"])
def test_functions_are_as_their_files_say(empty_engine: Engine, name: str) -> None:
    schema.upgrade(empty_engine)

    def described(session: Session) -> list[tuple[str, ...]]:
        return [
            tuple(row)
            for row in session.execute(
                text(
                    "SELECT proname, pg_get_functiondef(oid), obj_description(oid) FROM pg_proc"
                    " WHERE proname IN ('await_search_code', 'search_tiles', 'similar_tiles')"
                    " ORDER BY proname"
                )
            )
        ]

    with Session(empty_engine) as session:
        migrated = described(session)
        assert len(migrated) == 3
        if name == "similar_tiles":
            for drop in ("FUNCTION similar_tiles", "FUNCTION search_tiles", "TYPE tile_hit"):
                session.execute(text(f"DROP {drop}"))
        else:
            session.execute(text("DROP FUNCTION await_search_code()"))
        statements = (FUNCTIONS / f"{name}.sql").read_text().replace("%", "%%")
        session.connection().exec_driver_sql(statements)
        assert [_dedented(row) for row in described(session)] == [_dedented(r) for r in migrated]


def _dedented(row: tuple[str, ...]) -> tuple[str, ...]:
    # The migration's text is indented as a whole.
    return tuple("\n".join(line.strip() for line in str(part).splitlines()) for part in row)
