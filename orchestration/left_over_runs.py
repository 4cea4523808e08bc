"""Runs that a process leaves open when it dies: whose each run is, and closing the dead ones'.

A run in Dagster's history stays "started" until somebody says that it ended. ``ffpe run``
executes runs in its own process, so each carries that process's name, and the next one closes
what a killed one could not.
"""

from __future__ import annotations

import os
import socket

import dagster as dg
from dagster import DagsterRunStatus

from featurestore.processes import started

_TAG = "ffpe/process"
_STOPPED = "it was told to stop"
_OPEN = [DagsterRunStatus.NOT_STARTED, DagsterRunStatus.STARTING, DagsterRunStatus.STARTED]


def process_tag() -> dict[str, str]:
    """The tag of runs that this process executes: its host, id and start time."""
    return {_TAG: _name(os.getpid())}


def close_left_over(instance: dg.DagsterInstance) -> int:
    """Close the runs whose process is gone, and those that an outage left open in this one.

    Called while this process executes no run.

    Returns
    -------
    int
        Number of runs that were open.
    """
    n_closed = 0
    for run in instance.get_runs(filters=dg.RunsFilter(statuses=_OPEN)):
        if _is_left_over(run.tags.get(_TAG)):
            instance.report_run_failed(run, "its process ended before it did")
            n_closed += 1
    return n_closed


def report_stopped(instance: dg.DagsterInstance, result: dg.ExecuteInProcessResult) -> None:
    """Where a run failed as it was told to stop, let history say so, and stop.

    Raises
    ------
    KeyboardInterrupt
        If that is why it failed.
    """
    for event in result.all_events:
        if event.is_step_failure and event.step_failure_data.error_source.value == "INTERRUPT":
            instance.report_run_canceled(result.dagster_run, _STOPPED)
            raise KeyboardInterrupt


def cancel_own(instance: dg.DagsterInstance) -> None:
    """Let history say that the run of this process was stopped."""
    for run in instance.get_runs(filters=dg.RunsFilter(statuses=_OPEN, tags=process_tag())):
        instance.report_run_canceled(run, _STOPPED)


def _is_left_over(tag: str | None) -> bool:
    if tag is None or tag.partition(" ")[0] != socket.gethostname():
        return False  # another machine's processes cannot be seen from here
    return tag == _name(os.getpid()) or tag != _name(int(tag.split(" ")[1]))


def _name(pid: int) -> str:
    return f"{socket.gethostname()} {pid} {started(pid)}"
