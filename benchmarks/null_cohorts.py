"""Cohorts whose two encoders are equal by construction, and a quick exact cross-validation.

Twenty latent traits of a patient drive the genes, one more tells two classes of tissue apart.
An encoder sees each trait with noise of its own, spreads them over 2,048 features by random
loadings and adds noise to every feature: two encoders with the same noise differ in what they
drew and in nothing else. A gene is a random mixture of the traits with noise that no encoder
sees.

Ridge regression with a fixed penalty needs the patients' inner products only, and the
predictions of a left-out fold follow from one fit to all (a block of the leave-one-out
formula): 250 splits cost a tenth of a second. Against :mod:`analysis.expression` two things
are simplified: features are standardised once by all patients (which uses no target), and
the penalty is fixed. ``calibration.py --check`` measures what that does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analysis.jackknife import Roles, RoleSums

N_TRAITS = 20
PENALTY = 1.0
SHARE_MUTATED = 0.3
CLASS_SHIFT = 2.0


@dataclass(frozen=True)
class NullCohort:
    """Features of two encoders, and four targets of the same patients.

    ``targets`` has a column each: expression that the traits explain in part, expression that
    nothing explains, a mutation (0 or 1), and a class of tissue (0 or 1).
    """

    features: tuple[np.ndarray, ...]
    targets: np.ndarray


def draw(
    rng: np.random.Generator,
    *,
    n: int,
    d: int,
    noises: tuple[float, ...] = (1.0, 1.0),
    explained: float = 0.35,
) -> NullCohort:
    """Draw patients, targets and one encoder for each noise."""
    traits = rng.standard_normal((n, N_TRAITS))
    mixtures = rng.standard_normal((N_TRAITS, 2))
    signal = traits @ (mixtures / np.linalg.norm(mixtures, axis=0))
    noise = rng.standard_normal((n, 3))
    expression = np.sqrt(explained) * signal[:, 0] + np.sqrt(1 - explained) * noise[:, 0]
    mutation = np.sqrt(explained) * signal[:, 1] + np.sqrt(1 - explained) * noise[:, 2]
    # A class of tissue is easy to see: a trait of its own, two standard deviations off.
    tissue = rng.permutation(n) % 2
    traits = np.column_stack([traits, CLASS_SHIFT * (2 * tissue - 1)])
    targets = np.stack(
        [
            expression,
            noise[:, 1],
            mutation > np.quantile(mutation, 1 - SHARE_MUTATED),
            tissue,
        ],
        axis=1,
    )
    return NullCohort(tuple(_encode(traits, size, d, rng) for size in noises), targets)


def _encode(traits: np.ndarray, noise: float, d: int, rng: np.random.Generator) -> np.ndarray:
    """One encoder's features; leading traits stand out, as leading components do in tissue."""
    n, k = traits.shape
    seen = traits + noise * rng.standard_normal((n, k))
    loadings = rng.standard_normal((k, d), dtype=np.float32) / np.sqrt(np.arange(1, k + 1))[:, None]
    features = (seen @ loadings).astype(np.float32)
    return features + rng.standard_normal((n, d), dtype=np.float32)


def residual_maker(features: np.ndarray) -> np.ndarray:
    """I - H of the fit to all patients, with an unpenalised intercept: (n, n)."""
    n, d = features.shape
    z = (features - features.mean(axis=0)) / features.std(axis=0)
    squares, axes = np.linalg.eigh((z @ z.T).astype(np.float64) / d)
    return (axes * (PENALTY / (np.maximum(squares, 0) + PENALTY))) @ axes.T - 1 / n


def out_of_fold(left: np.ndarray, targets: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Predictions of every target in every repeat: (n_repeats, n, n_targets)."""
    residuals = left @ targets
    predicted = np.empty((len(folds), *targets.shape))
    for repeat, fold_of in enumerate(folds):
        for fold in range(int(fold_of.max()) + 1):
            test = np.flatnonzero(fold_of == fold)
            errors = np.linalg.solve(left[np.ix_(test, test)], residuals[test])
            predicted[repeat, test] = targets[test] - errors
    return predicted


def roles(
    left: np.ndarray, targets: np.ndarray, metrics: tuple[str, ...], folds: np.ndarray
) -> list[Roles]:
    """What every score is without each patient, tested or used at all; a list by target."""
    residuals = left @ targets
    sums = [RoleSums(len(left), metric) for metric in metrics]
    for fold_of in folds:
        for fold in range(int(fold_of.max()) + 1):
            is_test = fold_of == fold
            test, train = np.flatnonzero(is_test), np.flatnonzero(~is_test)
            between = left[np.ix_(test, train)]
            inverse = np.linalg.inv(left[np.ix_(test, test)])
            errors = inverse @ residuals[test]
            reach = inverse @ between
            # Left out with its test fold, a training patient's own error is theirs as well.
            own = residuals[train] - between.T @ errors
            spared = left[train, train] - np.einsum("ij,ij->j", reach, between)
            for i, of_target in enumerate(sums):
                y = targets[test, i]
                of_target.add(is_test, y, y - errors[:, i], reach * (own[:, i] / spared))
    return [of_target.roles() for of_target in sums]
