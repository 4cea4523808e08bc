"""Out-of-fold predictions: standardise, then a linear classifier, in every split.

About ten splits are trained together on the features they share
(:mod:`analysis.softmax_regression`), and such groups run side by side, each on one core.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from analysis.cores import on_every_core
from analysis.softmax_regression import fit_splits

# More would gain little; a number of its own, so that results do not depend on the cores.
_SPLITS_TOGETHER = 10


@dataclass(frozen=True)
class OutOfFold:
    """One encoder's predictions for every tile, each made without that tile.

    Attributes
    ----------
    probabilities : ndarray of shape (n_repeats, n, n_classes), float32
        Class probabilities, from the split of each repeat in which the tile was tested.
    n_not_converged : int
        Splits whose solver stopped before it converged.
    """

    probabilities: NDArray[np.float32]
    n_not_converged: int


def cross_validate(
    features: Mapping[str, NDArray[np.float32]],
    labels: NDArray[np.integer],
    folds: NDArray[np.integer],
    *,
    n_classes: int,
    c: float,
    n_jobs: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, OutOfFold]:
    """Predict every tile once per repeat, for every encoder, on the same splits.

    Parameters
    ----------
    features : mapping of str to ndarray of shape (n, d), float32
        One matrix an encoder, rows in the order of ``labels``; d may differ.
    labels : ndarray of shape (n,)
        Class of every tile, 0 to ``n_classes - 1``.
    folds : ndarray of shape (n_repeats, n)
        Test fold of every tile in every repeat; see :func:`analysis.splits.repeated_folds`.
    n_classes : int
        Number of classes.
    c : float
        Inverse strength of the penalty; see :func:`analysis.softmax_regression.fit_splits`.
    n_jobs : int, optional
        Groups of about ten splits worked on at a time; by default one a core. The numbers do
        not depend on it.
    on_progress : callable, optional
        Called as ``on_progress(n_done, n_total)`` for each split of each encoder.

    Returns
    -------
    dict of str to OutOfFold
        In the order of ``features``.

    Warns
    -----
    sklearn.exceptions.ConvergenceWarning
        Once an encoder, with the number of splits that did not converge.
    """
    n_splits = sum(len(np.unique(repeat)) for repeat in folds)
    n_groups = -(-n_splits // _SPLITS_TOGETHER)
    groups = np.array_split(folds, min(n_groups, len(folds)))  # a repeat is never parted
    n_done = 0
    results = {}
    for encoder, matrix in features.items():
        probabilities: list[NDArray[np.float32]] = []
        run = partial(_out_of_fold, matrix, labels, n_classes=n_classes, c=c)
        n_failed = 0
        for own, converged in on_every_core(run, groups, n_jobs=n_jobs):
            probabilities.append(own)
            n_failed += int((~converged).sum())
            for _ in converged:
                n_done += 1
                if on_progress is not None:
                    on_progress(n_done, n_splits * len(features))
        _tell(n_failed, encoder, n_splits)
        results[encoder] = OutOfFold(np.concatenate(probabilities), n_failed)
    return results


def _out_of_fold(
    matrix: NDArray[np.float32],
    labels: NDArray[np.integer],
    folds: NDArray[np.integer],
    *,
    n_classes: int,
    c: float,
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Of some repeats: probabilities of every tile, and which of their splits converged."""
    splits = [(repeat, fold) for repeat, row in enumerate(folds) for fold in np.unique(row)]
    in_training = np.array([folds[repeat] != fold for repeat, fold in splits])
    fitted = fit_splits(matrix, labels, in_training, n_classes=n_classes, c=c)
    own = np.empty((*folds.shape, n_classes), dtype=np.float32)
    for (repeat, _), rows, found in zip(splits, in_training, fitted.probabilities, strict=True):
        own[repeat, ~rows] = found[~rows]
    return own, fitted.converged


def _tell(n_failed: int, encoder: str, n_splits: int) -> None:
    """Say once how many splits did not converge."""
    from sklearn.exceptions import ConvergenceWarning

    if n_failed:
        warnings.warn(
            f"{encoder}: the classifier did not converge in {n_failed} of {n_splits} splits; "
            "lower c, or look for features of extreme size",
            ConvergenceWarning,
            stacklevel=3,
        )
