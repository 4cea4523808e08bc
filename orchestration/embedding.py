"""The embedding loop: batches come from the network and are committed one by one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from featurestore.embeddings import iter_missing, write_embeddings
from featurestore.errors import Reject
from featurestore.ledger import record_rejects
from featurestore.model_versions import ModelVersion
from featurestore.tables import Dataset
from orchestration.home import Home
from orchestration.outages import outlasting
from orchestration.resources import transaction


@dataclass(frozen=True, slots=True)
class Embedded:
    """What a loop came to: tiles embedded and rejected now, and what computed them."""

    n_embedded: int
    n_rejected: int
    runtime: str


@outlasting
def embed_missing(
    home: Home,
    *,
    study: str,
    version: ModelVersion,
    model_version_id: int,
    dataset_id: int,
    n_missing: int,
    run_id: str | None,
    on_progress: Callable[[int, int], None],
) -> Embedded:
    """Embed what a data set still lacks; every batch is one transaction.

    Killed at any moment it leaves whole batches behind, and the next call goes on with
    the rest. Two calls at once may compute the same tile, but store it once.

    Raises
    ------
    WeightsError
        If the version's weights are not on this machine.
    """
    if n_missing == 0:
        return Embedded(0, 0, "none: nothing was missing")
    from models.embed import embed
    from models.encoders import open_encoder
    from models.tiles import TileRef

    encoder = open_encoder(version, folder=home.weights)
    with transaction(home) as session:
        root = Path(session.get_one(Dataset, dataset_id).root)
    tiles = (
        TileRef(tile.tile_id, tile.path, tile.sha256, tile.place)
        for tile in iter_missing(home.engine, model_version_id, dataset_id)
    )
    n_embedded = n_rejected = 0
    for batch in embed(encoder, tiles):
        with transaction(home) as session:
            if len(batch.tile_ids):
                write_embeddings(session, model_version_id, batch.tile_ids, batch.vectors)
            rejects = [_within(root, reject) for reject in batch.rejects]
            record_rejects(session, study, rejects, run_id=run_id)
        n_embedded += len(batch.tile_ids)
        n_rejected += len(batch.rejects)
        on_progress(n_embedded + n_rejected, n_missing)
    return Embedded(n_embedded, n_rejected, encoder.runtime)


def _within(root: Path, reject: Reject) -> Reject:
    # The ledger names files as data sets do, relative to their folder.
    return replace(reject, item=Path(reject.item).relative_to(root).as_posix())
