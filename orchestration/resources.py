"""What assets are handed: the home (files and database) and somebody to tell of progress."""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg
from sqlalchemy.orm import Session

from orchestration.cluster import splits_on_cluster
from orchestration.home import Home
from orchestration.progress import LogProgress, ProgressReporter


@dg.resource(description="The folder and database that FFPE_HOME and FFPE_DATABASE_URL name")
def home_from_environment(_context: dg.InitResourceContext) -> Iterator[Home]:
    """Open the home for the length of a step's process."""
    home = Home.from_environment()
    try:
        # A step runs where its resources are made, so its splits find the cluster.
        with splits_on_cluster():
            yield home
    finally:
        home.close()


@dg.resource(description="Tells the run's log of progress")
def progress_to_log(context: dg.InitResourceContext) -> ProgressReporter:
    """Report progress to the run's log."""
    if context.log is None:
        raise dg.DagsterInvariantViolationError("this resource needs a run with a log")
    return LogProgress(context.log)


def default_resources() -> dict[str, object]:
    """The resources of a code server; ``ffpe run`` hands in its own."""
    return {"home": home_from_environment, "progress": progress_to_log}


@contextmanager
def transaction(home: Home) -> Iterator[Session]:
    """One transaction on the store: committed at the end, undone by an error."""
    with Session(home.engine) as session, session.begin():
        yield session
