"""Assets of group features: every tile of a data set becomes a vector, once a model version."""

import time
from typing import Any

import dagster as dg
from sqlalchemy.orm import Session

from featurestore import versions
from featurestore.embeddings import coverage, partition_name
from featurestore.model_versions import content_sha256
from featurestore.resolution import refuse_other_resolution
from orchestration.embedding import embed_missing
from orchestration.home import Home
from orchestration.metadata import stored
from orchestration.naming import (
    EMBEDDINGS,
    FEATURES,
    MODEL_VERSION,
    TISSUE_TILES,
    asset_key,
    encoder_partitions,
)
from orchestration.registry import dataset_of, pointer_of
from orchestration.study import Study


def feature_assets(study: Study) -> list[dg.AssetsDefinition]:
    """The embeddings of a study's tiles, one partition an encoder."""
    tissue = study.tissue
    if tissue is None:
        return []

    @dg.asset(
        key=asset_key(study, EMBEDDINGS),
        deps=[asset_key(study, TISSUE_TILES), asset_key(study, MODEL_VERSION)],
        partitions_def=encoder_partitions(study),
        group_name=FEATURES,
        description="Features of every tile under one model version; goes on where it stopped",
        kinds={"pytorch", "postgres"},
        required_resource_keys={"home", "progress"},
        pool="embedding",
    )
    def embeddings(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
        home: Home = context.resources.home
        encoder = context.partition_key
        with Session(home.engine) as session:
            version_id = pointer_of(session, study, encoder).model_version_id
            version = versions.load(session, version_id)
            dataset = dataset_of(home, session, tissue, f"{study.name}/{TISSUE_TILES}")
            refuse_other_resolution(session, version, dataset.dataset_id)
            before = coverage(session, version_id, dataset.dataset_id, study.name)
        started = time.monotonic()
        done = embed_missing(
            home,
            study=study.name,
            version=version,
            model_version_id=version_id,
            dataset_id=dataset.dataset_id,
            n_missing=before.n_tiles - before.n_embedded,
            run_id=context.run.run_id,
            on_progress=lambda n, total: context.resources.progress(f"embed {encoder}", n, total),
        )
        seconds = time.monotonic() - started
        with Session(home.engine) as session:
            after = coverage(session, version_id, dataset.dataset_id, study.name)
        return dg.MaterializeResult(
            data_version=dg.DataVersion(content_sha256([version.sha256, dataset.digest])),
            metadata={
                **stored(
                    f"public.{partition_name(version_id)}",
                    after.n_embedded,
                    model_version_id="bigint",
                    tile_id="bigint",
                    embedding=f"halfvec({version.dim})",
                ),
                "model_version_sha256": version.sha256,
                "n_tiles": after.n_tiles,
                "n_new": done.n_embedded,
                "n_rejected": after.n_rejected,
                "runtime": done.runtime,
                "seconds": round(seconds, 1),
                "tiles_per_second": round(done.n_embedded / seconds, 1) if seconds else 0.0,
            },
        )

    return [embeddings]
