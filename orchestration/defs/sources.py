"""Assets of group sources: folders of tiles become data sets."""

from typing import Any

import dagster as dg
import pandas as pd
from sqlalchemy.orm import Session

from featurestore.datasets import class_counts
from orchestration.home import Home
from orchestration.metadata import stored, table
from orchestration.naming import FINETUNE_TILES, SOURCES, TISSUE_TILES, asset_key, code_version
from orchestration.progress import ProgressReporter
from orchestration.study import Study
from orchestration.study_sections import TileSource
from orchestration.tile_sources import take_in


def source_assets(study: Study) -> list[dg.AssetsDefinition]:
    """The data sets of a study's sections."""
    assets = []
    if study.finetune is not None:
        what = "Labelled tiles that encoders are fine-tuned on"
        assets.append(_tiles_asset(study, FINETUNE_TILES, study.finetune, what))
    if study.tissue is not None:
        what = "Labelled tiles that encoders are compared on"
        assets.append(_tiles_asset(study, TISSUE_TILES, study.tissue, what))
    return assets


def _tiles_asset(study: Study, name: str, source: TileSource, what: str) -> dg.AssetsDefinition:
    @dg.asset(
        key=asset_key(study, name),
        group_name=SOURCES,
        description=what,
        code_version=code_version(_read_settings(source)),
        kinds={"postgres"},
        required_resource_keys={"home", "progress"},
    )
    def tiles(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
        home: Home = context.resources.home
        progress: ProgressReporter = context.resources.progress
        taken = take_in(
            home,
            study,
            name,
            source,
            run_id=context.run.run_id,
            on_progress=lambda done, total: progress(f"read {name}", done, total),
        )
        written = taken.written
        with Session(home.engine) as session:
            counts = class_counts(session, written.dataset_id)
        if written.rejects:
            context.log.warning("%d file(s) rejected; see the ledger", len(written.rejects))
        return dg.MaterializeResult(
            data_version=dg.DataVersion(written.digest),
            metadata={
                **stored("public.dataset_tiles", written.n_tiles, label="text", path="text"),
                "folder": dg.MetadataValue.path(taken.root),
                "n_new_tiles": written.n_new_tiles,
                "n_tiles_known_before": written.n_tiles - written.n_new_tiles,
                "n_rejects": len(written.rejects),
                "classes": table(pd.DataFrame(counts.items(), columns=["label", "n_tiles"])),
                "rejects": table(
                    pd.DataFrame(
                        [(reject.item, reject.reason) for reject in written.rejects[:50]],
                        columns=["item", "reason"],
                    )
                ),
            },
        )

    return tiles


def _read_settings(source: TileSource) -> TileSource:
    # Of a section that has more keys, those that reading its tiles depends on.
    return TileSource.model_construct(tiles=source.tiles, patients=source.patients, mpp=source.mpp)
