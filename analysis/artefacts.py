"""Whether labels can be told from what is no tissue: a small model on artefacts alone.

A tile's label may follow its file's size, its JPEG quality, its name or its mean colour, because
the classes came from different hands or scanners. An encoder then scores well for the wrong
reason. A shallow decision tree is asked to tell the label from each kind of artefact by itself
and from all together; what it gets above chance, an encoder may be getting too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.splits import patient_groups, repeated_folds
from featurestore.errors import CohortError

TOGETHER = "together"
"""Name of the measurement with every artefact at once."""

N_PERMUTATIONS = 999


@dataclass(frozen=True)
class ArtefactScore:
    """How well labels can be told from some artefacts.

    Attributes
    ----------
    artefact : str
        Which; :data:`TOGETHER` for all.
    balanced_accuracy : float
        Mean recall of the classes, over out-of-fold predictions.
    chance : float
        The same by guessing: one by the number of classes.
    p : float
        Share of permutations of the labels that do as well, the observed one counted in.
    n_tiles, n_classes : int
    by_patient : bool
        Whether folds kept patients whole.
    """

    artefact: str
    balanced_accuracy: float
    chance: float
    p: float
    n_tiles: int
    n_classes: int
    by_patient: bool


def artefact_scores(
    artefacts: Mapping[str, ArrayLike],
    labels: Sequence[str],
    *,
    patients: Sequence[str | None] | None = None,
    seed: int,
    n_folds: int = 5,
    max_tiles: int = 5_000,
) -> list[ArtefactScore]:
    """Tell labels from artefacts by cross-validation, patients kept whole.

    Parameters
    ----------
    artefacts : mapping of str to array-like of shape (n,) or (n, k)
        By kind. NaN where unknown, which is a value like any other.
    labels : sequence of str, length n
    patients : sequence of str or None, length n, optional
    seed : int
        Of the folds, of the choice of tiles and of the permutations.
    n_folds : int
        Fewer where a class has fewer tiles or patients.
    max_tiles : int
        Of more tiles that many are drawn.

    Returns
    -------
    list of ArtefactScore
        One a kind, in their order, then :data:`TOGETHER`. Kinds that are the same for every
        tile are at chance without a model.

    Raises
    ------
    CohortError
        If there are not two classes that two folds could hold each.
    """
    rng = np.random.default_rng([seed, 0xA27E])
    names = np.asarray(labels, dtype=str)
    chosen = np.arange(len(names))
    if len(chosen) > max_tiles:
        chosen = np.sort(rng.choice(chosen, max_tiles, replace=False))
    people = None if patients is None else np.asarray(patients, dtype=object)[chosen]
    groups, by_patient, _ = patient_groups(people, len(chosen))
    _, codes = np.unique(names[chosen], return_inverse=True)
    folds = _folds(codes, groups, n_folds, seed)
    kinds = {name: _matrix(values)[chosen] for name, values in artefacts.items()}
    kinds[TOGETHER] = np.concatenate(list(kinds.values()), axis=1)
    permuted = permutations_within(codes, groups, rng)
    scores = []
    for name, matrix in kinds.items():
        predicted = _out_of_fold(matrix, codes, folds)
        accuracy, p = _against_chance(predicted, codes, permuted)
        n_classes = int(codes.max()) + 1
        scores.append(
            ArtefactScore(name, accuracy, 1 / n_classes, p, len(codes), n_classes, by_patient)
        )
    return scores


def permutations_within(
    codes: NDArray[np.intp],
    groups: NDArray[np.int64] | None,
    rng: np.random.Generator,
    n: int = N_PERMUTATIONS,
) -> NDArray[np.intp]:
    """Labels permuted as chance would have it: tiles of a patient are no independent witnesses.

    Where a patient has tiles of several classes, labels change places within the patient; where
    every patient has one class, whole patients exchange theirs.

    Returns
    -------
    ndarray of shape (n, n_tiles)
    """
    if groups is None:
        return np.stack([rng.permutation(codes) for _ in range(n)])
    _, of_tile = np.unique(groups, return_inverse=True)
    n_groups = int(of_tile.max()) + 1
    first = np.full(n_groups, -1, dtype=np.intp)
    first[of_tile] = codes
    if (first[of_tile] == codes).all():
        return np.stack([rng.permutation(first)[of_tile] for _ in range(n)])
    by_group = np.argsort(of_tile, kind="stable")
    permuted = np.empty((n, len(codes)), dtype=np.intp)
    for row in permuted:
        # Sorted by patient and then by a random key: within each patient in random order.
        shuffled = np.lexsort((rng.random(len(codes)), of_tile))
        row[by_group] = codes[shuffled]
    return permuted


def balanced_accuracy(predicted: NDArray[np.intp], codes: NDArray[np.intp]) -> float:
    """Mean recall of the classes that occur."""
    n_per_class = np.bincount(codes)
    hits = np.bincount(codes, weights=predicted == codes, minlength=len(n_per_class))
    return float((hits[n_per_class > 0] / n_per_class[n_per_class > 0]).mean())


def _against_chance(
    predicted: NDArray[np.intp], codes: NDArray[np.intp], permuted: NDArray[np.intp]
) -> tuple[float, float]:
    """Balanced accuracy, and how often permuted labels agree with the predictions as well."""
    observed = balanced_accuracy(predicted, codes)
    null = np.array([balanced_accuracy(predicted, row) for row in permuted])
    return observed, float((1 + (null >= observed - 1e-12).sum()) / (1 + len(null)))


def _folds(
    codes: NDArray[np.intp], groups: NDArray[np.int64] | None, n_folds: int, seed: int
) -> NDArray[np.int8]:
    members = codes if groups is None else np.unique(np.column_stack([groups, codes]), axis=0)[:, 1]
    fewest = int(np.bincount(members).min())
    if len(np.bincount(members)) < 2 or fewest < 2:
        raise CohortError(
            f"the smallest of {len(np.bincount(members))} class(es) has {fewest} "
            f"{'tile' if groups is None else 'patient'}(s); two classes of two are needed to tell "
            "them from artefacts"
        )
    folds: NDArray[np.int8] = repeated_folds(
        codes, n_folds=min(n_folds, fewest), n_repeats=1, seed=seed, groups=groups
    )[0]
    return folds


def _out_of_fold(
    matrix: NDArray[np.float64], codes: NDArray[np.intp], folds: NDArray[np.int8]
) -> NDArray[np.intp]:
    from sklearn.tree import DecisionTreeClassifier

    predicted = np.empty_like(codes)
    for fold in np.unique(folds):
        train = folds != fold
        # Leaves of one in a hundred: enough to find a threshold, too few to learn tiles by heart.
        leaf = max(2, int(train.sum()) // 100)
        tree = DecisionTreeClassifier(
            min_samples_leaf=leaf, class_weight="balanced", random_state=0
        )
        tree.fit(matrix[train], codes[train])
        predicted[~train] = tree.predict(matrix[~train])
    return predicted


def _matrix(values: ArrayLike) -> NDArray[np.float64]:
    matrix = np.asarray(values, dtype=np.float64)
    return matrix[:, None] if matrix.ndim == 1 else matrix
