"""Do the tests hold their level, and what do they find? Encoders of known difference, many times.

Every cohort is one draw of patients and of two encoders (``null_cohorts.py``), judged by 5-fold
cross-validation repeated 50 times. Equal encoders: the share of cohorts with p < 0.05 is the
level of a test, and should be 0.05. With encoder B sharper by so much that its score is 1, 2 or 5
points higher on average, the same share is the power::

    python benchmarks/calibration.py --out calibration.csv --cohorts 2000
    python benchmarks/calibration.py --out calibration.csv --cohorts 500 --points 1 2 5
    python benchmarks/calibration.py --out jackknife.csv --cohorts 2000 --jackknife
    python benchmarks/calibration.py --out logistic.csv --cohorts 300 --logistic
    python benchmarks/calibration.py --out calibration.csv --summary
    python benchmarks/calibration.py --check 5

A cohort is a seed: rows are appended as they are done, and what the file holds is not computed
again, so a run that was stopped goes on. Tests of one cohort see the same numbers, so their rates
may be compared more finely than their intervals say.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy loads it

import argparse
import csv
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from calibration_rates import TESTS, shifted, summary
from null_cohorts import draw, out_of_fold, residual_maker, roles
from scipy import stats

from analysis.bootstrap import bootstrap_difference
from analysis.compare import compare_scores
from analysis.delong import delong_test
from analysis.expression import ExpressionSettings, evaluate_expression, split_scores
from analysis.jackknife import Roles, jackknife_difference
from analysis.logistic_roles import logistic_roles
from analysis.patients import PatientCohort
from analysis.splits import repeated_folds, unstratified_folds

TARGETS = (
    ("expression", "pearson_r"),
    ("expression, nothing to find", "pearson_r"),
    ("mutation", "auroc"),
    ("tissue", "accuracy"),
)
COLUMNS = (
    "points", "seed", "n_repeats", "target", "metric", "mean_a", "difference", "se_naive",
    "se_corrected", "se_bootstrap", *(f"p_{name}" for name in TESTS[:-1]),
)  # fmt: skip
JACKKNIFE_COLUMNS = (
    "points", "seed", "n_repeats", "target", "metric", "mean_a", "difference",
    "variance_tested", "variance_pairs", "p_jackknife",
)  # fmt: skip
SMOOTH = TARGETS[:3]  # the jackknife is not for accuracy
N_JACKKNIFE_REPEATS = 10
NOISE = 1.0
NOISE_OF_B = {0: 1.0, 1: 0.95, 2: 0.9, 5: 0.75}
"""Noise of encoder B by points of Pearson's r that it is better; measured, and shown again by
``--summary`` as the mean difference."""
N_DRAWS = 400


def main() -> None:
    """Run what is missing, or sum up what is there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("calibration.csv"))
    parser.add_argument("--cohorts", type=int, default=2000)
    parser.add_argument("--points", type=int, nargs="+", default=[0], choices=sorted(NOISE_OF_B))
    parser.add_argument("--patients", type=int, default=450)
    parser.add_argument("--features", type=int, default=2048)
    parser.add_argument("--repeats", type=int, default=50)
    parser.add_argument("--from-seed", type=int, default=0, help="to share work among processes")
    parser.add_argument("--jackknife", action="store_true", help="this test, in a file of its own")
    parser.add_argument("--logistic", action="store_true", help="it, for mutations as in a study")
    parser.add_argument("--summary", action="store_true", help="only print what the file holds")
    parser.add_argument("--check", type=int, metavar="N", help="N cohorts by analysis.expression")
    arguments = parser.parse_args()
    if arguments.check:
        check(arguments.check, arguments.patients, arguments.features)
        return
    if not arguments.summary:
        run(arguments)
    rows = read(arguments.out)
    print(summary(rows).to_string(index=False))
    if (rows["points"] == 0).any():
        print("\nif every difference were larger by so much:")
        print(shifted(rows).to_string(index=False))


