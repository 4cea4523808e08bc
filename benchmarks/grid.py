"""The paper's whole grid, against a loop of scikit-learn over targets and splits.

7,180 tiles of 9 classes, 455 patients of 498 genes and of 9 mutations, 50 x 5 splits, 2 encoders
of 2,048 features each, drawn with as many directions as real features have::

    python benchmarks/grid.py --repeats 2

Both sides do a sample and are extrapolated: ours by repeats, which are all alike, the loop by
targets and splits. Figures are CPU time shared out over the cores of the machine: what a quiet
machine takes.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from measure import Row, Turn, show, timed, write_rows
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV, RidgeCV
from sklearn.model_selection import KFold, StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from analysis.crossval import fit_predict
from analysis.expression import ExpressionSettings, evaluate_expression
from analysis.mutation import MutationSettings, evaluate_mutation
from analysis.patients import PatientCohort
from analysis.tissue import TissueSettings

DIM, N_ENCODERS, N_REPEATS, N_FOLDS = 2_048, 2, 50, 5
N_TILES, N_CLASSES, N_PATIENTS, N_GENES, N_MUTATIONS = 7_180, 9, 455, 498, 9


def main() -> None:
    """Measure, print and keep the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=2, help="of 50 that ours is timed on")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rng = np.random.default_rng(7)
    parts = [
        tissue(rng),
        expression(rng, arguments.repeats),
        mutation(rng, arguments.repeats),
    ]
    rows = [part for part, _, _ in parts]
    ours, theirs = sum(one for _, one, _ in parts), sum(other for _, _, other in parts)
    rows.append(
        Row(
            piece="analysis",
            what="the whole grid",
            value=f"{ours / 60:.0f} min (extrapolated)",
            baseline="loops of scikit-learn",
            baseline_value=f"{theirs / 3600:.0f} h (extrapolated)",
            cpu_ratio=theirs / ours,
            limited=ours / 60,
            bar=10.0,
            note="bar: at most 10 minutes",
        )
    )
    show(rows)
    write_rows(rows, arguments.json)


def features(rng: np.random.Generator, n: int, signal: NDArray[np.float64]) -> NDArray[np.float32]:
    """Non-negative, correlated, and telling a little of the signal."""
    directions = rng.normal(size=(64, DIM))
    hidden = rng.normal(size=(n, 64))
    hidden[:, : signal.shape[1]] += signal
    noise = rng.normal(size=(n, DIM))
    return np.abs(hidden @ directions / 8 + noise).astype(np.float32)


def quiet(turn: Turn) -> float:
    """Seconds on a machine whose cores are all free."""
    return turn.cpu / (os.cpu_count() or 1)


def compared(
    what: str, ours: Turn, scale: float, loop: Turn, loop_scale: float
) -> tuple[Row, float, float]:
    """A part's row, and its seconds as extrapolated."""
    mine, theirs = quiet(ours) * scale, quiet(loop) * loop_scale
    row = Row(
        piece="analysis",
        what=what,
        value=f"{mine:.0f} s",
        baseline="a loop of scikit-learn",
        baseline_value=f"{theirs:,.0f} s",
        cpu_ratio=theirs / mine,
        note=f"ours x {scale:g} from {quiet(ours):.1f} s, the loop x {loop_scale:,.0f} from "
        f"{quiet(loop):.1f} s",
    )
    return row, mine, theirs


def did(work: Callable[[], object]) -> Turn:
    """Time what is no count of anything."""

    def once() -> int:
        work()
        return 1

    return timed(once)


def tissue(rng: np.random.Generator) -> tuple[Row, float, float]:
    """One split of the 250, for one encoder."""
    labels = rng.integers(0, N_CLASSES, N_TILES)
    matrix = features(rng, N_TILES, 2 * np.eye(N_CLASSES)[labels])
    in_test = np.arange(N_TILES) % N_FOLDS == 0
    c = TissueSettings(seed=7).c

    def ours() -> None:
        fit_predict(matrix[~in_test], labels[~in_test], matrix[in_test], c=c, n_classes=N_CLASSES)

    def loop() -> None:
        model = make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=2000))
        model.fit(matrix[~in_test], labels[~in_test]).predict_proba(matrix[in_test])

    n_fits = N_REPEATS * N_FOLDS * N_ENCODERS
    return compared("tissue: 7,180 tiles of 9 classes", did(ours), n_fits, did(loop), n_fits)


def patients(rng: np.random.Generator, targets: NDArray[np.float64]) -> PatientCohort:
    """Two encoders of the same patients."""
    matrices = {f"e{i}": features(rng, N_PATIENTS, targets[:, :9]) for i in range(N_ENCODERS)}
    frame = pd.DataFrame(targets).add_prefix("g")
    return PatientCohort(tuple(map(str, range(N_PATIENTS))), matrices, frame)


def expression(rng: np.random.Generator, n_repeats: int) -> tuple[Row, float, float]:
    """All genes at once, against one after the other."""
    cohort = patients(rng, rng.normal(size=(N_PATIENTS, N_GENES)))
    ours = did(lambda: evaluate_expression(cohort, ExpressionSettings(n_repeats=n_repeats, seed=7)))
    model = make_pipeline(StandardScaler(), RidgeCV(alphas=np.geomspace(1, 1e5, 11)))
    folds = KFold(N_FOLDS, shuffle=True, random_state=7)
    loop = did(
        lambda: cross_val_score(
            model, cohort.features["e0"], cohort.targets["g0"], cv=folds, scoring="r2"
        )
    )
    return compared(
        "expression: 455 patients, 498 genes", ours, N_REPEATS / n_repeats,
        loop, N_GENES * N_REPEATS * N_ENCODERS,
    )  # fmt: skip


def mutation(rng: np.random.Generator, n_repeats: int) -> tuple[Row, float, float]:
    """The same for nine mutations."""
    status = (rng.random((N_PATIENTS, N_MUTATIONS)) < np.linspace(0.1, 0.5, 9)).astype(float)
    cohort = patients(rng, status)
    ours = did(lambda: evaluate_mutation(cohort, MutationSettings(n_repeats=n_repeats, seed=7)))
    model = make_pipeline(
        StandardScaler(), LogisticRegressionCV(Cs=7, scoring="neg_log_loss", max_iter=1000)
    )
    gene = cohort.targets["g8"].to_numpy()
    train, _ = next(StratifiedKFold(N_FOLDS).split(gene, gene))
    loop = did(lambda: model.fit(cohort.features["e0"][train], gene[train]))
    return compared(
        "mutations: 455 patients, 9 genes", ours, N_REPEATS / n_repeats,
        loop, N_MUTATIONS * N_REPEATS * N_FOLDS * N_ENCODERS,
    )  # fmt: skip


if __name__ == "__main__":
    main()
