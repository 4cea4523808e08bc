"""Assets of group features: every tile becomes a vector, and every patient's tiles become one."""

import time
from typing import Any

import dagster as dg
from sqlalchemy.orm import Session

from featurestore import versions
from featurestore.embeddings import coverage, partition_name
from featurestore.model_versions import content_sha256
from featurestore.patient_features import pool_patients, pooled_counts
from featurestore.resolution import refuse_other_resolution
from featurestore.tables import Dataset
from orchestration.home import Home
from orchestration.imports import embed_imports, imports_features, tiles_of
from orchestration.metadata import stored, table
from orchestration.naming import (
    EMBEDDINGS,
    FEATURES,
    MODEL_VERSION,
    PATIENT_FEATURES,
    SLIDE_EMBEDDINGS,
    SLIDE_TILES,
    TISSUE_TILES,
    asset_key,
    cohort_tiles,
    encoder_partitions,
)
from orchestration.ray_shards import embed_tiles
from orchestration.registry import pointer_of
from orchestration.resources import transaction
from orchestration.study import Study


def feature_assets(study: Study) -> list[dg.AssetsDefinition]:
    """The embeddings of a study's tiles, one partition an encoder."""
    assets = []
    if study.tissue is not None:
        assets.append(_embeddings(study, EMBEDDINGS, TISSUE_TILES))
    if study.luad is not None:
        assets.append(_embeddings(study, SLIDE_EMBEDDINGS, SLIDE_TILES))
        assets.append(_patient_features(study))
    return assets


def embeddings_version(session: Session, model_version_id: int, dataset_id: int) -> str:
    """The data version of a data set's embeddings: what they are of, and by what."""
    version = versions.load(session, model_version_id)
    return content_sha256([version.sha256, session.get_one(Dataset, dataset_id).digest])


def _embeddings(study: Study, name: str, tiles: str) -> dg.AssetsDefinition:
    @dg.asset(
        key=asset_key(study, name),
        deps=[asset_key(study, tiles), asset_key(study, MODEL_VERSION)],
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
            pointer = pointer_of(session, study, encoder)
            version_id = pointer.model_version_id
            version = versions.load(session, version_id)
            dataset = tiles_of(session, study, encoder, tiles)
            refuse_other_resolution(session, version, dataset.dataset_id)
        started = time.monotonic()
        if imports_features(study, encoder):
            progress = context.resources.progress
            done = embed_imports(home, study, study.encoder(encoder), pointer, on_progress=progress)
        else:
            done = embed_tiles(
                home,
                study=study.name,
                version=version,
                model_version_id=version_id,
                dataset_id=dataset.dataset_id,
                run_id=context.run.run_id,
                on_progress=lambda n, total: context.resources.progress(
                    f"{name} of {encoder}", n, total
                ),
            )
        seconds = time.monotonic() - started
        with Session(home.engine) as session:
            after = coverage(session, version_id, dataset.dataset_id, study.name)
            data_version = embeddings_version(session, version_id, dataset.dataset_id)
        return dg.MaterializeResult(
            data_version=dg.DataVersion(data_version),
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

    return embeddings


def _patient_features(study: Study) -> dg.AssetsDefinition:
    @dg.asset(
        key=asset_key(study, PATIENT_FEATURES),
        deps=[asset_key(study, SLIDE_EMBEDDINGS), asset_key(study, cohort_tiles(study))],
        partitions_def=encoder_partitions(study),
        group_name=FEATURES,
        description="Mean of every patient's tile vectors, pooled in SQL",
        kinds={"postgres"},
        required_resource_keys={"home"},
    )
    def patient_features(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
        home: Home = context.resources.home
        with transaction(home) as session:
            version_id = pointer_of(session, study, context.partition_key).model_version_id
            version = versions.load(session, version_id)
            dataset = tiles_of(session, study, context.partition_key, cohort_tiles(study))
            n_patients = pool_patients(session, version_id, dataset.dataset_id)
            counts = pooled_counts(session, version_id, dataset.dataset_id)
            digest = content_sha256([version.sha256, dataset.digest, "mean"])
        return dg.MaterializeResult(
            data_version=dg.DataVersion(digest),
            metadata={
                **stored(
                    "public.patient_features",
                    n_patients,
                    patient_id="text",
                    embedding=f"halfvec({version.dim})",
                    n_tiles="int",
                    n_slides="int",
                ),
                "model_version_sha256": version.sha256,
                "patients": table(counts.head(500)),
            },
        )

    return patient_features
