"""The gallery's pages: what each address shows. HTML is in ``templates/``.

A page is one read of the store. Tiles and slides are named by number, classes by text that is
bound to statements; no part of a request is ever a path.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
from fastapi import Depends, HTTPException, Query, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from fastapi.templating import Jinja2Templates
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile

from featurestore import browse, browse_slides
from featurestore.errors import UnreadableImageError
from featurestore.tables import Slide
from featurestore.tile_maps import map_frame
from orchestration.gallery.boundary import MAX_UPLOAD_BYTES, TOO_LARGE
from orchestration.gallery.neighbours import (
    MAX_ID,
    Asked,
    OptionalId,
    asked,
    asked_by_form,
    neighbours,
)
from orchestration.gallery.pictures import data_url, thumbnail_jpeg, tile_jpeg
from orchestration.gallery.uploads import decode_upload

HERE = Path(__file__).parent
N_SHOWN = 60
_A_DAY = {"Cache-Control": "private, max-age=86400"}

RowId = Annotated[int, Query(ge=1, le=MAX_ID)]


def store(request: Request) -> Iterator[Session]:
    """A session for the length of a request; nothing is ever written."""
    with Session(request.app.state.home.engine) as session:
        yield session


Store = Annotated[Session, Depends(store)]


def index(request: Request, session: Store) -> HTMLResponse:
    """Every data set of the store."""
    entries = [_entry(request, session, key) for key in browse.data_set_ids(session)]
    return page(request, "index.html", data_sets=entries)


def data_set(
    request: Request,
    session: Store,
    dataset_id: int,
    encoder: OptionalId = None,
    label: Annotated[str, Query(max_length=200)] = "",
    seed: Annotated[int, Query(ge=0, le=2**31)] = 0,
) -> HTMLResponse:
    """Some tiles of a data set, to begin with."""
    entry, versions = _data_set(request, session, dataset_id)
    chosen = _chosen(versions, encoder)
    tiles = browse.sample_tiles(
        session, dataset_id, chosen, label=label or None, n=N_SHOWN, seed=seed
    )
    return page(
        request, "data_set.html", entry=entry, versions=versions, encoder=chosen, label=label,
        seed=seed, tiles=tiles,
    )  # fmt: skip


def tile(
    request: Request, session: Store, tile_id: int, asked: Annotated[Asked, Depends(asked)]
) -> HTMLResponse:
    """A tile and its neighbours, by one encoder or two side by side."""
    facts = _tile(session, tile_id)
    versions = browse.named_versions(session)
    if asked.encoder is None:
        chosen = _chosen(browse.named_versions(session, facts.dataset_id), None)
        asked = replace(asked, encoder=chosen)
    dataset = facts.dataset if asked.here_only else None
    columns = [
        neighbours(session, version, asked, tile_id=tile_id, dataset=dataset)
        for version in asked.versions(versions)
    ]
    labels = _entry(request, session, facts.dataset_id).labels
    return page(
        request, "tile.html", tile=facts, picture=f"/tiles/{tile_id}.jpg", asked=asked,
        versions=versions, columns=columns, labels=labels,
    )  # fmt: skip


async def search_image(request: Request) -> HTMLResponse:
    """Neighbours of an image that is sent along; it is kept nowhere."""
    if int(request.headers.get("content-length", "0")) > MAX_UPLOAD_BYTES:
        raise HTTPException(413, TOO_LARGE)
    async with request.form(max_files=1, max_fields=10) as form:
        file = form.get("image")
        if not isinstance(file, UploadFile) or not file.size:
            raise UnreadableImageError("no image was sent: choose a file, or drop one on the page")
        fields = {name: str(value) for name, value in form.items() if name != "image"}
        content = await file.read()
    return await run_in_threadpool(_search_image, request, content, fields)


def _search_image(request: Request, content: bytes, fields: dict[str, str]) -> HTMLResponse:
    state = request.app.state
    wanted = asked_by_form(fields)
    rgb = decode_upload(state.home, content)
    with Session(state.home.engine) as session:
        versions = browse.named_versions(session)
        columns = [
            neighbours(
                session,
                version,
                wanted,
                vector=state.encoders.embed(version.model_version_id, rgb),
            )
            for version in wanted.versions(versions)
        ]
    return page(
        request, "tile.html", tile=None, picture=data_url(rgb), asked=wanted, versions=versions,
        columns=columns, labels=(),
    )  # fmt: skip


def tile_picture(session: Store, tile_id: int) -> Response:
    """The pixels of a stored tile."""
    try:
        content = tile_jpeg(_tile(session, tile_id))
    except (UnreadableImageError, OSError) as error:
        raise HTTPException(404, f"tile {tile_id} cannot be shown: {error}") from error
    return Response(content, media_type="image/jpeg", headers=_A_DAY)


def map_page(
    request: Request,
    session: Store,
    dataset_id: int,
    encoder: OptionalId = None,
    colour: Annotated[str, Query(pattern="^(label|patient_id|site|)$")] = "",
) -> HTMLResponse:
    """A data set laid out by the likeness of its tiles."""
    entry, versions = _data_set(request, session, dataset_id)
    chosen = _chosen(versions, encoder)
    if chosen is None:
        raise HTTPException(404, "no encoder has embedded these tiles yet: `ffpe run` does it")
    colour = colour or ("label" if entry.labels else "patient_id")
    return page(request, "map.html", entry=entry, versions=versions, encoder=chosen, colour=colour)


def map_points(session: Store, dataset_id: int, encoder: RowId) -> JSONResponse:
    """The points of a map, column by column."""
    frame = map_frame(session, encoder, dataset_id)
    if frame.empty:
        raise HTTPException(404, "there is no map of this data set by this encoder: `ffpe run`")
    return JSONResponse({name: _plain(frame[name]) for name in frame.columns}, headers=_A_DAY)


def slides(request: Request, session: Store, dataset_id: int) -> HTMLResponse:
    """The slides of a data set."""
    entry, _ = _data_set(request, session, dataset_id)
    return page(
        request, "slides.html", entry=entry, slides=browse_slides.slides_in(session, dataset_id)
    )


def slide(
    request: Request,
    session: Store,
    slide_id: int,
    encoder: OptionalId = None,
    label: Annotated[str, Query(max_length=200)] = "",
) -> HTMLResponse:
    """A slide, and how probable a class is at each of its tiles."""
    found, _ = _slide(session, slide_id)
    classes = browse_slides.classes_on(session, slide_id)
    wanted = next(
        (row for row in classes if encoder in (None, row[0]) and row[1] == label),
        max(classes, key=lambda row: row[2], default=None),
    )
    heat = browse_slides.heat_tiles(session, slide_id, *wanted[:2]) if wanted else []
    return page(
        request, "slide.html", slide=found, classes=classes, wanted=wanted, heat=heat,
        names={version.model_version_id: version.names for version in
               browse.named_versions(session)},
    )  # fmt: skip


def slide_picture(session: Store, slide_id: int) -> Response:
    """A whole slide, small."""
    found, file = _slide(session, slide_id)
    try:
        content = thumbnail_jpeg(file, found.sha256)
    except (UnreadableImageError, OSError) as error:
        raise HTTPException(404, f"slide {slide_id} cannot be shown: {error}") from error
    return Response(content, media_type="image/jpeg", headers=_A_DAY)


# In this order: `/tiles/7.jpg` is a picture before it is a tile's number.
PAGES: dict[str, Callable[..., Response]] = {
    "/": index,
    "/data-sets/{dataset_id}": data_set,
    "/data-sets/{dataset_id}/map": map_page,
    "/data-sets/{dataset_id}/map.json": map_points,
    "/data-sets/{dataset_id}/slides": slides,
    "/tiles/{tile_id}.jpg": tile_picture,
    "/tiles/{tile_id}": tile,
    "/slides/{slide_id}.jpg": slide_picture,
    "/slides/{slide_id}": slide,
}


def _entry(request: Request, session: Session, dataset_id: int) -> browse.DataSetEntry:
    # Counting classes and slides reads a data set whole; it never changes, so once is enough.
    known: dict[int, browse.DataSetEntry] = request.app.state.data_sets
    if dataset_id not in known:
        found = browse.data_set(session, dataset_id) if 0 < dataset_id <= MAX_ID else None
        if found is None:
            raise HTTPException(404, f"the store holds no data set {dataset_id}")
        known[dataset_id] = found
    return known[dataset_id]


def _data_set(
    request: Request, session: Session, dataset_id: int
) -> tuple[browse.DataSetEntry, list[browse.NamedVersion]]:
    entry = _entry(request, session, dataset_id)
    return entry, browse.named_versions(session, dataset_id)


def _chosen(versions: list[browse.NamedVersion], asked: int | None) -> int | None:
    ids = [version.model_version_id for version in versions]
    if asked is not None and asked not in ids:
        raise HTTPException(404, f"encoder {asked} has no embedding here; expected one of {ids}")
    return next(iter(ids), None) if asked is None else asked


def _tile(session: Session, tile_id: int) -> browse.TileFacts:
    facts = browse.tile_facts(session, tile_id) if 0 < tile_id <= MAX_ID else None
    if facts is None:
        raise HTTPException(404, f"the store holds no tile {tile_id}")
    return facts


def _slide(session: Session, slide_id: int) -> tuple[Slide, Path]:
    found = browse_slides.slide_file(session, slide_id) if 0 < slide_id <= MAX_ID else None
    if found is None:
        raise HTTPException(404, f"the store holds no slide {slide_id}")
    return found


def _plain(column: pd.Series[Any]) -> list[Any]:
    if column.dtype.kind == "f":
        return [round(float(value), 4) for value in column]
    return [None if pd.isna(value) else value for value in column.tolist()]


def page(request: Request, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
    """Fill one of the templates."""
    pages: Jinja2Templates = request.app.state.pages
    return pages.TemplateResponse(request, template, values, status_code=status)
