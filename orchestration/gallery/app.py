"""The gallery as an application: its addresses, its boundary, and what it says when it fails."""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles
from fastapi.templating import Jinja2Templates
from starlette.exceptions import HTTPException

from featurestore.errors import FfpeError, StoreError
from orchestration.gallery.boundary import guard
from orchestration.gallery.pages import HERE, PAGES, page, search_image
from orchestration.gallery.uploads import Encoders
from orchestration.home import Home


def build_app(home: Home) -> FastAPI:
    """The gallery of an installation.

    Parameters
    ----------
    home : Home
        Whose tiles are shown.
    """
    app = FastAPI(title="ffpe gallery", docs_url=None, redoc_url=None, openapi_url=None)
    guard(app)
    app.mount("/static", StaticFiles(directory=HERE / "static"), name="static")
    app.state.home = home
    app.state.encoders = Encoders(home)
    app.state.data_sets = {}
    app.state.pages = Jinja2Templates(directory=HERE / "templates")
    for path, show in PAGES.items():
        app.get(path)(show)
    app.post("/search")(search_image)
    app.exception_handler(HTTPException)(_said)
    app.exception_handler(RequestValidationError)(_not_understood)
    app.exception_handler(FfpeError)(_refused)
    return app


def _failed(request: Request, status: int, message: str) -> HTMLResponse:
    return page(request, "failed.html", status=status, message=message, code=status)


async def _said(request: Request, error: Exception) -> HTMLResponse:
    status = error.status_code if isinstance(error, HTTPException) else 500
    return _failed(request, status, str(getattr(error, "detail", error)))


async def _not_understood(request: Request, error: Exception) -> HTMLResponse:
    faults = error.errors() if isinstance(error, RequestValidationError) else []
    parts = [
        f"{fault['loc'][-1]}: {fault['msg']}, got {str(fault['input'])[:80]!r}" for fault in faults
    ]
    return _failed(request, 422, "; ".join(parts))


async def _refused(request: Request, error: Exception) -> HTMLResponse:
    return _failed(request, 404 if isinstance(error, StoreError) else 422, str(error))
