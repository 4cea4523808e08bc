"""Embedding: tiles in, features out, a batch at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import InputError, Reject
from models.encoders import Encoder
from models.tiles import PixelBatch, TileRef, read_batches


@dataclass(frozen=True)
class EmbeddedBatch:
    """Features of some tiles, and the tiles that were left out.

    Attributes
    ----------
    tile_ids : ndarray of int64, shape (n,)
    vectors : ndarray of float32, shape (n, dim)
        Features of these tiles, in this order.
    rejects : list of Reject
        Tiles of this batch without features.
    """

    tile_ids: NDArray[np.int64]
    vectors: NDArray[np.float32]
    rejects: list[Reject]


def embed(
    encoder: Encoder,
    tiles: Iterable[TileRef],
    *,
    batch_size: int | None = None,
    n_threads: int | None = None,
) -> Iterator[EmbeddedBatch]:
    """Features of tiles, batch by batch in the order asked for.

    Memory is that of a few batches, however many tiles there are, so the caller can write
    and commit each batch before it takes the next, and go on later where it stopped. The
    network computes the next batch meanwhile.

    Parameters
    ----------
    encoder : Encoder
        What to compute.
    tiles : iterable of TileRef
        Taken one by one as needed.
    batch_size : int, optional
        Tiles a batch; what the encoder computes fastest, if absent.
    n_threads : int, optional
        Threads that decode images meanwhile; one a core, if absent.

    Yields
    ------
    EmbeddedBatch
        A tile whose features are not all finite is a reject, too.
    """
    together = embed_together([encoder], tiles, batch_size=batch_size, n_threads=n_threads)
    return (batch for (batch,) in together)


def embed_together(
    encoders: Sequence[Encoder],
    tiles: Iterable[TileRef],
    *,
    batch_size: int | None = None,
    n_threads: int | None = None,
) -> Iterator[tuple[EmbeddedBatch, ...]]:
    """Features of tiles by several encoders, each tile read and decoded once.

    Worth it where decoding is not small beside computing, as on a GPU; parameters and memory
    are those of :func:`embed`.

    Yields
    ------
    tuple of EmbeddedBatch
        One an encoder, in their order.

    Raises
    ------
    InputError
        The encoders take images of different sizes, or resample them differently.
    """
    inputs = {(one.version.input_px, one.version.interpolation) for one in encoders}
    if len(inputs) != 1:
        raise InputError(
            f"encoders that read tiles together must take the same images; got {sorted(inputs)}. "
            "Embed with one after the other."
        )
    ((input_px, interpolation),) = inputs
    batches = read_batches(
        tiles,
        input_px=input_px,
        interpolation=interpolation,
        batch_size=batch_size or min(one.batch_size for one in encoders),
        n_threads=n_threads,
    )
    return _computed(encoders, batches)


def _computed(
    encoders: Sequence[Encoder], batches: Iterator[PixelBatch]
) -> Iterator[tuple[EmbeddedBatch, ...]]:
    """Batches in order; as many as the encoders take are computed while the caller has one."""
    n_in_flight = min(one.n_in_flight for one in encoders)
    computing: deque[tuple[PixelBatch, Future[list[NDArray[np.float32]]]]] = deque()
    pool = ThreadPoolExecutor(n_in_flight, thread_name_prefix="network")

    def compute(pixels: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        return [encoder(pixels) for encoder in encoders]

    def finish() -> tuple[EmbeddedBatch, ...]:
        batch, vectors = computing.popleft()
        return tuple(
            _without_unsound(encoder, batch, features)
            for encoder, features in zip(encoders, vectors.result(), strict=True)
        )

    try:
        for batch in batches:
            computing.append((batch, pool.submit(compute, batch.pixels)))
            if len(computing) > n_in_flight:
                yield finish()
        while computing:
            yield finish()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _without_unsound(
    encoder: Encoder, batch: PixelBatch, vectors: NDArray[np.float32]
) -> EmbeddedBatch:
    finite: NDArray[np.bool_] = np.asarray(np.isfinite(vectors).all(axis=1))
    lost = [
        Reject(
            item=item,
            stage="embed",
            reason=f"{encoder.version.network} gave features that are not finite; look at the "
            "tile, and at the weights.",
        )
        for item, sound in zip(batch.items, finite, strict=True)
        if not sound
    ]
    tile_ids = np.asarray(batch.tile_ids, np.int64)
    return EmbeddedBatch(tile_ids[finite], vectors[finite], batch.rejects + lost)
