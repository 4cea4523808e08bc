"""Robustness of a study's results: other folds, strata, and what features add to clinical data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING

from sqlalchemy.orm import Session

from analysis.patients import METRIC_OF_TASK
from featurestore import evidence, gene_results, result_frames, results
from featurestore.errors import CohortError
from featurestore.evidence import ADDED_VALUE, FOLDS, STRATA
from featurestore.molecular_frames import clinical_frame
from featurestore.prediction_frames import gene_predictions_frame
from featurestore.results import ExperimentKey
from orchestration.comparing import scored_experiment
from orchestration.experiments import TASK, tissue_inputs
from orchestration.gene_inputs import GeneInputs, gene_inputs, load_gene_cohort
from orchestration.home import Home
from orchestration.luad_sources import EXPRESSION, clinical_source, luad_section
from orchestration.resources import transaction
from orchestration.study import Study
from orchestration.study_sections import BASELINES, CLINICAL

if TYPE_CHECKING:
    import pandas as pd

    from analysis.confounders import GenePredictions
    from analysis.patients import PatientCohort

    Found = tuple[pd.DataFrame, str]

N_REPEATS = 10
"""Repeats of the folds that the experiment itself does not use: its mean is all that is asked."""

N_GENES = 12
"""Genes whose strata and added value are looked at: those predicted best."""

_NO_GENE = "no gene is predictable with any encoder, so there is no difference to explain"
OnProgress = Callable[[str, int, int], None]


def is_checked(session: Session, key: ExperimentKey) -> bool:
    """Whether every check of the experiment's robustness was made, or has its reason."""
    experiment_id = results.find_experiment(session, key)
    if experiment_id is None:
        return False
    wanted = {FOLDS} if key.task == TASK else {FOLDS, STRATA, ADDED_VALUE}
    return wanted <= evidence.known_kinds(session, experiment_id)


def check_tissue(home: Home, study: Study, *, on_progress: OnProgress) -> pd.DataFrame:
    """Judge the study's encoders under random folds as well, where its own keep patients whole.

    Returns
    -------
    DataFrame
        Columns :data:`featurestore.evidence.FOLD_COLUMNS`.

    Raises
    ------
    StoreError
        If the study was not scored as it is now.
    """
    from analysis.cohort import load_tissue_cohort
    from analysis.fold_optimism import fold_optimism
    from analysis.splits import patient_groups
    from analysis.tissue import TissueSettings, evaluate_tissue

    with Session(home.engine) as session:
        inputs = tissue_inputs(session, study)
        experiment_id = scored_experiment(session, inputs.key)
        own = result_frames.scores_frame(session, experiment_id)
        cohort = load_tissue_cohort(
            session,
            study=study.name,
            dataset_id=inputs.dataset_id,
            version_ids=inputs.version_ids,
        )
    groups, _, note = patient_groups(cohort.patients, len(cohort.labels))
    found, n_repeats = _none(evidence.FOLD_COLUMNS), 0
    if groups is None:
        note = f"folds are dealt at random, and there is nothing to keep whole: {note}"
    else:
        settings = TissueSettings(**inputs.key.settings)
        n_repeats = min(N_REPEATS, settings.n_repeats)
        random = evaluate_tissue(
            replace(cohort, patients=None),
            replace(settings, n_repeats=n_repeats),
            on_progress=lambda n, total: on_progress("tissue: random folds", n, total),
        )
        found = fold_optimism(random.scores, own).assign(kept="patient", n_repeats=n_repeats)
        note = ""
    with transaction(home) as session:
        evidence.write_robustness(
            session, experiment_id, FOLDS, found, note=note, version_ids=inputs.version_ids
        )
    return found


def check_genes(home: Home, study: Study, task: str, *, on_progress: OnProgress) -> dict[str, int]:
    """Look at other folds, strata and added value of a task on genes.

    Returns
    -------
    dict of str to int
        Rows of every check of :data:`featurestore.evidence.KINDS`.

    Raises
    ------
    StoreError
        If the study was not scored as it is now.
    """
    with Session(home.engine) as session:
        inputs = gene_inputs(home, session, study, task)
        experiment_id = scored_experiment(session, inputs.key)
        cohort, _ = load_gene_cohort(home, session, study, task, inputs)
        sites = _sites(session, inputs, cohort)
        own = result_frames.scores_frame(session, experiment_id)
        genes = _genes(session, experiment_id, task, own, cohort)
        clinical = _clinical(home, session, study, cohort)
    networks = [name for name in cohort.features if name not in {*BASELINES, CLINICAL}]
    found = {
        FOLDS: _other_folds(study, task, inputs, cohort, sites, own, on_progress),
        STRATA: _strata(task, genes, networks, clinical, sites, study.seed, on_progress),
        ADDED_VALUE: _added(task, genes, networks, cohort, study.seed, on_progress),
    }
    with transaction(home) as session:
        return {
            kind: evidence.write_robustness(
                session,
                experiment_id,
                kind,
                table,
                note=note,
                version_ids=inputs.version_ids,
            )
            for kind, (table, note) in found.items()
        }


def _sites(session: Session, inputs: GeneInputs, cohort: PatientCohort) -> pd.Series[str]:
    """Tissue source site of every patient of a cohort, None where there is none."""
    from featurestore.patient_features import pooled_counts

    first = next(iter(cohort.features))
    counts = pooled_counts(session, inputs.version_ids[first], inputs.dataset_of(first))
    sites = counts.set_index("patient_id")["tissue_source_site"]
    return sites.reindex(list(cohort.patient_ids))


