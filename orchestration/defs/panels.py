"""Assets of group analysis: panels of tiles for the best-predicted genes."""

from typing import Any

import dagster as dg
from sqlalchemy.orm import Session

from featurestore.gene_panels import panel_tiles_frame, panels_frame
from featurestore.tables import Experiment
from orchestration.gene_panels import make_panels
from orchestration.home import Home
from orchestration.luad_sources import EXPRESSION, MUTATION, gene_tasks
from orchestration.metadata import picture, stored, table
from orchestration.naming import (
    ANALYSIS,
    EXPRESSION_COMPARISON,
    EXPRESSION_PANELS,
    MUTATION_COMPARISON,
    MUTATION_PANELS,
    asset_key,
)
from orchestration.study import Study

_NAMES = {
    EXPRESSION: (EXPRESSION_COMPARISON, EXPRESSION_PANELS),
    MUTATION: (MUTATION_COMPARISON, MUTATION_PANELS),
}


def panel_assets(study: Study) -> list[dg.AssetsDefinition]:
    """The panels of every task that the study has tables for."""
    return [_panels(study, task) for task in gene_tasks(study)]


def _panels(study: Study, task: str) -> dg.AssetsDefinition:
    comparison, name = _NAMES[task]

    @dg.asset(
        key=asset_key(study, name),
        deps=[asset_key(study, comparison)],
        group_name=ANALYSIS,
        description=f"Tiles that the models of {task} take for high and for low, of the genes "
        "that are predicted best",
        kinds={"postgres"},
        required_resource_keys={"home", "progress"},
    )
    def panels(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
        from analysis.figure_style import png
        from orchestration.report.tile_panels import tile_panels

        home: Home = context.resources.home
        experiment_id = make_panels(
            home,
            study,
            task,
            run_id=context.run.run_id,
            on_progress=lambda n, total: context.resources.progress(
                f"{task}: rank tiles", n, total, unit="patients"
            ),
        )
        with Session(home.engine) as session:
            experiment = session.get_one(Experiment, experiment_id)
            n_tiles = len(panel_tiles_frame(session, experiment_id))
            metadata: dict[str, Any] = {
                **stored("public.gene_panel_tiles", n_tiles),
                "genes": table(panels_frame(session, experiment_id)),
            }
            for panel in tile_panels(session, experiment):
                metadata[panel.name] = picture(png(panel.drawing, dpi=72), panel.title)
            digest = experiment.digest
        return dg.MaterializeResult(data_version=dg.DataVersion(digest), metadata=metadata)

    return panels
