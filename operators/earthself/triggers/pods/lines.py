"""Log lines exactly once, however often the stream is cut.

The API can be asked for what came since a time, to the second; a node stamps each line to the nanosecond. The two streams of a container
are stamped apart, so that lines may stand in the log a little before older ones, and a node that rotates logs leaves the first ones out:
hence the place in a log is a time up to which all lines were had, and the times of those after it that were had, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

_APART = 100_000_000
"""By how many nanoseconds lines may be out of order."""
_MOST = 1000
"""How many times of lines are remembered: more within `_APART` are taken to be in order."""


@dataclass(frozen=True)
class Place:
    """How far a log was read."""

    until: int | None = None
    """All lines up to this time were had, nanoseconds since 1970; None at the beginning."""
    had: Sequence[tuple[int, int]] = ()
    """Times of lines after it that were had, and how many lines of each."""


class Lines:
    """The lines of one log, through as many streams as it takes."""

    def __init__(self, place: Place) -> None:
        """Begin at a place: lines that were had there are left out."""
        self._until = place.until
        self._had = dict(place.had)
        self._newest = max(self._had, default=place.until)
        self.begin()

    def begin(self) -> str | None:
        """Hear that a stream begins; says since when it should, RFC 3339, None for the whole log."""
        self._forget()
        self._before, self._again = self._until, dict(self._had)
        return None if self._until is None else datetime.fromtimestamp(self._until // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def text(self, line: bytes) -> str | None:
        """Give a line without its time; None for one that was had before."""
        stamp, _, rest = line.rstrip(b"\n").partition(b" ")
        when = _nanoseconds(stamp.decode(errors="replace"))
        if when is None:
            return line.decode(errors="replace").rstrip("\n")
        if self._before is not None and when <= self._before:
            return None
        if self._again.get(when):
            self._again[when] -= 1
            return None
        self._had[when] = self._had.get(when, 0) + 1
        self._newest = when if self._newest is None else max(when, self._newest)
        if len(self._had) > 2 * _MOST:
            self._forget()
        return rest.decode(errors="replace").rstrip("\r")

    @property
    def place(self) -> Place:
        """How far the log was read until now."""
        self._forget()
        return Place(self._until, list(self._had.items()))

    def _forget(self) -> None:
        """Leave out the times before which nothing comes any more."""
        if self._newest is None:
            return
        times = sorted(self._had)
        until = max([self._newest - _APART, *times[-_MOST - 1 : -_MOST], *([] if self._until is None else [self._until])])
        self._until, self._had = until, {when: self._had[when] for when in times if when > until}


def _nanoseconds(stamp: str) -> int | None:
    """Read nanoseconds since 1970; a datetime has microseconds only, and Go leaves trailing zeros out."""
    head, dot, rest = stamp.partition(".")
    digits = rest[: len(rest) - len(rest.lstrip("0123456789"))] if dot else ""
    zone = rest[len(digits) :] if dot else ""
    if not dot:
        head, zone = (stamp[:-1], "Z") if stamp.endswith("Z") else (stamp[:-6], stamp[-6:])
    try:
        seconds = datetime.fromisoformat(head + zone.replace("Z", "+00:00")).timestamp()
    except ValueError:
        return None
    return int(seconds) * 10**9 + int(digits.ljust(9, "0")[:9] or 0)
