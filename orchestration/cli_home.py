"""What every command needs: the home for its length, and a console on standard error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from orchestration.home import Home


@contextmanager
def open_home() -> Iterator[Home]:
    """The home of the environment, closed at the end of a command."""
    from orchestration.home import Home
    from orchestration.stopping import last_words

    home = Home.from_environment()
    with last_words(home.close):
        try:
            yield home
        finally:
            home.close()


def standard_error() -> Console:
    """Where everything goes that is not a listing."""
    from rich.console import Console

    return Console(stderr=True)
