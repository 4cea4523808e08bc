"""How good one split's predictions are: accuracy, recall, AUROC, confusion counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import CohortError

if TYPE_CHECKING:
    import pandas as pd

ALL = "all"
"""The target of a metric that is about all classes together."""

SCORE_COLUMNS = (
    "encoder", "target", "metric", "repeat", "fold", "value", "n_train", "n_test",
)  # fmt: skip


def classification_scores(
    labels: NDArray[np.integer],
    probabilities: NDArray[np.floating],
    classes: Sequence[str],
) -> dict[tuple[str, str], float]:
    """Every score of one split's test tiles.

    The predicted class is the most probable one, the first of equals.

    Parameters
    ----------
    labels : ndarray of shape (n_test,)
        True class of every test tile, as an index into ``classes``.
    probabilities : ndarray of shape (n_test, n_classes)
        Predicted class probabilities.
    classes : sequence of str
        Names of the classes.

    Returns
    -------
    dict of (target, metric) to float
        ``("all", "accuracy")``, ``("all", "balanced_accuracy")`` (mean recall of the
        classes), ``("all", "macro_auroc")`` (mean one-against-rest AUROC of the classes)
        and ``(class, "recall")`` for every class. A score is NaN where it is undefined: a
        recall whose class has no test tile, and the two means that rest on it.

    Raises
    ------
    CohortError
        The shapes do not agree, or there is no test tile.
    """
    if probabilities.shape != (len(labels), len(classes)) or len(labels) == 0:
        raise CohortError(
            f"expected probabilities of shape ({len(labels)}, {len(classes)}) for at least one "
            f"test tile, got {probabilities.shape}"
        )
    predicted = probabilities.argmax(axis=1)
    counts = confusion_counts(labels, predicted, len(classes))
    n_per_class = counts.sum(axis=1)
    recalls = np.full(len(classes), np.nan)
    np.divide(counts.diagonal(), n_per_class, out=recalls, where=n_per_class > 0)
    scores = {
        (ALL, "accuracy"): float(counts.trace() / len(labels)),
        (ALL, "balanced_accuracy"): float(recalls.mean()),
        (ALL, "macro_auroc"): float(one_vs_rest_auroc(labels, probabilities).mean()),
    }
    scores.update(
        ((name, "recall"), float(recall)) for name, recall in zip(classes, recalls, strict=True)
    )
    return scores


def one_vs_rest_auroc(
    labels: NDArray[np.integer], probabilities: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Area under the ROC curve of every class against the rest.

    The area is the Mann-Whitney statistic: the share of pairs of a tile of the class and
    a tile of another class in which the first has the higher probability, ties counting
    one half (Hanley & McNeil, Radiology 143:29-36, 1982).

    Parameters
    ----------
    labels : ndarray of shape (n,)
        True class of every tile, as a column index of ``probabilities``.
    probabilities : ndarray of shape (n, n_classes)
        Score of every tile for every class.

    Returns
    -------
    ndarray of shape (n_classes,), float64
        NaN for a class that has no tile or all of them.
    """
    from scipy.stats import rankdata

    n, n_classes = probabilities.shape
    of_class = np.asarray(labels)[:, None] == np.arange(n_classes)
    n_of_class = of_class.sum(axis=0)
    rank_sums = np.where(of_class, rankdata(probabilities, axis=0), 0.0).sum(axis=0)
    n_pairs = n_of_class * (n - n_of_class)
    areas = np.full(n_classes, np.nan)
    n_wins = rank_sums - n_of_class * (n_of_class + 1) / 2
    np.divide(n_wins, n_pairs, out=areas, where=n_pairs > 0)
    return areas


def confusion_counts(
    labels: NDArray[np.integer], predicted: NDArray[np.integer], n_classes: int
) -> NDArray[np.int64]:
    """How often each true class (row) was predicted as each class (column).

    Parameters
    ----------
    labels : ndarray of shape (n,)
        True class of every tile.
    predicted : ndarray of shape (n,) or (n_repeats, n)
        Predicted class; repeats are added up.
    n_classes : int
        Number of classes.

    Returns
    -------
    ndarray of shape (n_classes, n_classes), int64
    """
    true = np.broadcast_to(labels, predicted.shape).astype(np.int64).ravel()
    cells = true * n_classes + predicted.astype(np.int64).ravel()
    counts = np.bincount(cells, minlength=n_classes * n_classes)
    return counts.reshape(n_classes, n_classes).astype(np.int64)


def score_splits(
    labels: NDArray[np.integer],
    classes: Sequence[str],
    folds: NDArray[np.integer],
    probabilities: Mapping[str, NDArray[np.floating]],
) -> pd.DataFrame:
    """Every score of every split, from out-of-fold probabilities alone.

    Parameters
    ----------
    labels : ndarray of shape (n,)
        Class of every tile, as an index into ``classes``.
    classes : sequence of str
        Names of the classes.
    folds : ndarray of shape (n_repeats, n)
        Test fold of every tile in every repeat.
    probabilities : mapping of str to ndarray of shape (n_repeats, n, n_classes)
        By encoder.

    Returns
    -------
    DataFrame
        One row an encoder, repeat, fold and score of :func:`classification_scores`, with
        the columns ``SCORE_COLUMNS``.
    """
    import pandas as pd

    rows: list[tuple[Any, ...]] = []
    for encoder, predicted in probabilities.items():
        for repeat, fold_of_tile in enumerate(folds):
            for fold in np.unique(fold_of_tile).tolist():
                tested = fold_of_tile == fold
                n_test = int(tested.sum())
                scores = classification_scores(labels[tested], predicted[repeat, tested], classes)
                rows.extend(
                    (encoder, target, metric, repeat, fold, value, len(labels) - n_test, n_test)
                    for (target, metric), value in scores.items()
                )
    return pd.DataFrame(rows, columns=list(SCORE_COLUMNS))