def _clinical(
    home: Home, session: Session, study: Study, cohort: PatientCohort
) -> pd.DataFrame | None:
    """Every clinical column as text by patient, or None for a study without a table."""
    if luad_section(study).clinical is None:
        return None
    source = clinical_source(home, session, study)
    return clinical_frame(session, source.source_id, patients=list(cohort.patient_ids))


def _genes(
    session: Session, experiment_id: int, task: str, scores: pd.DataFrame, cohort: PatientCohort
) -> list[GenePredictions]:
    """The genes that are predicted best, with what every encoder predicts of them."""
    from analysis.confounders import predictions_of

    of_metric = scores[scores["metric"] == METRIC_OF_TASK[task]]
    means = of_metric.groupby(["encoder", "target"])["value"].mean().unstack("encoder")
    best = means.max(axis=1).sort_values(ascending=False, kind="stable")
    if task == EXPRESSION:
        predictable = gene_results.predictability_frame(session, experiment_id)
        best = best[best.index.isin(predictable.loc[predictable["q"] < 0.05, "target"])]
    chosen = [str(gene) for gene in best.index[:N_GENES]]
    frames = {
        name: gene_predictions_frame(session, experiment_id, name, chosen)
        for name in cohort.features
    }
    return [predictions_of(frames, gene) for gene in chosen]


def _other_folds(
    study: Study,
    task: str,
    inputs: GeneInputs,
    cohort: PatientCohort,
    sites: pd.Series[str],
    own: pd.DataFrame,
    on_progress: OnProgress,
) -> Found:
    """The kind of folds that the study does not use: whole sites, or patients alone."""
    from analysis.expression import ExpressionSettings, evaluate_expression
    from analysis.fold_optimism import fold_optimism
    from analysis.mutation import MutationSettings, evaluate_mutation

    if sites.isna().any():
        note = f"{int(sites.isna().sum())} of {len(sites)} patients have no tissue source site"
        return _none(evidence.FOLD_COLUMNS), note
    settings = {name: inputs.key.settings[name] for name in ("n_folds", "seed")}
    n_repeats = min(N_REPEATS, inputs.key.settings["n_repeats"])
    by_site = luad_section(study).group == "site"
    other = replace(cohort, groups=None if by_site else sites.to_numpy(dtype=object))

    def report(n: int, total: int) -> None:
        on_progress(f"{task}: {'random' if by_site else 'site-preserved'} folds", n, total)

    try:
        if task == EXPRESSION:
            components = inputs.key.settings["n_components"]
            result = evaluate_expression(
                other,
                ExpressionSettings(**settings, n_repeats=n_repeats, n_components=components),
                on_progress=report,
            )
        else:
            result = evaluate_mutation(
                other, MutationSettings(**settings, n_repeats=n_repeats), on_progress=report
            )
    except CohortError as error:
        return _none(evidence.FOLD_COLUMNS), f"the other folds cannot be dealt: {error}"
    pair = (result.scores, own) if by_site else (own, result.scores)
    found = fold_optimism(*pair).assign(kept="site", n_repeats=n_repeats)
    lost = [reject.item for reject in result.rejects if reject.item in set(own["target"])]
    note = f"not to be judged under the other folds: {', '.join(lost)}" if lost else ""
    return found, note


def _strata(
    task: str,
    genes: list[GenePredictions],
    networks: list[str],
    clinical: pd.DataFrame | None,
    sites: pd.Series[str],
    seed: int,
    on_progress: OnProgress,
) -> Found:
    import pandas as pd

    from analysis.confounders import clinical_strata, strata_of_genes

    table = pd.DataFrame(index=sites.index) if clinical is None else clinical
    strata = clinical_strata(table, sites)
    pairs = list(combinations(networks, 2))
    if not genes or not pairs or strata.empty:
        note = "there are no two networks to compare" if genes and not pairs else _NO_GENE
        return _none(evidence.STRATUM_COLUMNS), note
    found, note = strata_of_genes(
        genes,
        pairs,
        strata,
        metric=METRIC_OF_TASK[task],
        seed=seed,
        on_progress=lambda n, total: on_progress(f"{task}: strata", n, total),
    )
    if clinical is None:
        note = "; ".join(filter(None, ["the study has no clinical table: sites only", note]))
    if found.empty and not note:
        note = "every stratification has one value only"
    return found, note


def _added(
    task: str,
    genes: list[GenePredictions],
    networks: list[str],
    cohort: PatientCohort,
    seed: int,
    on_progress: OnProgress,
) -> Found:
    import pandas as pd

    from analysis.confounders import added_value_of_genes

    if CLINICAL not in cohort.features or not genes:
        note = _NO_GENE if CLINICAL in cohort.features else "the study has no clinical table"
        return _none(evidence.ADDED_COLUMNS), note
    by_patient = {
        name: pd.DataFrame(matrix, index=list(cohort.patient_ids))
        for name, matrix in cohort.features.items()
    }
    groups = cohort.groups
    return added_value_of_genes(
        genes,
        by_patient[CLINICAL],
        {name: by_patient[name] for name in networks},
        metric=METRIC_OF_TASK[task],
        seed=seed,
        groups=None if groups is None else pd.Series(groups, index=list(cohort.patient_ids)),
        on_progress=lambda n, total: on_progress(f"{task}: added value", n, total),
    )


def _none(columns: list[str]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(columns=columns)
