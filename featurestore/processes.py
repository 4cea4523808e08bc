"""Which process is which: an id is given to another one some day, id and start time are not."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import psutil


def started(pid: int) -> float | None:
    """When a process started, by a clock that nobody sets; None if it is gone.

    On Linux in ticks since the system started. What psutil tells moves with the clock of the
    machine, so that after it was set every process would seem to be another one.
    """
    with suppress(psutil.Error, OSError, ValueError, IndexError):
        process = psutil.Process(pid)
        # Whoever should have taken note of its end has not; it does nothing any more.
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        if psutil.LINUX:
            # The name in the second field may hold spaces and brackets.
            *_, after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")
            return float(after_name.split()[19])
        return process.create_time()
    return None


def working_in(folder: Path, name: str) -> list[psutil.Process]:
    """Processes of a program whose working folder is this one, as far as they may be seen."""
    found = []
    for process in psutil.process_iter(["name"]):
        with suppress(psutil.Error, OSError):
            if (
                process.info["name"] == name
                and process.status() != psutil.STATUS_ZOMBIE
                and Path(process.cwd()) == folder
            ):
                found.append(process)
    return found
