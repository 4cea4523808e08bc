"""Experiments on genes: computing one, and comparing what was computed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from sqlalchemy.orm import Session

from analysis.patients import METRIC_OF_TASK
from featurestore import evidence, gene_results, results
from featurestore.ledger import record_rejects
from orchestration.clinical_baseline import CLINICAL
from orchestration.comparing import Compared, compare_scored
from orchestration.gene_inputs import GeneInputs, gene_inputs, load_gene_cohort
from orchestration.home import Home
from orchestration.luad_sources import MUTATION
from orchestration.pretraining_note import note_with_pretraining
from orchestration.resources import transaction
from orchestration.study import Study
from orchestration.study_sections import BASELINES

if TYPE_CHECKING:
    from analysis.patients import PatientCohort, PatientResult
    from analysis.predictable import Predictability


def score_genes(
    home: Home,
    study: Study,
    task: str,
    *,
    run_id: str | None,
    on_progress: Callable[[str, int, int], None],
) -> tuple[int, bool]:
    """Cross-validate every encoder on the study's patients; known results are kept.

    Returns
    -------
    (int, bool)
        The ``experiment_id``, and whether it was computed now.

    Raises
    ------
    LeakageError, StoreError, CohortError
        If the question must not or cannot be answered; see :mod:`analysis.cohort`.
    """
    from analysis.better_genes import better_genes
    from analysis.gene_tests import gene_tests

    with Session(home.engine) as session:
        inputs = gene_inputs(home, session, study, task)
        known = results.find_experiment(session, inputs.key)
        if known is not None:
            return known, False
        cohort, rejects = load_gene_cohort(home, session, study, task, inputs)
    result, predictable = _evaluate(cohort, inputs, task, on_progress)
    counts = better_genes(
        cohort,
        result,
        predictability=predictable,
        baselines={*BASELINES, CLINICAL},
        on_progress=_reporter(on_progress, f"{task}: exchange encoders"),
    )
    tests = gene_tests(
        cohort,
        result,
        n_components=inputs.key.settings.get("n_components"),
        baselines={*BASELINES, CLINICAL},
        on_progress=_reporter(on_progress, f"{task}: test genes"),
    )
    with transaction(home) as session:
        everything = [*inputs.rejects, *rejects, *result.rejects]
        record_rejects(session, study.name, everything, run_id=run_id)
        note = note_with_pretraining(
            session, study, result.leakage_note, inputs.version_ids, cohort.patient_ids
        )
        experiment_id = results.write_experiment(
            session,
            inputs.key,
            version_ids=inputs.version_ids,
            n_not_converged=result.n_not_converged,
            classes=(),
            leakage_checked=result.leakage_checked,
            leakage_note=note,
            run_id=run_id,
        )
        results.write_scores(session, experiment_id, inputs.version_ids, result.scores)
        _write_predictions(session, experiment_id, inputs, cohort, result)
        if predictable is not None:
            gene_results.write_predictability(
                session,
                experiment_id,
                inputs.version_ids,
                predictable.table,
                n_permutations=inputs.key.settings["n_permutations"],
            )
        gene_results.write_better_counts(session, experiment_id, counts)
        evidence.write_tests(session, experiment_id, tests)
    return experiment_id, True


def _evaluate(
    cohort: PatientCohort,
    inputs: GeneInputs,
    task: str,
    on_progress: Callable[[str, int, int], None],
) -> tuple[PatientResult, Predictability | None]:
    from analysis.expression import ExpressionSettings, evaluate_expression
    from analysis.mutation import MutationSettings, evaluate_mutation
    from analysis.predictable import predictability_test

    shared = {name: inputs.key.settings[name] for name in ("n_folds", "n_repeats", "seed")}
    if task == MUTATION:
        settings = MutationSettings(**shared)
        report = _reporter(on_progress, "mutation: cross-validate")
        return evaluate_mutation(cohort, settings, on_progress=report), None
    expression = ExpressionSettings(**shared, n_components=inputs.key.settings["n_components"])
    report = _reporter(on_progress, "expression: cross-validate")
    result = evaluate_expression(cohort, expression, on_progress=report)
    test = predictability_test(
        cohort,
        result,
        expression,
        n_permutations=inputs.key.settings["n_permutations"],
        n_repeats=min(2, expression.n_repeats),
        on_progress=_reporter(on_progress, "expression: permute"),
    )
    return result, test


def _reporter(
    on_progress: Callable[[str, int, int], None], what: str
) -> Callable[[int, int], None]:
    return lambda done, total: on_progress(what, done, total)


def _write_predictions(
    session: Session,
    experiment_id: int,
    inputs: GeneInputs,
    cohort: PatientCohort,
    result: PatientResult,
) -> None:
    observed = cohort.targets[list(result.targets)].to_numpy(dtype=float)
    for encoder, version_id in inputs.version_ids.items():
        predictions = gene_results.GenePredictions(
            patient_ids=cohort.patient_ids,
            targets=result.targets,
            observed=observed,
            folds=result.folds,
            predicted=result.predictions[encoder],
        )
        gene_results.write_gene_predictions(session, experiment_id, version_id, predictions)


def compare_genes(home: Home, study: Study, task: str) -> Compared:
    """Compare every pair of encoders gene by gene and let the study show the result.

    Raises
    ------
    StoreError
        If the scores of the study as it is now were not computed yet.
    """
    with transaction(home) as session:
        inputs = gene_inputs(home, session, study, task)
        return compare_scored(
            session,
            inputs.key,
            inputs.version_ids,
            rank_by=METRIC_OF_TASK[task],
            many_targets=True,
        )
