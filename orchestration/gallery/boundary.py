"""What stands between the network and the gallery: who may ask, how much, and what may run.

The gallery has no accounts, so it answers this machine alone. A web page from elsewhere could
still make the reader's browser ask: the host name in the request then is not ours and is
refused, and nothing that is shown can bring scripts of its own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from fastapi import FastAPI
from starlette.formparsers import MultiPartException
from starlette.middleware.trustedhost import TrustedHostMiddleware

MAX_UPLOAD_BYTES = 20_000_000
TOO_LARGE = f"the image is too large: expected at most {MAX_UPLOAD_BYTES // 1_000_000} MB"
OWN_NAMES = ("127.0.0.1", "localhost")

_HEADERS = (
    (b"content-security-policy", b"default-src 'self'; img-src 'self' data:; object-src 'none'; "
     b"base-uri 'none'; form-action 'self'; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)  # fmt: skip

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class Boundary:
    """Count what comes in, and say with every answer what the browser may do with it."""

    def __init__(self, app: App, *, max_bytes: int = MAX_UPLOAD_BYTES) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        n_bytes = 0

        async def counted() -> Message:
            # Of these two the form parser lets go of what it had read so far.
            nonlocal n_bytes
            message = await receive()
            n_bytes += len(message.get("body", b""))
            if n_bytes > self._max_bytes:
                raise MultiPartException(TOO_LARGE)
            if message["type"] == "http.disconnect" and scope["method"] == "POST":
                raise MultiPartException("the upload stopped half-way")
            return message

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *_HEADERS]
            await send(message)

        await self._app(scope, counted, with_headers)


def guard(app: FastAPI) -> None:
    """Put the boundary around an application."""
    app.add_middleware(Boundary)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(OWN_NAMES), www_redirect=False)
