"""What the frozen part of a network gives for every training tile, computed as rarely as possible.

The frozen part sees a tile the same way in every epoch, so its output is computed once for each
of a few augmented views and kept, as float16, in an unnamed temporary file: the system frees
that when the process ends, however it ends. Where the file would be too large, outputs are
computed anew whenever they are needed; the numbers are the same.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import Reject, TrainingError
from models.augment import view_of
from models.runtime import PixelFunction
from models.tiles import TileRef, read_batches

_BATCH_SIZE = 32


class TrunkOutputs:
    """Outputs of a network's frozen part for the views of tiles.

    Parameters
    ----------
    tiles : sequence of TileRef
        ``tile_id`` is the row of the tile.
    compute : callable or None
        The frozen part, pixels to outputs; None gives the pixels themselves.
    input_px : int
        Side of the images, in pixels.
    interpolation : str
        How tiles of another size are resampled.
    seed : int
    stain_jitter : float
        See :func:`models.augment.view_of`.
    """

    def __init__(
        self,
        tiles: Sequence[TileRef],
        compute: PixelFunction | None,
        *,
        input_px: int,
        interpolation: str,
        seed: int,
        stain_jitter: float,
    ) -> None:
        self._tiles = tiles
        self._compute = compute
        self._reading: dict[str, Any] = {"input_px": input_px, "interpolation": interpolation}
        self._views = {"seed": seed, "stain_jitter": stain_jitter}
        self._kept: NDArray[np.float16] | None = None
        self._n_views = 0

    @property
    def keeps(self) -> bool:
        """Whether outputs are kept, rather than computed whenever needed."""
        return self._kept is not None

    def bytes_a_view(self) -> int:
        """Size of all tiles' outputs for one view, in bytes."""
        return int(np.prod(self._shape())) * len(self._tiles) * 2

    @contextmanager
    def keeping(self, scratch: Path, *, n_views: int) -> Iterator[None]:
        """Keep the outputs of ``n_views`` views in a temporary file in ``scratch`` meanwhile.

        Raises
        ------
        TrainingError
            The file system has no room for them.
        """
        scratch.mkdir(parents=True, exist_ok=True)
        n_bytes = self.bytes_a_view() * n_views
        with tempfile.TemporaryFile(dir=scratch) as file:
            try:
                _reserve(file.fileno(), n_bytes)
            except OSError as error:
                raise TrainingError(
                    f"fine-tuning needs {n_bytes / 1e9:.1f} GB in {scratch} for a while, and "
                    f"cannot have it ({error.strerror}). Free space, or lower `scratch_gb` of "
                    "[finetune]: it then computes more and keeps less."
                ) from error
            shape = (n_views, len(self._tiles), *self._shape())
            self._kept = np.memmap(file, np.float16, "r+", shape=shape)
            self._n_views = n_views
            try:
                yield
            finally:
                self._kept = None

    def first_pass(
        self,
        see: Callable[[list[int], NDArray[Any], NDArray[np.uint8]], None],
        *,
        augmented: NDArray[np.bool_],
        on_batch: Callable[[int], None],
    ) -> list[Reject]:
        """Read every tile once; keep its views' outputs, if any are kept.

        Parameters
        ----------
        see : callable
            Given the rows, outputs and pixels of each batch of tiles as they are (view 0).
        augmented : ndarray of bool, shape (n_tiles,)
            Tiles whose other views will be asked for.
        on_batch : callable
            Given the number of tiles of each batch.

        Returns
        -------
        list of Reject
            Tiles that could not be read; their rows hold nothing.
        """
        rejects = []
        for batch in self._read(self._tiles):
            rows = np.asarray(batch.tile_ids, int)
            if len(rows):
                outputs = self._outputs(batch.pixels)
                see(batch.tile_ids, outputs, batch.pixels)
                if self._kept is not None:
                    self._kept[0, rows] = outputs
                    self._keep_views(rows[augmented[rows]], batch.pixels[augmented[rows]])
            rejects += batch.rejects
            on_batch(len(rows) + len(batch.rejects))
        return rejects

    def _keep_views(self, rows: NDArray[np.intp], pixels: NDArray[np.uint8]) -> None:
        for view in range(1, self._n_views):
            if self._kept is not None and len(rows):
                self._kept[view, rows] = self._outputs(self._view(rows, pixels, view))

    def batch(self, rows: NDArray[np.intp], view: int) -> NDArray[Any]:
        """Outputs of some tiles for one view, in this order.

        Raises
        ------
        TrainingError
            A tile that was read before no longer can be.
        """
        if self._kept is not None:
            kept: NDArray[np.float16] = self._kept[view, rows]
            return kept
        parts = []
        done = 0
        for batch in self._read([self._tiles[row] for row in rows]):
            if batch.rejects:
                raise TrainingError(f"a tile changed during training: {batch.rejects[0].reason}")
            these = rows[done : done + len(batch.tile_ids)]
            parts.append(self._outputs(self._view(these, batch.pixels, view)))
            done += len(these)
        return np.concatenate(parts)

    def _read(self, tiles: Sequence[TileRef]) -> Any:
        return read_batches(tiles, batch_size=_BATCH_SIZE, stage="finetune", **self._reading)

    def _view(
        self, rows: NDArray[np.intp], pixels: NDArray[np.uint8], view: int
    ) -> NDArray[np.uint8]:
        changed = [
            view_of(image, view=view, sha256=self._tiles[row].sha256, **self._views)  # type: ignore[arg-type]
            for row, image in zip(rows, pixels, strict=True)
        ]
        return np.stack(changed)

    def _outputs(self, pixels: NDArray[np.uint8]) -> NDArray[Any]:
        if self._compute is None:
            return pixels
        # Rounded to what can be kept, so that it does not matter whether it is.
        limit = np.finfo(np.float16).max
        return np.clip(self._compute(pixels), -limit, limit).astype(np.float16)

    def _shape(self) -> tuple[int, ...]:
        px = self._reading["input_px"]
        return self._outputs(np.zeros((1, px, px, 3), np.uint8)).shape[1:]


def _reserve(descriptor: int, n_bytes: int) -> None:
    """Reserve a file's space now: writing into a hole on a full disk would kill the process."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, n_bytes)
        return
    zeros = bytes(1 << 24)
    for start in range(0, n_bytes, len(zeros)):
        os.pwrite(descriptor, zeros[: n_bytes - start], start)
