"""The report's section on what stands behind the answers: further tests, ranks, robustness."""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis.patients import METRIC_OF_TASK
from analysis.rank_figure import rank_figure
from featurestore import evidence
from orchestration.report.comparison_tables import NAIVE, first_pair
from orchestration.report.numbers import (
    METRICS,
    count_column,
    difference,
    metric_column,
    minus,
    number_of,
    p_column,
    score,
    score_column,
    text_column,
)
from orchestration.report.sections import Column, Figure, Row, Section, Table
from orchestration.results_view import tests_in_words

if TYPE_CHECKING:
    import pandas as pd
    from sqlalchemy.orm import Session

    from featurestore.tables import Experiment

_MAIN = {"tissue": "accuracy", "retrieval": "map_at_5", **METRIC_OF_TASK}
_KINDS = {
    evidence.FOLDS: "other folds",
    evidence.STRATA: "strata",
    evidence.ADDED_VALUE: "what features add to clinical variables",
}
_NOT_INDEPENDENT = (
    " Genes of one cohort are not independent, so over genes this describes and does not prove."
)
_N_SHOWN = 25


def evidence_section(
    session: Session, experiments: list[Experiment], comparisons: pd.DataFrame
) -> Section | None:
    """How probable a difference is, what other tests say, and what else may explain it."""
    if comparisons.empty:
        return None
    study = experiments[0].study
    found = {kind: evidence.robustness_frame(session, study, kind) for kind in evidence.KINDS}
    ranks = evidence.ranks_frame(session, study)
    tables = [
        _posterior_table(comparisons),
        *_test_tables(session, experiments, comparisons),
        *_fold_tables(found[evidence.FOLDS]),
        *_stratum_tables(found[evidence.STRATA]),
        *_added_tables(found[evidence.ADDED_VALUE]),
    ]
    notes = evidence.robustness_notes(session, study)
    found_tables = tuple(table for table in tables if table is not None)
    if not found_tables and ranks.empty and notes.empty:
        return None
    return Section(
        key="evidence",
        title="How sure, and does something else explain it?",
        sentences=tuple(
            f"{row['task'].capitalize()}, {_KINDS[row['kind']]}: {row['note']}."
            for row in notes[notes["note"] != ""].to_dict(orient="records")
        ),
        figures=tuple(_rank_figures(ranks)),
        tables=found_tables,
    )


def _posterior_table(comparisons: pd.DataFrame) -> Table | None:
    """Probabilities of the main question of every task and pair."""
    is_main = comparisons["metric"] == comparisons["task"].map(_MAIN)
    rows = comparisons[is_main & (comparisons["target"] == "all")]
    rows = rows[rows["rope"].notna()].reset_index(drop=True)
    if rows.empty:
        return None
    rope = float(rows["rope"].iloc[0])
    return Table(
        name="posterior",
        caption=(
            "How probable it is that A is better, that the two are equivalent in practice, or that "
            f"B is better. Equivalent: a difference of at most {rope:g}. Posterior under a flat "
            "prior, from the standard error of the reported test (Corani & Benavoli 2015; Benavoli "
            "et al. 2017)."
        ),
        frame=rows,
        columns=(
            text_column("task", "task"),
            text_column("A", "encoder_a"),
            text_column("B", "encoder_b"),
            Column(heading="B − A [95 % CI]", text=difference, is_number=True),
            _probability("A better", "p_a_better"),
            _probability("equivalent", "p_equivalent"),
            _probability("B better", "p_b_better"),
            p_column("p", "p"),
            p_column("p, Holm over pairs", "p_holm"),
        ),
    )


def _probability(heading: str, key: str) -> Column:
    return Column(heading=heading, text=lambda row: f"{row[key]:.3f}", is_number=True)


def _test_tables(
    session: Session, experiments: list[Experiment], comparisons: pd.DataFrame
) -> list[Table]:
    """Every test's p, gene by gene, of the first two encoders."""
    found = []
    for experiment in experiments:
        rows = comparisons[
            (comparisons["task"] == experiment.task)
            & (comparisons["metric"] == _MAIN.get(experiment.task, ""))
        ]
        tests = evidence.tests_frame(session, experiment.experiment_id)
        if rows.empty or tests.empty:
            continue
        key = ["target", "metric", "encoder_a", "encoder_b"]
        wide = tests.pivot_table("p", key, "test", sort=False).add_prefix("p_").reset_index()
        genes = first_pair(rows).merge(wide, on=key).sort_values(["p", "target"], kind="stable")
        names = {
            "p_jackknife": "jackknife", "p_corrected": "corrected t", "p_bootstrap": "bootstrap",
            "p_delong": "DeLong", "p_naive": NAIVE,
        }  # fmt: skip
        found.append(
            Table(
                name=f"{experiment.task}_tests",
                caption=(
                    f"{experiment.task.capitalize()}: what every test says of the same "
                    f"difference, of the first two encoders. Reported: {tests_in_words(genes)}. "
                    "The bootstrap and DeLong's test take models as finished, which for genes "
                    "finds too much."
                ),
                frame=genes.reset_index(drop=True),
                columns=(
                    text_column("gene" if experiment.task != "tissue" else "classes", "target"),
                    Column(heading="B − A [95 % CI]", text=difference, is_number=True),
                    *(p_column(name, at) for at, name in names.items() if at in genes),
                    _probability("P(B better)", "p_b_better"),
                    _probability("P(equivalent)", "p_equivalent"),
                ),
                n_shown=_N_SHOWN,
            )
        )
    return found


