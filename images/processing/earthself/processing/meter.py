"""Where the time goes: wall and processor seconds by phase, and numbers that add up over items."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Meter:
    """Adds up the metrics of a step."""

    _sums: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the block's time into `seconds_<name>` and `cpu_seconds_<name>` (all threads); phases must not nest."""
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            self._sums[f"seconds_{name}"] += time.perf_counter() - wall
            self._sums[f"cpu_seconds_{name}"] += time.process_time() - cpu

    def add(self, name: str, value: float) -> None:
        """Add to a count."""
        self._sums[name] += value

    def metrics(self) -> dict[str, float]:
        """Return all numbers, seconds to the millisecond, counts whole."""
        return {name: round(value, 3) if "seconds" in name else int(value) for name, value in self._sums.items()}
