"""Collecting a report from the database: which sections a study has, and what they answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from featurestore.cohort_frames import evaluated_frame
from featurestore.errors import StoreError
from featurestore.evidence import FOLDS, robustness_frame
from featurestore.gene_results import better_counts_frame
from featurestore.report_frames import current_experiments, models_frame
from featurestore.result_frames import comparisons_frame
from orchestration.fold_columns import with_folds
from orchestration.report.cohort_section import cohort_section, guards_section, maps_section
from orchestration.report.comparison_tables import first_pair
from orchestration.report.evidence_section import evidence_section
from orchestration.report.gene_section import gene_section
from orchestration.report.methods import methods_paragraph
from orchestration.report.numbers import difference, number_of, p_is, unit_of
from orchestration.report.provenance_section import (
    provenance_section,
    question_section,
    training_section,
    when,
)
from orchestration.report.sections import Report, Section
from orchestration.report.tissue_section import retrieval_section, tissue_section

if TYPE_CHECKING:
    import pandas as pd
    from sqlalchemy.orm import Session


def build_report(session: Session, study: str) -> Report:
    """Collect everything that a study shows now; only read from, and from the database alone.

    Parameters
    ----------
    session : sqlalchemy.orm.Session
        In a transaction of isolation REPEATABLE READ all of it is of one moment.
    study : str
        Name of the study.

    Raises
    ------
    StoreError
        If the study has no result yet.
    """
    experiments = {found.task: found for found in current_experiments(session, study)}
    if not experiments:
        raise StoreError(
            f"the store has no result of study {study!r} yet, so there is nothing to report; "
            "`ffpe run` makes it, and `ffpe status` lists the studies that the store knows"
        )
    folds = robustness_frame(session, study, FOLDS)
    comparisons = with_folds(comparisons_frame(session, study), folds)
    models = models_frame(session, study)
    in_order = [experiments[task] for task in _in_order(list(experiments))]
    guards = guards_section(session, study)
    sections = [
        question_section(in_order, models),
        cohort_section(session, study),
        tissue_section(session, experiments["tissue"], comparisons)
        if "tissue" in experiments
        else None,
        *(
            gene_section(session, experiments[task], comparisons)
            for task in ("expression", "mutation")
            if task in experiments
        ),
        retrieval_section(comparisons),
        evidence_section(session, in_order, comparisons),
        maps_section(session, study),
        training_section(session, study),
        guards,
        provenance_section(session, study, in_order, models),
    ]
    return Report(
        study=study,
        computed=when(max(experiment.created_at for experiment in in_order)),
        findings=(
            *_findings(comparisons, better_counts_frame(session, study)),
            *_caution(guards),
        ),
        sections=tuple(section for section in sections if section is not None),
        methods=methods_paragraph(in_order, models, evaluated_frame(session, study)),
        digests={experiment.task: experiment.digest for experiment in in_order},
    )


def _caution(guards: Section | None) -> tuple[str, ...]:
    """That a guard found something belongs beside the answers."""
    if guards is None or not guards.warnings:
        return ()
    n = number_of(len(guards.warnings), "measurement")
    return (f"Caution: {n} of the guards against leakage found something; see “{guards.title}”.",)


def _in_order(tasks: list[str]) -> list[str]:
    known = ["tissue", "expression", "mutation", "retrieval"]
    return [task for task in known if task in tasks] + sorted(set(tasks) - set(known))


def _findings(comparisons: pd.DataFrame, better: pd.DataFrame) -> list[str]:
    """The answers on the first pair of encoders: effects with intervals, then p-values."""
    if comparisons.empty:
        return []
    pair = first_pair(comparisons)
    sentences = [
        f"Tissue accuracy: {row['encoder_b']} minus {row['encoder_a']} is {difference(row)}"
        f"{unit_of(row['metric'])} (95 % interval; corrected {p_is(row['p_corrected'])}, "
        f"naive {p_is(row['p_naive'])})."
        for row in pair[
            (pair["task"] == "tissue") & (pair["target"] == "all") & (pair["metric"] == "accuracy")
        ].to_dict(orient="records")
    ]
    names = (pair["encoder_a"].iloc[0], pair["encoder_b"].iloc[0])
    for row in better.to_dict(orient="records"):
        if (row["encoder_a"], row["encoder_b"]) == names:
            what = "predictable " if row["genes"] == "predictable" else ""
            sentences.append(
                f"{row['task'].capitalize()}: {row['n_better_b']} of "
                f"{number_of(row['n_genes'], what + 'gene')} are better with {names[1]} than with "
                f"{names[0]}; by chance {row['null_median']:.0f} [{row['null_low']:.0f}, "
                f"{row['null_high']:.0f}], {p_is(row['p_swap'])}."
            )
    return sentences
