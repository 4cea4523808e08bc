"""Claims: which tiles a process embeds, so that any number of processes can share a data set.

A data set's tiles, in the order of their ids, make blocks of :data:`BLOCK_TILES`; a block that
lacks embeddings is a row of ``embedding_claims``. Whoever works on a block holds the lock of
its row, in a transaction of its own, and deletes the row when the block is done. So nothing
has to be cleaned up after a process that dies: its session ends, its locks go with it, and the
block is free at once. No clock of any machine but the server's is asked, and that one only to
end sessions that have said nothing for minutes.

Rows say what waits, never what is there: that is asked of ``embeddings`` alone. A row too many
costs a look; two processes that embed the same tile store it once.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

from sqlalchemy import Connection, Engine, and_, delete, exists, func, literal, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from featurestore.errors import InputError
from featurestore.missing_tiles import MissingTile, iter_missing
from featurestore.tables import Dataset, DatasetTile, Embedding, EmbeddingClaim

# Long beside what a claim costs (two short statements), short beside what a death loses.
BLOCK_TILES = 256
# A process that needs less than this for a claim takes twice as many blocks with the next.
_QUICK_SECONDS = 1.0
_MOST_AT_ONCE = 16
# A process that hangs, or whose machine is gone, keeps its blocks for no longer.
_SILENT_SECONDS = 300
_LIMITS = {
    "idle_in_transaction_session_timeout": f"{_SILENT_SECONDS}s",
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
}


@dataclass(frozen=True, slots=True)
class Shard:
    """One of equal parts of a data set, by number of tiles; neighbouring tiles stay together.

    Attributes
    ----------
    number, of : int
        The ``number``-th of ``of`` parts, counted from 1.
    """

    number: int = 1
    of: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.of:
            raise InputError(
                f"shard {self}: expected NUMBER/OF with numbers from 1, such as 1/8 to 8/8"
            )

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read ``3/8``.

        Raises
        ------
        InputError
            If it is anything else.
        """
        number, _, of = text.partition("/")
        if not (number.isdecimal() and of.isdecimal()):
            raise InputError(f"shard {text!r}: expected NUMBER/OF, such as 3/8")
        return cls(int(number), int(of))

    def __str__(self) -> str:
        """As the command line writes it."""
        return f"{self.number}/{self.of}"

    def blocks(self, n_tiles: int) -> range:
        """Numbers of its blocks in a data set of so many tiles."""
        n_blocks = -(-n_tiles // BLOCK_TILES)
        return range(n_blocks * (self.number - 1) // self.of, n_blocks * self.number // self.of)


WHOLE = Shard()


@dataclass(slots=True)
class _Claim:
    """Blocks whose rows this process has locked, with the transaction that holds the locks."""

    connection: Connection
    blocks: list[int]
    tiles: list[MissingTile]
    n_left: int


class Claims:
    """A process's claims on blocks of one data set under one model version.

    Use it as a context manager: what is still held at the end is free again. ::

        with Claims(engine, model_version_id, dataset_id, shard) as claims:
            while claims.take():
                for batch in embed(encoder, claims.tiles()):
                    ...  # store it and commit
                    claims.done(len(batch))

    Parameters
    ----------
    engine : sqlalchemy.Engine
        Every claim held takes one of its connections: a claim is a transaction. Whoever is
        quick claims several blocks at once, so that one or two are held, as a caller reads ahead.
    model_version_id, dataset_id : int
    shard : Shard
        Only blocks of it are claimed; the whole data set by default.
    """

    def __init__(
        self, engine: Engine, model_version_id: int, dataset_id: int, shard: Shard = WHOLE
    ) -> None:
        self._engine = engine
        self._key = (model_version_id, dataset_id)
        self._held: deque[_Claim] = deque()
        self._at_once, self._claimed_at = 1, float("-inf")
        with Session(engine) as session, session.begin():
            self._blocks = shard.blocks(session.get_one(Dataset, dataset_id).n_tiles)
            self.n_missing = _lay_out(session, *self._key, self._blocks)

    def __enter__(self) -> Self:
        """Hold nothing yet."""
        return self

    def __exit__(self, *_error: object) -> None:
        """Let go of everything that is not done."""
        while self._held:
            _let_go(self._held.popleft().connection)

    def take(self) -> bool:
        """Claim a block to begin with, and say whether there was one.

        Where only blocks of other processes are left, it waits: until one of those processes
        dies, or all are done. So after False nothing of the shard is being worked on.
        """
        return self._next(wait=False) or self._next(wait=True)

    def tiles(self) -> Iterator[MissingTile]:
        """Tiles without embedding of the block taken, then of any that is free, in order.

        It never waits for another process, which may be waiting for this one's blocks.
        """
        yield from self._held[-1].tiles
        while self._next(wait=False):
            yield from self._held[-1].tiles

    def done(self, n_tiles: int) -> None:
        """Say that the next so many of the tiles given out are stored, or in the ledger."""
        while n_tiles:
            claim = self._held[0]
            step = min(n_tiles, claim.n_left)
            claim.n_left -= step
            n_tiles -= step
            if claim.n_left == 0:
                self._finish(self._held.popleft())
        for claim in tuple(self._held):  # a thread that reads ahead may be adding one
            _ask(claim.connection, select(1))  # so that the server knows that we live

    def _next(self, *, wait: bool) -> bool:
        """Claim the next blocks that lack something; blocks that lack nothing are struck out."""
        quick = time.monotonic() - self._claimed_at < _QUICK_SECONDS
        self._at_once = min(2 * self._at_once, _MOST_AT_ONCE) if quick else 1
        self._claimed_at = time.monotonic()
        while (claim := self._lock(wait=wait)) is not None:
            if claim.tiles:
                self._held.append(claim)
                return True
            self._finish(claim)
        return False

    def _lock(self, *, wait: bool) -> _Claim | None:
        mine = [block for claim in tuple(self._held) for block in claim.blocks]
        connection = self._engine.connect()
        try:
            connection.execute(
                select(*(func.set_config(name, value, True) for name, value in _LIMITS.items()))
            )
            rows = connection.execute(
                select(
                    EmbeddingClaim.block, EmbeddingClaim.first_tile_id, EmbeddingClaim.last_tile_id
                )
                .where(self._is_mine(), EmbeddingClaim.block >= self._blocks.start)
                .where(EmbeddingClaim.block < self._blocks.stop)
                # A claim that the server has ended is still being worked on here.
                .where(EmbeddingClaim.block.not_in(mine))
                .order_by(EmbeddingClaim.block)
                # Whoever waits for one, waits for no second: it may hold what that one waits for.
                .limit(1 if wait else self._at_once)
                .with_for_update(skip_locked=not wait)
            ).all()
            if not rows:
                connection.close()
                return None
            # Asked only now that nobody else is at it: what a dead process stored is not missing.
            tiles = [
                tile
                for row in rows
                for tile in iter_missing(
                    self._engine, *self._key, within=(row.first_tile_id, row.last_tile_id)
                )
            ]
        except BaseException:
            _let_go(connection)
            raise
        return _Claim(connection, [row.block for row in rows], tiles, len(tiles))

    def _finish(self, claim: _Claim) -> None:
        blocks = and_(self._is_mine(), EmbeddingClaim.block.in_(claim.blocks))
        if _ask(claim.connection, delete(EmbeddingClaim).where(blocks)):
            claim.connection.commit()
        claim.connection.close()

    def _is_mine(self) -> Any:
        return and_(
            EmbeddingClaim.model_version_id == self._key[0],
            EmbeddingClaim.dataset_id == self._key[1],
        )


def n_waiting(session: Session, model_version_id: int, dataset_id: int) -> int:
    """Number of blocks that wait, or are being worked on."""
    return session.execute(
        select(func.count())
        .select_from(EmbeddingClaim)
        .where(
            EmbeddingClaim.model_version_id == model_version_id,
            EmbeddingClaim.dataset_id == dataset_id,
        )
    ).scalar_one()


def _lay_out(session: Session, model_version_id: int, dataset_id: int, blocks: range) -> int:
    """Enter the blocks that lack embeddings, where they are not yet; returns the tiles missing."""
    ordered = (
        select(DatasetTile.tile_id)
        .where(DatasetTile.dataset_id == dataset_id)
        .order_by(DatasetTile.tile_id)
        .offset(blocks.start * BLOCK_TILES)
        .limit(len(blocks) * BLOCK_TILES)
        .subquery()
    )
    rank = func.row_number().over(order_by=ordered.c.tile_id) - 1
    block = (blocks.start + rank // BLOCK_TILES).label("block")
    numbered = select(ordered.c.tile_id, block).subquery()
    embedded = exists().where(
        Embedding.model_version_id == model_version_id, Embedding.tile_id == numbered.c.tile_id
    )
    counted = (
        select(
            numbered.c.block,
            func.min(numbered.c.tile_id).label("first_tile_id"),
            func.max(numbered.c.tile_id).label("last_tile_id"),
            func.count().filter(~embedded).label("n_missing"),
        )
        .group_by(numbered.c.block)
        .cte("counted")
    )
    names = ["model_version_id", "dataset_id", "block", "first_tile_id", "last_tile_id"]
    waiting = (
        select(
            literal(model_version_id),
            literal(dataset_id),
            counted.c.block,
            counted.c.first_tile_id,
            counted.c.last_tile_id,
        )
        .where(counted.c.n_missing > 0)
        # All in one order, so that two processes that enter the same blocks never wait in a ring.
        .order_by(counted.c.block)
    )
    entered = (
        insert(EmbeddingClaim).from_select(names, waiting).on_conflict_do_nothing().cte("entered")
    )
    total = select(func.coalesce(func.sum(counted.c.n_missing), 0)).add_cte(entered)
    return int(session.execute(total).scalar_one())


def _let_go(connection: Connection) -> None:
    """End a session and its locks, even one that the server has ended already."""
    connection.invalidate()
    connection.close()


def _ask(connection: Connection, statement: Any) -> bool:
    """Whether a claim's transaction is still there, by asking it something."""
    if connection.invalidated:
        return False
    try:
        connection.execute(statement)
    except DBAPIError as error:
        # The server ended it. What was stored stays; the row is there for whoever comes next.
        if not error.connection_invalidated:
            raise
        return False
    return True
