"""Assets of group analysis that ask whether something else explains a result."""

from typing import Any

import dagster as dg
from sqlalchemy.orm import Session

from featurestore import evidence, results
from featurestore.model_versions import content_sha256
from orchestration.experiments import TASK, tissue_inputs
from orchestration.gene_inputs import gene_inputs
from orchestration.home import Home
from orchestration.luad_sources import gene_tasks
from orchestration.metadata import stored, table
from orchestration.naming import ANALYSIS, asset_key, code_version, robustness_of
from orchestration.robustness import check_genes, check_tissue
from orchestration.study import Study

_TABLES = {
    evidence.FOLDS: "public.fold_optimism",
    evidence.STRATA: "public.stratum_differences",
    evidence.ADDED_VALUE: "public.added_value",
}


def robustness_assets(study: Study) -> list[dg.AssetsDefinition]:
    """One a task: other folds, strata, and what features add to clinical variables."""
    tasks = ([] if study.tissue is None else [TASK]) + gene_tasks(study)
    return [_robustness(study, task) for task in tasks]


def _robustness(study: Study, task: str) -> dg.AssetsDefinition:
    @dg.asset(
        key=asset_key(study, robustness_of(task)),
        deps=[asset_key(study, f"{task}_comparison")],
        group_name=ANALYSIS,
        code_version=code_version(study.tissue if task == TASK else study.luad, study.seed),
        description=f"Whether folds, strata or clinical variables explain the results of {task}",
        kinds={"postgres"},
        required_resource_keys={"home", "progress"},
    )
    def robustness(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
        home: Home = context.resources.home

        def report(what: str, n: int, total: int) -> None:
            context.resources.progress(what, n, total, unit="steps")

        if task == TASK:
            n_rows = {evidence.FOLDS: len(check_tissue(home, study, on_progress=report))}
        else:
            n_rows = check_genes(home, study, task, on_progress=report)
        with Session(home.engine) as session:
            if task == TASK:
                key = tissue_inputs(session, study).key
            else:
                key = gene_inputs(home, session, study, task).key
            notes = evidence.robustness_notes(session, study.name)
            folds = evidence.robustness_frame(session, study.name, evidence.FOLDS)
            experiment_id = results.find_experiment(session, key)
        means = folds[folds["task"] == task].groupby(["encoder", "metric"], sort=False)
        return dg.MaterializeResult(
            data_version=dg.DataVersion(content_sha256([key.digest, "robustness"])),
            metadata={
                **stored(_TABLES[evidence.FOLDS], n_rows[evidence.FOLDS]),
                "experiment_id": experiment_id,
                **{f"n_rows_{_TABLES[kind]}": n for kind, n in n_rows.items()},
                "left_out": table(notes[notes["task"] == task].drop(columns="task")),
                "optimism": table(means["optimism"].mean().reset_index()),
            },
        )

    return robustness
