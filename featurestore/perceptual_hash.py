"""Perceptual hashes of tiles: fingerprints that survive flips, turns, recompression and staining.

A tile is known to the store by its exact pixels; one changed pixel makes it another tile. This
hash is the opposite: the signs of the 255 lowest frequencies of the tile's grey levels. Mild
changes of the image change few signs, and two different tiles agree in about half of them.

Signs have one more virtue: flipping the image flips the signs of its odd frequencies, and
transposing it transposes them. So the hashes of all eight flips and quarter turns follow from
one, and a turned copy is found without the image.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

N_FREQUENCIES = 16
"""Lowest frequencies along either side whose signs are kept; the finest is 7.5 waves a tile."""

N_BITS = N_FREQUENCIES**2
"""Bits of a stored hash. The first one, the mean, says nothing and is always 0."""

SMALL_PX = 64
"""Side in pixels that tiles are reduced to before they are hashed."""

MIN_CONTRAST = 4.0
"""Least standard deviation of the grey levels (0-255) of a tile that can be told from others.

Of bare glass the hash would be that of the camera's noise, or of the lamp that a slide's tiles
share."""

_GREY = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # luma of ITU-R BT.601


def hash_tiles(pixels: NDArray[np.uint8]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Hash a batch of tiles.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (n, SMALL_PX, SMALL_PX, 3)
        The tiles, reduced with a filter that averages (bilinear or better).

    Returns
    -------
    bits : ndarray of bool, shape (n, N_BITS)
    is_plain : ndarray of bool, shape (n,)
        Tiles with too little contrast for their bits to mean anything.

    Raises
    ------
    ValueError
        If the tiles have another size.
    """
    if pixels.shape[1:] != (SMALL_PX, SMALL_PX, 3):
        raise ValueError(
            f"tiles have shape {pixels.shape[1:]}; expected ({SMALL_PX}, {SMALL_PX}, 3)"
        )
    grey = pixels.astype(np.float32) @ _GREY
    cosines = _cosines()
    bits = (cosines @ grey @ cosines.T > 0).reshape(len(pixels), N_BITS)
    bits[:, 0] = False
    return bits, grey.std(axis=(1, 2)) < MIN_CONTRAST


def nearest(
    bits: NDArray[np.bool_], others: NDArray[np.bool_], *, block: int = 2048
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The most similar of other hashes, whichever way its tile is flipped or turned.

    Parameters
    ----------
    bits : ndarray of bool, shape (n, N_BITS)
    others : ndarray of bool, shape (m, N_BITS)
        At least one.
    block : int
        Hashes of ``others`` compared at a time; bounds the memory.

    Returns
    -------
    distances : ndarray of int64, shape (n,)
        Bits of 255 that differ.
    positions : ndarray of int64, shape (n,)
        Of the nearest, among ``others``; the first of equals.
    """
    distances = np.full(len(bits), N_BITS, dtype=np.int64)
    positions = np.zeros(len(bits), dtype=np.int64)
    for rows in _blocks(len(bits), block):
        turned = [_signs(turn) for turn in turns(bits[rows])]
        for columns in _blocks(len(others), block):
            found = _distances(turned, _signs(others[columns]))
            best = found.argmin(axis=1)
            least = found[np.arange(len(best)), best]
            closer = least < distances[rows]
            distances[rows][closer] = least[closer]
            positions[rows][closer] = best[closer] + columns.start
    return distances, positions


def pairs_within(
    bits: NDArray[np.bool_], max_distance: int, *, block: int = 2048
) -> NDArray[np.int64]:
    """Pairs of hashes of one set that differ in few bits.

    Returns
    -------
    ndarray of int64, shape (n_pairs, 3)
        Position, later position, and distance; in that order.
    """
    pairs = [np.empty((0, 3), dtype=np.int64)]
    for rows in _blocks(len(bits), block):
        turned = [_signs(turn) for turn in turns(bits[rows])]
        for columns in _blocks(len(bits), block):
            if columns.stop <= rows.start:
                continue
            found = _distances(turned, _signs(bits[columns]))
            one, other = np.nonzero(found <= max_distance)
            later = one + rows.start < other + columns.start
            one, other = one[later], other[later]
            pairs.append(
                np.column_stack([one + rows.start, other + columns.start, found[one, other]])
            )
    everything = np.concatenate(pairs)
    return everything[np.lexsort((everything[:, 1], everything[:, 0]))]


def turns(bits: NDArray[np.bool_]) -> list[NDArray[np.bool_]]:
    """The hashes of all eight flips and quarter turns of the tiles, the tiles themselves first."""
    square = bits.reshape(-1, N_FREQUENCIES, N_FREQUENCIES)
    odd = np.arange(N_FREQUENCIES) % 2 == 1
    found = []
    for way in (square, square.swapaxes(1, 2)):
        for upside_down in (False, True):
            for mirrored in (False, True):
                flips = (odd[:, None] & upside_down) ^ (odd[None, :] & mirrored)
                found.append((way ^ flips).reshape(len(bits), N_BITS))
    return found


def _distances(turned: list[NDArray[np.float32]], signs: NDArray[np.float32]) -> NDArray[np.int64]:
    # A product of signs counts agreements minus differences, at the speed of BLAS and exactly:
    # the sums are whole numbers far below what float32 tells apart.
    agreement = turned[0] @ signs.T
    for turn in turned[1:]:
        np.maximum(agreement, turn @ signs.T, out=agreement)
    return ((N_BITS - agreement) / 2).astype(np.int64)


def _signs(bits: NDArray[np.bool_]) -> NDArray[np.float32]:
    return np.where(bits, np.float32(1), np.float32(-1))


def _blocks(n: int, block: int) -> list[slice]:
    return [slice(start, min(start + block, n)) for start in range(0, n, block)]


def _cosines() -> NDArray[np.float32]:
    """The discrete cosine transform's lowest frequencies, up to positive factors."""
    frequency, pixel = np.arange(N_FREQUENCIES)[:, None], np.arange(SMALL_PX)
    return np.cos(np.pi * frequency * (2 * pixel + 1) / (2 * SMALL_PX)).astype(np.float32)
