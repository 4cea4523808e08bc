"""Out-of-fold predictions: standardise, then a linear classifier, in every split.

The classifier is scikit-learn's multinomial logistic regression with an L2 penalty. What
is done here around it makes a study of hundreds of splits quick without changing its
answer: features are rotated into the space that the training tiles span, and splits run
side by side, each on one core.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from analysis.cores import on_every_core

# Tight enough that the probabilities are those of the optimum to about 1e-3, so that they do
# not depend on the road that the solver took.
TOLERANCE = 1e-6
MAX_ITERATIONS = 2000


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
        Inverse strength of the penalty; see :func:`fit_predict`.
    n_jobs : int, optional
        Splits worked on at a time; by default one a core. The numbers do not depend on it.
    on_progress : callable, optional
        Called as ``on_progress(n_done, n_total)`` after each split of each encoder.

    Returns
    -------
    dict of str to OutOfFold
        In the order of ``features``.

    Warns
    -----
    sklearn.exceptions.ConvergenceWarning
        Once an encoder, with the number of splits that did not converge.
    """
    splits = [(r, f) for r in range(len(folds)) for f in np.unique(folds[r]).tolist()]
    n_total = len(splits) * len(features)
    n_done = 0
    results = {}
    for encoder, matrix in features.items():
        probabilities = np.full((*folds.shape, n_classes), np.nan, dtype=np.float32)
        run = partial(_run_split, matrix, labels, folds, n_classes=n_classes, c=c)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = on_every_core(run, splits, n_jobs=n_jobs)
            for (repeat, fold), predicted in zip(splits, found, strict=True):
                probabilities[repeat, folds[repeat] == fold] = predicted
                n_done += 1
                if on_progress is not None:
                    on_progress(n_done, n_total)
        n_failed = _report_warnings(caught, encoder, len(splits))
        results[encoder] = OutOfFold(probabilities, n_failed)
    return results


def fit_predict(
    train: NDArray[np.floating],
    labels: NDArray[np.integer],
    test: NDArray[np.floating],
    *,
    c: float,
    n_classes: int,
) -> NDArray[np.float64]:
    """Train on one split's training tiles, and predict its test tiles.

    Features are standardised with the training tiles' mean and standard deviation (a
    feature that is constant there becomes 0), then classified by multinomial logistic
    regression that minimises::

        sum over training tiles of −log p(class)  +  |W|² / (2 c)

    with an unpenalised intercept. This is
    ``make_pipeline(StandardScaler(), LogisticRegression(C=c))``, solved to a tighter
    tolerance.

    Parameters
    ----------
    train, test : ndarray of shape (n_train, d) and (n_test, d)
        Features.
    labels : ndarray of shape (n_train,)
        Class of every training tile, 0 to ``n_classes - 1``.
    c : float
        Inverse strength of the penalty, positive; smaller is smoother.
    n_classes : int
        Number of columns of the result.

    Returns
    -------
    ndarray of shape (n_test, n_classes), float64
        Probabilities; 0 for a class without a training tile.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler()
    x_train: NDArray[np.float64] = scaler.fit_transform(train.astype(np.float64))
    x_test: NDArray[np.float64] = scaler.transform(test.astype(np.float64))
    if x_train.shape[0] < x_train.shape[1]:
        x_train, x_test = _rotate(x_train, x_test)
    model = LogisticRegression(C=c, tol=TOLERANCE, max_iter=MAX_ITERATIONS).fit(x_train, labels)
    probabilities = np.zeros((len(x_test), n_classes))
    probabilities[:, model.classes_] = model.predict_proba(x_test)
    return probabilities


def _rotate(
    train: NDArray[np.float64], test: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Coordinates of both in the space that the training rows span.

    With an L2 penalty the best weights are a combination of the training rows (the
    representer theorem; Kimeldorf & Wahba 1971), and a rotation changes neither the penalty
    nor any product of weights and features. So nothing is lost, and the solver has at most
    n_train unknowns a class in place of d.
    """
    eigenvalues, eigenvectors = np.linalg.eigh(train @ train.T)
    # Directions in which the training tiles do not differ are rounding noise only.
    keep = eigenvalues > eigenvalues[-1] * len(train) * np.finfo(np.float64).eps
    if not keep.any():
        return np.zeros((len(train), 1)), np.zeros((len(test), 1))
    lengths, axes = np.sqrt(eigenvalues[keep]), eigenvectors[:, keep]
    return axes * lengths, (test @ train.T) @ (axes / lengths)


def _run_split(
    matrix: NDArray[np.float32],
    labels: NDArray[np.integer],
    folds: NDArray[np.integer],
    split: tuple[int, int],
    *,
    n_classes: int,
    c: float,
) -> NDArray[np.float64]:
    repeat, fold = split
    in_test = folds[repeat] == fold
    return fit_predict(
        matrix[~in_test], labels[~in_test], matrix[in_test], c=c, n_classes=n_classes
    )


def _report_warnings(caught: list[warnings.WarningMessage], encoder: str, n_splits: int) -> int:
    """Count the splits that did not converge and say so once; pass other warnings on."""
    from sklearn.exceptions import ConvergenceWarning

    n_failed = 0
    for message in caught:
        if issubclass(message.category, ConvergenceWarning):
            n_failed += 1
        else:
            warnings.warn_explicit(
                message.message, message.category, message.filename, message.lineno
            )
    if n_failed:
        warnings.warn(
            f"{encoder}: the classifier did not converge in {n_failed} of {n_splits} splits; "
            "lower c, or look for features of extreme size",
            ConvergenceWarning,
            stacklevel=3,
        )
    return n_failed
