"""Data sets: a folder of labelled tiles becomes rows, and rows become tiles to read again."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sqlalchemy import (
    Column,
    Double,
    Integer,
    MetaData,
    Table,
    Text,
    and_,
    bindparam,
    func,
    literal,
    or_,
    select,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from featurestore.copy import copy_rows
from featurestore.errors import Reject, SourceError, StoreError
from featurestore.ledger import reading_moment
from featurestore.sources.tile_folders import TileFolder
from featurestore.tables import Dataset, DatasetTile, Patient, Tile

_TCGA_PATIENT = re.compile(r"TCGA-([0-9A-Z]{2})-[0-9A-Z]{4}")

# Tiles on their way in; lives for one transaction.
_incoming = Table(
    "incoming_tiles",
    MetaData(),
    Column("sha256", Text, primary_key=True),
    Column("width_px", Integer, nullable=False),
    Column("height_px", Integer, nullable=False),
    Column("mpp", Double),
    Column("patient_id", Text),
    Column("label", Text, nullable=False),
    Column("path", Text, nullable=False),
    prefixes=["TEMPORARY"],
    postgresql_on_commit="DROP",
)
_INCOMING_TYPES = [
    ("sha256", "text"),
    ("width_px", "int4"),
    ("height_px", "int4"),
    ("mpp", "float8"),
    ("patient_id", "text"),
    ("label", "text"),
    ("path", "text"),
]


@dataclass(frozen=True, slots=True)
class WrittenDataset:
    """What writing a folder came to.

    Attributes
    ----------
    dataset_id : int
    digest : str
        The data set's content digest.
    n_tiles, n_new_tiles : int
        Tiles in the data set, and those of them that the store had not seen before.
    rejects : tuple of Reject
        What the reader and the store left out.
    """

    dataset_id: int
    digest: str
    n_tiles: int
    n_new_tiles: int
    rejects: tuple[Reject, ...]


@dataclass(frozen=True, slots=True)
class StoredTile:
    """One tile of a data set and the file that holds it."""

    tile_id: int
    sha256: str
    path: Path
    label: str
    patient_id: str | None


def tissue_source_site(patient_id: str) -> str | None:
    """The site code of a TCGA patient barcode (its 6th and 7th characters), else None."""
    match = _TCGA_PATIENT.fullmatch(patient_id)
    return match[1] if match else None


def write_dataset(session: Session, folder: TileFolder, *, mpp: float | None) -> WrittenDataset:
    """Write a folder of tiles; the same folder again changes nothing.

    Parameters
    ----------
    session : sqlalchemy.orm.Session
        The caller commits.
    folder : TileFolder
        As :func:`featurestore.sources.tile_folders.read_tile_folder` returns it.
    mpp : float or None
        Resolution of its tiles in µm per pixel, None where unknown.

    Raises
    ------
    SourceError
        If the store knows some of these tiles at another mpp, or every tile was refused.
    """
    _stage(session, folder, mpp)
    _refuse_other_mpp(session, folder, mpp)
    refused = _other_patient(session)
    if refused:
        names = {reject.item for reject in refused}
        kept = tuple(tile for tile in folder.tiles if tile.path not in names)
        folder = replace(folder, tiles=kept, rejects=folder.rejects + refused)
        session.execute(_incoming.delete().where(_incoming.c.path.in_(names)))
    if not folder.tiles:
        raise SourceError(
            f"{folder.root}: the store refused every tile; first reason: {folder.rejects[0].reason}"
        )
    _write_patients(session)
    n_new = _write_tiles(session)
    dataset_id = _write_membership(session, folder)
    return WrittenDataset(
        dataset_id, folder.digest, len(folder.tiles), n_new, tuple(folder.rejects)
    )


def _stage(session: Session, folder: TileFolder, mpp: float | None) -> None:
    # A transaction may write two data sets, one after the other.
    _incoming.drop(session.connection(), checkfirst=True)
    _incoming.create(session.connection())
    copy_rows(
        session,
        _incoming.name,
        _INCOMING_TYPES,
        (
            (t.sha256, t.width_px, t.height_px, mpp, t.patient_id, t.label, t.path)
            for t in folder.tiles
        ),
    )
    session.connection().exec_driver_sql("ANALYZE incoming_tiles")


def _refuse_other_mpp(session: Session, folder: TileFolder, mpp: float | None) -> None:
    # 1 % is far below what matters and far above what rounding does.
    differs = func.abs(Tile.mpp / _incoming.c.mpp - 1) > 0.01
    row = session.execute(
        select(_incoming.c.path, Tile.mpp)
        .join(Tile, Tile.sha256 == _incoming.c.sha256)
        .where(differs)
        .order_by(_incoming.c.path)
        .limit(1)
    ).first()
    if row is not None:
        raise SourceError(
            f"{folder.root / row.path}: this study says {mpp} µm/px, but the store knows the same "
            f"image at {row.mpp} µm/px. One of the two is wrong: correct `mpp` in the study file."
        )


def _other_patient(session: Session) -> tuple[Reject, ...]:
    clash = (
        select(
            _incoming.c.path, _incoming.c.patient_id.label("now"), Tile.patient_id.label("before")
        )
        .join(Tile, Tile.sha256 == _incoming.c.sha256)
        .where(Tile.patient_id != _incoming.c.patient_id)
        .order_by(_incoming.c.path)
    )
    return tuple(
        Reject(
            row.path,
            "ingest",
            f"given for patient {row.now}, but the store knows the same image from patient "
            f"{row.before}: correct the patients table",
        )
        for row in session.execute(clash)
    )


def _write_patients(session: Session) -> None:
    named = select(_incoming.c.patient_id).where(_incoming.c.patient_id.is_not(None)).distinct()
    rows = [
        {"patient_id": patient, "tissue_source_site": tissue_source_site(patient)}
        for patient in session.scalars(named)
    ]
    if rows:
        session.execute(insert(Patient).on_conflict_do_nothing(), rows)


def _write_tiles(session: Session) -> int:
    before = session.scalar(
        select(func.count()).select_from(_incoming).join(Tile, Tile.sha256 == _incoming.c.sha256)
    )
    total = session.scalar(select(func.count()).select_from(_incoming))
    columns = ["sha256", "width_px", "height_px", "mpp", "patient_id"]
    # Ordered, so that two ingests at once take their row locks in the same order.
    rows = select(*(_incoming.c[name] for name in columns)).order_by(_incoming.c.sha256)
    statement = insert(Tile).from_select(columns, rows)
    new = statement.excluded
    session.execute(
        statement.on_conflict_do_update(
            index_elements=[Tile.sha256],
            set_={
                "mpp": func.coalesce(Tile.mpp, new.mpp),
                "patient_id": func.coalesce(Tile.patient_id, new.patient_id),
            },
            where=or_(
                and_(Tile.mpp.is_(None), new.mpp.is_not(None)),
                and_(Tile.patient_id.is_(None), new.patient_id.is_not(None)),
            ),
        )
    )
    return int(total or 0) - int(before or 0)


def _write_membership(session: Session, folder: TileFolder) -> int:
    values = {
        "digest": folder.digest,
        "name": "/".join(folder.root.parts[-2:]),
        "root": str(folder.root),
        "listing_sha256": folder.listing_sha256,
        "n_tiles": len(folder.tiles),
        "read_at": reading_moment(),
    }
    seen = {name: values[name] for name in ("name", "root", "listing_sha256", "read_at")}
    dataset_id = session.execute(
        insert(Dataset)
        .values(values)
        .on_conflict_do_update(index_elements=[Dataset.digest], set_=seen)
        .returning(Dataset.dataset_id)
    ).scalar_one()
    rows = select(literal(dataset_id), Tile.tile_id, _incoming.c.label, _incoming.c.path).join(
        Tile, Tile.sha256 == _incoming.c.sha256
    )
    statement = insert(DatasetTile).from_select(["dataset_id", "tile_id", "label", "path"], rows)
    session.execute(
        statement.on_conflict_do_update(
            index_elements=[DatasetTile.dataset_id, DatasetTile.tile_id],
            set_={"path": statement.excluded.path},
            where=DatasetTile.path != statement.excluded.path,
        )
    )
    return dataset_id


def get_dataset(session: Session, digest: str) -> Dataset:
    """The data set with this content digest.

    Raises
    ------
    StoreError
        If the store holds none.
    """
    dataset = session.scalars(select(Dataset).where(Dataset.digest == digest)).first()
    if dataset is None:
        raise StoreError(f"the store holds no data set with digest {digest[:12]}…: ingest it first")
    return dataset


def class_counts(session: Session, dataset_id: int) -> dict[str, int]:
    """Number of tiles of every class of a data set, by class name."""
    rows = session.execute(
        select(DatasetTile.label, func.count().label("n_tiles"))
        .where(DatasetTile.dataset_id == dataset_id, DatasetTile.label.is_not(None))
        .group_by(DatasetTile.label)
        .order_by(DatasetTile.label)
    )
    return {str(row.label): row.n_tiles for row in rows}


def labelled_tiles(session: Session, dataset_id: int) -> Sequence[StoredTile]:
    """Tiles of a data set that have a label, by digest: the same order in every store."""
    return list(_stored(session, dataset_id))


def _stored(session: Session, dataset_id: int) -> Iterator[StoredTile]:
    rows = session.execute(
        select(
            Tile.tile_id,
            Tile.sha256,
            Dataset.root,
            DatasetTile.path,
            DatasetTile.label,
            Tile.patient_id,
        )
        .join(DatasetTile, DatasetTile.tile_id == Tile.tile_id)
        .join(Dataset, Dataset.dataset_id == DatasetTile.dataset_id)
        .where(Dataset.dataset_id == bindparam("dataset_id"), DatasetTile.label.is_not(None))
        .order_by(Tile.sha256),
        {"dataset_id": dataset_id},
    )
    for tile_id, sha256, root, path, label, patient_id in rows:
        yield StoredTile(tile_id, sha256, Path(root, path), str(label), patient_id)
