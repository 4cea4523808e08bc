"""Assets of search: an index per encoder, how good it is, and encoders compared by it."""

from typing import Any

import dagster as dg
from sqlalchemy.orm import Session

from featurestore import versions
from featurestore.model_versions import content_sha256
from featurestore.search.code_tables import code_partition
from featurestore.search.quality import quality_frame
from featurestore.tables import Experiment
from orchestration.home import Home
from orchestration.imports import tiles_of
from orchestration.metadata import stored, table
from orchestration.naming import (
    ANALYSIS,
    EMBEDDINGS,
    FEATURES,
    RETRIEVAL_COMPARISON,
    RETRIEVAL_QUALITY,
    SEARCH_INDEX,
    SLIDE_EMBEDDINGS,
    TISSUE_TILES,
    asset_key,
    code_version,
    encoder_partitions,
    evaluated_tiles,
)
from orchestration.registry import pointer_of
from orchestration.retrieval import (
    compare_retrieval,
    index_version,
    measure_quality,
)
from orchestration.study import Study


def search_assets(study: Study) -> list[dg.AssetsDefinition]:
    """The search index, its quality and the comparison of a study that embeds tiles."""
    assets = []
    if evaluated_tiles(study):
        assets += [_index(study), _quality(study)]
    if study.tissue is not None:
        assets.append(_comparison(study))
    return assets


def _index(study: Study) -> dg.AssetsDefinition:
    embeddings = [] if study.tissue is None else [EMBEDDINGS]
    embeddings += [] if study.luad is None else [SLIDE_EMBEDDINGS]

    @dg.asset(
        key=asset_key(study, SEARCH_INDEX),
        deps=[asset_key(study, name) for name in embeddings],
        partitions_def=encoder_partitions(study),
        group_name=FEATURES,
        description="A short code of every embedding under an HNSW index; goes on where it stopped",
        kinds={"postgres"},
        required_resource_keys={"home", "progress"},
    )
    def search_index(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
        home: Home = context.resources.home
        encoder = context.partition_key
        with Session(home.engine) as session:
            version_id = pointer_of(session, study, encoder).model_version_id
            version = versions.load(session, version_id)
        state = index_version(
            home,
            version_id,
            seed=study.seed,
            on_progress=lambda n, total: context.resources.progress(
                f"search codes of {encoder}", n, total
            ),
        )
        fitted = state.fit
        code_dim = 0 if fitted is None else fitted.code_dim
        sample = [] if fitted is None else [fitted.seed, fitted.n_sample, fitted.n_at_fit]
        return dg.MaterializeResult(
            data_version=dg.DataVersion(content_sha256([version.sha256, *sample, state.n_codes])),
            metadata={
                **stored(
                    f"public.{code_partition(version_id)}",
                    state.n_codes,
                    tile_id="bigint",
                    code=f"halfvec({code_dim})",
                ),
                "model_version_sha256": version.sha256,
                "n_embeddings": state.n_embeddings,
                "n_waiting": state.n_pending,
                "n_sample": 0 if fitted is None else fitted.n_sample,
                "explained_variance": 0.0 if fitted is None else fitted.explained_variance,
            },
        )

    return search_index


def _quality(study: Study) -> dg.AssetsDefinition:
    @dg.asset(
        key=asset_key(study, RETRIEVAL_QUALITY),
        deps=[asset_key(study, SEARCH_INDEX)],
        partitions_def=encoder_partitions(study),
        group_name=FEATURES,
        code_version=code_version(study.seed),
        description="Recall, label accuracy, same-site share and latency of search",
        kinds={"numpy", "postgres"},
        required_resource_keys={"home"},
    )
    def retrieval_quality(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
        home: Home = context.resources.home
        encoder = context.partition_key
        with Session(home.engine) as session:
            version_id = pointer_of(session, study, encoder).model_version_id
            version = versions.load(session, version_id)
            digests = [
                tiles_of(session, study, encoder, tiles).digest for tiles in evaluated_tiles(study)
            ]
        measure_quality(home, study, encoder)
        with Session(home.engine) as session:
            frame = quality_frame(session, study.name)
        mine = frame[frame["model_version_id"] == version_id]
        return dg.MaterializeResult(
            data_version=dg.DataVersion(content_sha256([version.sha256, *digests, study.seed])),
            metadata={
                **stored("public.retrieval_quality", len(mine)),
                "quality": table(mine.drop(columns=["model_version_id", "dataset_id"])),
            },
        )

    return retrieval_quality


def _comparison(study: Study) -> dg.AssetsDefinition:
    @dg.asset(
        key=asset_key(study, RETRIEVAL_COMPARISON),
        deps=[
            asset_key(study, TISSUE_TILES),
            dg.AssetDep(asset_key(study, EMBEDDINGS), partition_mapping=dg.AllPartitionMapping()),
        ],
        group_name=ANALYSIS,
        code_version=code_version(study.tissue, study.seed),
        description="Every pair of encoders held against each other as search engines",
        kinds={"numpy", "postgres"},
        required_resource_keys={"home"},
    )
    def retrieval_comparison(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
        home: Home = context.resources.home
        found = compare_retrieval(home, study, run_id=context.run.run_id)
        with Session(home.engine) as session:
            digest = session.get_one(Experiment, found.experiment_id).digest
        means = found.scores.pivot_table("value", "encoder", "metric", sort=False).reset_index()
        return dg.MaterializeResult(
            data_version=dg.DataVersion(digest),
            metadata={
                **stored("public.comparisons", len(found.comparisons)),
                "experiment_id": found.experiment_id,
                "mean_scores": table(means),
                "comparison": table(
                    found.comparisons.drop(columns=["task", "target", "leakage_note"])
                ),
            },
        )

    return retrieval_comparison
