"""All genes at once against a loop of scikit-learn's cross_val_score, one gene after the other.

455 patients × 498 genes × 50 × 5 splits × 2 encoders of 2,048 features, as a study of TCGA-LUAD
has them (values drawn at random: time does not depend on them)::

    python benchmarks/genes.py

The loop is what a user would run instead. It is timed on a sample of its genes and one repeat,
and extrapolated; the ratio of both in one run is what holds on another machine.
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np
import pandas as pd
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from analysis.expression import ExpressionSettings, evaluate_expression
from analysis.patients import PatientCohort

N_ENCODERS = 2


def main() -> None:
    """Time both ways and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--patients", type=int, default=455)
    parser.add_argument("--genes", type=int, default=498)
    parser.add_argument("--features", type=int, default=2048)
    parser.add_argument("--repeats", type=int, default=50)
    parser.add_argument("--sample", type=int, default=4, help="genes that the loop is timed on")
    arguments = parser.parse_args()

    rng = np.random.default_rng(7)
    shape = (arguments.patients, arguments.features)
    features = {
        f"encoder-{i}": rng.normal(size=shape).astype(np.float32) for i in range(N_ENCODERS)
    }
    targets = pd.DataFrame(rng.normal(size=(arguments.patients, arguments.genes)))
    targets.columns = [f"gene-{i}" for i in range(arguments.genes)]
    cohort = PatientCohort(tuple(map(str, range(arguments.patients))), features, targets)

    started = time.perf_counter()
    evaluate_expression(cohort, ExpressionSettings(n_repeats=arguments.repeats, seed=7))
    ours_seconds = time.perf_counter() - started

    sampled_seconds = loop(features["encoder-0"], targets.iloc[:, : arguments.sample])
    scale = arguments.genes / arguments.sample * arguments.repeats * N_ENCODERS
    loop_seconds = sampled_seconds * scale
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"{'all genes at once':<34}{ours_seconds:>10.0f} s, peak memory {peak_gb:.1f} GB")
    print(f"{'loop of cross_val_score':<34}{loop_seconds:>10.0f} s")
    print(f"  extrapolated by {scale:,.0f} from {sampled_seconds:.1f} s")
    print(f"{'ratio':<34}{loop_seconds / ours_seconds:>10.0f}")


def loop(features: np.ndarray, targets: pd.DataFrame) -> float:
    """Seconds for one repeat of 5 folds over the given genes, one after the other."""
    model = make_pipeline(StandardScaler(), RidgeCV(alphas=np.geomspace(1, 1e5, 11)))
    folds = KFold(5, shuffle=True, random_state=7)
    started = time.perf_counter()
    for gene in targets:
        cross_val_score(model, features, targets[gene], cv=folds, scoring="r2")
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
