"""Whether anybody still waits for an answer: a question to the database ends there once nobody does.

A reader that is gone would otherwise hold a thread of the server until the database has gone through a million products for nobody.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from earthself.signature.errors import Unavailable


class Waiting:
    """One caller who waits; several threads may use it."""

    def __init__(self) -> None:
        """Begin to wait."""
        self.over = False
        self._ends: list[Callable[[], None]] = []
        self._lock = threading.Lock()

    def give_up(self) -> None:
        """Wait no more. Returns at once; what has to be called for it is called in a thread."""
        self.over = True
        if self._ends:
            threading.Thread(target=self._end, daemon=True).start()

    @contextmanager
    def ended_by(self, end: Callable[[], None]) -> Iterator[None]:
        """Call it when the caller gives up inside, and never after that: then what it ends would be somebody else's."""
        with self._lock:
            self._ends.append(end)
        if self.over:
            self._end()
        try:
            yield
        finally:
            with self._lock:
                self._ends.remove(end)

    def _end(self) -> None:
        with self._lock:
            for end in self._ends:
                end()


WAITING: ContextVar[Waiting | None] = ContextVar("waiting", default=None)
"""Who waits for what is done now; None: whoever it is, waits to the end."""


def check_wanted() -> None:
    """Look in the middle of long work whether somebody waits for it still; raises `Unavailable` where nobody does."""
    waiting = WAITING.get()
    if waiting is not None and waiting.over:
        raise Unavailable("nobody waits for the answer any more")
