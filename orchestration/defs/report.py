"""The report of a study as an asset that ``ffpe report`` materialises, outside of any run."""

import dagster as dg

from orchestration.luad_sources import EXPRESSION, gene_tasks
from orchestration.naming import (
    ANALYSIS,
    EXPRESSION_COMPARISON,
    EXPRESSION_PANELS,
    MUTATION_COMPARISON,
    MUTATION_PANELS,
    REPORT,
    RETRIEVAL_COMPARISON,
    TISSUE_COMPARISON,
    asset_key,
)
from orchestration.study import Study


def report_assets(study: Study) -> list[dg.AssetSpec]:
    """Where the report hangs in the graph: after everything that it shows."""
    names = [] if study.tissue is None else [TISSUE_COMPARISON, RETRIEVAL_COMPARISON]
    for task in gene_tasks(study):
        names += (
            [EXPRESSION_COMPARISON, EXPRESSION_PANELS]
            if task == EXPRESSION
            else [MUTATION_COMPARISON, MUTATION_PANELS]
        )
    return [
        dg.AssetSpec(
            key=asset_key(study, REPORT),
            deps=[asset_key(study, name) for name in names],
            group_name=ANALYSIS,
            description="What the study found, as one page; `ffpe report` writes it",
            kinds={"html"},
        )
    ]
