"""Which of several offers is to be preferred: the Pareto front, SPOTIS, and how far its weights can move before another one wins.

SPOTIS: J. Dezert, A. Tchamova, D. Han, J.-M. Tacnet, "The SPOTIS rank reversal free method for multi-criteria decision-making support",
FUSION 2020, doi:10.23919/FUSION45008.2020.9190347. Its bounds are given and not taken from the offers, so that another offer does not
reorder the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Criterion:
    """One thing that counts."""

    name: str
    unit: str
    weight: float
    """Of all criteria together 1."""
    best: float
    """From here on nothing gets better."""
    worst: float
    """From here on nothing gets worse."""
    source: str
    """Where the bounds come from, in words."""


def front(euros: Floats, hours: Floats) -> NDArray[np.bool_]:
    """Tell which offers are on the Pareto front: none other is cheaper and not slower, or quicker and not dearer. Shapes: (n,)."""
    order = np.lexsort((hours, euros))
    found = np.zeros(len(order), dtype=bool)
    quickest, at = np.inf, np.nan
    for one in order:
        if hours[one] < quickest or (hours[one] == quickest and euros[one] == at):
            found[one] = True
            quickest, at = hours[one], euros[one]
    return found


def distances(values: Floats, criteria: Sequence[Criterion]) -> Floats:
    """Give how far each value is from the best, 0 to 1. Shapes: values (n, m), result (n, m).

    What lies outside of the bounds counts as the bound, what is unknown (NaN) as the worst.
    """
    best = np.array([one.best for one in criteria])
    worst = np.array([one.worst for one in criteria])
    away = (values - best) / (worst - best)
    return np.where(np.isnan(away), 1.0, np.clip(away, 0.0, 1.0))


def scores(away: Floats, weights: Floats) -> Floats:
    """Give SPOTIS' score of each offer, 0 to 1; less is better. Shapes: away (n, m), weights (m,), result (n,)."""
    return np.asarray(away @ weights, dtype=np.float64)


def freedom(away: Floats, weights: Floats, winner: int) -> list[tuple[float, float]]:
    """Give for each criterion between which weights the winner stays the winner, the others keeping their proportions.

    With weight t of criterion j, an offer scores t * away_j + (1 - t) * rest, which is a straight line in t: the ends are where another
    one's line crosses the winner's. Where the others' weights are all 0, they share what is left alike. Shapes: away (n, m), weights (m,).
    """
    found = []
    for j in range(len(weights)):
        others = np.delete(weights, j)
        share = others / others.sum() if others.sum() > 0 else np.full(len(others), 1.0 / max(1, len(others)))
        rest = np.delete(away, j, axis=1) @ share if len(others) else np.zeros(len(away))
        slope = (away[:, j] - rest) - (away[winner, j] - rest[winner])
        lead = rest - rest[winner]  # of the winner at t = 0; it stays ahead where lead + slope * t >= 0
        low, high = 0.0, 1.0
        for step, ahead in zip(slope, lead, strict=True):
            if step > 0:
                low = max(low, -ahead / step)
            elif step < 0:
                high = min(high, -ahead / step)
        found.append((float(min(low, weights[j])), float(max(high, weights[j]))))
    return found
