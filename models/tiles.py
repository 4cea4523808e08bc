"""From tiles on disk, or on slides, to batches of pixels, decoded while the network computes."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from featurestore.errors import InputError, Reject, UnreadableImageError
from featurestore.sources.images import pixel_sha256, read_rgb
from featurestore.sources.slide_tiles import TilePlace, read_tile

_RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


@dataclass(frozen=True, slots=True)
class TileRef:
    """One tile to be read.

    Attributes
    ----------
    tile_id : int
        What the caller knows it by.
    path : Path
        Its image file, or its slide.
    sha256 : str
        Digest of its pixels when it was taken in; of its place where it is on a slide.
    place : TilePlace, optional
        Where it is on its slide; None where the file is the tile.
    """

    tile_id: int
    path: Path
    sha256: str
    place: TilePlace | None = None

    @property
    def item(self) -> str:
        """How a reject names it: its file, and its place there."""
        return str(self.path) if self.place is None else f"{self.path}{self.place.on_slide}"


_Read = tuple[TileRef, NDArray[np.uint8] | Reject]
_RUN = 8
"""Tiles that one thread reads in a row: neighbours on a slide share compressed blocks, and each
is decoded once."""


@dataclass(frozen=True)
class PixelBatch:
    """Tiles that were read, in the order asked for, and those that could not be.

    Attributes
    ----------
    tile_ids : list of int
        Tiles in ``pixels``.
    items : list of str
        How a reject would name them.
    pixels : ndarray of uint8, shape (n, px, px, 3)
    rejects : list of Reject
        Tiles of this batch that were left out.
    """

    tile_ids: list[int]
    items: list[str]
    pixels: NDArray[np.uint8]
    rejects: list[Reject]


def read_batches(
    tiles: Iterable[TileRef],
    *,
    input_px: int,
    interpolation: str,
    batch_size: int = 32,
    n_threads: int | None = None,
    stage: str = "embed",
) -> Iterator[PixelBatch]:
    """Read tiles batch by batch; every tile is in exactly one batch or one reject, in order.

    At most two batches are decoded ahead of the one being used, however many tiles there are.

    Parameters
    ----------
    tiles : iterable of TileRef
        Taken one by one as needed.
    input_px : int
        Side that tiles are resampled to, in pixels.
    interpolation : str
        How: ``nearest``, ``bilinear``, ``bicubic`` or ``lanczos``.
    batch_size : int
        Tiles a batch, rejects included.
    n_threads : int, optional
        Threads that decode; one a core, if absent.
    stage : str
        Stage named in the rejects.

    Raises
    ------
    InputError
        The interpolation is none of the above.
    """
    if interpolation not in _RESAMPLING:
        raise InputError(
            f"interpolation {interpolation!r}; expected one of {', '.join(_RESAMPLING)}."
        )
    waiting = iter(tiles)
    decoding: deque[list[Future[list[_Read]]]] = deque()
    pool = ThreadPoolExecutor(max(1, n_threads or os.cpu_count() or 1), thread_name_prefix="decode")
    read = partial(_read_run, input_px=input_px, interpolation=interpolation, stage=stage)

    def decode_ahead(n_batches: int) -> None:
        while len(decoding) < n_batches and (batch := list(islice(waiting, batch_size))):
            runs = [batch[start : start + _RUN] for start in range(0, len(batch), _RUN)]
            decoding.append([pool.submit(read, run) for run in runs])

    try:
        decode_ahead(3)
        while decoding:
            batch = [tile for run in decoding.popleft() for tile in run.result()]
            decode_ahead(2)
            yield _batch(batch, input_px)
            decode_ahead(3)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _batch(read: list[_Read], input_px: int) -> PixelBatch:
    good = [(tile, pixels) for tile, pixels in read if not isinstance(pixels, Reject)]
    pixels = np.empty((len(good), input_px, input_px, 3), np.uint8)
    for row, (_, image) in enumerate(good):
        pixels[row] = image
    return PixelBatch(
        tile_ids=[tile.tile_id for tile, _ in good],
        items=[tile.item for tile, _ in good],
        pixels=pixels,
        rejects=[result for _, result in read if isinstance(result, Reject)],
    )


def _read_run(tiles: list[TileRef], **how: Any) -> list[_Read]:
    return [_read(tile, **how) for tile in tiles]


def _read(tile: TileRef, *, input_px: int, interpolation: str, stage: str) -> _Read:
    try:
        return tile, resample(read_unchanged(tile), input_px, interpolation)
    except (UnreadableImageError, OSError) as error:
        return tile, Reject(item=tile.item, stage=stage, reason=str(error))


def read_unchanged(tile: TileRef) -> NDArray[np.uint8]:
    """Pixels of a tile, shape (px, px, 3), if they are those that were taken in.

    Raises
    ------
    UnreadableImageError
        Its file is gone, cannot be decoded, shows another image now, or is not square.
    OSError
        Its file cannot be read.
    """
    if tile.place is not None:
        return read_tile(tile.path, tile.place, tile.sha256)
    rgb = read_rgb(tile.path)
    found = pixel_sha256(rgb)
    if found != tile.sha256:
        raise UnreadableImageError(
            f"{tile.path} is another image than when it was taken in: its pixels have SHA-256 "
            f"{found}, expected {tile.sha256}. Take the folder in again, or put the first image "
            "back."
        )
    height_px, width_px = rgb.shape[:2]
    if height_px != width_px:
        raise UnreadableImageError(
            f"{tile.path} is {width_px} × {height_px} px; expected a square tile, since resampling "
            "another to the encoder's square image would stretch it. Cut it square."
        )
    return rgb


def resample(rgb: NDArray[np.uint8], input_px: int, interpolation: str) -> NDArray[np.uint8]:
    """A square image at the side that an encoder takes, by one of the named interpolations."""
    if rgb.shape[0] == input_px:
        return rgb
    image = Image.fromarray(rgb).resize((input_px, input_px), _RESAMPLING[interpolation])
    return np.asarray(image)
