"""How good an encoder is as a search engine: do the nearest tiles show the same tissue?

The query is a tile that the gallery does not hold, nor any tile of its patient. Its nearest
tiles by cosine distance are judged by their labels: does the majority of the five nearest name
the query's class, and how early do tiles of the class come (mAP@5, as SISH has it: Chen et al.,
Nat Biomed Eng 6:1420, 2022; majority vote as Yottixel: Kalra et al., Med Image Anal 65:101757,
2020)?
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from analysis.metrics import ALL, SCORE_COLUMNS

if TYPE_CHECKING:
    import pandas as pd

AT = 5
MAJORITY = f"majority_accuracy_at_{AT}"
MAP = f"map_at_{AT}"
# Neighbours that are kept a tile; the five nearest outside of a fold are nearly always in them.
_KEPT = 256
# Similarities that are held at a time; it bounds memory to some 300 MB.
_CELLS = 20_000_000


def unit_vectors(vectors: NDArray[np.floating]) -> NDArray[np.float32]:
    """Rows scaled to length 1; a zero row stays zero, and so is near to nothing."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(norms == 0, 1, norms), dtype=np.float32)


def nearest(
    queries: NDArray[np.float32],
    gallery: Iterable[tuple[NDArray[np.int64], NDArray[np.float32]]],
    k: int,
    *,
    query_groups: NDArray[np.int64],
    groups: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Rows of the k nearest gallery tiles of other groups, nearest first; -1 where none is left.

    Parameters
    ----------
    queries : (n, dim) array
        Unit vectors.
    gallery : iterable of ((m,) array, (m, dim) array)
        Blocks of row numbers and unit vectors; memory is that of one block.
    k : int
    query_groups : (n,) array
        Group of every query: a tile of the same group (patient) is no hit.
    groups : (n_gallery,) array
        Group of every gallery row.

    Returns
    -------
    (n, k) array
    """
    best = np.full((len(queries), k), -np.inf, np.float32)
    rows = np.full((len(queries), k), -1, np.int64)
    for block_rows, block in gallery:
        similarity = queries @ block.T
        similarity[query_groups[:, None] == groups[block_rows][None, :]] = -np.inf
        both = np.concatenate([best, similarity], axis=1)
        names = np.concatenate([rows, np.broadcast_to(block_rows, similarity.shape)], axis=1)
        order = np.argsort(-both, axis=1, kind="stable")[:, :k]
        best = np.take_along_axis(both, order, axis=1)
        rows = np.take_along_axis(names, order, axis=1)
    return np.where(np.isneginf(best), -1, rows)


def majority_labels(labels: NDArray[np.integer]) -> NDArray[np.int64]:
    """The label that most of each row's hits have; of equals, that of the nearest of them.

    Parameters
    ----------
    labels : (n, k) array
        Labels of the hits, nearest first; -1 is no vote.

    Returns
    -------
    (n,) array
        -1 where no hit has a label.
    """
    cast = labels >= 0
    votes = (labels[:, :, None] == labels[:, None, :]).sum(axis=2)
    # argmax takes the first of equals, which is the nearest.
    winner = np.where(cast, votes, 0).argmax(axis=1)
    return np.asarray(labels[np.arange(len(labels)), winner], dtype=np.int64)


def average_precision(relevant: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Average precision of each row's hits: mean of the precision at every relevant one.

    Parameters
    ----------
    relevant : (n, k) array
        Whether each hit is of the query's class, nearest first.

    Returns
    -------
    (n,) array
        0 where no hit is relevant.
    """
    ranks = np.arange(1, relevant.shape[1] + 1)
    precision = relevant.cumsum(axis=1) / ranks
    n_relevant = relevant.sum(axis=1)
    total = (precision * relevant).sum(axis=1)
    return np.asarray(total / np.maximum(n_relevant, 1), dtype=np.float64)


def label_scores(
    query_labels: NDArray[np.integer], hit_labels: NDArray[np.integer]
) -> dict[str, float]:
    """Majority-vote accuracy and mean average precision of queries by their hits' labels."""
    right = majority_labels(hit_labels) == query_labels
    relevant = (hit_labels == query_labels[:, None]) & (hit_labels >= 0)
    return {MAJORITY: float(right.mean()), MAP: float(average_precision(relevant).mean())}


def same_share(
    query_sites: NDArray[np.integer],
    hit_sites: NDArray[np.integer],
    other_sites: Sequence[NDArray[np.integer]],
) -> tuple[float, float]:
    """Share of hits from the query's own site, and what drawing hits at random would give.

    Parameters
    ----------
    query_sites : (n,) array
        Site of every query; -1 where unknown: such a query is left out.
    hit_sites : (n, k) array
        Sites of its hits; -1 where there is no hit.
    other_sites : sequence of arrays
        For every query, the sites of all tiles that could have been hits.

    Returns
    -------
    (float, float)
        NaN where no query has a site and a hit.
    """
    shares, chances = [], []
    for site, hits, others in zip(query_sites, hit_sites, other_sites, strict=True):
        found = hits[hits >= 0]
        if site >= 0 and len(found) and len(others):
            shares.append(float((found == site).mean()))
            chances.append(float((others == site).mean()))
    if not shares:
        return float("nan"), float("nan")
    return float(np.mean(shares)), float(np.mean(chances))


def score_retrieval(
    features: Mapping[str, NDArray[np.floating]],
    labels: NDArray[np.integer],
    folds: NDArray[np.integer],
) -> pd.DataFrame:
    """Scores of every encoder on every split: queries are test tiles, the gallery trains.

    Nothing is fitted, so the splits serve only to compare encoders on the same queries and
    galleries, with patients on one side each (the folds see to that).

    Parameters
    ----------
    features : mapping of str to (n, dim) array
        By encoder.
    labels : (n,) array
        Class indices.
    folds : (n_repeats, n) array
        The fold that tests each tile, a row a repeat.

    Returns
    -------
    DataFrame
        As :func:`analysis.metrics.score_splits` gives it, with the metrics
        ``majority_accuracy_at_5`` and ``map_at_5`` of all classes together.
    """
    import pandas as pd

    n = len(labels)
    rows: list[tuple[object, ...]] = []
    for encoder, matrix in features.items():
        hits = _out_of_fold_hits(unit_vectors(matrix), folds)
        for repeat, fold_of_tile in enumerate(folds):
            for fold in np.unique(fold_of_tile).tolist():
                tested = fold_of_tile == fold
                n_test = int(tested.sum())
                found = hits[repeat, tested]
                hit_labels = np.where(found >= 0, labels[found], -1)
                scores = label_scores(labels[tested], hit_labels)
                rows.extend(
                    (encoder, ALL, metric, repeat, fold, value, n - n_test, n_test)
                    for metric, value in scores.items()
                )
    return pd.DataFrame(rows, columns=list(SCORE_COLUMNS))


def _out_of_fold_hits(units: NDArray[np.float32], folds: NDArray[np.integer]) -> NDArray[np.int64]:
    """The five nearest tiles of other folds, for every repeat and tile; -1 where none is left."""
    n = len(units)
    hits = np.empty((len(folds), n, AT), np.int64)
    block = max(1, _CELLS // n)
    for start in range(0, n, block):
        these = np.arange(start, min(start + block, n))
        similarity = units[these] @ units.T
        similarity[np.arange(len(these)), these] = -np.inf
        order = np.argsort(-similarity, axis=1, kind="stable")
        kept = order[:, :_KEPT]
        for repeat, fold_of_tile in enumerate(folds):
            chosen, enough = _first_outside(kept, fold_of_tile, these)
            if not enough.all():
                lacking = ~enough
                chosen[lacking], _ = _first_outside(order[lacking], fold_of_tile, these[lacking])
            hits[repeat, these] = chosen
    return hits


def _first_outside(
    order: NDArray[np.int64], fold_of_tile: NDArray[np.integer], tiles: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Each row's first five of another fold than its tile, and whether there are so many.

    Where there are not, -1 stands in the place of the others.
    """
    outside = fold_of_tile[order] != fold_of_tile[tiles][:, None]
    enough = outside.sum(axis=1) >= AT
    first = np.argsort(~outside, axis=1, kind="stable")[:, :AT]
    chosen = np.take_along_axis(order, first, axis=1)
    chosen[~np.take_along_axis(outside, first, axis=1)] = -1
    if chosen.shape[1] < AT:
        chosen = np.pad(chosen, ((0, 0), (0, AT - chosen.shape[1])), constant_values=-1)
    return chosen, enough
