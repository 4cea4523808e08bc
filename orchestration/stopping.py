"""Stopping when told to: Ctrl-C and SIGTERM end a command within five seconds, wherever it is.

The signal interrupts the main thread, which undoes what it is in the middle of. Where that takes
too long (threads that compute are waited for), a thread of our own ends the process: the store
only knows whole transactions, so nothing is lost by it. What has to be said or let go before
that is registered with :func:`last_words`.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

GRACE_SECONDS = 2.0
_LAST_WORDS_SECONDS = 2.3
_SIGNALS = (signal.SIGINT, signal.SIGTERM)

_last_words: list[Callable[[], object]] = []


@contextmanager
def last_words(speak: Callable[[], object]) -> Iterator[None]:
    """Have something said if the process has to be ended within this block.

    Parameters
    ----------
    speak : callable
        Called in another thread, the newest first; what it raises is passed over.
    """
    _last_words.append(speak)
    try:
        yield
    finally:
        _last_words.remove(speak)


@contextmanager
def stoppable() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end what this block does; then its exit status is 130 or 143."""
    watch = _Watch()
    before = {number: signal.signal(number, watch.interrupt) for number in _SIGNALS}
    wakeup = signal.set_wakeup_fd(watch.told.fileno(), warn_on_full_buffer=False)
    watch.start()
    try:
        yield
    except BaseException:
        if watch.number is None:
            raise
        # Whatever it is came of being stopped. The watch goes on: threads may outlast us.
        watch.tell()
        raise SystemExit(128 + watch.number) from None
    signal.set_wakeup_fd(wakeup)
    for number, handler in before.items():
        signal.signal(number, handler)
    watch.told.close()


class _StoppedError(KeyboardInterrupt):
    """Of a class of its own: after KeyboardInterrupt itself Python may end by SIGINT, not 130."""


class _Watch(threading.Thread):
    """Learns of signals even while the main thread computes, and has the last word.

    Attributes
    ----------
    number : int or None
        The signal that came first, once one came.
    told : socket
        Where the interpreter writes the number of each signal.
    """

    def __init__(self) -> None:
        super().__init__(name="stopping", daemon=True)
        self.number: int | None = None
        self._hear, self.told = socket.socketpair()
        self.told.setblocking(False)
        self._is_told = False

    def interrupt(self, number: int, _frame: FrameType | None) -> None:
        """What the signals do, unless somebody else takes them for a while, as Dagster does."""
        self.number = self.number or number
        raise _StoppedError

    def run(self) -> None:
        number = self._next()
        if number is None:
            self._hear.close()
            return
        self.number = self.number or number
        # Told twice, it is not to wait.
        self._hear.settimeout(GRACE_SECONDS)
        with suppress(TimeoutError):
            self._next()
        speaking = threading.Thread(target=_speak, daemon=True)
        speaking.start()
        speaking.join(_LAST_WORDS_SECONDS)
        self.tell()
        os._exit(128 + self.number)

    def tell(self) -> None:
        """Say, once, that it was stopped and how to go on."""
        if self._is_told:
            return
        self._is_told = True
        by = "Ctrl-C" if self.number == signal.SIGINT else "SIGTERM"
        # Written at once: the console's bars may hold its lock, and may have hidden the cursor.
        cursor = "\x1b[?25h" if sys.stderr.isatty() else ""
        line = f"{cursor}stopped by {by}; nothing is lost, the same command goes on where it was\n"
        with suppress(OSError):
            os.write(2, line.encode())

    def _next(self) -> int | None:
        """The number of the next signal that is to stop us; None once nobody listens any more."""
        while heard := self._hear.recv(1):
            if heard[0] in _SIGNALS:
                return heard[0]
        return None


def _speak() -> None:
    for speak in reversed(_last_words):
        with suppress(Exception):
            speak()