def _fold_tables(folds: pd.DataFrame) -> list[Table]:
    """Mean score of every encoder under both kinds of folds; all targets are in the files."""
    tables = []
    for task, rows in folds.groupby("task", sort=False):
        kept, n_repeats = rows["kept"].iloc[0], int(rows["n_repeats"].iloc[0])
        main = rows[rows["metric"] == _MAIN[str(task)]]
        of_all = main[main["target"] == "all"]
        means = (of_all if len(of_all) else main).groupby(["encoder", "metric"], sort=False)
        frame = means[["random_score", "kept_score", "optimism"]].mean().reset_index()
        counted = (
            "" if len(of_all) else f", mean over {number_of(main['target'].nunique(), 'gene')}"
        )
        tables.append(
            Table(
                name=f"{task}_folds",
                caption=(
                    f"{str(task).capitalize()} under random folds and under folds that keep "
                    f"{kept}s whole{counted}; optimism is what random folds add. The folds that "
                    f"the study itself does not use: {n_repeats} repeats."
                ),
                frame=frame,
                columns=(
                    text_column("encoder", "encoder"),
                    metric_column(),
                    score_column("random folds", "random_score"),
                    score_column(f"whole {kept}s", "kept_score"),
                    _signed("optimism", "optimism"),
                ),
            )
        )
    return tables


def _signed(heading: str, key: str) -> Column:
    def text(row: Row) -> str:
        plain = score(abs(row[key]), row["metric"]).replace(" %", " points")
        return minus(f"{'-' if row[key] < 0 else '+'}{plain}")

    return Column(heading=heading, text=text, is_number=True)


def _stratum_tables(strata: pd.DataFrame) -> list[Table]:
    tables = []
    for task, rows in strata.groupby("task", sort=False):
        key = ["variable", "stratum", "encoder_a", "encoder_b"]
        summary = _by_stratum(rows, key)
        metric = METRICS[_MAIN[str(task)]]
        tables.append(
            Table(
                name=f"{task}_strata",
                caption=(
                    f"{str(task).capitalize()} by stratum: mean difference of {metric} over the "
                    f"{number_of(rows['target'].nunique(), 'gene')} predicted best, scored among "
                    "the patients of a stratum over all folds together. That one stratum's "
                    "interval excludes 0 and another's does not is no evidence that they differ."
                ),
                frame=summary,
                columns=(
                    text_column("variable", "variable"),
                    text_column("stratum", "stratum"),
                    text_column("A", "encoder_a"),
                    text_column("B", "encoder_b"),
                    count_column("patients, at most", "n_patients"),
                    count_column("genes", "n_genes"),
                    Column(
                        heading="mean B − A",
                        text=lambda row: minus(f"{row['difference']:+.3f}"),
                        is_number=True,
                    ),
                    count_column("interval above 0", "n_above"),
                    count_column("interval below 0", "n_below"),
                ),
            )
        )
        tables.append(_every_stratum(str(task), rows.reset_index(drop=True)))
    return tables


def _by_stratum(rows: pd.DataFrame, key: list[str]) -> pd.DataFrame:
    """Mean difference over genes, and genes whose interval leaves 0 out, stratum by stratum."""
    marked = rows.assign(above=rows["ci_low"] > 0, below=rows["ci_high"] < 0)
    return (
        marked.groupby(key, sort=False)
        .agg(
            n_patients=("n_patients", "max"),
            n_genes=("target", "size"),
            difference=("difference", "mean"),
            n_above=("above", "sum"),
            n_below=("below", "sum"),
        )
        .reset_index()
    )


def _every_stratum(task: str, rows: pd.DataFrame) -> Table:
    return Table(
        name=f"{task}_strata_genes",
        caption=f"{task.capitalize()} by stratum, gene by gene.",
        frame=rows,
        columns=(
            text_column("variable", "variable"),
            text_column("stratum", "stratum"),
            text_column("gene", "target"),
            count_column("patients", "n_patients"),
            Column(heading="B − A [95 % CI]", text=difference, is_number=True),
            p_column("p", "p"),
            p_column("p, Holm over strata", "p_holm"),
        ),
        n_shown=0,
    )


def _added_tables(added: pd.DataFrame) -> list[Table]:
    return [
        Table(
            name=f"{task}_added_value",
            caption=(
                f"{str(task).capitalize()}: age, sex and stage alone, and with an encoder's "
                "features added, of the genes predicted best. By chance: central 95 % of the gain "
                "when features are exchanged among patients."
            ),
            frame=rows.reset_index(drop=True),
            columns=(
                text_column("encoder", "encoder"),
                text_column("gene", "target"),
                score_column("clinical", "clinical_score"),
                score_column("with features", "combined_score"),
                Column(
                    heading="gain",
                    text=lambda row: minus(f"{row['gain']:+.3f}"),
                    is_number=True,
                ),
                Column(
                    heading="by chance [95 %]",
                    text=lambda row: minus(f"[{row['null_low']:+.3f}, {row['null_high']:+.3f}]"),
                    is_number=True,
                ),
                p_column("p", "p"),
                p_column("q over genes", "q"),
            ),
            n_shown=_N_SHOWN,
        )
        for task, rows in added.groupby("task", sort=False)
    ]


def _rank_figures(ranks: pd.DataFrame) -> list[Figure]:
    return [
        Figure(
            name=f"{task}_ranks",
            title=f"Average ranks of encoders, {task}",
            caption=(
                f"Rank of each encoder by {METRICS[str(metric)]} over "
                f"{number_of(int(rows['n_targets'].iloc[0]), 'target')} (Demšar 2006). Encoders "
                "over one grey bar are within the critical difference at 0.05."
                + _NOT_INDEPENDENT
                * (task in METRIC_OF_TASK)
            ),
            drawing=rank_figure(rows),
        )
        for (task, metric), rows in ranks.groupby(["task", "metric"], sort=False)
    ]
