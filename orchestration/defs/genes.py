"""Assets of group analysis for patients: expression and mutation of genes."""

from typing import Any

import dagster as dg
import pandas as pd
from sqlalchemy.orm import Session

from analysis.patients import METRIC_OF_TASK
from featurestore import gene_results, result_frames
from featurestore.tables import Experiment
from orchestration.gene_experiments import compare_genes, score_genes
from orchestration.home import Home
from orchestration.luad_sources import EXPRESSION, MUTATION, gene_tasks
from orchestration.metadata import stored, table
from orchestration.naming import (
    ANALYSIS,
    CLINICAL_TABLE,
    EXPRESSION_COMPARISON,
    EXPRESSION_SCORES,
    EXPRESSION_TABLE,
    MUTATION_COMPARISON,
    MUTATION_SCORES,
    MUTATION_TABLE,
    PATIENT_FEATURES,
    asset_key,
    code_version,
)
from orchestration.study import Study

_NAMES = {
    EXPRESSION: (EXPRESSION_TABLE, EXPRESSION_SCORES, EXPRESSION_COMPARISON),
    MUTATION: (MUTATION_TABLE, MUTATION_SCORES, MUTATION_COMPARISON),
}


def gene_assets(study: Study) -> list[dg.AssetsDefinition]:
    """Scores and comparisons of every task that the study has tables for."""
    return [
        asset
        for task in gene_tasks(study)
        for asset in (_scores(study, task), _comparison(study, task))
    ]


def _scores(study: Study, task: str) -> dg.AssetsDefinition:
    source, name, _ = _NAMES[task]

    @dg.asset(
        key=asset_key(study, name),
        deps=[
            asset_key(study, source),
            *_clinical_dep(study),
            dg.AssetDep(
                asset_key(study, PATIENT_FEATURES), partition_mapping=dg.AllPartitionMapping()
            ),
        ],
        group_name=ANALYSIS,
        code_version=code_version(study.luad, study.seed),
        description=f"Repeated cross-validation of every encoder on {task}, patient by patient",
        kinds={"postgres"},
        required_resource_keys={"home", "progress"},
    )
    def scores(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
        home: Home = context.resources.home
        experiment_id, computed = score_genes(
            home,
            study,
            task,
            run_id=context.run.run_id,
            on_progress=lambda what, n, total: context.resources.progress(
                what, n, total, unit="steps"
            ),
        )
        with Session(home.engine) as session:
            experiment = session.get_one(Experiment, experiment_id)
            frame = result_frames.scores_frame(session, experiment_id)
            predictable = gene_results.predictability_frame(session, experiment_id)
            not_converged = result_frames.not_converged(session, experiment_id)
        means = frame.pivot_table("value", "encoder", "metric", sort=False).reset_index()
        metadata: dict[str, Any] = {
            **stored("public.cv_scores", len(frame), target="text", value="float8"),
            "experiment_id": experiment_id,
            "computed_now": computed,
            "n_genes": int(frame["target"].nunique()),
            "n_splits_not_converged": not_converged,
            "leakage_note": experiment.leakage_note,
            "mean_scores": table(means),
        }
        if not predictable.empty:
            metadata["predictable"] = table(_predictable_counts(predictable))
        return dg.MaterializeResult(
            data_version=dg.DataVersion(experiment.digest), metadata=metadata
        )

    return scores


def _clinical_dep(study: Study) -> list[dg.AssetKey]:
    has_table = study.luad is not None and study.luad.clinical is not None
    return [asset_key(study, CLINICAL_TABLE)] if has_table else []


def _predictable_counts(predictable: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "encoder": encoder,
                "n_genes": len(rows),
                "n_q_below_0.05": int((rows["q"] < 0.05).sum()),
                "n_p_below_0.05": int((rows["p"] < 0.05).sum()),
                "expected_p_below_0.05_by_chance": round(0.05 * len(rows), 1),
            }
            for encoder, rows in predictable.groupby("encoder", sort=False)
        ]
    )


def _comparison(study: Study, task: str) -> dg.AssetsDefinition:
    _, scores_name, name = _NAMES[task]

    @dg.asset(
        key=asset_key(study, name),
        deps=[asset_key(study, scores_name)],
        group_name=ANALYSIS,
        description=f"Encoders held against each other on {task}, gene by gene",
        kinds={"postgres"},
        required_resource_keys={"home"},
    )
    def comparison(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
        home: Home = context.resources.home
        found = compare_genes(home, study, task)
        comparisons = found.comparisons
        with Session(home.engine) as session:
            digest = session.get_one(Experiment, found.experiment_id).digest
            counts = gene_results.better_counts_frame(session, study.name)
        first = comparisons.iloc[0] if len(comparisons) else None
        shown = comparisons[comparisons["metric"] == METRIC_OF_TASK[task]]
        if first is not None:
            shown = shown[
                (shown["encoder_a"] == first["encoder_a"])
                & (shown["encoder_b"] == first["encoder_b"])
            ]
        return dg.MaterializeResult(
            data_version=dg.DataVersion(digest),
            metadata={
                **stored("public.comparisons", len(comparisons)),
                "better_counts": table(counts[counts["task"] == task].drop(columns="task")),
                "genes": table(
                    shown.sort_values("p")
                    .head(200)
                    .drop(columns=["task", "leakage_note", "leakage_checked"])
                ),
            },
        )

    return comparison
