"""Shards on a Ray cluster: Ray runs them, and starts again what dies with a machine.

:mod:`featurestore.claims` sees to it that nothing is lost or done twice meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from featurestore import versions
from featurestore.claims import BLOCK_TILES, WHOLE, Claims, Shard, n_waiting
from featurestore.errors import StoreError
from featurestore.model_versions import ModelVersion
from orchestration.cluster import has_cluster, join_cluster
from orchestration.embedding import Embedded, embed_missing
from orchestration.home import Home

# Of a shard whose machine died; a shard that kills every machine must end some day.
_MAX_RETRIES = 10
_LOOK_EVERY_SECONDS = 2.0


def embed_tiles(home: Home, **what: Any) -> Embedded:
    """Embed on the cluster if there is one, and else here; parameters as :func:`embed_missing`."""
    return embed_on_cluster(home, **what) if has_cluster() else embed_missing(home, **what)


def embed_on_cluster(
    home: Home,
    *,
    study: str,
    version: ModelVersion,
    model_version_id: int,
    dataset_id: int,
    run_id: str | None,
    on_progress: Callable[[int, int], None],
) -> Embedded:
    """Embed what a data set still lacks, a shard for every GPU of the cluster or else machine.

    Parameters are those of :func:`orchestration.embedding.embed_missing`.

    Raises
    ------
    ClusterError
        If there is no Ray here, or no cluster at the address.
    StoreError
        If another machine is to use the embedded database.
    """
    with Claims(home.engine, model_version_id, dataset_id) as laid_out:
        n_missing = laid_out.n_missing
    if n_missing == 0:
        return Embedded(0, 0, "none: nothing was missing")
    ray = join_cluster()
    n_shards, resources = _slots(ray, home)
    task = ray.remote(_embed_shard).options(
        max_retries=_MAX_RETRIES, scheduling_strategy="SPREAD", **resources
    )
    waiting = [
        task.remote(
            home.folder, home.database_url, study, model_version_id, dataset_id, run_id, shard
        )
        for shard in (Shard(number, n_shards) for number in range(1, n_shards + 1))
    ]
    done: list[Embedded] = []
    try:
        while waiting:
            ready, waiting = ray.wait(waiting, timeout=_LOOK_EVERY_SECONDS)
            done += ray.get(ready)
            with Session(home.engine) as session:
                n_left = n_waiting(session, model_version_id, dataset_id) * BLOCK_TILES
            on_progress(n_missing - min(n_left, n_missing), n_missing)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error
    finally:
        for left in waiting:
            ray.cancel(left, force=True)
    runtimes = sorted({part.runtime for part in done if part.n_embedded})
    return Embedded(
        sum(part.n_embedded for part in done),
        sum(part.n_rejected for part in done),
        f"Ray, {n_shards} shards: {', '.join(runtimes)}",
    )


def _embed_shard(
    folder: Path,
    database_url: str | None,
    study: str,
    model_version_id: int,
    dataset_id: int,
    run_id: str | None,
    shard: Shard,
) -> Embedded:
    """A task: a shard, and then whatever the others have not got to."""
    home = Home(folder, database_url)
    try:
        with Session(home.engine) as session:
            version = versions.load(session, model_version_id)
        parts = [
            embed_missing(
                home,
                study=study,
                version=version,
                model_version_id=model_version_id,
                dataset_id=dataset_id,
                run_id=run_id,
                on_progress=lambda *_: None,
                shard=part,
            )
            for part in (shard, WHOLE)
        ]
    finally:
        home.close()
    return Embedded(
        sum(part.n_embedded for part in parts),
        sum(part.n_rejected for part in parts),
        next((part.runtime for part in parts if part.n_embedded), parts[0].runtime),
    )


def _slots(ray: Any, home: Home) -> tuple[int, dict[str, int]]:
    """How many shards run at a time, and what each takes: a GPU, or else a machine's cores."""
    nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
    hosts = {node["NodeManagerHostname"] for node in nodes}
    if home.embedded is not None and len(hosts) > 1:
        raise StoreError(
            f"the cluster has {len(hosts)} machines ({', '.join(sorted(hosts)[:3])}, …), which "
            "cannot reach the embedded database of this one: name a Postgres that they all "
            "reach in FFPE_DATABASE_URL"
        )
    n_gpus = int(sum(node["Resources"].get("GPU", 0) for node in nodes))
    if n_gpus:
        return n_gpus, {"num_gpus": 1}
    return len(nodes), {"num_cpus": int(min(node["Resources"]["CPU"] for node in nodes))}
