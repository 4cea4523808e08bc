"""Expression for :mod:`analysis.jackknife`: every patient left out of ridge regressions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from analysis.jackknife import Roles, RoleSums
from analysis.ridge import PENALTIES, predict, prediction_changes, split_axes
from featurestore.errors import CohortError


def ridge_roles(
    features: NDArray[np.floating],
    values: NDArray[np.floating],
    folds: NDArray[np.integer],
    *,
    penalties: Sequence[float] = PENALTIES,
    n_components: int | None = None,
) -> list[Roles]:
    """Leave every patient out of the ridge regressions of many genes and of their test folds.

    The scaling of features and the penalty of a split stay as chosen with the patient; given
    them, leaving out is exact.

    Parameters
    ----------
    features : ndarray of shape (n, d)
        Of one encoder.
    values : ndarray of shape (n, n_targets)
        Expression; finite.
    folds : ndarray of shape (n_repeats, n)
        Test fold of every patient. Ten repeats are enough for the variance.
    penalties, n_components
        As in :class:`analysis.expression.ExpressionSettings`.

    Returns
    -------
    list of Roles
        One a target, each with an (n, n) matrix; the score is Pearson's r.

    Raises
    ------
    CohortError
        The rows do not agree, a value is missing, or there is one repeat only.
    """
    n = len(values)
    if values.ndim != 2 or folds.shape[1:] != (n,) or len(features) != n:
        raise CohortError(
            f"got {len(features)} rows of features and folds of shape {folds.shape} for values of "
            f"shape {values.shape}; give one row a patient"
        )
    if len(folds) < 2:
        raise CohortError(f"got {len(folds)} repeat(s), expected at least 2; repeat the folds")
    if not np.isfinite(values).all() or (folds < 0).any():
        raise CohortError("a value is missing; leave the patient out of values and folds")
    sums = [RoleSums(n) for _ in range(values.shape[1])]
    for fold_of in folds:
        for fold in np.unique(fold_of):
            test = fold_of == fold
            axes = split_axes(features[~test], features[test], n_components=n_components)
            predicted, chosen = predict(axes, values[~test], penalties=penalties)
            for gene, of_gene in enumerate(sums):
                changes = prediction_changes(
                    axes, values[~test, gene].astype(np.float64), penalty=float(chosen[gene])
                )
                of_gene.add(test, values[test, gene], predicted[:, gene], changes)
    return [of_gene.roles() for of_gene in sums]
