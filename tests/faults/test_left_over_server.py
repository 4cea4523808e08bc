"""An embedded server whose owner died is recovered, and there is never a second one on its data."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from featurestore.embedded import EmbeddedPostgres
from featurestore.processes import started, working_in
from tests.faults.forks import REPOSITORY

OWNER = """
import sys, time
from pathlib import Path
from featurestore.embedded import EmbeddedPostgres

url = EmbeddedPostgres(Path(sys.argv[1])).acquire()
sys.stdout.write(url + "\\n")
sys.stdout.flush()
time.sleep(600)
"""


@pytest.fixture
def folder(server_folder: Path) -> Path:
    return server_folder / "postgres"


@pytest.fixture
def killed_owner(folder: Path) -> Iterator[Path]:
    """The folder of a server that runs, and whose owner was killed."""
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(folder)],
        cwd=REPOSITORY,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert owner.stdout is not None
    url = owner.stdout.readline().strip()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE kept (n int)")
        connection.execute("INSERT INTO kept VALUES (42)")
    owner.kill()
    owner.wait(timeout=30)
    owner.stdout.close()
    yield folder
    for process in working_in(folder / "data", "postgres"):
        process.kill()


def postmasters(folder: Path) -> list[int]:
    """Servers that work on the folder's data; of each the others are children."""
    at_work = working_in(folder / "data", "postgres")
    ids = {process.pid for process in at_work}
    return [process.pid for process in at_work if process.ppid() not in ids]


def kept(url: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT n FROM kept").fetchone()
    assert row is not None
    return int(row[0])


def goes_on(folder: Path) -> None:
    """The next process has the data, from the only server there is, and stops it at the end."""
    server = EmbeddedPostgres(folder)
    assert kept(server.acquire()) == 42
    assert len(postmasters(folder)) == 1
    server.release()
    assert postmasters(folder) == []


def kill_server(folder: Path) -> int:
    (pid,) = postmasters(folder)
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while working_in(folder / "data", "postgres"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return pid


def lock_names(folder: Path, pid: int) -> None:
    lock = folder / "data" / "postmaster.pid"
    _, *rest = lock.read_text().splitlines()
    lock.write_text("\n".join([str(pid), *rest]) + "\n")


def test_a_server_whose_owner_was_killed_is_joined_and_stopped(killed_owner: Path) -> None:
    (pid,) = postmasters(killed_owner)
    server = EmbeddedPostgres(killed_owner)
    assert kept(server.acquire()) == 42
    assert postmasters(killed_owner) == [pid]
    server.release()
    assert postmasters(killed_owner) == []


def test_a_server_that_was_killed_is_started_again(killed_owner: Path) -> None:
    kill_server(killed_owner)
    assert (killed_owner / "data" / "postmaster.pid").exists()
    goes_on(killed_owner)


def test_killed_with_a_client_at_work_it_is_not_started_beside_what_is_left(
    killed_owner: Path,
) -> None:
    """Whoever worked for a client lives on for a while, on the same data and memory."""
    server = EmbeddedPostgres(killed_owner)
    url = server.acquire()
    (pid,) = postmasters(killed_owner)
    busy = psycopg.connect(url, autocommit=True)
    with ThreadPoolExecutor(1) as pool:
        work = pool.submit(busy.execute, "SELECT count(*) FROM generate_series(1, 20000000)")
        time.sleep(0.5)
        os.kill(pid, signal.SIGKILL)
        assert kept(EmbeddedPostgres(killed_owner).acquire()) == 42
        assert len(postmasters(killed_owner)) == 1
        work.exception(timeout=60)
    busy.close()
    goes_on(killed_owner)


def test_a_lock_whose_process_id_is_another_ones_by_now(killed_owner: Path) -> None:
    owners = [None]
    if os.geteuid() == 0:
        owners.append((killed_owner / "data").owner())  # whom the server takes for itself
    for owner in owners:
        kill_server(killed_owner)
        stranger = subprocess.Popen(["sleep", "600"], user=owner)
        lock_names(killed_owner, stranger.pid)
        server = EmbeddedPostgres(killed_owner)
        assert not server.running
        # To let go of a server that is not there must not stop the stranger either.
        server.release()
        assert kept(server.acquire()) == 42
        assert len(postmasters(killed_owner)) == 1
        assert stranger.poll() is None
        stranger.kill()
        stranger.wait(timeout=30)
    goes_on(killed_owner)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5])


def test_files_that_a_dead_process_left_do_not_matter(killed_owner: Path) -> None:
    data = killed_owner / "data"
    spoils: dict[str, Callable[[], object]] = {
        "lock cut short": lambda: cut_short(data / "postmaster.pid"),
        "lock empty": lambda: (data / "postmaster.pid").write_bytes(b""),
        "handles cut short": lambda: (data / ".handle_pids.json").write_text("[12, 3"),
        "users cut short": lambda: (killed_owner / "users.json").write_text('[[1, 0.0], [2, "'),
        "users' lock": lambda: (killed_owner / "users.lock").write_text("left over"),
    }
    for spoil in spoils.values():
        kill_server(killed_owner)
        spoil()
        server = EmbeddedPostgres(killed_owner)
        assert kept(server.acquire()) == 42
    goes_on(killed_owner)


def test_a_server_that_still_recovers_is_waited_for(killed_owner: Path) -> None:
    """Started by somebody who was killed before it took connections."""
    (pid,) = postmasters(killed_owner)
    lock = killed_owner / "data" / "postmaster.pid"
    whole = lock.read_text()
    lock.write_text(whole.replace("ready", "starting"))
    with ThreadPoolExecutor(1) as pool:
        joined = pool.submit(EmbeddedPostgres(killed_owner).acquire)
        time.sleep(1)
        assert not joined.done()
        lock.write_text(whole)
        assert kept(joined.result(timeout=60)) == 42
    assert postmasters(killed_owner) == [pid]
    goes_on(killed_owner)


def test_many_processes_start_one_server(folder: Path) -> None:
    owners = [
        subprocess.Popen(
            [sys.executable, "-c", OWNER, str(folder)],
            cwd=REPOSITORY,
            env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    try:
        urls = set()
        for owner in owners:
            assert owner.stdout is not None
            urls.add(owner.stdout.readline().strip())
        assert len(urls) == 1
        assert len(postmasters(folder)) == 1
    finally:
        for owner in owners:
            owner.kill()
            owner.communicate(timeout=30)
    server = EmbeddedPostgres(folder)
    server.acquire()
    server.release()
    assert postmasters(folder) == []


def test_a_process_is_told_from_a_later_one_by_a_clock_that_nobody_sets() -> None:
    mine = started(os.getpid())
    assert mine is not None
    child = subprocess.Popen(["sleep", "600"])
    later = started(child.pid)
    assert later is not None
    assert later >= mine
    child.kill()  # not waited for yet, so its id is still taken
    deadline = time.monotonic() + 30
    while started(child.pid) is not None:
        assert time.monotonic() < deadline
    child.wait(timeout=30)
    assert started(child.pid) is None
