"""Ends to what a server could draw out for ever by sending a byte now and then: each read in time, the whole never done.

Timeouts of HTTP clients are per read. Here a total number of seconds is set for what must come at once - the headers of an answer,
a small document, a search -, a number that nothing the server sends can raise.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import httpx

_T = TypeVar("_T")
OVER = "the deadline is over"
"""What the error of a read says that a deadline ended."""


class Deadline:
    """How long the reads of one thread may still take; without a limit until `limit` sets one."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """No limit is set."""
        self._clock = clock
        self._here = threading.local()

    @contextlib.contextmanager
    def limit(self, seconds: float | None) -> Iterator[None]:
        """Let all reads of this thread inside the block take so many seconds together; None lifts the limit."""
        before = getattr(self._here, "until", None)
        self._here.until = None if seconds is None else self._clock() + seconds
        try:
            yield
        finally:
            self._here.until = before

    def left(self) -> float | None:
        """Seconds left to this thread, below 0 when they are over; None without a limit."""
        until = getattr(self._here, "until", None)
        return None if until is None else until - self._clock()

    def watch(self, client: httpx.Client) -> httpx.Client:
        """Make all connections of a client keep to the limits."""
        # httpx has no public way to the network below it; the version is pinned, and a test fails where this does no longer hold.
        for transport in (client._transport, *client._mounts.values()):  # noqa: SLF001
            pool = getattr(transport, "_pool", None)
            if pool is not None:
                pool._network_backend = _Watched(pool._network_backend, self)  # noqa: SLF001
        return client


class _Watched:
    """A network, or a connection of it, of httpcore, whose reads end at the deadline; everything else is the other's."""

    def __init__(self, inner: Any, deadline: Deadline) -> None:  # noqa: ANN401 - httpcore's network backend or stream
        self._inner, self._deadline = inner, deadline

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        return getattr(self._inner, name)

    def connect_tcp(self, *args: Any, **kwargs: Any) -> _Watched:  # noqa: ANN401
        return _Watched(self._inner.connect_tcp(*args, **kwargs), self._deadline)

    def start_tls(self, *args: Any, **kwargs: Any) -> _Watched:  # noqa: ANN401
        return _Watched(self._inner.start_tls(*args, **kwargs), self._deadline)

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        import httpcore

        left = self._deadline.left()
        if left is None or (timeout is not None and timeout < left):
            return bytes(self._inner.read(max_bytes, timeout))
        if left <= 0:
            raise httpcore.ReadTimeout(OVER)
        try:
            return bytes(self._inner.read(max_bytes, left))
        except httpcore.ReadTimeout:
            raise httpcore.ReadTimeout(OVER) from None


class TooLong(Exception):
    """Work did not end within its seconds."""


def within(seconds: float, work: Callable[[], _T]) -> _T:
    """Call and wait at most so long; raises `TooLong` then, and what `work` raises.

    For libraries that take no deadline: work that was given up goes on in a thread that ends with its connection or the process.
    """
    done: list[Callable[[], _T]] = []

    def run() -> None:
        try:
            made = work()
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            caught = error
            done.append(lambda: _again(caught))
        else:
            done.append(lambda: made)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if not done:
        raise TooLong
    return done[0]()


def _again(error: BaseException) -> Any:  # noqa: ANN401 - never returns
    raise error


__all__ = ["OVER", "Deadline", "TooLong", "within"]
