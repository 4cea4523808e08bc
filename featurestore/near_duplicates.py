"""Copies of tiles: the same tissue twice, flipped, turned, recompressed, restained or cropped.

The very same pixels the store knows by their digest. A changed copy it finds by two means, which
are told apart: the perceptual hash, and the features of an encoder. Thresholds were measured
with ``benchmarks/near_duplicates.py``; docs/guards.md has the numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session

from featurestore import perceptual_hash
from featurestore.embeddings import embedded_tiles, matrix
from featurestore.fingerprints import Hashes, shown_path
from featurestore.guards import BLOCKING, WARNING, GuardFinding
from featurestore.tables import DatasetTile, Tile

HASH_GUARD = "near_duplicate_hash"
FEATURE_GUARD = "near_duplicate_features"
PATIENT_GUARD = "copies_within"
COPIES, SIMILAR = "copies", "similar"

MAX_BITS_COPY = 60
"""Tiles whose hashes differ in so many of 255 bits, or fewer, are copies: this blocks."""

MAX_BITS_SIMILAR = 72
"""Up to here they are reported: a larger crop, or chance."""

MIN_COSINE_COPY = 0.7
"""Where the most similar training tile by features (cosine, centred) is at least so similar, and
the hashes differ in at most :data:`MAX_BITS_WITH_FEATURES` bits, it is a copy: this blocks."""

MAX_BITS_WITH_FEATURES = 80

MIN_COSINE_SIMILAR = 0.9
"""From here on it is reported whatever the hashes say."""

_N_SHOWN = 20
_BLOCK = 4096


def copies_by_hash(tiles: Hashes, training: Hashes, *, target: str) -> list[GuardFinding]:
    """Look for copies of training tiles among others by their hashes.

    Parameters
    ----------
    tiles : Hashes
        Tiles to evaluate on.
    training : Hashes
        Tiles that an encoder is fine-tuned on.
    target : str
        Name of what ``tiles`` are.
    """
    unknown = {
        "n_tiles": len(tiles.tile_ids),
        "n_training_tiles": len(training.tile_ids),
        "n_too_plain": tiles.n_plain + training.n_plain,
        "n_not_hashed": tiles.n_missing + training.n_missing,
    }
    if not len(tiles.tile_ids) or not len(training.tile_ids):
        return [
            GuardFinding(
                guard=HASH_GUARD,
                target=target,
                part=COPIES,
                passed=None,
                severity=BLOCKING,
                summary="could not be looked for: no tile of one of the two sets has a hash",
                details=unknown,
            )
        ]
    distances, positions = perceptual_hash.nearest(tiles.bits, training.bits)
    pairs = [
        {"tile": tiles.paths[i], "training_tile": training.paths[positions[i]], "bits": int(bits)}
        for i, bits in enumerate(distances)
    ]
    details = unknown | {"fewest_bits": int(distances.min())}
    is_copy = distances <= MAX_BITS_COPY
    is_similar = ~is_copy & (distances <= MAX_BITS_SIMILAR)
    return [
        _finding(
            HASH_GUARD, target, COPIES, BLOCKING, pairs, is_copy, MAX_BITS_COPY, details,
            f"{int(is_copy.sum())} tiles are copies of fine-tuning tiles by their hash",
        ),
        _finding(
            HASH_GUARD, target, SIMILAR, WARNING, pairs, is_similar, MAX_BITS_SIMILAR, details,
            f"{int(is_similar.sum())} tiles are like a fine-tuning tile by their hash",
        ),
    ]  # fmt: skip


def copies_within(tiles: Hashes, *, target: str) -> list[GuardFinding]:
    """Look for copies within one data set that folds may put on two sides.

    Copies under two patients block: one of the two patients is wrong, and folds that keep
    patients whole do not keep the pair together. Copies of which one has no patient are reported.
    """
    pairs = perceptual_hash.pairs_within(tiles.bits, MAX_BITS_COPY)
    shown = [
        {"tile": tiles.paths[i], "other_tile": tiles.paths[j], "bits": int(bits)}
        for i, j, bits in pairs
    ]
    patients = [(tiles.patients[i], tiles.patients[j]) for i, j, _ in pairs]
    two = np.array([bool(a and b and a != b) for a, b in patients], dtype=bool)
    unknown = np.array([not (a and b) for a, b in patients], dtype=bool)
    details = {"n_tiles": len(tiles.tile_ids), "n_pairs": len(pairs), "n_too_plain": tiles.n_plain}
    return [
        _finding(
            PATIENT_GUARD, target, "two patients", BLOCKING, shown, two, MAX_BITS_COPY, details,
            f"{int(two.sum())} pairs of copies stand under two patients",
        ),
        _finding(
            PATIENT_GUARD, target, "no patient", WARNING, shown, unknown, MAX_BITS_COPY, details,
            f"{int(unknown.sum())} pairs of copies without a patient may be in two folds",
        ),
    ]  # fmt: skip


def copies_by_features(
    session: Session, model_version_id: int, tiles: Hashes, dataset_id: int, training: Hashes,
    training_id: int, *, target: str,
) -> list[GuardFinding]:  # fmt: skip
    """Look for copies of training tiles among others by an encoder's features.

    Features are centred on the training tiles' mean, since all of an encoder's vectors point the
    same way. Tiles of either set without an embedding are left out and counted.

    Parameters
    ----------
    session : sqlalchemy.orm.Session
    model_version_id : int
        Any version that was not fine-tuned on the training tiles.
    tiles, dataset_id
        Tiles to evaluate on: their hashes, and their data set.
    training, training_id
        The same of the tiles that an encoder is fine-tuned on.
    target : str
        Name of what ``tiles`` are.
    """
    ids, known = (
        np.array(sorted(embedded_tiles(session, model_version_id, which)), dtype=np.int64)
        for which in (dataset_id, training_id)
    )
    details: dict[str, Any] = {"n_tiles": len(ids), "n_training_tiles": len(known)}
    if not len(ids) or not len(known):
        return [
            GuardFinding(
                guard=FEATURE_GUARD,
                target=target,
                part=COPIES,
                passed=None,
                severity=BLOCKING,
                summary="could not be looked for: one of the two sets has no embedding",
                details=details,
            )
        ]
    cosines, nearest = nearest_by_features(session, model_version_id, ids, known)
    near = np.flatnonzero(cosines >= MIN_COSINE_COPY)
    bits = _bits_between(tiles, training, ids[near], nearest[near])
    names = _paths(session, dataset_id, ids[near]) | _paths(session, training_id, nearest[near])
    pairs = [
        {
            "tile": names[dataset_id, int(ids[i])],
            "training_tile": names[training_id, int(nearest[i])],
            "cosine": round(float(cosines[i]), 4),
            "bits": None if found < 0 else int(found),
        }
        for i, found in zip(near, bits, strict=True)
    ]
    is_copy = (bits >= 0) & (bits <= MAX_BITS_WITH_FEATURES)
    is_similar = ~is_copy & (cosines[near] >= MIN_COSINE_SIMILAR)
    details["highest_cosine"] = round(float(cosines.max()), 4)
    return [
        _finding(
            FEATURE_GUARD, target, COPIES, BLOCKING, pairs, is_copy, MIN_COSINE_COPY, details,
            f"{int(is_copy.sum())} tiles are copies of fine-tuning tiles by features and hash",
        ),
        _finding(
            FEATURE_GUARD, target, SIMILAR, WARNING, pairs, is_similar, MIN_COSINE_SIMILAR,
            details,
            f"{int(is_similar.sum())} tiles are like a fine-tuning tile by features alone",
        ),
    ]  # fmt: skip


def nearest_by_features(
    session: Session,
    model_version_id: int,
    tile_ids: NDArray[np.int64],
    others: NDArray[np.int64],
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Of each tile, the most similar of others by centred cosine: the similarity and its id.

    Read block by block, so that memory stays flat.
    """
    centre = _mean(session, model_version_id, others)
    cosines = np.full(len(tile_ids), -np.inf, dtype=np.float32)
    nearest = np.zeros(len(tile_ids), dtype=np.int64)
    for start in range(0, len(tile_ids), _BLOCK):
        rows = slice(start, start + _BLOCK)
        features = _centred(session, model_version_id, tile_ids[rows], centre)
        for first in range(0, len(others), _BLOCK):
            columns = others[first : first + _BLOCK]
            found = features @ _centred(session, model_version_id, columns, centre).T
            best = found.argmax(axis=1)
            most = found[np.arange(len(best)), best]
            closer = most > cosines[rows]
            cosines[rows][closer] = most[closer]
            nearest[rows][closer] = columns[best[closer]]
    return cosines, nearest


