"""Search codes in the store: fitting a projection, coding what waits, and the index.

A model version without a projection is searched exactly. :func:`start_codes` gives it one and
lets every embedding wait for its code; :func:`write_pending_codes` codes a batch of those that
wait; :func:`build_index` ends the first filling. Each is a step of its own for the caller to
commit, so that a killed run goes on where it was and search is right at every moment between.
Embeddings that come later wait, too: a trigger on the version's partition, created with its
projection, enters them (``functions/await_search_code.sql``).
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
from sqlalchemy import ARRAY, BigInteger, any_, delete, func, literal, select, text
from sqlalchemy.orm import Session

from featurestore.copy_arrays import copy_arrays
from featurestore.embeddings import matrix
from featurestore.errors import StoreError
from featurestore.search.code_tables import (
    code_partition,
    create_partition,
    create_trigger,
    index_name,
    lock_embeddings,
)
from featurestore.search.projection import Projection, fit_projection
from featurestore.tables import (
    Embedding,
    ModelVersionRow,
    SearchCode,
    SearchPending,
    SearchProjection,
    Tile,
)

SAMPLE_SIZE = 10_000
BATCH = 4_096
# Embeddings of more features than this would need too large a matrix for so large a sample.
_MANY_FEATURES = 4_096
_CODE_COLUMNS = [("model_version_id", "int8"), ("tile_id", "int8"), ("code", "halfvec")]


@dataclass(frozen=True, slots=True)
class Fit:
    """What a projection was fitted on; the attributes are columns of ``search_projections``."""

    code_dim: int
    n_sample: int
    n_at_fit: int
    seed: int
    explained_variance: float


@dataclass(frozen=True, slots=True)
class CodeState:
    """How far a model version's search codes are.

    Attributes
    ----------
    n_embeddings, n_codes, n_pending : int
        Embeddings, those of them with a code, and those waiting for one. A zero vector has
        neither: it has no direction, and is nobody's neighbour.
    fit : Fit or None
        None where the version has no codes and is searched exactly.
    indexed : bool
        Whether the codes have their index.
    """

    n_embeddings: int
    n_codes: int
    n_pending: int
    fit: Fit | None
    indexed: bool

    @property
    def outgrown(self) -> bool:
        """Whether the projection was fitted on a small store that has since doubled."""
        return (
            self.fit is not None
            and self.fit.n_at_fit < SAMPLE_SIZE
            and self.n_embeddings >= 2 * self.fit.n_at_fit
        )

    @property
    def current(self) -> bool:
        """Whether there is nothing to do: also where there is no embedding to code."""
        if self.fit is None:
            return self.n_embeddings == 0
        return self.indexed and self.n_pending == 0 and not self.outgrown


def code_state(session: Session, model_version_id: int) -> CodeState:
    """Count a model version's embeddings, codes and those that wait for one."""

    def count(table: type[Embedding | SearchCode | SearchPending]) -> int:
        of_version = table.model_version_id == model_version_id
        query = select(func.count()).select_from(table).where(of_version)
        return session.execute(query).scalar_one()

    fitted = session.execute(
        select(
            SearchProjection.code_dim,
            SearchProjection.n_sample,
            SearchProjection.n_at_fit,
            SearchProjection.seed,
            SearchProjection.explained_variance,
        ).where(SearchProjection.model_version_id == model_version_id)
    ).one_or_none()
    index = func.to_regclass(index_name(model_version_id))
    return CodeState(
        n_embeddings=count(Embedding),
        n_codes=count(SearchCode),
        n_pending=count(SearchPending),
        fit=None if fitted is None else Fit(*fitted),
        indexed=session.execute(select(index)).scalar_one() is not None,
    )


def take_turns(session: Session, model_version_id: int) -> None:
    """Until the transaction ends, let no other decide whether to start the version's codes.

    Called before it is looked at: who has looked holds what the one who starts has to wait for.
    """
    session.execute(
        select(func.pg_advisory_xact_lock(func.hashtext("search_codes"), int(model_version_id)))
    )


def load_projection(session: Session, model_version_id: int) -> Projection | None:
    """The version's projection, or None where it has none."""
    row = session.get(SearchProjection, model_version_id)
    if row is None:
        return None
    return Projection(
        mean=np.frombuffer(row.mean, "<f4"),
        components=np.frombuffer(row.components, "<f4").reshape(row.code_dim, row.dim),
        explained_variance=row.explained_variance,
    )


