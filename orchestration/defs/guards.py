"""Checks of the guards: a blocking leak stops what follows, any other is a warning."""

from collections.abc import Callable, Sequence
from typing import Any

import dagster as dg
import pandas as pd

from featurestore.guards import BLOCKING, GuardFinding, worst
from orchestration import cohort_guards, guards
from orchestration.experiments import TASK
from orchestration.home import Home
from orchestration.luad_sources import gene_tasks
from orchestration.metadata import table
from orchestration.naming import (
    EMBEDDINGS,
    FINETUNE_TILES,
    SLIDE_EMBEDDINGS,
    SLIDE_TILES,
    TISSUE_SCORES,
    TISSUE_TILES,
    asset_key,
)
from orchestration.study import Study

Look = Callable[[Home, dg.AssetCheckExecutionContext], list[GuardFinding]]


def guard_checks(study: Study) -> list[dg.AssetChecksDefinition]:
    """The guards of a study, each a check of the asset that it looks at."""
    checks = []
    for asset, embeddings in _evaluated(study):
        checks.append(_within(study, asset))
        if study.finetune is not None:
            checks += [_copies(study, asset), _features(study, asset, embeddings)]
    for asset in _labelled(study):
        checks.append(_artefacts(study, asset))
    if study.luad is not None:
        checks.append(_slides(study))
    if study.tissue is not None:
        checks += [_folds(study, TASK, TISSUE_SCORES), _pretraining(study, TASK, TISSUE_SCORES)]
    for task in gene_tasks(study):
        scores = f"{task}_scores"
        checks += [_folds(study, task, scores), _pretraining(study, task, scores)]
        checks.append(_sites(study, task, scores))
    return checks


def _evaluated(study: Study) -> list[tuple[str, str]]:
    pairs = [] if study.tissue is None else [(TISSUE_TILES, EMBEDDINGS)]
    return pairs + ([] if study.luad is None else [(SLIDE_TILES, SLIDE_EMBEDDINGS)])


def _labelled(study: Study) -> list[str]:
    sections = {FINETUNE_TILES: study.finetune, TISSUE_TILES: study.tissue}
    return [name for name, section in sections.items() if section is not None]


def _copies(study: Study, asset: str) -> dg.AssetChecksDefinition:
    return _check(
        study,
        asset,
        "no_copy_of_a_fine_tuning_tile",
        "No tile is a changed copy of one that is fine-tuned on, by perceptual hash",
        lambda home, context: guards.look_for_copies(
            home, study, asset, run_id=context.run.run_id, on_progress=_progress(context, asset)
        ),
        deps=[FINETUNE_TILES],
    )


def _within(study: Study, asset: str) -> dg.AssetChecksDefinition:
    return _check(
        study,
        asset,
        "no_copy_under_another_patient",
        "No two tiles of different patients are copies of each other",
        lambda home, context: guards.look_within(
            home, study, asset, run_id=context.run.run_id, on_progress=_progress(context, asset)
        ),
    )


def _features(study: Study, asset: str, embeddings: str) -> dg.AssetChecksDefinition:
    def look(home: Home, context: dg.AssetCheckExecutionContext) -> list[GuardFinding]:
        partition = context.run.tags.get("dagster/partition")
        found = []
        for name in [partition] if partition else [entry.name for entry in study.encoders]:
            found += guards.look_at_features(
                home,
                study,
                asset,
                name,
                run_id=context.run.run_id,
                on_progress=_progress(context, FINETUNE_TILES),
            )
        return found

    return _check(
        study,
        embeddings,
        "no_copy_by_features",
        "No tile is a changed copy of one that is fine-tuned on, by features and hash",
        look,
    )


def _artefacts(study: Study, asset: str) -> dg.AssetChecksDefinition:
    return _check(
        study,
        asset,
        "label_not_told_by_artefacts",
        "Labels cannot be told from file size, JPEG quality, name or mean colour alone",
        lambda home, context: guards.look_at_artefacts(
            home, study, asset, run_id=context.run.run_id, on_progress=_progress(context, asset)
        ),
        blocking=False,
    )


def _slides(study: Study) -> dg.AssetChecksDefinition:
    return _check(
        study,
        SLIDE_TILES,
        "no_slide_of_two_patients",
        "No slide's tiles stand under two patients",
        lambda home, context: guards.look_at_slides(
            home, study, SLIDE_TILES, run_id=context.run.run_id
        ),
    )


def _folds(study: Study, task: str, scores: str) -> dg.AssetChecksDefinition:
    return _check(
        study,
        scores,
        "no_patient_in_two_folds",
        "No patient (or site, where folds keep them whole) is in two folds of a repeat",
        lambda home, context: guards.look_at_folds(home, study, task, run_id=context.run.run_id),
    )


def _pretraining(study: Study, task: str, scores: str) -> dg.AssetChecksDefinition:
    return _check(
        study,
        scores,
        "not_pretrained_on_these_patients",
        "No encoder that was pre-trained on TCGA is judged on TCGA patients",
        lambda home, context: cohort_guards.look_at_pretraining(
            home, study, task, run_id=context.run.run_id
        ),
        blocking=False,
    )


def _sites(study: Study, task: str, scores: str) -> dg.AssetChecksDefinition:
    def look(home: Home, context: dg.AssetCheckExecutionContext) -> list[GuardFinding]:
        found = cohort_guards.look_at_sites(home, study, task, run_id=context.run.run_id)
        return [finding for findings in found.values() for finding in findings]

    return _check(
        study,
        scores,
        "target_not_told_by_site",
        "The tissue source site does not tell what is predicted, nor do features tell the site",
        look,
        blocking=False,
    )


def _progress(context: dg.AssetCheckExecutionContext, asset: str) -> Callable[[int, int], None]:
    def report(n: int, total: int) -> None:
        context.resources.progress(f"look for leaks in {asset}", n, total)

    return report


def _check(
    study: Study,
    asset: str,
    name: str,
    description: str,
    look: Look,
    *,
    deps: Sequence[str] = (),
    blocking: bool = True,
) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=asset_key(study, asset),
        additional_deps=[asset_key(study, other) for other in deps],
        name=name,
        description=description,
        blocking=blocking,
        required_resource_keys={"home", "progress"},
    )
    def guard(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        return _result(look(context.resources.home, context))

    return guard


def _result(findings: list[GuardFinding]) -> dg.AssetCheckResult:
    if not findings:
        return dg.AssetCheckResult(passed=True, description="there is nothing to look for here")
    leaks = [finding for finding in findings if finding.passed is False]
    blocks = [finding for finding in leaks if finding.severity == BLOCKING]
    told = blocks or leaks or [worst(findings)]
    remedy = ". Remove them from one of the two, and run again." if blocks else ""
    return dg.AssetCheckResult(
        passed=not leaks,
        severity=dg.AssetCheckSeverity.ERROR if blocks else dg.AssetCheckSeverity.WARN,
        description="; ".join(finding.summary for finding in told) + remedy,
        metadata=_metadata(findings),
    )


def _metadata(findings: list[GuardFinding]) -> dict[str, Any]:
    names = ("guard", "part", "passed", "severity", "measured", "unit", "threshold", "summary")
    rows = [[str(getattr(finding, name)) for name in names] for finding in findings]
    return {"findings": table(pd.DataFrame(rows, columns=list(names)))}
