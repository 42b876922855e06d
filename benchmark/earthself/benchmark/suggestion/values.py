"""A value with what it rests on: no figure of an answer stands without saying where it comes from and how sure it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from enum import StrEnum


class Badge(StrEnum):
    """What a value rests on, the surest first."""

    MEASURED = "measured"
    PRICE = "price"
    DERIVED = "derived"
    """From the specification, not from a measurement."""
    ASSUMED = "assumed"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Value:
    """One figure of an answer."""

    value: float | None
    """None where it is unknown."""
    unit: str
    badge: Badge
    low: float | None = None
    """End of its interval; None where nobody knows how sure it is."""
    high: float | None = None
    day: date | None = None
    """When it was measured, or of which day the price is."""
    count: int | None = None
    """How often it was measured."""
    note: str = ""
    """What it comes from, in words."""

    @property
    def known(self) -> bool:
        """Whether there is one."""
        return self.value is not None

    def span(self) -> tuple[float, float]:
        """Give the ends of its interval, the value itself where there is none; raises `ValueError` for an unknown one."""
        if self.value is None:
            raise ValueError(f"nobody knows it: {self.note}")
        return (self.value if self.low is None else self.low, self.value if self.high is None else self.high)


def unknown(unit: str, note: str) -> Value:
    """Give a value that nobody knows; `note` says what is missing."""
    return Value(None, unit, Badge.UNKNOWN, note=note)


def worst(*badges: Badge) -> Badge:
    """Give the least sure of some badges, which is that of what is computed from all of them."""
    return max(badges, key=list(Badge).index)


def computed(formula: Callable[..., float], unit: str, note: str, *of: Value) -> Value:
    """Compute a value from others by a formula that rises or falls with each of them; unknown where one of them is.

    The interval is that of the formula over all corners of theirs: what can be, not what is likely.
    """
    if missing := next((one for one in of if not one.known), None):
        return unknown(unit, missing.note)
    corners = [formula(*corner) for corner in _corners([one.span() for one in of])]
    days = [one.day for one in of if one.day is not None]
    counts = [one.count for one in of if one.count is not None]
    middle = formula(*(one.value for one in of))
    return Value(
        middle,
        unit,
        worst(*(one.badge for one in of)),
        min(corners),
        max(corners),
        min(days, default=None),
        min(counts, default=None),
        note,
    )


def _corners(spans: list[tuple[float, float]]) -> list[tuple[float, ...]]:
    corners: list[tuple[float, ...]] = [()]
    for low, high in spans:
        corners = [(*corner, end) for corner in corners for end in ((low, high) if low != high else (low,))]
    return corners