def start_codes(session: Session, model_version_id: int, *, seed: int) -> Projection:
    """Fit a version's projection and let all of its embeddings wait for their codes.

    Codes that it had are dropped. The caller commits.

    Parameters
    ----------
    session : sqlalchemy.orm.Session
    model_version_id : int
        A registered version.
    seed : int
        Seed of the sample: the same tiles and seed give the same sample in any database.

    Raises
    ------
    StoreError
        If there is no such version, or no embedding that has a direction.
    """
    version = session.get(ModelVersionRow, model_version_id)
    if version is None:
        raise StoreError(f"the store holds no model version {model_version_id}")
    sample = _sample(session, version, seed)
    vectors = matrix(session, model_version_id, sample) if sample else np.empty((0, version.dim))
    vectors = vectors[np.linalg.norm(vectors, axis=1) > 0].astype(np.float32)
    if not len(vectors):
        raise StoreError(
            f"model version {model_version_id} has no embedding that is not zero: "
            "embed tiles first, then build its search codes"
        )
    projection = fit_projection(vectors)
    lock_embeddings(session, model_version_id)
    _drop_codes(session, model_version_id)
    n_embeddings = select(func.count()).where(Embedding.model_version_id == model_version_id)
    session.add(
        SearchProjection(
            model_version_id=model_version_id,
            dim=version.dim,
            code_dim=len(projection.components),
            mean=projection.mean.astype("<f4").tobytes(),
            components=projection.components.astype("<f4").tobytes(),
            n_sample=len(vectors),
            n_at_fit=session.execute(n_embeddings).scalar_one(),
            seed=seed,
            explained_variance=projection.explained_variance,
        )
    )
    session.flush()
    create_partition(session, model_version_id, len(projection.components))
    create_trigger(session, model_version_id)
    session.execute(
        SearchPending.__table__.insert().from_select(  # type: ignore[attr-defined]
            ["model_version_id", "tile_id"],
            select(Embedding.model_version_id, Embedding.tile_id).where(
                Embedding.model_version_id == model_version_id
            ),
        )
    )
    return projection


def write_pending_codes(session: Session, model_version_id: int, *, limit: int = BATCH) -> int:
    """Code some of the tiles that wait; the caller commits, and calls again until it is 0.

    Returns
    -------
    int
        Number of tiles that no longer wait.
    """
    projection = load_projection(session, model_version_id)
    if projection is None:
        return 0
    waiting = list(
        session.scalars(
            select(SearchPending.tile_id)
            .where(SearchPending.model_version_id == model_version_id)
            .order_by(SearchPending.tile_id)
            .limit(limit)
            # Two processes may code the same version: each takes rows of its own.
            .with_for_update(skip_locked=True)
        )
    )
    if not waiting:
        return 0
    codes = projection.codes(matrix(session, model_version_id, waiting)).astype(np.float16)
    # A zero vector has no direction, so no code either.
    coded = np.isfinite(codes).all(axis=1)
    tile_ids = np.array(waiting)[coded]
    copy_arrays(
        session,
        code_partition(model_version_id),
        _CODE_COLUMNS,
        [(np.full(len(tile_ids), model_version_id), tile_ids, codes[coded])],
    )
    session.execute(
        delete(SearchPending).where(
            SearchPending.model_version_id == model_version_id,
            SearchPending.tile_id == any_(literal(waiting, ARRAY(BigInteger))),
        )
    )
    return len(waiting)


def build_index(session: Session, model_version_id: int) -> None:
    """Create the version's HNSW index on its codes, if it is not there; the caller commits."""
    projection = session.get_one(SearchProjection, model_version_id)
    n_codes = session.execute(
        select(func.count()).where(SearchCode.model_version_id == model_version_id)
    ).scalar_one()
    # Built in memory it is many times as fast; a code with its links takes about 1 KB there.
    megabytes = min(2_048, 64 + n_codes // 800)
    # Somebody else may be building it, if only the server for a client that was killed. Taking
    # turns from the start, nobody waits for a lock that the other one needs for ANALYZE.
    session.execute(
        text(f"LOCK TABLE {code_partition(model_version_id)} IN SHARE ROW EXCLUSIVE MODE")
    )
    session.execute(text(f"SET LOCAL maintenance_work_mem = '{int(megabytes)}MB'"))
    # Beside the session's own process; Postgres takes fewer for a small table.
    n_workers = max(1, (os.cpu_count() or 2) - 1)
    session.execute(text(f"SET LOCAL max_parallel_maintenance_workers = {n_workers}"))
    dim = int(projection.code_dim)
    session.execute(
        text(
            f"CREATE INDEX IF NOT EXISTS {index_name(model_version_id)} "
            f"ON {code_partition(model_version_id)} "
            f"USING hnsw ((code::halfvec({dim})) halfvec_l2_ops) "
            "WITH (m = 16, ef_construction = 100)"
        )
    )
    session.execute(text(f"ANALYZE {code_partition(model_version_id)}"))


def _sample(session: Session, version: ModelVersionRow, seed: int) -> list[int]:
    size = SAMPLE_SIZE if version.dim <= _MANY_FEATURES else _MANY_FEATURES
    drawn = func.md5(func.concat(str(seed), Tile.sha256))
    return list(
        session.scalars(
            select(Embedding.tile_id)
            .join(Tile, Tile.tile_id == Embedding.tile_id)
            .where(Embedding.model_version_id == version.model_version_id)
            .order_by(drawn)
            .limit(size)
        )
    )


def _drop_codes(session: Session, model_version_id: int) -> None:
    session.execute(text(f"DROP TABLE IF EXISTS {code_partition(model_version_id)}"))
    session.execute(
        delete(SearchProjection).where(SearchProjection.model_version_id == model_version_id)
    )