def run(arguments: argparse.Namespace) -> None:
    """Append a row a cohort and target to the file, without those that it holds."""
    columns, n_rows, of_cohort = COLUMNS, len(TARGETS), cohort_rows
    if arguments.jackknife:
        columns, n_rows, of_cohort = JACKKNIFE_COLUMNS, len(SMOOTH), jackknife_rows
    if arguments.logistic:
        columns, n_rows, of_cohort = JACKKNIFE_COLUMNS, 1, logistic_rows
    done: set[tuple[int, int]] = set()
    if arguments.out.exists():
        written = arguments.out.read_bytes()
        # A run that was killed may have left half a line, which the next would be added to.
        arguments.out.write_bytes(written[: written.rfind(b"\n") + 1])
        held = read(arguments.out)
        complete = held.groupby(["points", "seed"]).size() == n_rows
        done = set(complete[complete].index)
    missing = [
        (points, seed)
        for points in arguments.points
        for seed in range(arguments.from_seed, arguments.cohorts)
        if (points, seed) not in done
    ]
    started = time.monotonic()
    with arguments.out.open("a", newline="") as file:
        writer = csv.DictWriter(file, columns)
        if file.tell() == 0:
            writer.writeheader()
        for n_done, (points, seed) in enumerate(missing, 1):
            writer.writerows(of_cohort(points, seed, arguments))
            file.flush()
            if n_done % 50 == 0 or n_done == len(missing):
                seconds = (time.monotonic() - started) / n_done
                print(f"{n_done} of {len(missing)} cohorts, {seconds:.2f} s each", flush=True)


def read(path: Path) -> pd.DataFrame:
    """What a file holds, every cohort and target once."""
    return pd.read_csv(path).drop_duplicates(["points", "seed", "target"], keep="last")


def drawn(points: int, seed: int, arguments: argparse.Namespace) -> tuple[np.ndarray, ...]:
    """The cohort of a seed: targets, folds, and the residual maker of both encoders."""
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(points,)))
    noises = (NOISE, NOISE_OF_B[points])
    cohort = draw(rng, n=arguments.patients, d=arguments.features, noises=noises)
    folds = unstratified_folds(
        arguments.patients, n_folds=5, n_repeats=arguments.repeats, seed=seed
    )
    return cohort.targets, folds, *(residual_maker(x) for x in cohort.features)


def cohort_rows(points: int, seed: int, arguments: argparse.Namespace) -> list[dict[str, object]]:
    """Cross-validate both encoders of one cohort and apply every test but the jackknife."""
    targets, folds, *makers = drawn(points, seed, arguments)
    a, b = (out_of_fold(left, targets, folds) for left in makers)
    rows = []
    for i, (target, metric) in enumerate(TARGETS):
        pair = (a[:, :, i], b[:, :, i])
        if metric == "accuracy":
            pair = tuple((x > 0.5).astype(np.float64) for x in pair)
        found = judge(targets[:, i], folds, *pair, metric=metric, seed=seed)
        about = {"points": points, "seed": seed, "n_repeats": arguments.repeats}
        rows.append({**about, "target": target, "metric": metric, **found})
    return rows


def jackknife_rows(
    points: int, seed: int, arguments: argparse.Namespace
) -> list[dict[str, object]]:
    """The jackknife's test: variance from ten repeats, difference from all of them."""
    targets, folds, *makers = drawn(points, seed, arguments)
    targets = targets[:, : len(SMOOTH)]
    predictions = [out_of_fold(left, targets, folds) for left in makers]
    metrics = tuple(metric for _, metric in SMOOTH)
    both = [roles(left, targets, metrics, folds[:N_JACKKNIFE_REPEATS]) for left in makers]
    rows = []
    for i, (target, metric) in enumerate(SMOOTH):
        means = [scores(metric, targets[:, i], folds, x[:, :, i]).mean() for x in predictions]
        a, b = (replace(of[i], score=float(mean)) for of, mean in zip(both, means, strict=True))
        rows.append(jackknife_row(points, seed, target, metric, a, b))
        rows[-1]["n_repeats"] = arguments.repeats
    return rows


def logistic_rows(points: int, seed: int, arguments: argparse.Namespace) -> list[dict[str, object]]:
    """The same for a mutation by the logistic regression of a study, on ten repeats."""
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(points,)))
    noises = (NOISE, NOISE_OF_B[points])
    cohort = draw(rng, n=arguments.patients, d=arguments.features, noises=noises)
    mutated = cohort.targets[:, [target for target, _ in TARGETS].index("mutation")]
    folds = repeated_folds(
        mutated.astype(np.intp), n_folds=5, n_repeats=N_JACKKNIFE_REPEATS, seed=seed
    )
    a, b = (logistic_roles(x, mutated, folds) for x in cohort.features)
    return [jackknife_row(points, seed, "mutation, logistic regression", "auroc", a, b)]


