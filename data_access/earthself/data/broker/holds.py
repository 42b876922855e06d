"""What a worker holds at a broker far away, said to it now and then while it lasts, so that only the dead lose theirs."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator, Mapping

from earthself.data.errors import EarthSelfError

_log = logging.getLogger("earthself.data.broker")


class Holds:
    """All that one process holds. Safe to share between threads; the one that speaks lives as long as something is held."""

    def __init__(self, say: Callable[[Mapping[str, list[str]]], list[str]]) -> None:
        """`say` tells the broker of tickets by account name and gives those that it knows no more, none where it is away."""
        self._say = say
        self._held: dict[str, str] = {}
        self._lock = threading.Lock()
        self._changed = threading.Event()
        self._speaks = False

    @contextlib.contextmanager
    def keeping(self, name: str, ticket: str, lease: float) -> Iterator[None]:
        """Keep what a ticket of an account holds for the block; it is lost `lease` seconds after the last word."""
        with self._lock:
            self._held[ticket] = name
            if not self._speaks:
                self._speaks = True
                self._changed.clear()
                threading.Thread(target=self._speak, args=(lease / 4,), daemon=True, name="earthself-broker-holds").start()
        try:
            yield
        finally:
            with self._lock:
                self._held.pop(ticket, None)
                if not self._held:
                    self._changed.set()

    def _speak(self, seconds: float) -> None:
        while not self._changed.wait(seconds) or not self._over():
            with self._lock:
                self._changed.clear()
                holds: dict[str, list[str]] = {}
                for ticket, name in self._held.items():
                    holds.setdefault(name, []).append(ticket)
            try:
                lost = self._say(holds) if holds else []
            except EarthSelfError as error:
                _log.warning(f"not said to the download broker what is held here: {error}")
                continue
            for ticket in lost:
                with self._lock:
                    known = self._held.pop(ticket, None)
                if known:
                    _log.warning(
                        f"the download broker heard nothing of this worker for too long: its place at {known} may be another's now"
                    )

    def _over(self) -> bool:
        with self._lock:
            self._speaks = bool(self._held)
            return not self._held
