"""The roles of a deployment: code server, webserver, daemon and gallery, each one process.

``ffpe up`` starts them on one machine, ``docker-compose.yml`` as containers; both through
:func:`serve`, so that they are the same processes everywhere.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from featurestore.errors import StoreError
from orchestration.home import Home
from orchestration.instance import prepare_instance

ROLES = ("code-server", "webserver", "daemon", "gallery")
LOOPBACK = "127.0.0.1"
WEBSERVER_PORT, CODE_SERVER_PORT, GALLERY_PORT = 3000, 4000, 3100
_DEFAULT_PORTS = {"code-server": CODE_SERVER_PORT, "gallery": GALLERY_PORT}


@dataclass(frozen=True, slots=True)
class Address:
    """Where a process listens, or is listened to."""

    host: str = LOOPBACK
    port: int = CODE_SERVER_PORT


def serve(home: Home, role: str, *, listen: Address, code_server: Address) -> NoReturn:
    """Become a role: the gallery, or else Dagster's program, which replaces this process.

    Parameters
    ----------
    home : Home
    role : str
        One of :data:`ROLES`.
    listen : Address
        Where to listen; the daemon does not.
    code_server : Address
        Where the webserver and the daemon find the code server.
    """
    if role == "gallery":
        _serve_gallery(home, listen)
    environment = os.environ | prepare_instance(home)
    program, *arguments = _command(home, role, listen, code_server)
    os.execve(_installed(program), [program, *arguments], environment)  # noqa: S606


def default_port(role: str) -> int:
    """The port that a role listens on unless told otherwise."""
    return _DEFAULT_PORTS.get(role, WEBSERVER_PORT)


def _serve_gallery(home: Home, listen: Address) -> NoReturn:
    import uvicorn

    from orchestration.gallery.app import build_app

    app = build_app(home)
    # A connection that sends nothing more must not hold the gallery up when it is to end.
    uvicorn.run(
        app,
        host=listen.host,
        port=listen.port,
        log_level="warning",
        timeout_graceful_shutdown=3,
        server_header=False,
    )
    home.close()
    raise SystemExit(0)


def check(home: Home, role: str, *, listen: Address) -> NoReturn:
    """Become the health check of a role; its exit status tells."""
    if role not in ("code-server", "daemon"):
        raise StoreError(f"the {role} has no check of its own: ask it for its first page")
    environment = os.environ | prepare_instance(home)
    command = {
        "code-server": f"dagster api grpc-health-check --host {listen.host} --port {listen.port}",
        "daemon": "dagster-daemon liveness-check",
    }[role].split()
    os.execve(_installed(command[0]), command, environment)  # noqa: S606


def _command(home: Home, role: str, listen: Address, code_server: Address) -> list[str]:
    if role == "code-server":
        where = ["--host", listen.host, "--port", str(listen.port)]
        return ["dagster", "code-server", "start", *where, "-m", "orchestration.definitions"]
    workspace = home.dagster / "workspace.yaml"
    workspace.write_text(
        f"load_from:\n  - grpc_server:\n      host: {code_server.host}\n"
        f"      port: {code_server.port}\n      location_name: ffpe\n"
    )
    if role == "daemon":
        return ["dagster-daemon", "run", "--workspace", str(workspace)]
    where = ["--host", listen.host, "--port", str(listen.port)]
    return ["dagster-webserver", *where, "--workspace", str(workspace)]


def _installed(program: str) -> Path:
    # The program of this very environment, whatever PATH says.
    return Path(sys.executable).with_name(program)
