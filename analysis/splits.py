"""Who is tested when: repeated stratified folds that keep groups whole.

The folds of a study are made once, from its seed alone, and every encoder is trained and
tested on the same ones; that is what makes the comparison a paired one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featurestore.errors import CohortError

MAX_FOLDS = 127  # a fold index is stored as int8
SITE_NOISE = 0.25
"""Noise that suits tissue source sites, of which a few hold most patients; see
:func:`repeated_folds`."""


def repeat_generator(seed: int, repeat: int) -> np.random.Generator:
    """The random stream that deals the folds of one repeat.

    The stream is ``PCG64(SeedSequence(seed, spawn_key=(repeat,)))``: repeats are
    independent, and the first ten repeats of fifty are the ten repeats of ten.

    Parameters
    ----------
    seed : int
        Seed of the study, not negative.
    repeat : int
        Index of the repeat, from 0.
    """
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(repeat,)))


def repeated_folds(
    labels: ArrayLike,
    *,
    n_folds: int,
    n_repeats: int,
    seed: int,
    groups: ArrayLike | None = None,
    order_noise: float = 0.0,
) -> NDArray[np.int8]:
    """Deal every tile into one test fold per repeat.

    Without groups, the number of tiles of each class and of all classes together differs
    by at most one between any two folds. With groups, all tiles of a group share a fold,
    and groups are dealt largest first, each to the fold where its classes are scarcest.

    Parameters
    ----------
    labels : array-like of shape (n,)
        Class of every tile; numbers or strings.
    n_folds, n_repeats : int
        Folds per repeat (2 to 127) and repeats (at least 1).
    seed : int
        Seed from which every repeat's own stream is derived; see
        :func:`repeat_generator`.
    groups : array-like of shape (n,), optional
        Group of every tile, as a rule its patient; never straddled by a split.
    order_noise : float
        How far groups are dealt out of the order of their size: the scale of a Gumbel
        noise on its logarithm. 0 balances best. Where a few groups hold most of the tiles,
        it also makes all repeats nearly alike, and some noise buys repeats that differ.

    Returns
    -------
    ndarray of shape (n_repeats, n), int8
        Fold in which each tile is tested, 0 to ``n_folds - 1``; in the other folds of
        that repeat it is trained on.

    Raises
    ------
    CohortError
        A class has fewer tiles (or comes from fewer groups) than there are folds, there
        is only one class, or a group is missing.
    """
    _check_counts(n_folds, n_repeats, seed)
    classes, codes = _encode(labels, "label")
    if len(classes) < 2:
        raise CohortError(
            f"a classifier needs at least two classes, got {len(classes)} "
            f"({', '.join(map(repr, classes))}); add tiles of another class"
        )
    n_groups, group_codes = _encode_groups(groups, len(codes))
    if group_codes is None:
        n_per_class = np.bincount(codes, minlength=len(classes))
        _refuse_small_classes(classes, n_per_class, n_folds, "tile")
        return _deal_repeats(_tile_dealer(codes, n_folds), n_repeats, seed)
    counts = np.zeros((n_groups, len(classes)), dtype=np.int64)
    np.add.at(counts, (group_codes, codes), 1)
    _refuse_small_classes(classes, (counts > 0).sum(axis=0), n_folds, "group")
    return _deal_repeats(_group_dealer(counts, group_codes, n_folds, order_noise), n_repeats, seed)


def unstratified_folds(
    n: int, *, n_folds: int, n_repeats: int, seed: int, groups: ArrayLike | None = None
) -> NDArray[np.int8]:
    """Deal every patient into one test fold per repeat, where there is no class to balance.

    Without groups, fold sizes differ by at most one. With groups (a patient's tissue source
    site), whole groups are dealt, roughly largest first (``SITE_NOISE``), each to the
    smallest fold: the site-preserved folds of Howard et al., Nat Commun 12:4423, 2021,
    without their solver.

    Parameters
    ----------
    n : int
        Number of patients.
    n_folds, n_repeats, seed
        As in :func:`repeated_folds`.
    groups : array-like of shape (n,), optional
        Group of every patient; never straddled by a split.

    Returns
    -------
    ndarray of shape (n_repeats, n), int8

    Raises
    ------
    CohortError
        There are fewer patients (or groups) than folds, or a group is missing.
    """
    _check_counts(n_folds, n_repeats, seed)
    if n < n_folds:
        raise CohortError(
            f"got {n} patients, fewer than the {n_folds} folds; use fewer folds or add patients"
        )
    codes = np.zeros(n, dtype=np.intp)
    n_groups, group_codes = _encode_groups(groups, n)
    if group_codes is None:
        return _deal_repeats(_tile_dealer(codes, n_folds), n_repeats, seed)
    if n_groups < n_folds:
        raise CohortError(
            f"the {n} patients come from {n_groups} groups, fewer than the {n_folds} folds; use "
            "fewer folds, or folds that keep only patients whole"
        )
    counts = np.bincount(group_codes, minlength=n_groups)[:, None]
    return _deal_repeats(_group_dealer(counts, group_codes, n_folds, SITE_NOISE), n_repeats, seed)


def patient_groups(
    patients: NDArray[np.object_] | None, n_tiles: int
) -> tuple[NDArray[np.int64] | None, bool, str]:
    """What must stay together in a split, and whether that rules leakage out.

    Parameters
    ----------
    patients : ndarray of shape (n_tiles,), object, or None
        Patient of every tile, None or empty where unknown.
    n_tiles : int
        Number of tiles.

    Returns
    -------
    groups : ndarray of shape (n_tiles,), int64, or None
        One number a patient; a tile without a patient has a number of its own. None where
        no tile has a patient.
    leakage_checked : bool
        True only where every tile has a patient.
    leakage_note : str
        The same in words, with counts.
    """
    groups = np.arange(n_tiles, dtype=np.int64)
    known = np.zeros(n_tiles, dtype=bool) if patients is None else ~_is_missing(patients)
    if patients is None or not known.any():
        note = "no tile carries a patient, so tiles of one patient may be on both sides of a split"
        return None, False, note
    distinct, codes = np.unique(patients[known].astype(str), return_inverse=True)
    groups[known] = n_tiles + codes
    n_known, n_patients = int(known.sum()), len(distinct)
    if n_known < n_tiles:
        note = (
            f"{n_tiles - n_known} of {n_tiles} tiles carry no patient, so tiles of one patient "
            f"may be on both sides of a split; the other {n_known} are kept together by patient "
            f"(patients: {n_patients})"
        )
        return groups, False, note
    return groups, True, f"all tiles of a patient are in one fold (patients: {n_patients})"


def _is_missing(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Where a value is None, NaN or an empty string."""
    import pandas as pd

    return np.asarray(pd.isna(values) | (values == ""), dtype=np.bool_)


