"""Hectares per class of a land-cover map, and what validation samples say about them.

Mapped areas are biased by the map's errors. With a stratified random sample whose true class is known, Olofsson et al. (2014, Remote
Sensing of Environment 148, 42-57, equations 1, 9 and 10) correct them and give their uncertainty.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

UNOBSERVED = -1
NO_CLASS = 0
NOTE = "mapped area, not an estimate"
_Z = 1.959963984540054
"""Standard normal quantile of a two-sided 95 % interval."""


@dataclass(frozen=True)
class Row:
    """One row of the statistics."""

    code: int
    """CORINE code; 0 is observed without a class, -1 unobserved."""
    name: str
    hectares: float
    """Mapped area, or its estimate where `low` and `high` are given."""
    share: float
    """Of the whole area, 0 to 1."""
    low: float | None = None
    """Lower end of the 95 % interval, hectares."""
    high: float | None = None
    """Upper end of the 95 % interval, hectares."""
    mapped: float | None = None
    """Mapped area in hectares where `hectares` is an estimate."""


@dataclass(frozen=True)
class Sample:
    """A place whose true class is known."""

    mapped: int
    """Code on the map: the sample's stratum."""
    reference: int
    """True code."""


@dataclass(frozen=True)
class Estimate:
    """Error-adjusted area of one class, hectares."""

    hectares: float
    error: float
    """Standard error."""

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval, not below 0."""
        return max(0.0, self.hectares - _Z * self.error), self.hectares + _Z * self.error


def adjusted(mapped: Mapping[int, float], samples: Sequence[Sample]) -> dict[int, Estimate]:
    """Estimate the area of each reference class from mapped hectares per stratum and a stratified random sample.

    Every stratum with an area needs at least two samples: see `thin_strata`.
    """
    strata = [code for code, hectares in mapped.items() if hectares > 0]
    total = math.fsum(mapped[code] for code in strata)
    classes = sorted({sample.reference for sample in samples} | set(strata))
    estimates = {}
    for truth in classes:
        share = variance = 0.0
        for stratum in strata:
            here = [sample for sample in samples if sample.mapped == stratum]
            right = sum(sample.reference == truth for sample in here) / len(here)
            weight = mapped[stratum] / total
            share += weight * right
            variance += weight**2 * right * (1 - right) / (len(here) - 1)
        estimates[truth] = Estimate(share * total, math.sqrt(variance) * total)
    return estimates


def thin_strata(mapped: Mapping[int, float], samples: Sequence[Sample]) -> list[int]:
    """List the mapped classes that have fewer than two samples, so that their errors cannot be estimated."""
    counts = np.unique([sample.mapped for sample in samples], return_counts=True)
    number = dict(zip(counts[0].tolist(), counts[1].tolist(), strict=True))
    return sorted(code for code, hectares in mapped.items() if hectares > 0 and number.get(code, 0) < 2)