def _mean(
    session: Session, model_version_id: int, tile_ids: NDArray[np.int64]
) -> NDArray[np.float32]:
    total: Any = 0
    for first in range(0, len(tile_ids), _BLOCK):
        block = matrix(session, model_version_id, tile_ids[first : first + _BLOCK].tolist())
        total = total + block.sum(axis=0, dtype=np.float64)
    mean: NDArray[np.float32] = np.asarray(total / len(tile_ids), dtype=np.float32)
    return mean


def _centred(
    session: Session,
    model_version_id: int,
    tile_ids: NDArray[np.int64],
    centre: NDArray[np.float32],
) -> NDArray[np.float32]:
    features = matrix(session, model_version_id, tile_ids.tolist()) - centre
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    centred: NDArray[np.float32] = features / np.maximum(norms, np.finfo(np.float32).tiny)
    return centred


def _bits_between(
    tiles: Hashes, training: Hashes, ids: NDArray[np.int64], others: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Bits that differ between the tiles of each pair; -1 where one is too plain to be told."""
    row = {int(tile_id): i for i, tile_id in enumerate(tiles.tile_ids)}
    column = {int(tile_id): i for i, tile_id in enumerate(training.tile_ids)}
    found = np.full(len(ids), -1, dtype=np.int64)
    for i, (one, other) in enumerate(zip(ids.tolist(), others.tolist(), strict=True)):
        if one in row and other in column:
            pair = tiles.bits[[row[one]]], training.bits[[column[other]]]
            found[i] = perceptual_hash.nearest(*pair)[0][0]
    return found


def _paths(
    session: Session, dataset_id: int, tile_ids: NDArray[np.int64]
) -> dict[tuple[int, int], str]:
    rows = session.execute(
        select(Tile.tile_id, DatasetTile.path, Tile.x_px, Tile.y_px)
        .join(DatasetTile, DatasetTile.tile_id == Tile.tile_id)
        .where(DatasetTile.dataset_id == dataset_id, Tile.tile_id.in_(tile_ids.tolist()))
    )
    return {(dataset_id, key): shown_path(path, x, y) for key, path, x, y in rows}


def _finding(
    guard: str,
    target: str,
    part: str,
    severity: str,
    pairs: Sequence[dict[str, Any]],
    chosen: NDArray[np.bool_],
    threshold: float,
    details: dict[str, Any],
    summary: str,
) -> GuardFinding:
    found = [pair for pair, is_it in zip(pairs, chosen, strict=True) if is_it]
    found.sort(key=lambda pair: (pair["bits"] is None, pair["bits"], pair["tile"]))
    first = f"; first: {' and '.join(list(found[0].values())[:2])}" if found else ""
    return GuardFinding(
        guard=guard,
        target=target,
        part=part,
        passed=not found,
        severity=severity,
        measured=len(found),
        unit="tiles" if guard != PATIENT_GUARD else "pairs of tiles",
        threshold=1,
        summary=summary + first,
        details=details | {"limit": threshold, "pairs": found[:_N_SHOWN]},
    )
