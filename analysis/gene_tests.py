"""The tests of two encoders that need features or predictions, gene by gene.

Tests of scores alone are in :mod:`analysis.compare`. Here are the jackknife over patients in
both of their roles, DeLong's test and the patient bootstrap; which of them a study reports is
decided in :mod:`analysis.reported`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from analysis.bootstrap import bootstrap_difference
from analysis.cores import on_every_core
from analysis.delong import delong_test
from analysis.expression import TASK as EXPRESSION
from analysis.expression import TargetBlock, target_blocks
from analysis.jackknife import MIN_PATIENTS, Roles, jackknife_difference
from analysis.logistic_roles import logistic_roles
from analysis.patients import METRIC_OF_TASK, PatientCohort, PatientResult
from analysis.ridge_roles import RidgeSplits, ridge_roles, ridge_splits
from featurestore.errors import CohortError

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    "target", "metric", "encoder_a", "encoder_b", "test", "difference", "standard_error",
    "ci_low", "ci_high", "p", "n_patients", "variance_tested", "variance_pairs",
)  # fmt: skip
N_REPEATS = 10
"""Repeats that the variances are taken from: more change them by little."""

_N_DRAWS = 1000
_BLOCK = 32  # genes worked on at a time: each holds a matrix of patients by patients an encoder


def gene_tests(
    cohort: PatientCohort,
    result: PatientResult,
    *,
    n_components: int | None = None,
    baselines: Collection[str] = (),
    on_progress: Callable[[int, int], None] | None = None,
    n_jobs: int | None = None,
) -> pd.DataFrame:
    """Test every pair of encoders on every gene of a result, by Pearson's r or the AUROC.

    The difference is that of all repeats; its variance is taken from the first ten.

    Parameters
    ----------
    cohort, result
        What was evaluated, and the result.
    n_components : int, optional
        As in :class:`analysis.expression.ExpressionSettings`.
    baselines : collection of str
        Encoders that the bootstrap, which takes long, passes over.
    on_progress, n_jobs
        As in :func:`analysis.expression.evaluate_expression`, by block of genes.

    Returns
    -------
    DataFrame
        One row a gene, pair and test ("jackknife", "bootstrap" or "delong") with the columns
        ``COLUMNS``; the variances are the jackknife's. A test whose assumptions a gene breaks
        (fewer than 50 patients for the jackknife, 20 for the bootstrap, 10 of a class for
        DeLong's; one repeat) has no row.
    """
    import pandas as pd

    means = result.scores.groupby(["encoder", "target", "metric"])["value"].mean().to_dict()
    study = _Study(cohort, result, n_components, means, frozenset(baselines), n_jobs)
    rows: list[dict[str, Any]] = []
    if result.n_repeats > 1:
        find = _of_expression if result.task == EXPRESSION else _of_mutations
        n_done = 0
        for n_genes, found in find(study):
            rows += found
            n_done += n_genes
            if on_progress is not None:
                on_progress(n_done, len(result.targets))
    return pd.DataFrame(rows, columns=list(COLUMNS))


@dataclass(frozen=True)
class _Study:
    """What every gene is judged from."""

    cohort: PatientCohort
    result: PatientResult
    n_components: int | None
    means: Mapping[Any, float]
    baselines: frozenset[str]
    n_jobs: int | None

    @property
    def encoders(self) -> list[str]:
        return list(self.result.predictions)


_Found = tuple[int, list[dict[str, Any]]]  # genes judged, and their rows


def _of_expression(study: _Study) -> Iterator[_Found]:
    values = study.cohort.targets[list(study.result.targets)].to_numpy(dtype=np.float64)
    for block in target_blocks(values):
        splits = _splits_of_block(study, block)
        known = values[block.known]

        def run(
            columns: NDArray[np.intp],
            splits: Mapping[str, RidgeSplits] = splits,
            known: NDArray[np.float64] = known,
        ) -> _Found:
            of_encoder = {name: ridge_roles(of, known[:, columns]) for name, of in splits.items()}
            rows = []
            for i, column in enumerate(columns.tolist()):
                roles = {name: of[i] for name, of in of_encoder.items()}
                rows += _judged(study, study.result.targets[column], roles)
            return len(columns), rows

        parts = [block.columns[i : i + _BLOCK] for i in range(0, len(block.columns), _BLOCK)]
        # Rows come back and not roles: those of all genes at once would fill the memory.
        yield from on_every_core(run, parts, n_jobs=study.n_jobs)


def _splits_of_block(study: _Study, block: TargetBlock) -> dict[str, RidgeSplits]:
    """Every encoder's factorised splits, of the patients that the genes are known of."""
    if int(block.known.sum()) < MIN_PATIENTS:
        return {}
    first = study.result.targets[int(block.columns[0])]
    folds = study.result.folds[first][:N_REPEATS, block.known]
    found = on_every_core(
        lambda name: ridge_splits(
            study.cohort.features[name][block.known], folds, n_components=study.n_components
        ),
        study.encoders,
        n_jobs=study.n_jobs,
    )
    return dict(zip(study.encoders, found, strict=True))


def _of_mutations(study: _Study) -> Iterator[_Found]:
    def run(gene: str) -> _Found:
        known = study.result.folds[gene][0] >= 0
        folds = study.result.folds[gene][:N_REPEATS, known]
        status = study.cohort.targets[gene].to_numpy(dtype=np.float64)[known]
        roles = {}
        if int(known.sum()) >= MIN_PATIENTS:
            # Where no split has a score without each of its patients there is no jackknife.
            with suppress(CohortError):
                roles = {
                    name: logistic_roles(study.cohort.features[name][known], status, folds)
                    for name in study.encoders
                }
        return 1, _judged(study, gene, roles)

    yield from on_every_core(run, study.result.targets, n_jobs=study.n_jobs)


def _judged(study: _Study, target: str, roles: Mapping[str, Roles]) -> list[dict[str, Any]]:
    """The rows of one gene."""
    metric = METRIC_OF_TASK[study.result.task]
    rows = []
    for a, b in combinations(study.encoders, 2):
        about = {"target": target, "metric": metric, "encoder_a": a, "encoder_b": b}
        if roles:
            # Over all repeats, as the comparison has it.
            of_a, of_b = (
                replace(roles[name], score=float(study.means[name, target, metric]))
                for name in (a, b)
            )
            found = jackknife_difference(of_a, of_b)
            rows.append(about | _row("jackknife", found, COLUMNS[5:]))
        rows += [about | row for row in _of_predictions(study, target, (a, b))]
    return rows


def _of_predictions(study: _Study, target: str, pair: tuple[str, str]) -> Iterator[dict[str, Any]]:
    """DeLong's test of mutations, and the bootstrap of two networks."""
    result, at = study.result, study.result.targets.index(target)
    known = result.folds[target][0] >= 0
    observed = study.cohort.targets[target].to_numpy(dtype=np.float64)[known]
    a, b = (result.predictions[name][:, known, at] for name in pair)
    if result.task != EXPRESSION:
        with suppress(CohortError):  # too few of a class
            found = delong_test(observed, a.mean(axis=0), b.mean(axis=0))
            yield {**_row("delong", found, COLUMNS[5:10]), "n_patients": len(observed)}
    if study.baselines.isdisjoint(pair):
        with suppress(CohortError):  # too few patients
            drawn = bootstrap_difference(
                observed,
                result.folds[target][:N_REPEATS, known],
                a[:N_REPEATS],
                b[:N_REPEATS],
                metric=METRIC_OF_TASK[result.task],
                seed=result.seed,
                n_draws=_N_DRAWS,
            )
            yield _row("bootstrap", drawn, COLUMNS[5:11])


def _row(test: str, found: object, names: tuple[str, ...]) -> dict[str, Any]:
    return {"test": test, **{name: getattr(found, name) for name in names}}
