"""Dagster's entry: the definitions of one or more studies.

``dg dev`` and the services of ``ffpe up`` load :func:`defs`, which reads the study files
named in ``FFPE_STUDIES`` (separated like a search path). Programs call
:func:`build_definitions` with studies of their own.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import dagster as dg

from orchestration.defs.analysis import analysis_assets
from orchestration.defs.checks import study_checks
from orchestration.defs.classes import class_assets
from orchestration.defs.features import feature_assets
from orchestration.defs.genes import gene_assets
from orchestration.defs.guards import guard_checks
from orchestration.defs.maps import map_assets
from orchestration.defs.models import model_assets
from orchestration.defs.report import report_assets
from orchestration.defs.robustness import robustness_assets
from orchestration.defs.search import search_assets
from orchestration.defs.slides import luad_source_assets
from orchestration.defs.sources import source_assets
from orchestration.resources import default_resources
from orchestration.study import Study, read_studies

STUDIES_VARIABLE = "FFPE_STUDIES"
_DEMO = Path(__file__).parents[1] / "studies" / "demo.toml"


def build_definitions(
    studies: Iterable[Study], resources: Mapping[str, object] | None = None
) -> dg.Definitions:
    """Everything that Dagster needs to know of these studies.

    Parameters
    ----------
    studies : iterable of Study
        With different names; each becomes the prefix of its assets' keys.
    resources : mapping, optional
        In place of those of :func:`orchestration.resources.default_resources`.
    """
    assets: list[dg.AssetsDefinition | dg.AssetSpec] = []
    checks: list[dg.AssetChecksDefinition] = []
    for study in studies:
        assets += source_assets(study) + model_assets(study)
        assets += luad_source_assets(study) + feature_assets(study) + class_assets(study)
        assets += map_assets(study) + search_assets(study)
        assets += [*analysis_assets(study), *gene_assets(study), *robustness_assets(study)]
        assets += report_assets(study)
        checks += study_checks(study) + guard_checks(study)
    return dg.Definitions(
        assets=assets,
        asset_checks=checks,
        resources={**default_resources(), **(resources or {})},
        # A step that needs torch then does not import it into every other process.
        executor=dg.multiprocess_executor.configured({"start_method": {"forkserver": {}}}),
    )


@dg.definitions
def defs() -> dg.Definitions:
    """The definitions of the studies named in the environment, or of the demo."""
    named = os.environ.get(STUDIES_VARIABLE, "")
    paths = [Path(part) for part in named.split(os.pathsep) if part] or [_DEMO]
    return build_definitions(read_studies(paths))
