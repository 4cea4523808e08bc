"""Assets of group features: what classes the slides' tiles are of, and which are tumour."""

from functools import partial
from typing import Any

import dagster as dg
import pandas as pd
from sqlalchemy.orm import Session

from featurestore import versions
from featurestore.model_versions import content_sha256
from featurestore.study_datasets import study_dataset
from featurestore.tile_classes import class_counts
from orchestration.home import Home
from orchestration.metadata import stored, table
from orchestration.naming import (
    FEATURES,
    SLIDE_EMBEDDINGS,
    SLIDE_TILES,
    TILE_CLASSES,
    TUMOUR_TILES,
    asset_key,
    code_version,
)
from orchestration.study import Study
from orchestration.study_encoders import EncoderEntry
from orchestration.tile_selection import classifier_version, classify_tiles, select_tumour


def class_assets(study: Study) -> list[dg.AssetsDefinition]:
    """Classes of the slides' tiles where a fine-tuned encoder tells them; the tumour if asked."""
    classifier = study.classifier()
    if study.luad is None or classifier is None:
        return []
    assets = [_tile_classes(study, classifier)]
    return assets + ([_tumour_tiles(study)] if study.luad.tiles == "tumour" else [])


def _tile_classes(study: Study, classifier: EncoderEntry) -> dg.AssetsDefinition:
    embeddings = dg.AssetDep(
        asset_key(study, SLIDE_EMBEDDINGS),
        partition_mapping=dg.SpecificPartitionsPartitionMapping([classifier.name]),
    )

    @dg.asset(
        key=asset_key(study, TILE_CLASSES),
        deps=[embeddings],
        group_name=FEATURES,
        description=f"Class probabilities of the slides' tiles, by {classifier.name}'s classifier",
        kinds={"pytorch", "postgres"},
        required_resource_keys={"home", "progress"},
    )
    def tile_classes(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
        home: Home = context.resources.home
        progress = partial(context.resources.progress, "classify tiles", unit="tiles")
        n_new = classify_tiles(home, study, progress)
        with Session(home.engine) as session:
            version_id = classifier_version(session, study)
            version = versions.load(session, version_id)
            dataset = study_dataset(session, study.name, SLIDE_TILES)
            counts = class_counts(session, version_id, dataset.dataset_id)
        return dg.MaterializeResult(
            data_version=dg.DataVersion(content_sha256([version.sha256, dataset.digest])),
            metadata={
                **stored(
                    "public.tile_classes",
                    int(counts["n_tiles"].sum()) * len(counts),
                    model_version_id="bigint",
                    tile_id="bigint",
                    label="text",
                    probability="real",
                ),
                "model_version_sha256": version.sha256,
                "n_new": n_new,
                "most_probable_class": table(counts),
            },
        )

    return tile_classes


def _tumour_tiles(study: Study) -> dg.AssetsDefinition:
    @dg.asset(
        key=asset_key(study, TUMOUR_TILES),
        deps=[asset_key(study, TILE_CLASSES)],
        group_name=FEATURES,
        code_version=code_version(study.luad),
        description="The slides' tumour tiles: those that stand for their patients",
        kinds={"postgres"},
        required_resource_keys={"home"},
    )
    def tumour_tiles(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
        home: Home = context.resources.home
        written = select_tumour(home, study, run_id=context.run.run_id)
        with Session(home.engine) as session:
            n_all = study_dataset(session, study.name, SLIDE_TILES).n_tiles
        return dg.MaterializeResult(
            data_version=dg.DataVersion(written.digest),
            metadata={
                **stored("public.dataset_tiles", written.n_tiles),
                "n_slide_tiles": n_all,
                "n_rejects": len(written.rejects),
                "rejects": table(
                    pd.DataFrame(
                        [(reject.item, reject.reason) for reject in written.rejects[:50]],
                        columns=["item", "reason"],
                    )
                ),
            },
        )

    return tumour_tiles
