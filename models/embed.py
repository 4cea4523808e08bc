"""Embedding: tiles in, features out, a batch at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import Reject
from models.encoders import Encoder
from models.tiles import TileRef, read_batches


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
    encoder: Encoder, tiles: Iterable[TileRef], *, batch_size: int = 32, n_threads: int = 2
) -> Iterator[EmbeddedBatch]:
    """Features of tiles, batch by batch in the order asked for.

    Memory is that of a few batches, however many tiles there are, so the caller can write
    and commit each batch before it takes the next, and go on later where it stopped.

    Parameters
    ----------
    encoder : Encoder
        What to compute.
    tiles : iterable of TileRef
        Taken one by one as needed.
    batch_size : int
        Tiles a batch.
    n_threads : int
        Threads that decode images meanwhile.

    Yields
    ------
    EmbeddedBatch
        A tile whose features are not all finite is a reject, too.
    """
    batches = read_batches(
        tiles,
        input_px=encoder.version.input_px,
        interpolation=encoder.version.interpolation,
        batch_size=batch_size,
        n_threads=n_threads,
    )
    for batch in batches:
        tile_ids = np.asarray(batch.tile_ids, np.int64)
        vectors = encoder(batch.pixels)
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
        yield EmbeddedBatch(tile_ids[finite], vectors[finite], batch.rejects + lost)
