"""The services of ``ffpe up``: Dagster's three and the gallery, as processes on this machine.

They are told apart from strangers by process id and start time, so that ``ffpe down``
never ends a process that ffpe did not start.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from featurestore.errors import StoreError
from featurestore.processes import started
from orchestration.home import Home
from orchestration.instance import prepare_instance
from orchestration.serve import GALLERY_PORT, LOOPBACK, ROLES, WEBSERVER_PORT

# Neither Dagster's interface nor the gallery has authentication: nobody but this machine may
# reach them.
HOST = LOOPBACK
_START_SECONDS = 120
_STOP_SECONDS = 10


class ServiceError(StoreError):
    """A service did not start."""


@dataclass(frozen=True, slots=True)
class Service:
    """One running process."""

    role: str
    pid: int
    started: float

    @property
    def alive(self) -> bool:
        """Whether this very process still runs."""
        return started(self.pid) == self.started


@dataclass(frozen=True, slots=True)
class Services:
    """What ``ffpe up`` started: addresses of its pages, the studies and the processes."""

    port: int
    gallery_port: int
    studies: tuple[str, ...]
    processes: tuple[Service, ...]

    @property
    def url(self) -> str:
        """Address of Dagster's interface."""
        return f"http://{HOST}:{self.port}"

    @property
    def gallery_url(self) -> str:
        """Address of the gallery."""
        return f"http://{HOST}:{self.gallery_port}"

    @property
    def alive(self) -> bool:
        """Whether every process still runs."""
        return all(service.alive for service in self.processes)


def running_services(home: Home) -> Services | None:
    """What ``ffpe up`` left running on this home, or None."""
    try:
        state = json.loads(_state_file(home).read_text())
    except (OSError, ValueError):
        return None
    processes = tuple(Service(**service) for service in state["processes"])
    services = Services(
        state["port"], state.get("gallery_port", 0), tuple(state["studies"]), processes
    )
    return services if any(service.alive for service in processes) else None


def start_services(home: Home, studies: Sequence[Path], *, port: int | None = None) -> Services:
    """Start Dagster's processes for these studies, beside those already up.

    Parameters
    ----------
    home : Home
    studies : sequence of path
        Study files.
    port : int, optional
        Port of the interface; the first free one from 3000 by default.

    Raises
    ------
    ServiceError
        If one does not start; the message ends with the last line of its log.
    """
    before = running_services(home)
    paths = tuple(dict.fromkeys([*(before.studies if before else ()), *map(str, studies)]))
    if before is not None:
        if before.alive and set(paths) == set(before.studies) and port in (None, before.port):
            return before
        port = port or before.port
        stop_services(home)
    prepare_instance(home)  # migrates before three processes would do so at once
    port = port or _free_port(WEBSERVER_PORT)
    code_port = _free_port(port + 1)
    gallery_port = _free_port(max(GALLERY_PORT, code_port + 1))
    ports = {"code-server": code_port, "webserver": port, "daemon": port, "gallery": gallery_port}
    processes: list[Service] = []
    for role in ROLES:
        processes.append(_spawn(home, role, paths, ports[role], code_port))
        services = Services(port, gallery_port, paths, tuple(processes))
        _state_file(home).write_text(json.dumps(asdict(services)))
        if role == "code-server":
            _wait(home, services, role, lambda: _listens(code_port))
    _wait(home, services, "webserver", lambda: _answers(f"{services.url}/server_info"))
    _wait(home, services, "gallery", lambda: _answers(services.gallery_url))
    return services


def stop_services(home: Home) -> list[str]:
    """End what ``ffpe up`` started; returns the roles that were ended.

    The embedded database stops too, unless another ffpe process still uses it.
    """
    services = running_services(home)
    ended = []
    if services is not None:
        for service in reversed(services.processes):
            if service.alive:
                _end(service)
                ended.append(service.role)
    _state_file(home).unlink(missing_ok=True)
    return ended


def _state_file(home: Home) -> Path:
    return home.folder / "services.json"


def _spawn(
    home: Home, role: str, studies: Sequence[str], port: int, code_server_port: int
) -> Service:
    where = ["--port", str(port), "--code-server-port", str(code_server_port)]
    environment = {"FFPE_STUDIES": os.pathsep.join(studies), "FFPE_HOME": str(home.folder)}
    with (home.logs / f"{role}.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "orchestration", "serve", role, *where],
            env=os.environ | environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    if home.embedded is not None:
        home.embedded.enter(process.pid)
    return Service(role, process.pid, started(process.pid) or 0.0)


def _end(service: Service) -> None:
    with suppress(psutil.Error):
        process = psutil.Process(service.pid)
        family = [process, *process.children(recursive=True)]
        process.terminate()
        _, alive = psutil.wait_procs(family, timeout=_STOP_SECONDS)
        for survivor in alive:
            with suppress(psutil.Error):
                survivor.kill()
        psutil.wait_procs(alive, timeout=_STOP_SECONDS)


def _wait(home: Home, services: Services, role: str, ready: object) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if callable(ready) and ready():
            return
        if not services.alive:
            break
        time.sleep(0.2)
    log = home.logs / f"{role}.log"
    lines = log.read_text(errors="replace").strip().splitlines()
    stop_services(home)
    raise ServiceError(f"the {role} did not start; its log {log} ends: {lines[-1:] or 'empty'}")


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((HOST, port)) == 0


def _answers(url: str) -> bool:
    with suppress(OSError), urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310
        return bool(answer.status == 200)
    return False


def _free_port(first: int) -> int:
    for port in range(first, first + 200):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
        return port
    raise ServiceError(f"no free port between {first} and {first + 199}; give one with --port")