def jackknife_row(
    points: int, seed: int, target: str, metric: str, a: Roles, b: Roles
) -> dict[str, object]:
    """What the jackknife says of one target of a cohort."""
    found = jackknife_difference(a, b)
    return {
        "points": points,
        "seed": seed,
        "n_repeats": N_JACKKNIFE_REPEATS,
        "target": target,
        "metric": metric,
        "mean_a": found.mean_a,
        "difference": found.difference,
        "variance_pairs": found.variance_pairs,
        "variance_tested": found.variance_tested,
        "p_jackknife": found.p,
    }


def judge(
    y: np.ndarray, folds: np.ndarray, a: np.ndarray, b: np.ndarray, *, metric: str, seed: int
) -> dict[str, float | str]:
    """Every test's p of one target."""
    of_a, of_b = (scores(metric, y, folds, x) for x in (a, b))
    n_test = np.bincount(folds[0])[0]
    compared = compare_scores(of_a, of_b, len(y) - n_test, n_test)
    by_repeat = (of_b - of_a).reshape(len(folds), -1).mean(axis=1)
    drawn = bootstrap_difference(y, folds, a, b, metric=metric, seed=seed, n_draws=N_DRAWS)
    delong: float | str = ""
    if metric == "auroc":
        delong = delong_test(y, a.mean(axis=0), b.mean(axis=0)).p
    return {
        "mean_a": compared.mean_a,
        "difference": compared.difference,
        "se_naive": compared.difference / compared.t_naive,
        "se_corrected": compared.difference / compared.t_corrected,
        "se_bootstrap": drawn.standard_error,
        "p_naive": compared.p_naive,
        "p_repeat_means": float(stats.ttest_1samp(by_repeat, 0).pvalue),
        "p_corrected": compared.p_corrected,
        "p_bootstrap": drawn.p,
        "p_delong": delong,
    }


def scores(metric: str, y: np.ndarray, folds: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """The score of every split, a column each, by the functions that a study uses."""
    tests = np.argsort(folds, axis=1, kind="stable").reshape(len(folds), folds.max() + 1, -1)
    y = y[tests].reshape(-1, tests.shape[2]).T
    predicted = np.stack([row[test] for row, test in zip(predicted, tests, strict=True)])
    predicted = predicted.reshape(-1, tests.shape[2]).T
    if metric == "pearson_r":
        return split_scores(y, predicted)[0]
    if metric == "accuracy":
        return (y == predicted).mean(axis=0)
    n_1 = y.sum(axis=0)
    n_won = np.where(y == 1, stats.rankdata(predicted, axis=0), 0).sum(axis=0) - n_1 * (n_1 + 1) / 2
    return n_won / (n_1 * (len(y) - n_1))


def check(n_cohorts: int, n: int, d: int) -> None:
    """How far the quick cross-validation is from that of a study, on 2 repeats."""
    quick, study = [], []
    for seed in range(n_cohorts):
        cohort = draw(np.random.default_rng(seed), n=n, d=d)
        folds = unstratified_folds(n, n_folds=5, n_repeats=2, seed=seed)
        names = ["a", "b"]
        gene = pd.DataFrame({"G": cohort.targets[:, 0]})
        features = {
            name: x.astype(np.float32) for name, x in zip(names, cohort.features, strict=True)
        }
        of_study = evaluate_expression(
            PatientCohort(tuple(map(str, range(n))), features, gene),
            ExpressionSettings(n_repeats=2, seed=seed),
        )
        for x in cohort.features:
            predicted = out_of_fold(residual_maker(x), cohort.targets[:, :1], folds)[:, :, 0]
            quick += scores("pearson_r", cohort.targets[:, 0], folds, predicted).tolist()
        is_r = of_study.scores["metric"] == "pearson_r"
        study += of_study.scores.loc[is_r, "value"].tolist()
    r = np.corrcoef(quick, study)[0, 1]
    print(
        f"{len(quick)} splits: mean r {np.mean(quick):.4f} quick, {np.mean(study):.4f} by "
        f"analysis.expression; correlation {r:.4f}"
    )


if __name__ == "__main__":
    main()
