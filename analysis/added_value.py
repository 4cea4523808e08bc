"""Do features add to what age, sex and stage already tell? A permutation test of the gain.

Two stages are fitted in every split: ridge regression on the clinical variables, and ridge
regression on the features of what that leaves. One ridge on both together would not do:
it shrinks a handful of clinical columns as much as each of 2,048 features.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.expression import split_scores
from analysis.metrics import one_vs_rest_auroc
from analysis.ridge import SplitAxes, predict, split_axes
from featurestore.errors import CohortError

MIN_PATIENTS = 30
_STREAM = 1_000_099  # keeps these random streams apart from those of folds and other tests


@dataclass(frozen=True)
class AddedValue:
    """What features add to the clinical variables, and what they would by chance.

    Attributes
    ----------
    clinical, both : float
        Mean score over the splits of the clinical variables, and with the features added.
    gain : float
        ``both - clinical``.
    null_gains : ndarray of shape (n_permutations,)
        The same with the features of the patients exchanged at random.
    null_low, null_high : float
        Central 95 % of them. Their mean is below 0 where features cost more than they tell.
    p : float
        One-sided: how often chance gains as much.
    n_patients : int
    """

    clinical: float
    both: float
    gain: float
    null_gains: NDArray[np.float64]
    null_low: float
    null_high: float
    p: float
    n_patients: int


def added_value(
    observed: ArrayLike,
    clinical: NDArray[np.floating],
    features: NDArray[np.floating],
    folds: NDArray[np.integer],
    *,
    metric: str,
    seed: int,
    groups: ArrayLike | None = None,
    n_permutations: int = 199,
) -> AddedValue:
    """Test whether features predict what the clinical variables leave.

    The patients' rows of features are permuted as a whole, which keeps how features hang
    together and breaks what they say of a patient, and both stages are fitted again. (It is
    the values and clinical variables that are moved, against features and folds that stay:
    the same, but one factorisation of a split serves all permutations.)

    Assumptions: patients (of a group) are exchangeable, and the clinical variables act
    additively: where features stand for what the clinical stage fits badly, such as a
    U-shaped effect of age, that counts as added.

    Parameters
    ----------
    observed : array-like of shape (n,)
        Expression, or mutation status (0 or 1); finite.
    clinical : ndarray of shape (n, c)
        As :func:`analysis.clinical_features.clinical_matrix` gives it.
    features : ndarray of shape (n, d)
        Of one encoder.
    folds : ndarray of shape (n_repeats, n)
        Test fold of every patient; two repeats are enough, all of them are used.
    metric : str
        "pearson_r" or "auroc", which ranks the two stages' sum.
    seed : int
        The permutations are from ``SeedSequence(seed, spawn_key=(1000099,))``.
    groups : array-like of shape (n,), optional
        Permute within groups only, as a rule tissue source sites.
    n_permutations : int
        At least 19, below which no p is under 0.05.

    Returns
    -------
    AddedValue

    Raises
    ------
    CohortError
        The rows do not agree, a value is not finite, there are fewer than 30 patients or too
        few permutations, or no split defines the metric.

    References
    ----------
    Breiman, Machine Learning 45:5-32, 2001 (permutation importance); Ojala & Garriga, JMLR
    11:1833-1863, 2010 (refitting under permutation); Phipson & Smyth, Stat Appl Genet Mol
    Biol 9:39, 2010 (the added one).
    """
    y = np.asarray(observed, dtype=np.float64)
    _check(y, clinical, features, folds, metric, n_permutations)
    orders = _orders(len(y), groups, n_permutations, seed)
    totals, n_defined = np.zeros((2, len(orders))), np.zeros(len(orders))
    for fold_of in folds:
        for fold in np.unique(fold_of):
            test = fold_of == fold
            axes = split_axes(features[~test], features[test])
            scores = _score_both(y, clinical, axes, test, orders, metric)
            defined = ~np.isnan(scores).any(axis=0)
            n_defined += defined
            totals += np.where(defined, scores, 0.0)
    if not n_defined.all():
        raise CohortError(
            f"{metric} is undefined in every split; give folds with patients of both kinds, or "
            "with values that differ"
        )
    base, both = totals / n_defined
    gains = both - base
    null = gains[1:]
    low, high = np.quantile(null, [0.025, 0.975])
    return AddedValue(
        clinical=float(base[0]),
        both=float(both[0]),
        gain=float(gains[0]),
        null_gains=null,
        null_low=float(low),
        null_high=float(high),
        p=(1 + int((null >= gains[0]).sum())) / (1 + len(null)),
        n_patients=len(y),
    )


def _score_both(
    y: NDArray[np.float64],
    clinical: NDArray[np.floating],
    axes: SplitAxes,
    test: NDArray[np.bool_],
    orders: NDArray[np.intp],
    metric: str,
) -> NDArray[np.float64]:
    """Score of one split without and with the features, under every order: (2, n_orders)."""
    base = np.empty((int(test.sum()), len(orders)))
    left = np.empty((int((~test).sum()), len(orders)))
    for i, order in enumerate(orders):
        c, values = clinical[order], y[order]
        # Predicted for the training patients as well: what is left is for the second stage.
        of_clinical = split_axes(c[~test], np.concatenate([c[test], c[~test]]))
        fitted, _ = predict(of_clinical, values[~test, None])
        base[:, i] = fitted[: len(base), 0]
        left[:, i] = values[~test] - fitted[len(base) :, 0]
    added, _ = predict(axes, left)
    observed = y[orders].T[test]
    return np.stack([_scores(observed, base, metric), _scores(observed, base + added, metric)])


def _scores(
    observed: NDArray[np.float64], predicted: NDArray[np.float64], metric: str
) -> NDArray[np.float64]:
    if metric == "pearson_r":
        return np.asarray(split_scores(observed, predicted)[0], dtype=np.float64)
    return np.array(
        [
            one_vs_rest_auroc(status.astype(np.int64), np.column_stack([-p, p]))[1]
            for status, p in zip(observed.T, predicted.T, strict=True)
        ]
    )


def _orders(n: int, groups: ArrayLike | None, n_permutations: int, seed: int) -> NDArray[np.intp]:
    """The order as it is, then permutations within groups: (1 + n_permutations, n)."""
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_STREAM,)))
    codes = np.zeros(n, dtype=np.intp)
    if groups is not None:
        codes = np.unique(np.asarray(groups), return_inverse=True)[1]
    place = np.argsort(codes, kind="stable")
    orders = np.tile(np.arange(n, dtype=np.intp), (1 + n_permutations, 1))
    for order in orders[1:]:
        order[place] = np.lexsort((rng.random(n), codes))
    return orders


def _check(
    y: NDArray[np.float64],
    clinical: NDArray[np.floating],
    features: NDArray[np.floating],
    folds: NDArray[np.integer],
    metric: str,
    n_permutations: int,
) -> None:
    n = len(y)
    if metric not in ("pearson_r", "auroc"):
        raise CohortError(f"metric {metric!r} is unknown; expected pearson_r or auroc")
    shapes = {"clinical": clinical.shape, "features": features.shape, "folds": folds.T.shape}
    for what, shape in shapes.items():
        if len(shape) != 2 or shape[0] != n or shape[1] == 0:
            raise CohortError(f"got {what} of another shape ({shape}) than one row for {n} values")
    if n < MIN_PATIENTS:
        raise CohortError(f"got {n} patients, expected at least {MIN_PATIENTS}")
    if n_permutations < 19:
        raise CohortError(f"expected at least 19 permutations, got {n_permutations}")
    if not all(np.isfinite(x).all() for x in (y, clinical, features)) or (folds < 0).any():
        raise CohortError(
            "a value is missing; leave out patients who were not measured, in folds as well"
        )
    if metric == "auroc" and np.setdiff1d(y, [0.0, 1.0]).size:
        raise CohortError("the AUROC is of a status of 0 or 1; got another value")
