"""Tile search: a tile of the store, or a vector from anywhere, and its nearest neighbours.

One algorithm answers both: the SQL function ``search_tiles`` (``featurestore/functions/``),
which SQL users reach through ``similar_tiles``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pgvector import HalfVector
from sqlalchemy import Row, bindparam, func, select, text
from sqlalchemy.orm import Session
from sqlalchemy.types import NullType

from featurestore.errors import InputError, StoreError
from featurestore.search.codes import load_projection
from featurestore.tables import (
    Embedding,
    ModelVersionRow,
    Patient,
    SearchPending,
    Tile,
)

EXACT = "exact"
BY_CODE = "hnsw code + exact re-rank"
_LARGEST_ID = 2**63 - 1
_LARGEST_K = 2**31 - 1
_LARGEST_HALF = 65_504.0

# Texts are bound, never put into the statement.
_CONDITIONS = ":k, :label, :dataset, :patient"
_LIKE_TILE = text(
    f"SELECT * FROM similar_tiles(:tile_id, :model_version_id, {_CONDITIONS},"  # noqa: S608
    " :exclude_same_patient, :exclude_same_site, :exact)"
)
_LIKE_VECTOR = text(
    "SELECT * FROM search_tiles(:model_version_id, :query, :query_code,"  # noqa: S608
    f" {_CONDITIONS}, exact => :exact)"
).bindparams(bindparam("query", type_=NullType()), bindparam("query_code", type_=NullType()))


@dataclass(frozen=True, slots=True)
class Hit:
    """One tile that was found, with what a person needs to know of it.

    Attributes
    ----------
    rank : int
        From 1, the nearest.
    tile_id : int
    distance : float
        Cosine distance of the whole embeddings, 0 to 2.
    label : str or None
        Its class in ``dataset``; None where it has none.
    dataset, path : str or None
        The newest data set that holds it (of those asked for; one that labels it comes
        first), and its file there, or that of its slide.
    patient_id, site : str or None
        None where the source names none.
    slide : str or None
        File name of its slide; None for a tile that is a file of its own.
    slide_id, x_px, y_px : int or None
        Its place on that slide, in pixels of level 0.
    width_px, height_px : int
        Its size.
    mpp : float or None
        Its resolution in µm per pixel.
    """

    rank: int
    tile_id: int
    distance: float
    label: str | None
    dataset: str | None
    path: str | None
    patient_id: str | None
    site: str | None
    slide: str | None
    slide_id: int | None
    x_px: int | None
    y_px: int | None
    width_px: int
    height_px: int
    mpp: float | None


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What a search came to.

    Attributes
    ----------
    hits : tuple of Hit
        Nearest first. Fewer than were asked for only where no more exist.
    how : str
        ``"exact"``: every tile that came into question was compared; or ``"hnsw code + exact
        re-rank"``: those nearest by search code were.
    model_version_id, k : int
        What was asked for.
    tile_id : int or None
        The tile that was searched with; None for a vector.
    n_uncoded : int
        Tiles of the version that have no search code yet. They were compared all the same.
    """

    hits: tuple[Hit, ...]
    how: str
    model_version_id: int
    k: int
    tile_id: int | None
    n_uncoded: int


def similar(
    session: Session,
    *,
    model_version_id: int,
    tile_id: int | None = None,
    vector: NDArray[np.floating] | None = None,
    k: int = 20,
    label: str | None = None,
    dataset: str | None = None,
    patient: str | None = None,
    exclude_same_patient: bool = False,
    exclude_same_site: bool = False,
    exact: bool = False,
) -> SearchResult:
    """The tiles that look most like a tile of the store, or like a vector.

    Every tile with an embedding of the version is searched, whichever study brought it; the
    tile that is searched with is not among the hits.

    Parameters
    ----------
    session : sqlalchemy.orm.Session
        Only read from.
    model_version_id : int
        Whose embeddings are compared.
    tile_id : int, optional
    vector : (dim,) array, optional
        Exactly one of the two.
    k : int
        Hits asked for; so many come back whenever so many exist.
    label : str, optional
        Only tiles of this class.
    dataset : str, optional
        Only tiles of the data sets of this name or digest.
    patient : str, optional
        Only tiles of this patient.
    exclude_same_patient, exclude_same_site : bool
        Only tiles of another patient (or tissue source site) than the query tile's. A tile
        whose patient is unknown may be of the same one, so it is left out, too.
    exact : bool
        Compare every tile, rather than those that are near by their codes.

    Raises
    ------
    InputError
        If k, the vector or a text cannot be used, or the query's own patient (or site) is to
        be excluded and is unknown.
    StoreError
        If the store does not hold the tile or the version, or no embedding of it.
    """
    check_request(k, {"label": label, "dataset": dataset, "patient": patient})
    if (tile_id is None) == (vector is None):
        raise InputError("search with a tile or with a vector: give exactly one of the two")
    version = _version(session, model_version_id)
    asked: dict[str, object] = {
        "model_version_id": model_version_id,
        "k": min(k, _LARGEST_K),
        "label": label,
        "dataset": dataset,
        "patient": patient,
        "exact": exact,
    }
    excluded = {"patient": exclude_same_patient, "site": exclude_same_site}
    if tile_id is not None:
        _check_tile(session, model_version_id, tile_id, excluded)
        asked |= {f"exclude_same_{what}": wanted for what, wanted in excluded.items()}
        rows = session.execute(_LIKE_TILE, asked | {"tile_id": tile_id}).all()
    else:
        _refuse_unknown("an image", excluded, {})
        query, code = _vector_query(session, version, np.asarray(vector))
        rows = session.execute(_LIKE_VECTOR, asked | {"query": query, "query_code": code}).all()
    return SearchResult(
        hits=tuple(_hit(row) for row in rows),
        # Where nothing was found, everything that came into question had been compared.
        how=rows[0].how if rows else EXACT,
        model_version_id=model_version_id,
        k=k,
        tile_id=tile_id,
        n_uncoded=session.execute(
            select(func.count())
            .select_from(SearchPending)
            .where(SearchPending.model_version_id == model_version_id)
        ).scalar_one(),
    )


