"""The vote that makes one map out of many observations. Sums of whole numbers: no order of the observations changes a pixel.

Rules, documented in docs/decisions/mosaic-vote.md:
1. Every clear observation of a pixel is one voter; one without a class (code 0) abstains, but counts as an observation.
2. A vote weighs its confidence (0-100), at least 1.
3. The class with the greatest weight wins; then the one with more votes; then the one with the smaller code.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

BANDS = ("code", "confidence", "observations", "agreement")
"""Bands of a mosaic, in order."""


@dataclass
class Vote:
    """The votes on the pixels of one window; memory grows with the classes seen, not with the observations."""

    shape: tuple[int, int]
    """Rows and columns."""
    _observations: NDArray[np.uint16] = field(init=False)
    _tally: dict[int, tuple[NDArray[np.uint32], NDArray[np.uint16]]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._observations = np.zeros(self.shape, np.uint16)

    def add(self, code: NDArray[np.uint16], confidence: NDArray[np.uint8], clear: NDArray[np.bool_]) -> None:
        """Count one observation; `clear` says on which pixels it saw the ground."""
        self._observations += clear
        weight = np.maximum(confidence, 1)
        for value in np.unique(code[clear]):
            if value == 0:
                continue
            score, count = self._tally.setdefault(int(value), (np.zeros(self.shape, np.uint32), np.zeros(self.shape, np.uint16)))
            voters = clear & (code == value)
            score += np.where(voters, weight, 0)
            count += voters

    def result(self) -> NDArray[np.uint16]:
        """Return the bands `BANDS`, (4, rows, columns); agreement is the share of clear observations that voted for the winner."""
        code = np.zeros(self.shape, np.uint16)
        best = np.zeros(self.shape, np.uint32)
        votes = np.zeros(self.shape, np.uint16)
        for value, (score, count) in sorted(self._tally.items()):
            better = (score > best) | ((score == best) & (count > votes))
            code[better] = value
            best[better] = score[better]
            votes[better] = count[better]
        one = np.maximum(votes, 1)
        confidence = (2 * best + one) // (2 * one)
        seen = np.maximum(self._observations, 1).astype(np.uint32)
        agreement = (200 * votes.astype(np.uint32) + seen) // (2 * seen)
        return np.stack([code, confidence.astype(np.uint16), self._observations, agreement.astype(np.uint16)])
