"""Images from outside: decoded safely, embedded by an encoder of the store, and forgotten."""

from __future__ import annotations

import tempfile
import threading
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from featurestore import versions
from featurestore.errors import UnreadableImageError
from featurestore.sources.images import read_rgb
from models.encoders import Encoder, open_encoder
from models.tiles import resample
from orchestration.home import Home

_MAX_OPEN_ENCODERS = 2


def decode_upload(home: Home, content: bytes) -> NDArray[np.uint8]:
    """Pixels of an uploaded image, its largest square from the middle.

    Raises
    ------
    UnreadableImageError
        If it is no image, or one that no tile could be.
    """
    with tempfile.NamedTemporaryFile(dir=home.scratch, prefix="upload-") as file:
        file.write(content)
        file.flush()
        try:
            rgb = read_rgb(Path(file.name))
        except UnreadableImageError as error:
            # The name that it has here says nothing to whoever sent it.
            message = str(error).replace(file.name, "the image")
            raise UnreadableImageError(message) from error
    height_px, width_px = rgb.shape[:2]
    side = min(height_px, width_px)
    top, left = (height_px - side) // 2, (width_px - side) // 2
    return np.ascontiguousarray(rgb[top : top + side, left : left + side])


class Encoders:
    """Encoders that are open, the last used ones; one image at a time goes through them."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._open: dict[int, Encoder] = {}
        self._lock = threading.Lock()

    def embed(self, model_version_id: int, rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Features of one square image, shape (dim,).

        Raises
        ------
        StoreError
            If there is no such version.
        WeightsError
            If its weights are not on this machine.
        """
        with self._lock:
            encoder = self._open.pop(model_version_id, None) or self._load(model_version_id)
            self._open[model_version_id] = encoder
            while len(self._open) > _MAX_OPEN_ENCODERS:
                self._open.pop(next(iter(self._open)))
            version = encoder.version
            pixels = resample(rgb, version.input_px, version.interpolation)
            vector: NDArray[np.float32] = encoder(pixels[None])[0]
            return vector

    def _load(self, model_version_id: int) -> Encoder:
        with Session(self._home.engine) as session:
            version = versions.load(session, model_version_id)
        return open_encoder(version, folder=self._home.weights)
