"""Mutations for :mod:`analysis.jackknife`: every patient left out of logistic regressions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.jackknife import Roles, RoleSums
from analysis.logistic import PENALTIES, fit_predict, prediction_changes
from featurestore.errors import CohortError


def logistic_roles(
    features: NDArray[np.floating],
    mutated: ArrayLike,
    folds: NDArray[np.integer],
    *,
    penalties: Sequence[float] = PENALTIES,
) -> Roles:
    """Leave every patient out of the logistic regressions of one gene and of their test folds.

    The penalty of a split stays as chosen with the patient; leaving out is approximate, see
    :func:`analysis.logistic.prediction_changes`.

    Parameters
    ----------
    features : ndarray of shape (n, d)
        Of one encoder.
    mutated : array-like of shape (n,)
        1 or 0; patients who were not sequenced are left out.
    folds : ndarray of shape (n_repeats, n)
        Test fold of every patient. Ten repeats are enough for the variance.
    penalties
        As in :class:`analysis.mutation.MutationSettings`.

    Returns
    -------
    Roles
        The score is the AUROC.

    Raises
    ------
    CohortError
        The rows do not agree, a status is neither 0 nor 1, there is one repeat only, or a
        split cannot be trained.
    """
    status = np.asarray(mutated, dtype=np.float64)
    if status.ndim != 1 or folds.shape[1:] != status.shape or len(features) != len(status):
        raise CohortError(
            f"got {len(features)} rows of features and folds of shape {folds.shape} for a status "
            f"of shape {status.shape}; give one row a patient"
        )
    if len(folds) < 2:
        raise CohortError(f"got {len(folds)} repeat(s), expected at least 2; repeat the folds")
    if not np.isin(status, [0.0, 1.0]).all() or (folds < 0).any():
        raise CohortError("a status is neither 0 nor 1; leave the patient out, of folds as well")
    sums = RoleSums(len(status), "auroc")
    for fold_of in folds:
        for fold in np.unique(fold_of):
            test = fold_of == fold
            train, labels = features[~test], status[~test] == 1
            chosen = fit_predict(train, labels, features[test], penalties=penalties).penalty
            log_odds, changes = prediction_changes(train, labels, features[test], penalty=chosen)
            sums.add(test, status[test], log_odds, changes)
    return sums.roles()
