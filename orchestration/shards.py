"""A shard of a study's tiles embedded by a plain process, outside of a Dagster run.

Any number of processes on any machines may do so at once; :mod:`featurestore.claims` shares
the tiles out. Whichever completes a data set lets a Dagster run find that nothing is missing,
so that its history and its checks are those of `ffpe run`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sqlalchemy.orm import Session

from featurestore import versions
from featurestore.claims import Shard, n_waiting
from featurestore.embeddings import coverage
from featurestore.errors import StoreError
from featurestore.resolution import refuse_other_resolution
from featurestore.study_datasets import study_dataset
from orchestration import currency
from orchestration.embedding import Embedded, embed_missing
from orchestration.home import Home
from orchestration.naming import (
    EMBEDDINGS,
    SLIDE_EMBEDDINGS,
    SLIDE_TILES,
    TISSUE_TILES,
    evaluated_tiles,
)
from orchestration.progress import ProgressReporter
from orchestration.registry import pointer_of
from orchestration.study import Study

_DATA_VERSION = "dagster/data_version"
_ASSETS = {TISSUE_TILES: EMBEDDINGS, SLIDE_TILES: SLIDE_EMBEDDINGS}

# As embed_missing; a cluster has another.
Embed = Callable[..., Embedded]


@dataclass(frozen=True, slots=True)
class Part:
    """What an encoder has to embed of one of a study's sources.

    Attributes
    ----------
    asset, encoder : str
        The asset that the embeddings are, and its partition.
    model_version_id, dataset_id : int
    """

    asset: str
    encoder: str
    model_version_id: int
    dataset_id: int


def parts_of(home: Home, study: Study, encoders: list[str]) -> list[Part]:
    """What there is to embed: every encoder over each of the study's sources.

    Parameters
    ----------
    home : Home
    study : Study
    encoders : list of str
        Names of encoders of the study; all that compute features where none is named.

    Raises
    ------
    StudyError
        If the study has no such encoder.
    StoreError
        If sources or model versions are not there yet; the message names the command.
    """
    named = [study.encoder(name) for name in encoders]
    entries = named or [entry for entry in study.encoders if entry.features is None]
    parts = []
    with Session(home.engine) as session:
        for entry in entries:
            if entry.features is not None:
                raise StoreError(
                    f"encoder {entry.name!r} has its features from files, so there is nothing to "
                    f"embed: `ffpe run {study.path}` reads them"
                )
            datasets = {
                tiles: _read_tiles(session, study, tiles) for tiles in evaluated_tiles(study)
            }
            if currency.stale_models(home, study, entry):
                raise StoreError(
                    f"encoder {entry.name!r} has no model version as {study.path} asks for, "
                    f"or {home.weights} lacks its weights: "
                    f"run `ffpe run {study.path} --select models` once, then embed"
                )
            version_id = pointer_of(session, study, entry.name).model_version_id
            for tiles, dataset in datasets.items():
                refuse_other_resolution(session, versions.load(session, version_id), dataset)
                parts.append(Part(_ASSETS[tiles], entry.name, version_id, dataset))
    return parts


def _read_tiles(session: Session, study: Study, tiles: str) -> int:
    try:
        return study_dataset(session, study.name, tiles).dataset_id
    except StoreError as error:
        raise StoreError(
            f"the tiles of study {study.name!r} were not read yet: "
            f"run `ffpe run {study.path} --select sources` once, then embed"
        ) from error


def embed_shard(
    home: Home,
    study: Study,
    part: Part,
    shard: Shard,
    *,
    run_id: str | None,
    progress: ProgressReporter,
    embed: Embed = embed_missing,
) -> Embedded:
    """Embed what a shard of a part still lacks; see :func:`orchestration.embedding.embed_missing`.

    Parameters
    ----------
    home : Home
    study : Study
    part : Part
        One of :func:`parts_of`.
    shard : Shard
    run_id : str or None
        The Dagster run that asked for it, for the ledger.
    progress : ProgressReporter
    embed : callable
        What embeds; by default this process.
    """
    with Session(home.engine) as session:
        version = versions.load(session, part.model_version_id)
    return embed(
        home,
        study=study.name,
        version=version,
        model_version_id=part.model_version_id,
        dataset_id=part.dataset_id,
        run_id=run_id,
        on_progress=lambda n, total: progress(f"{part.asset} of {part.encoder}", n, total),
        shard=shard,
    )


def is_complete(home: Home, study: Study, part: Part) -> bool:
    """Whether no tile of a part is missing, in any shard."""
    with Session(home.engine) as session:
        # Cheap, and true of all shards but the last; counting every tile is not.
        if n_waiting(session, part.model_version_id, part.dataset_id):
            return False
        return not coverage(session, part.model_version_id, part.dataset_id, study.name).n_missing


def unrecorded(home: Home, study: Study, parts: list[Part]) -> Iterator[Part]:
    """Those of complete parts that Dagster has not materialised as they are now."""
    import dagster as dg

    from orchestration.defs.features import embeddings_version
    from orchestration.instance import open_instance
    from orchestration.naming import asset_key

    with open_instance(home) as instance:
        for part in parts:
            with Session(home.engine) as session:
                wanted = embeddings_version(session, part.model_version_id, part.dataset_id)
            found = instance.fetch_materializations(
                dg.AssetRecordsFilter(
                    asset_key=asset_key(study, part.asset), asset_partitions=[part.encoder]
                ),
                limit=1,
            )
            events = [record.asset_materialization for record in found.records]
            if not any(
                event and (event.tags or {}).get(_DATA_VERSION) == wanted for event in events
            ):
                yield part
