"""Assets of group analysis: features become scores, and scores become comparisons."""

from typing import Any

import dagster as dg
from sqlalchemy.orm import Session

from featurestore import result_frames
from featurestore.new_folder import write_whole
from featurestore.tables import Experiment
from orchestration.experiments import compare_tissue, score_tissue
from orchestration.home import Home
from orchestration.metadata import picture, stored, table
from orchestration.naming import (
    ANALYSIS,
    EMBEDDINGS,
    TISSUE_COMPARISON,
    TISSUE_SCORES,
    TISSUE_TILES,
    asset_key,
    code_version,
)
from orchestration.study import Study


def analysis_assets(study: Study) -> list[dg.AssetsDefinition]:
    """The scores and comparisons of a study."""
    return [] if study.tissue is None else [_scores(study), _comparison(study)]


def _scores(study: Study) -> dg.AssetsDefinition:
    @dg.asset(
        key=asset_key(study, TISSUE_SCORES),
        deps=[
            asset_key(study, TISSUE_TILES),
            dg.AssetDep(asset_key(study, EMBEDDINGS), partition_mapping=dg.AllPartitionMapping()),
        ],
        group_name=ANALYSIS,
        code_version=code_version(study.tissue, study.seed),
        description="Repeated cross-validation of every encoder on identical splits",
        kinds={"sklearn", "postgres"},
        required_resource_keys={"home", "progress"},
    )
    def tissue_scores(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
        from analysis.figure_style import png
        from analysis.figures import confusion_figure

        home: Home = context.resources.home
        experiment_id, computed = score_tissue(
            home,
            study,
            run_id=context.run.run_id,
            on_progress=lambda n, total: context.resources.progress(
                "cross-validate", n, total, unit="splits"
            ),
        )
        with Session(home.engine) as session:
            experiment = session.get_one(Experiment, experiment_id)
            scores = result_frames.scores_frame(session, experiment_id)
            counts = result_frames.confusion_counts(session, experiment_id)
            n_not_converged = result_frames.not_converged(session, experiment_id)
        overall = scores[scores["target"] == "all"]
        means = overall.pivot_table("value", "encoder", "metric", sort=False).reset_index()
        figure = confusion_figure(counts, experiment.classes or [])
        return dg.MaterializeResult(
            data_version=dg.DataVersion(experiment.digest),
            metadata={
                **stored("public.cv_scores", len(scores), target="text", value="float8"),
                "experiment_id": experiment_id,
                "computed_now": computed,
                "n_splits_not_converged": n_not_converged,
                "leakage_checked": experiment.leakage_checked,
                "leakage_note": experiment.leakage_note,
                "mean_scores": table(means),
                "confusion": picture(png(figure), "confusion matrices"),
            },
        )

    return tissue_scores


def _comparison(study: Study) -> dg.AssetsDefinition:
    @dg.asset(
        key=asset_key(study, TISSUE_COMPARISON),
        deps=[asset_key(study, TISSUE_SCORES)],
        group_name=ANALYSIS,
        description="Every pair of encoders held against each other, with corrected p-values",
        kinds={"postgres"},
        required_resource_keys={"home", "progress"},
    )
    def tissue_comparison(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
        from analysis.figure_style import png
        from analysis.figures import comparison_figure

        home: Home = context.resources.home
        found = compare_tissue(home, study)
        comparisons = found.comparisons
        image = png(comparison_figure(found.scores, comparisons))
        path = home.comparison_figure(study.name)
        write_whole(path, image)
        with Session(home.engine) as session:
            digest = session.get_one(Experiment, found.experiment_id).digest
        overall = comparisons[comparisons["target"] == "all"]
        return dg.MaterializeResult(
            data_version=dg.DataVersion(digest),
            metadata={
                **stored("public.comparisons", len(comparisons)),
                "comparison": table(overall.drop(columns=["task", "target", "leakage_note"])),
                "per_class": table(
                    comparisons[comparisons["target"] != "all"].drop(
                        columns=["task", "leakage_note"]
                    )
                ),
                "figure": picture(image, "comparison of encoders"),
                "figure_file": dg.MetadataValue.path(path),
            },
        )

    return tissue_comparison
