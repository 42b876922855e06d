"""Log lines exactly once, however often the stream is cut: the place in a log is a time and how many lines of that time were had.

The API can be asked for what came since a time, to the second; a node stamps each line to the nanosecond.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

_Stamp = tuple[int, int]


@dataclass(frozen=True)
class Place:
    """How far a log was read."""

    stamp: str | None = None
    """The node's time of the last line that was had, RFC 3339 with nanoseconds; None at the beginning."""
    lines: int = 0
    """How many lines of that time were had."""


class Reading:
    """One stream of a log, from a place on."""

    def __init__(self, place: Place) -> None:
        """Begin at a place; lines before it, which the stream may repeat, are left out."""
        self.place = place
        self._skip = 0 if place.stamp is None else place.lines
        self._from = None if place.stamp is None else _parsed(place.stamp)

    def text(self, line: bytes) -> str | None:
        """Give a line without its time; None for one that was had before."""
        stamp, _, rest = line.rstrip(b"\n").partition(b" ")
        at, when = stamp.decode(errors="replace"), _parsed(stamp.decode(errors="replace"))
        if when is None:
            return line.decode(errors="replace").rstrip("\n")
        if self._from is not None and when <= self._from:
            if when < self._from:
                return None
            if self._skip:
                self._skip -= 1
                return None
        same = self.place.stamp is not None and _parsed(self.place.stamp) == when
        self.place = Place(at, self.place.lines + 1 if same else 1)
        return rest.decode(errors="replace").rstrip("\r")


def _parsed(stamp: str) -> _Stamp | None:
    """Read seconds since 1970 and nanoseconds; a datetime has microseconds only, and Go leaves trailing zeros out."""
    head, dot, rest = stamp.partition(".")
    digits = rest[: len(rest) - len(rest.lstrip("0123456789"))] if dot else ""
    zone = rest[len(digits) :] if dot else ""
    if not dot:
        head, zone = (stamp[:-1], "Z") if stamp.endswith("Z") else (stamp[:-6], stamp[-6:])
    try:
        seconds = datetime.fromisoformat(head + zone.replace("Z", "+00:00")).timestamp()
    except ValueError:
        return None
    return int(seconds), int(digits.ljust(9, "0")[:9] or 0)
