"""The hashing loop: tiles without a fingerprint are read once, batch by batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from sqlalchemy.orm import Session

from featurestore.fingerprints import iter_unhashed, n_unhashed, write_fingerprints
from featurestore.ledger import record_rejects
from featurestore.perceptual_hash import SMALL_PX, hash_tiles
from featurestore.tables import Dataset
from orchestration.home import Home
from orchestration.resources import transaction

STAGE = "guard"
_BATCH = 256


def fingerprint_missing(
    home: Home,
    *,
    study: str,
    dataset_id: int,
    run_id: str | None,
    on_progress: Callable[[int, int], None],
) -> int:
    """Hash what a data set still lacks; every batch is one transaction.

    Killed at any moment it leaves whole batches behind, and the next call goes on with the
    rest. A tile that cannot be read is a row of the ledger.

    Returns
    -------
    int
        Number of tiles hashed now.
    """
    with Session(home.engine) as session:
        n_missing = n_unhashed(session, dataset_id)
        root = Path(session.get_one(Dataset, dataset_id).root)
    if not n_missing:
        return 0
    from models.tiles import TileRef, read_batches

    tiles = (
        TileRef(tile.tile_id, tile.path, tile.sha256, tile.place)
        for tile in iter_unhashed(home.engine, dataset_id)
    )
    n_hashed = n_done = 0
    for batch in read_batches(
        tiles, input_px=SMALL_PX, interpolation="bilinear", batch_size=_BATCH, stage=STAGE
    ):
        bits, is_plain = hash_tiles(batch.pixels)
        mean_rgb = batch.pixels.mean(axis=(1, 2), dtype=np.float32)
        with transaction(home) as session:
            n_hashed += write_fingerprints(session, batch.tile_ids, bits, is_plain, mean_rgb)
            rejects = [
                replace(reject, item=Path(reject.item).relative_to(root).as_posix())
                for reject in batch.rejects
            ]
            record_rejects(session, study, rejects, run_id=run_id)
        n_done += len(batch.tile_ids) + len(batch.rejects)
        on_progress(n_done, n_missing)
    return n_hashed
