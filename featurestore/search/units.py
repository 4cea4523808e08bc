"""Patient and slide search: who looks most like a given patient, judged by all of its tiles.

Two judgements stand side by side. The *median of minimum distances* is Yottixel's (Kalra et
al., Med Image Anal 65:101757, 2020): for every tile of the query the distance to the other
patient's nearest tile, and of these the median. The *majority vote* follows SISH (Chen et al.,
Nat Biomed Eng 6:1420, 2022): every tile votes for the patient that most of its five nearest
tiles belong to. Tiles of the query's own patient never take part: what is found is always
somebody else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from featurestore.embeddings import matrix
from featurestore.errors import InputError, StoreError
from featurestore.search.tiles import check_request, similar
from featurestore.tables import Embedding, Patient, Slide, Tile

VOTERS = 5
# Tiles a query tile looks at for candidates; whoever has none among them is far away.
_REACH = 100
_N_QUERY_TILES = 64
_N_TILES_A_UNIT = 1_000


@dataclass(frozen=True, slots=True)
class UnitHit:
    """One patient (or slide) that was found.

    Attributes
    ----------
    rank : int
        From 1, by the median of minimum distances.
    name : str
        Patient identifier, or file name of the slide.
    patient_id : str
    slide_id : int or None
        None for a patient.
    site : str or None
        Tissue source site of the patient.
    median_minimum : float
        Median over the query's tiles of the cosine distance to the nearest tile.
    vote_share : float
        Share of the query's tiles that vote for it, 0 to 1.
    n_tiles : int
        Tiles that it was compared by.
    """

    rank: int
    name: str
    patient_id: str
    slide_id: int | None
    site: str | None
    median_minimum: float
    vote_share: float
    n_tiles: int


@dataclass(frozen=True, slots=True)
class UnitResult:
    """What a search for patients or slides came to.

    Attributes
    ----------
    hits : tuple of UnitHit
    unit : str
        ``"patient"`` or ``"slide"``.
    model_version_id, k, n_query_tiles : int
        Of the query's tiles, those that were searched with (drawn by a seed if many).
    how : tuple of str
        How their neighbours were found; see :class:`featurestore.search.SearchResult`.
    """

    hits: tuple[UnitHit, ...]
    unit: str
    model_version_id: int
    k: int
    n_query_tiles: int
    how: tuple[str, ...]


def similar_patients(
    session: Session, *, model_version_id: int, patient_id: str, k: int = 10, seed: int = 7
) -> UnitResult:
    """The patients that look most like one.

    Parameters
    ----------
    session : sqlalchemy.orm.Session
        Only read from.
    model_version_id : int
    patient_id : str
        Never among the hits.
    k : int
    seed : int
        Draws the tiles, where the patient has more than are searched with.

    Raises
    ------
    InputError, StoreError
        As :func:`featurestore.search.similar`, or if the patient is unknown or has no tile.
    """
    check_request(k, {"patient": patient_id})
    if session.get(Patient, patient_id) is None:
        raise StoreError(f"the store holds no patient {patient_id!r}")
    return _similar_units(
        session, model_version_id, Tile.patient_id, patient_id, f"patient {patient_id}", k, seed
    )


def similar_slides(
    session: Session, *, model_version_id: int, slide_id: int, k: int = 10, seed: int = 7
) -> UnitResult:
    """The slides of other patients that look most like one; as :func:`similar_patients`."""
    check_request(k, {})
    if not 0 < slide_id < 2**63 or session.get(Slide, slide_id) is None:
        raise StoreError(f"the store holds no slide {slide_id}")
    return _similar_units(
        session, model_version_id, Tile.slide_id, slide_id, f"slide {slide_id}", k, seed
    )


def _similar_units(
    session: Session,
    model_version_id: int,
    unit: InstrumentedAttribute[Any],
    key: object,
    whose: str,
    k: int,
    seed: int,
) -> UnitResult:
    query_tiles = _tiles(session, model_version_id, unit == key, seed, _N_QUERY_TILES)
    if not query_tiles:
        raise StoreError(f"no tile of {whose} has an embedding of model version {model_version_id}")
    votes: Counter[object] = Counter()
    candidates: Counter[object] = Counter()
    hows = []
    for tile_id in query_tiles:
        try:
            found = similar(
                session,
                model_version_id=model_version_id,
                tile_id=tile_id,
                k=_REACH,
                exclude_same_patient=True,
            )
        except InputError:
            continue  # a tile without direction, black throughout, has no neighbours
        keys = _keys(session, unit, [hit.tile_id for hit in found.hits])
        hows.append(found.how)
        candidates.update(keys)
        votes.update(_majority(keys[:VOTERS]))
    chosen = [candidate for candidate, _ in candidates.most_common(max(3 * k, 30))]
    queries = _units(matrix(session, model_version_id, query_tiles))
    judged = []
    for candidate in chosen:
        tiles = _tiles(session, model_version_id, unit == candidate, seed, _N_TILES_A_UNIT)
        similarity = queries @ _units(matrix(session, model_version_id, tiles)).T
        judged.append((float(np.median(1 - similarity.max(axis=1))), candidate, len(tiles)))
    judged.sort(key=lambda one: (one[0], str(one[1])))
    return UnitResult(
        hits=tuple(
            _hit(session, unit, rank, found, votes[found[1]] / len(query_tiles))
            for rank, found in enumerate(judged[:k], start=1)
        ),
        unit="patient" if unit.key == "patient_id" else "slide",
        model_version_id=model_version_id,
        k=k,
        n_query_tiles=len(query_tiles),
        how=tuple(sorted(set(hows))),
    )


def _tiles(
    session: Session, model_version_id: int, where: ColumnElement[bool], seed: int, limit: int
) -> list[int]:
    return list(
        session.scalars(
            select(Tile.tile_id)
            .join(Embedding, Embedding.tile_id == Tile.tile_id)
            .where(Embedding.model_version_id == model_version_id, where)
            .order_by(func.md5(func.concat(str(seed), Tile.sha256)))
            .limit(limit)
        )
    )


def _keys(
    session: Session, unit: InstrumentedAttribute[Any], tile_ids: Sequence[int]
) -> list[object]:
    query = select(Tile.tile_id, unit).where(Tile.tile_id.in_(tile_ids))
    key_of = {row.tile_id: row[1] for row in session.execute(query)}
    # A tile that is a file of its own is of a patient, but of no slide.
    return [key_of[tile_id] for tile_id in tile_ids if key_of[tile_id] is not None]


def _majority(keys: Sequence[object]) -> list[object]:
    # Counter keeps the order of first appearance: of equals, the nearer one.
    return [key for key, _ in Counter(keys).most_common(1)]


def _units(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    # A zero vector is as far from everything as an unrelated one.
    return np.asarray(vectors / np.where(norms == 0, 1, norms), dtype=np.float32)


def _hit(
    session: Session,
    unit: InstrumentedAttribute[Any],
    rank: int,
    found: tuple[float, Any, int],
    vote_share: float,
) -> UnitHit:
    median_minimum, key, n_tiles = found
    slide = session.get_one(Slide, key) if unit.key == "slide_id" else None
    patient = session.get_one(Patient, key if slide is None else slide.patient_id)
    return UnitHit(
        rank=rank,
        name=patient.patient_id if slide is None else slide.name,
        patient_id=patient.patient_id,
        slide_id=None if slide is None else slide.slide_id,
        site=patient.tissue_source_site,
        median_minimum=median_minimum,
        vote_share=vote_share,
        n_tiles=n_tiles,
    )