def _check_counts(n_folds: int, n_repeats: int, seed: int) -> None:
    if not 2 <= n_folds <= MAX_FOLDS:
        raise CohortError(f"folds must be from 2 to {MAX_FOLDS}, got {n_folds}")
    if n_repeats < 1:
        raise CohortError(f"repeats must be at least 1, got {n_repeats}")
    if seed < 0:
        raise CohortError(f"the seed must not be negative, got {seed}")


def _encode(values: ArrayLike, what: str) -> tuple[list[Any], NDArray[np.intp]]:
    """Distinct values in sorted order, and each value's index among them."""
    array = np.asarray(values)
    if array.ndim != 1 or array.size == 0:
        raise CohortError(f"expected one {what} a tile, got an array of shape {array.shape}")
    missing = np.flatnonzero(_is_missing(array))
    if len(missing):
        raise CohortError(
            f"{len(missing)} of {array.size} tiles have no {what} (the first is row "
            f"{missing[0]}); leave them out or give them one"
        )
    distinct, codes = np.unique(array, return_inverse=True)
    return distinct.tolist(), codes


def _encode_groups(groups: ArrayLike | None, n: int) -> tuple[int, NDArray[np.intp] | None]:
    """Number of distinct groups, and each member's index among them."""
    if groups is None:
        return 0, None
    distinct, codes = _encode(groups, "group")
    if len(codes) != n:
        raise CohortError(f"got {len(codes)} groups for {n} labels; give one group a tile")
    return len(distinct), codes


