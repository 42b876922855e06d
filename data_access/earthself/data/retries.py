"""What may pass: errors that say how long to wait, and the policy of asking again."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from earthself.data.broker.interface import Resting
from earthself.data.errors import ProductChanged, TryAgain

_T = TypeVar("_T")


@dataclass(frozen=True)
class RetryPolicy:
    """How long to go on asking."""

    attempts: int = 4
    """Requests in all, the first included."""
    first_wait: float = 1.0
    """Seconds before the second request; doubled each time, with jitter of up to a half."""
    longest_wait: float = 60.0
    """Most seconds to wait once; a server that asks for more is left to the workflow's own retry."""
    sleep: Callable[[float], None] = field(default=time.sleep, repr=False)
    """How to wait."""
    jitter: Callable[[], float] = field(default=random.SystemRandom().random, repr=False)
    """Uniform numbers from 0 to 1, so that many workers do not come back at the same moment."""

    def run(self, work: Callable[[], _T]) -> _T:
        """Call until it succeeds; `TryAgain` is retried (after the seconds it asks for), anything else is not.

        Nor is what waiting here cannot mend: a product that changed, a provider that all workers leave alone.
        """
        for attempt in range(1, self.attempts + 1):
            try:
                return work()
            except (ProductChanged, Resting):
                raise
            except TryAgain as error:
                asked = error.wait if isinstance(error, Busy) else None
                if attempt == self.attempts or (asked is not None and asked > self.longest_wait):
                    raise
                backoff = self.first_wait * 2 ** (attempt - 1) * (1 - self.jitter() / 2)
                self.sleep(min(self.longest_wait, asked or backoff))
        raise AssertionError("attempts is at least 1")


class Busy(TryAgain):
    """A failure that may pass, with the seconds that the server asks to wait."""

    def __init__(self, message: str, wait: float | None = None) -> None:
        super().__init__(message)
        self.wait = wait


class CutShort(Busy):
    """The other side closed the connection before it had sent what it stated."""
