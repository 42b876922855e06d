"""What repeats of one measurement say together: the median, and how far it can be trusted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LEAST = 5
"""Values without which there is no interval."""
LEVEL = 0.95
"""Of all intervals that are made so, the share that holds the true median."""
NOISY = 0.15
"""Above this half-width of the interval, as a share of the median, a value is too noisy to decide by."""
_RESAMPLES = 2000


@dataclass(frozen=True)
class Summary:
    """The median of some values with its bootstrap interval."""

    median: float
    low: float
    high: float
    count: int

    @property
    def spread(self) -> float:
        """Half of the interval's width as a share of the median; infinite where the median is 0 and the interval is not."""
        half = (self.high - self.low) / 2
        return half / abs(self.median) if self.median else (float("inf") if half else 0.0)

    @property
    def trusted(self) -> bool:
        """Whether there are enough values, and they are near enough to each other to decide by."""
        return self.count >= LEAST and self.spread <= NOISY


def summary(values: Sequence[float]) -> Summary:
    """Give the median and its interval (percentile bootstrap, 2,000 resamples); the same values in any order give the same answer.

    Fewer than five values have an interval without end: what they hide nobody knows. Raises `ValueError` where there are none.
    """
    found = np.sort(np.asarray(values, dtype=np.float64))
    if not found.size or not np.isfinite(found).all():
        raise ValueError(f"{found.size} values, of which {int(np.isfinite(found).sum())} are finite, have no median")
    median = float(np.median(found))
    if found.size < LEAST:
        return Summary(median, float("-inf"), float("inf"), found.size)
    draws = np.random.default_rng(0).choice(found, (_RESAMPLES, found.size))
    low, high = np.quantile(np.median(draws, axis=1), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Summary(median, float(low), float(high), found.size)
