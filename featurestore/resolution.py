"""Resolution: whether tiles show as much tissue a pixel as an encoder is meant to see."""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from featurestore.errors import SourceError
from featurestore.model_versions import ModelVersion
from featurestore.tables import DatasetTile, Tile

# Scanners that say "20x" differ by a few per cent; a wrong magnification is off by 2.
_TOLERANCE = 0.1


def refuse_other_resolution(session: Session, version: ModelVersion, dataset_id: int) -> None:
    """Refuse tiles whose field of view is not the one that an encoder is meant for.

    A tile of ``width_px`` at ``mpp`` µm/px shows ``width_px * mpp`` µm, which the encoder
    sees as ``input_px`` pixels. Nothing is checked where either side tells no mpp.

    Raises
    ------
    SourceError
        If the resolution differs by more than 10 %; it names an example.
    """
    if version.mpp is None:
        return
    seen_mpp = Tile.width_px * Tile.mpp / version.input_px
    row = session.execute(
        select(DatasetTile.path, Tile.width_px, Tile.mpp, seen_mpp.label("seen_mpp"))
        .join(Tile, Tile.tile_id == DatasetTile.tile_id)
        .where(
            DatasetTile.dataset_id == dataset_id,
            func.abs(seen_mpp / version.mpp - 1) > _TOLERANCE,
        )
        .order_by(DatasetTile.path)
        .limit(1)
    ).first()
    if row is not None:
        raise SourceError(
            f"{row.path}: {row.width_px} px at {row.mpp} µm/px become {row.seen_mpp:.3f} µm/px in "
            f"an input of {version.input_px} px, but the encoder is meant for {version.mpp} µm/px. "
            "Correct `mpp` of the tiles or of the encoder, or the encoder's `input_px`."
        )
