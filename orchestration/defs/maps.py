"""Assets of group features: maps of the study's tiles, for people to look at."""

from typing import Any

import dagster as dg
from sqlalchemy.orm import Session

from featurestore import versions
from featurestore.model_versions import content_sha256
from featurestore.tile_maps import map_frame
from orchestration.home import Home
from orchestration.imports import tiles_of
from orchestration.map_making import make_maps
from orchestration.metadata import picture, stored
from orchestration.naming import (
    EMBEDDINGS,
    FEATURES,
    SLIDE_EMBEDDINGS,
    TILE_MAPS,
    asset_key,
    code_version,
    encoder_partitions,
    evaluated_tiles,
)
from orchestration.registry import pointer_of
from orchestration.study import Study


def map_assets(study: Study) -> list[dg.AssetsDefinition]:
    """The maps of a study's tiles, one partition an encoder."""
    given = {EMBEDDINGS: study.tissue, SLIDE_EMBEDDINGS: study.luad}
    deps = [asset_key(study, name) for name, section in given.items() if section is not None]
    if not deps:
        return []

    @dg.asset(
        key=asset_key(study, TILE_MAPS),
        deps=deps,
        partitions_def=encoder_partitions(study),
        group_name=FEATURES,
        code_version=code_version(study.seed),
        description="Tiles laid out in two dimensions by UMAP; a picture, never evidence",
        kinds={"postgres"},
        required_resource_keys={"home"},
    )
    def tile_maps(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
        from analysis.figure_style import png
        from analysis.map_figure import map_figure

        home: Home = context.resources.home
        encoder = context.partition_key
        make_maps(home, study, encoder)
        metadata: dict[str, Any] = {}
        n_points, digests = 0, []
        with Session(home.engine) as session:
            version_id = pointer_of(session, study, encoder).model_version_id
            digests.append(versions.load(session, version_id).sha256)
            for name in evaluated_tiles(study):
                dataset = tiles_of(session, study, encoder, name)
                points = map_frame(session, version_id, dataset.dataset_id)
                digests.append(dataset.digest)
                n_points += len(points)
                metadata[name] = picture(png(map_figure(points)), f"{name} by {encoder}")
        return dg.MaterializeResult(
            data_version=dg.DataVersion(content_sha256([*digests, study.seed])),
            metadata={**stored("public.tile_map_points", n_points), **metadata},
        )

    return [tile_maps]
