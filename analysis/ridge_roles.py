"""Expression for :mod:`analysis.jackknife`: every patient left out of ridge regressions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.jackknife import Roles, RoleSums
from analysis.ridge import PENALTIES, SplitAxes, predict, prediction_changes, split_axes
from featurestore.errors import CohortError


@dataclass(frozen=True)
class RidgeSplits:
    """The splits of a cross-validation, each factorised once for all targets.

    Attributes
    ----------
    tests : tuple of ndarray of shape (n,), bool
        Test patients of every split.
    axes : tuple of SplitAxes
        Principal axes of every split's training patients.
    """

    tests: tuple[NDArray[np.bool_], ...]
    axes: tuple[SplitAxes, ...]


def ridge_splits(
    features: NDArray[np.floating], folds: NDArray[np.integer], *, n_components: int | None = None
) -> RidgeSplits:
    """Factorise one encoder's features in every split.

    Parameters
    ----------
    features : ndarray of shape (n, d)
    folds : ndarray of shape (n_repeats, n)
        Test fold of every patient. Ten repeats are enough for the variance.
    n_components : int, optional
        As in :class:`analysis.expression.ExpressionSettings`.

    Raises
    ------
    CohortError
        The rows do not agree, a patient is in no fold, or there is one repeat only.
    """
    if folds.ndim != 2 or folds.shape[1] != len(features):
        raise CohortError(
            f"got {len(features)} rows of features and folds of shape {folds.shape}; give one row "
            "a patient"
        )
    if len(folds) < 2:
        raise CohortError(f"got {len(folds)} repeat(s), expected at least 2; repeat the folds")
    if (folds < 0).any():
        raise CohortError("a patient is in no fold; leave it out of features and folds")
    tests = [fold_of == fold for fold_of in folds for fold in np.unique(fold_of)]
    axes = [
        split_axes(features[~test], features[test], n_components=n_components) for test in tests
    ]
    return RidgeSplits(tuple(tests), tuple(axes))


def ridge_roles(
    splits: RidgeSplits, values: NDArray[np.floating], *, penalties: Sequence[float] = PENALTIES
) -> list[Roles]:
    """Leave every patient out of the ridge regressions of genes and of their test folds.

    The scaling of features and the penalty of a split stay as chosen with the patient; given
    them, leaving out is exact.

    Parameters
    ----------
    splits : RidgeSplits
        Of one encoder.
    values : ndarray of shape (n, n_targets)
        Expression; finite. Each target costs an (n, n) matrix, so take some dozens at a time.
    penalties
        As in :class:`analysis.expression.ExpressionSettings`.

    Returns
    -------
    list of Roles
        One a target; the score is Pearson's r.

    Raises
    ------
    CohortError
        The rows do not agree, or a value is missing.
    """
    n = len(splits.tests[0])
    if values.ndim != 2 or len(values) != n:
        raise CohortError(f"got values of shape {values.shape} for {n} patients; one row a patient")
    if not np.isfinite(values).all():
        raise CohortError("a value is missing; leave the patient out of values and splits")
    sums = [RoleSums(n) for _ in range(values.shape[1])]
    for test, axes in zip(splits.tests, splits.axes, strict=True):
        predicted, chosen = predict(axes, values[~test], penalties=penalties)
        # What depends on the penalty alone is computed once for the genes that share it.
        for penalty in np.unique(chosen):
            genes = np.flatnonzero(chosen == penalty)
            changes = prediction_changes(
                axes, values[np.ix_(~test, genes)].astype(np.float64), penalty=float(penalty)
            )
            for gene, of_gene in zip(genes.tolist(), changes, strict=True):
                sums[gene].add(test, values[test, gene], predicted[:, gene], of_gene)
    return [of_gene.roles() for of_gene in sums]
