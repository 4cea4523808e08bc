"""Slides in the store: their tiles become rows, and a data set like any other.

The store keeps where a tile is, not its pixels: embedding reads them from the slide.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import (
    Column,
    Double,
    Integer,
    MetaData,
    Table,
    Text,
    func,
    literal,
    select,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from featurestore.copy import copy_rows
from featurestore.datasets import WrittenDataset, tissue_source_site
from featurestore.errors import Reject, SourceError
from featurestore.ledger import reading_moment
from featurestore.model_versions import content_sha256
from featurestore.sources.tiling import SlideTiles
from featurestore.tables import Dataset, DatasetTile, Patient, Slide, Tile

_NO_PICTURE = np.empty((0, 0, 3), np.uint8)

# Tiles on their way in; lives for one transaction.
_incoming = Table(
    "incoming_slide_tiles",
    MetaData(),
    Column("sha256", Text, primary_key=True),
    Column("slide_sha256", Text, nullable=False),
    Column("patient_id", Text, nullable=False),
    Column("path", Text, nullable=False),
    Column("x_px", Integer, nullable=False),
    Column("y_px", Integer, nullable=False),
    Column("tile_px", Integer, nullable=False),
    Column("mpp", Double, nullable=False),
    Column("stain", Text, nullable=False),
    prefixes=["TEMPORARY"],
    postgresql_on_commit="DROP",
)
_INCOMING_TYPES = [
    ("sha256", "text"),
    ("slide_sha256", "text"),
    ("patient_id", "text"),
    ("path", "text"),
    ("x_px", "int4"),
    ("y_px", "int4"),
    ("tile_px", "int4"),
    ("mpp", "float8"),
    ("stain", "text"),
]


@dataclass(frozen=True, slots=True)
class TiledSlide:
    """One slide of a data set, and how many tiles of it are in there."""

    path: str
    patient_id: str
    mpp: float
    mpp_source: str
    n_tiles: int


def write_slides(
    session: Session, root: Path, tiled: Iterable[SlideTiles], *, listing_sha256: str
) -> WrittenDataset:
    """Write the tiles of slides as one data set without labels; again, nothing changes.

    Parameters
    ----------
    session : sqlalchemy.orm.Session
        The caller commits.
    root : Path
        The folder that the slides lie under, absolute.
    tiled : iterable of SlideTiles
        As :func:`featurestore.sources.tiling.tile_slides` gives them; taken one by one, and
        thumbnails are not kept. Slides without a tile become rejects.
    listing_sha256 : str
        Digest of what was read and how
        (:meth:`featurestore.sources.slide_files.SlideFiles.listing_sha256`).

    Raises
    ------
    SourceError
        If no tile is left.
    """
    bare = (replace(slide, thumbnail=_NO_PICTURE) for slide in tiled)
    slides = sorted(bare, key=lambda slide: slide.slide.path)
    rejects = [slide.reject for slide in slides if slide.reject is not None]
    slides = [slide for slide in slides if slide.tiles]
    refused = _other_patient(session, slides)
    slides = [slide for slide in slides if slide.slide.path not in refused]
    rejects += refused.values()
    if not slides:
        reason = rejects[0].reason if rejects else "no slide was given"
        raise SourceError(f"{root}: not one tile of any slide is left; first reason: {reason}")
    digest = content_sha256(sorted([sha256, patient] for sha256, _, patient, *_ in _rows(slides)))
    _stage(session, slides)
    _write_slide_rows(session, slides)
    n_new = _write_tiles(session)
    n_tiles = sum(len(slide.tiles) for slide in slides)
    dataset_id = _write_membership(session, root, digest, listing_sha256, n_tiles)
    return WrittenDataset(dataset_id, digest, n_tiles, n_new, tuple(rejects))


def slides_of(session: Session, dataset_id: int) -> Sequence[TiledSlide]:
    """The slides of a data set, by path."""
    rows = session.execute(
        select(
            DatasetTile.path, Slide.patient_id, Slide.mpp, Slide.mpp_source, func.count().label("n")
        )
        .join(Tile, Tile.tile_id == DatasetTile.tile_id)
        .join(Slide, Slide.slide_id == Tile.slide_id)
        .where(DatasetTile.dataset_id == dataset_id)
        .group_by(DatasetTile.path, Slide.slide_id)
        .order_by(DatasetTile.path)
    )
    return [TiledSlide(*row) for row in rows]


def _other_patient(session: Session, slides: Sequence[SlideTiles]) -> dict[str, Reject]:
    """Slides that the store knows from another patient, by path."""
    rows = session.execute(
        select(Slide.sha256, Slide.patient_id).where(
            Slide.sha256.in_([tiles.slide.sha256 for tiles in slides])
        )
    )
    known = {row.sha256: row.patient_id for row in rows}
    return {
        slide.path: Reject(
            slide.path,
            "ingest",
            f"given for patient {slide.patient_id}, but the store knows the same slide from "
            f"patient {known[slide.sha256]}: correct the patients table",
        )
        for slide in (tiles.slide for tiles in slides)
        if known.get(slide.sha256, slide.patient_id) != slide.patient_id
    }


def _rows(slides: Sequence[SlideTiles]) -> Iterator[tuple[Any, ...]]:
    for tiles in slides:
        slide = tiles.slide
        for place in map(tiles.place, tiles.tiles):
            yield (
                place.sha256, slide.sha256, slide.patient_id, slide.path, place.x_px, place.y_px,
                place.tile_px, place.mpp, place.stain,
            )  # fmt: skip


def _stage(session: Session, slides: Sequence[SlideTiles]) -> None:
    _incoming.drop(session.connection(), checkfirst=True)
    _incoming.create(session.connection())
    copy_rows(session, _incoming.name, _INCOMING_TYPES, _rows(slides))
    session.connection().exec_driver_sql(f"ANALYZE {_incoming.name}")


def _write_slide_rows(session: Session, slides: Sequence[SlideTiles]) -> None:
    patients = sorted({tiles.slide.patient_id for tiles in slides})
    session.execute(
        insert(Patient).on_conflict_do_nothing(),
        [{"patient_id": p, "tissue_source_site": tissue_source_site(p)} for p in patients],
    )
    values = [
        {
            "sha256": slide.sha256,
            "patient_id": slide.patient_id,
            "name": slide.file.name,
            "width_px": slide.width_px,
            "height_px": slide.height_px,
            "mpp": slide.mpp,
            "mpp_source": slide.mpp_source,
        }
        for slide in sorted((tiles.slide for tiles in slides), key=lambda slide: slide.sha256)
    ]
    statement = insert(Slide)
    new = statement.excluded
    # A resolution may be corrected. Tiles that were cut at the former one have another digest:
    # they stay, but are not read again (featurestore.sources.slide_tiles.read_tile).
    session.execute(
        statement.on_conflict_do_update(
            index_elements=[Slide.sha256],
            set_={"mpp": new.mpp, "mpp_source": new.mpp_source},
            where=(Slide.mpp != new.mpp) | (Slide.mpp_source != new.mpp_source),
        ),
        values,
    )


def _write_tiles(session: Session) -> int:
    # Slide by slide and row by row: embedding goes by tile_id, and so opens each slide once.
    # Two ingests at once take their row locks in this order, too.
    rows = (
        select(
            _incoming.c.sha256,
            _incoming.c.tile_px,
            _incoming.c.tile_px,
            _incoming.c.mpp,
            _incoming.c.patient_id,
            Slide.slide_id,
            _incoming.c.x_px,
            _incoming.c.y_px,
            _incoming.c.stain,
        )
        .join(Slide, Slide.sha256 == _incoming.c.slide_sha256)
        .order_by(_incoming.c.slide_sha256, _incoming.c.y_px, _incoming.c.x_px)
    )
    columns = [
        "sha256", "width_px", "height_px", "mpp", "patient_id", "slide_id", "x_px", "y_px", "stain",
    ]  # fmt: skip
    written = session.execute(
        insert(Tile).from_select(columns, rows).on_conflict_do_nothing().returning(Tile.tile_id)
    )
    return len(written.all())


def _write_membership(
    session: Session, root: Path, digest: str, listing_sha256: str, n_tiles: int
) -> int:
    values = {
        "digest": digest,
        "name": "/".join(root.parts[-2:]),
        "root": str(root),
        "listing_sha256": listing_sha256,
        "n_tiles": n_tiles,
        "read_at": reading_moment(),
    }
    seen = {name: values[name] for name in ("name", "root", "listing_sha256", "read_at")}
    dataset_id = session.execute(
        insert(Dataset)
        .values(values)
        .on_conflict_do_update(index_elements=[Dataset.digest], set_=seen)
        .returning(Dataset.dataset_id)
    ).scalar_one()
    rows = select(literal(dataset_id), Tile.tile_id, _incoming.c.path).join(
        Tile, Tile.sha256 == _incoming.c.sha256
    )
    statement = insert(DatasetTile).from_select(["dataset_id", "tile_id", "path"], rows)
    session.execute(
        statement.on_conflict_do_update(
            index_elements=[DatasetTile.dataset_id, DatasetTile.tile_id],
            set_={"path": statement.excluded.path},
            where=DatasetTile.path != statement.excluded.path,
        )
    )
    return dataset_id
