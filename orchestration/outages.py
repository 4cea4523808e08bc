"""Outages: work that the database leaves in the lurch is begun again once the database is back.

Only whole pieces of work that find out for themselves what is left to do are begun again,
never the rest of a transaction.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

from featurestore.engine import is_lost
from featurestore.errors import OutageError, StoreError
from orchestration.home import Home

Result = TypeVar("Result")
Rest = ParamSpec("Rest")

# A server that goes away again and again is not served by more of the same work.
_MOST_OUTAGES = 5
_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 0.25, 8.0

_log = logging.getLogger(__name__)


def outlast(home: Home, work: Callable[[], Result]) -> Result:
    """Do a piece of work, and again from its start whenever the database went away meanwhile.

    Parameters
    ----------
    home : Home
        Its ``wait_seconds`` are waited at most, each time; an embedded server is started anew.
    work : callable
        Idempotent: it asks the store what is left to do.

    Raises
    ------
    StoreError
        If the database does not come back in time, or goes away again and again.
    """
    for _ in range(_MOST_OUTAGES):
        try:
            return work()
        except Exception as error:
            if not (isinstance(error, OutageError) or is_lost(error)):
                raise
            cause = _one_line(error)
        _log.warning("the database went away (%s); waiting for it", cause)
        _wait(home, cause)
    raise StoreError(
        f"the database went away {_MOST_OUTAGES} times in the same piece of work, last: {cause}. "
        "See its log; the same command then goes on where it was."
    )


def outlasting(
    work: Callable[Concatenate[Home, Rest], Result],
) -> Callable[Concatenate[Home, Rest], Result]:
    """Let a function of a home be begun again by :func:`outlast`."""

    @wraps(work)
    def begun_again(home: Home, /, *rest: Rest.args, **options: Rest.kwargs) -> Result:
        return outlast(home, lambda: work(home, *rest, **options))

    return begun_again


def _wait(home: Home, cause: str) -> None:
    """Wait until the database answers, twice as long each time, and never all at once."""
    until = time.monotonic() + home.wait_seconds
    wait = _FIRST_WAIT_SECONDS
    while True:
        left = until - time.monotonic()
        # Processes that lost the same server must not all come back in the same moment.
        time.sleep(max(0.0, min(left, wait * random.uniform(0.5, 1.5))))  # noqa: S311
        try:
            return home.revive()
        except Exception as error:
            if not (isinstance(error, StoreError) or is_lost(error)):
                raise
            cause = _one_line(error)
        if time.monotonic() >= until:
            where = home.url.render_as_string(hide_password=True)
            raise StoreError(
                f"the database at {where} went away and did not come back within "
                f"{home.wait_seconds:g} s: {cause}. Start it again; the same command then goes on "
                "where it was. FFPE_DATABASE_WAIT says for how many seconds to wait."
            ) from None
        wait = min(2 * wait, _LONGEST_WAIT_SECONDS)


def _one_line(error: BaseException) -> str:
    return " ".join(str(getattr(error, "orig", error)).split())
