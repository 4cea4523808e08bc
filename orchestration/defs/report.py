"""The report of a study as an asset that ``ffpe report`` materialises, outside of any run."""

import dagster as dg

from orchestration.experiments import TASK
from orchestration.luad_sources import EXPRESSION, gene_tasks
from orchestration.naming import (
    ANALYSIS,
    EXPRESSION_COMPARISON,
    MUTATION_COMPARISON,
    REPORT,
    RETRIEVAL_COMPARISON,
    TISSUE_COMPARISON,
    asset_key,
    robustness_of,
)
from orchestration.study import Study


def report_assets(study: Study) -> list[dg.AssetSpec]:
    """Where the report hangs in the graph: after everything that it shows."""
    tissue = [TISSUE_COMPARISON, robustness_of(TASK), RETRIEVAL_COMPARISON]
    names = [] if study.tissue is None else tissue
    for task in gene_tasks(study):
        comparison = EXPRESSION_COMPARISON if task == EXPRESSION else MUTATION_COMPARISON
        names += [comparison, robustness_of(task)]
    return [
        dg.AssetSpec(
            key=asset_key(study, REPORT),
            deps=[asset_key(study, name) for name in names],
            group_name=ANALYSIS,
            description="What the study found, as one page; `ffpe report` writes it",
            kinds={"html"},
        )
    ]
