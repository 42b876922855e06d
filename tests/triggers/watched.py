"""What the tests of watching share: a place, and a time that passes when a test says so."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

AREA = [16.0, 48.0, 17.0, 49.0]
"""Where the provider's products lie by default."""


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now = datetime(2024, 6, 1, tzinfo=UTC)
        self.slept: list[float] = []

    def __call__(self) -> datetime:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += timedelta(seconds=seconds)

    def advance(self, **span: float) -> datetime:
        self.now += timedelta(**span)
        return self.now