def _deal_repeats(
    deal: Callable[[np.random.Generator], NDArray[np.int8]], n_repeats: int, seed: int
) -> NDArray[np.int8]:
    return np.stack([deal(repeat_generator(seed, repeat)) for repeat in range(n_repeats)])


def _refuse_small_classes(
    classes: list[Any], n_members: NDArray[np.int64], n_folds: int, member: str
) -> None:
    """Refuse classes that cannot be in every fold, naming the smallest."""
    smallest = int(n_members.argmin())
    n = int(n_members[smallest])
    if n >= n_folds:
        return
    comes_from = "has" if member == "tile" else "comes from"
    members = f"{member}{'' if n == 1 else 's'}"
    others = [repr(classes[i]) for i in np.flatnonzero(n_members < n_folds) if i != smallest]
    also = f" (too few also: {', '.join(others)})" if others else ""
    fewer_folds = f"use at most {n} folds, " if n >= 2 else ""
    raise CohortError(
        f"class {classes[smallest]!r} {comes_from} {n} {members}, fewer than the {n_folds} "
        f"folds{also}; {fewer_folds}add {member}s of this class or leave the class out"
    )


def _tile_dealer(
    codes: NDArray[np.intp], n_folds: int
) -> Callable[[np.random.Generator], NDArray[np.int8]]:
    """Deal like cards: shuffled within each class, round and round the folds."""
    seat = np.arange(len(codes))

    def deal(rng: np.random.Generator) -> NDArray[np.int8]:
        shuffled = rng.permutation(len(codes))
        by_class = shuffled[np.argsort(codes[shuffled], kind="stable")]
        # Which folds get the odd tiles is itself drawn, so no fold is always the larger one.
        order = rng.permutation(n_folds).astype(np.int8)
        folds = np.empty(len(codes), dtype=np.int8)
        folds[by_class] = order[seat % n_folds]
        return folds

    return deal


def _group_dealer(
    counts: NDArray[np.int64], group_codes: NDArray[np.intp], n_folds: int, order_noise: float
) -> Callable[[np.random.Generator], NDArray[np.int8]]:
    """Deal whole groups so as to keep the sum of squared class shares of the folds small."""
    shares = counts / counts.sum(axis=0)
    weight = np.square(shares).sum(axis=1)
    n_tiles = counts.sum(axis=1)

    def deal(rng: np.random.Generator) -> NDArray[np.int8]:
        shuffled = rng.permutation(len(shares))
        fold_of_group = np.empty(len(shares), dtype=np.int8)
        fold_shares = np.zeros((n_folds, shares.shape[1]))
        fold_tiles = np.zeros(n_folds, dtype=np.int64)
        size = weight[shuffled]
        if order_noise:
            size = np.log(size) + order_noise * rng.gumbel(size=len(size))
        for group in shuffled[np.argsort(-size, kind="stable")]:
            # Adding a group to a fold raises the sum of squares by 2 · fold · group + const.
            # Rounding makes equal folds equal again after sums in another order.
            rise = np.round(fold_shares @ shares[group], 12)
            fold = int(np.lexsort((fold_tiles, rise))[0])
            fold_of_group[group] = fold
            fold_shares[fold] += shares[group]
            fold_tiles[fold] += n_tiles[group]
        order = rng.permutation(n_folds).astype(np.int8)
        return order[fold_of_group[group_codes]]

    return deal
