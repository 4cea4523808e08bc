"""The embedding loop: batches come from the network and are committed one by one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from featurestore.claims import WHOLE, Claims, Shard
from featurestore.embeddings import write_embeddings
from featurestore.errors import Reject
from featurestore.ledger import record_rejects
from featurestore.model_versions import ModelVersion
from featurestore.tables import Dataset
from orchestration.home import Home
from orchestration.outages import outlasting
from orchestration.resources import transaction

if TYPE_CHECKING:
    from models.encoders import Encoder


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
    run_id: str | None,
    on_progress: Callable[[int, int], None],
    shard: Shard = WHOLE,
) -> Embedded:
    """Embed what a shard of a data set still lacks; every batch is one transaction.

    Killed at any moment it leaves whole batches behind, and the next call goes on with
    the rest. Calls at once share the work: each claims blocks of tiles that no other has,
    and the last returns when all are done.

    Raises
    ------
    WeightsError
        If the version's weights are not on this machine.
    """
    with transaction(home) as session:
        root = Path(session.get_one(Dataset, dataset_id).root)
    encoder: Encoder | None = None
    n_embedded = n_rejected = 0
    with Claims(home.engine, model_version_id, dataset_id, shard) as claims:
        while claims.take():
            from models.embed import embed
            from models.encoders import open_encoder
            from models.tiles import TileRef

            encoder = encoder or open_encoder(version, folder=home.weights)
            tiles = (
                TileRef(tile.tile_id, tile.path, tile.sha256, tile.place) for tile in claims.tiles()
            )
            for batch in embed(encoder, tiles):
                with transaction(home) as session:
                    if len(batch.tile_ids):
                        write_embeddings(session, model_version_id, batch.tile_ids, batch.vectors)
                    rejects = [_within(root, reject) for reject in batch.rejects]
                    record_rejects(session, study, rejects, run_id=run_id)
                claims.done(len(batch.tile_ids) + len(batch.rejects))
                n_embedded += len(batch.tile_ids)
                n_rejected += len(batch.rejects)
                on_progress(n_embedded + n_rejected, claims.n_missing)
    runtime = "none: nothing was missing" if encoder is None else encoder.runtime
    return Embedded(n_embedded, n_rejected, runtime)


def _within(root: Path, reject: Reject) -> Reject:
    # The ledger names files as data sets do, relative to their folder.
    return replace(reject, item=Path(reject.item).relative_to(root).as_posix())
