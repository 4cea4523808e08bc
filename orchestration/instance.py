"""Dagster's instance: its settings in the home, its history in the store's database."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from orchestration.home import Home

if TYPE_CHECKING:
    import dagster as dg

URL_VARIABLE = "FFPE_DAGSTER_URL"

# The URL may hold a password, so the file only names the variable that carries it.
_SETTINGS = f"""\
# Written by ffpe; changes are overwritten.
storage:
  postgres:
    postgres_url:
      env: {URL_VARIABLE}
run_coordinator:
  module: dagster.core.run_coordinator
  class: QueuedRunCoordinator
  config:
    max_concurrent_runs: 1
    dequeue_interval_seconds: 1
run_monitoring:
  enabled: true
  free_slots_after_run_end_seconds: 10
telemetry:
  enabled: false
nux:
  enabled: false
"""


def prepare_instance(home: Home) -> dict[str, str]:
    """Write Dagster's settings and return the environment in which it finds everything."""
    settings = home.dagster / "dagster.yaml"
    if not settings.exists() or settings.read_text() != _SETTINGS:
        settings.write_text(_SETTINGS)
    environment = {
        "DAGSTER_HOME": str(home.dagster),
        URL_VARIABLE: home.dagster_url(),
        "FFPE_HOME": str(home.folder),
    }
    if home.database_url is not None:
        environment["FFPE_DATABASE_URL"] = home.database_url
    return environment


@contextmanager
def open_instance(home: Home) -> Iterator[dg.DagsterInstance]:
    """Dagster's instance on this home, for the length of a block.

    Dagster finds its settings through the environment, which is left as it was.
    """
    import dagster as dg

    before = dict(os.environ)
    os.environ.update(prepare_instance(home))
    try:
        with dg.DagsterInstance.get() as instance:
            yield instance
    finally:
        os.environ.clear()
        os.environ.update(before)