def check_request(k: int, texts: dict[str, str | None]) -> None:
    """Refuse a k below 1 and texts that cannot be in the store."""
    if k < 1:
        raise InputError(f"k = {k}; expected at least 1")
    for name, value in texts.items():
        if value is None:
            continue
        if not value:
            raise InputError(f"{name} is empty; leave it out to search without it")
        try:
            sound = "\0" not in value and value.encode() is not None
        except UnicodeEncodeError:
            sound = False
        if not sound:
            raise InputError(f"{name} {value!r} holds characters that no text of the store can")


def _version(session: Session, model_version_id: int) -> ModelVersionRow:
    known = 0 < model_version_id <= _LARGEST_ID
    version = session.get(ModelVersionRow, model_version_id) if known else None
    if version is None:
        raise StoreError(
            f"the store holds no model version {model_version_id}; `ffpe status` lists them"
        )
    return version


def _check_tile(
    session: Session, model_version_id: int, tile_id: int, excluded: dict[str, bool]
) -> None:
    """Refuse what the SQL function would refuse, before an error ends the transaction."""
    row = None
    if 0 < tile_id <= _LARGEST_ID:
        of_version = Embedding.model_version_id == model_version_id
        row = session.execute(
            select(
                func.l2_norm(Embedding.embedding).label("norm"),
                Tile.patient_id.label("patient"),
                Patient.tissue_source_site.label("site"),
            )
            .select_from(Tile)
            .outerjoin(Embedding, (Embedding.tile_id == Tile.tile_id) & of_version)
            .outerjoin(Patient, Patient.patient_id == Tile.patient_id)
            .where(Tile.tile_id == tile_id)
        ).one_or_none()
    if row is None:
        raise StoreError(f"the store holds no tile {tile_id}")
    if row.norm is None:
        raise StoreError(
            f"tile {tile_id} has no embedding of model version {model_version_id}: embed it "
            "first, or search with an encoder that has"
        )
    if row.norm == 0:
        raise InputError(_no_direction(f"tile {tile_id}"))
    _refuse_unknown(f"tile {tile_id}", excluded, {"patient": row.patient, "site": row.site})


def _refuse_unknown(whose: str, excluded: dict[str, bool], known: dict[str, str | None]) -> None:
    for what, wanted in excluded.items():
        if wanted and known.get(what) is None:
            raise InputError(
                f"the {what} of {whose} is unknown, so its own tiles cannot be left out: "
                f"search without exclude-same-{what}"
            )


def _no_direction(whose: str) -> str:
    return f"all features of {whose} are zero, so no tile is nearer than another"


def _vector_query(
    session: Session, version: ModelVersionRow, vector: NDArray[np.floating]
) -> tuple[HalfVector, HalfVector | None]:
    if vector.shape != (version.dim,):
        raise InputError(
            f"got a vector of shape {vector.shape}; model version {version.model_version_id} has "
            f"{version.dim} features"
        )
    if not (np.abs(vector) <= _LARGEST_HALF).all():
        raise InputError(
            "the vector holds NaN, infinite or too large features; expected values below "
            f"{_LARGEST_HALF:g}"
        )
    exists = select(Embedding.tile_id).where(Embedding.model_version_id == version.model_version_id)
    if session.execute(exists.limit(1)).first() is None:
        raise StoreError(
            f"no tile has an embedding of model version {version.model_version_id}: "
            "embed tiles with this encoder first"
        )
    # Rounded as the store rounds, so that an image finds its own tile at distance 0.
    half = vector.astype(np.float16)
    if not half.any():
        raise InputError(_no_direction("the image"))
    projection = load_projection(session, version.model_version_id)
    code = None
    if projection is not None:
        code = HalfVector(projection.codes(half[None].astype(np.float32))[0].astype(np.float16))
    return HalfVector(half), code


def _hit(row: Row[tuple[object, ...]]) -> Hit:
    values = dict(row._mapping)
    values.pop("how")
    return Hit(**values)
