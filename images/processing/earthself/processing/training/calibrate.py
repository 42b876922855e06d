"""Turn distances and probabilities into promises: how far is outside, how often a class is right, how much doubt is too much.

All three are learnt on answers of networks that never saw the site, since that is how a model is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from earthself.processing.training.truth import CODE_OF_KIND, FIELD, KINDS, Truth

if TYPE_CHECKING:
    from earthself.processing.training.folds import Answers
    from numpy.typing import NDArray

INSIDE = 0.98
"""Share of the pixels of a kind on left-out sites that must lie within its reach."""
PRICE = 0.03
"""Share of the fields rightly called so on left-out sites that each limit of doubt may leave without a class."""
LEAST_DOUBT = 0.05
"""A limit of doubt is never below this: where kinds are easily told apart, a trace of probability says nothing."""
LEVELS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 1.0)
"""Probabilities at which the confidence is kept."""


def reach(truth: Truth, answers: Sequence[Answers]) -> tuple[float, ...]:
    """Distance to each kind within which `INSIDE` of its pixels on left-out sites lie; each site weighs the same."""
    found = []
    for kind in range(len(KINDS)):
        distances, weights = [], []
        for answer in answers:
            of_kind = truth.kind[answer.rows] == kind
            # A kind that the rest of the truth lacks has nothing to be far from.
            if of_kind.any() and answer.novelty[:, kind].any():
                distances.append(answer.novelty[of_kind, kind])
                weights.append(np.full(of_kind.sum(), 1 / of_kind.sum()))
        found.append(_quantile(np.concatenate(distances), np.concatenate(weights), INSIDE) if distances else 1.0)
    return tuple(round(value, 4) for value in found)


def confidence(truth: Truth, answers: Sequence[Answers], code: int) -> list[list[float]] | None:
    """Knots (probability, percent right) of pixels that a network without their site calls `code`; each site weighs the same.

    None where no such pixel is right: then nothing speaks for the code.
    """
    from sklearn.isotonic import IsotonicRegression

    kind = [k.code for k in KINDS].index(code)
    chance, right, weight = [], [], []
    for answer in answers:
        true = CODE_OF_KIND[truth.kind[answer.rows]]
        called = (answer.probabilities.argmax(axis=1) == kind) & (true > 0)
        if called.any():
            chance.append(answer.probabilities[called, kind])
            right.append(true[called] == code)
            weight.append(np.full(called.sum(), 1 / len(answer.rows)))
    if not any(r.any() for r in right):
        return None
    fitted = IsotonicRegression(out_of_bounds="clip").fit(np.concatenate(chance), np.concatenate(right), np.concatenate(weight))
    return [[level, round(100 * float(value), 1)] for level, value in zip(LEVELS, fitted.predict(np.array(LEVELS)), strict=True)]


def doubt(truth: Truth, answers: Sequence[Answers], kinds: Sequence[int], least: float) -> dict[int, float]:
    """Greatest probability of each of `kinds` at which a pixel may still be called a field.

    It follows from the price alone, the same at each site: of the fields that networks without the site call so with at least the
    probability `least`, `PRICE` is above it. Kinds that no network of `answers` had learnt have no limit.
    """
    found = {}
    for kind in kinds:
        doubts, weights = [], []
        for answer in answers:
            fields = (truth.kind[answer.rows] == FIELD) & (answer.probabilities.argmax(axis=1) == FIELD)
            fields &= answer.probabilities[:, FIELD] >= least
            learnt = (truth.kind[answer.fold.train & truth.seen] == kind).any()
            if learnt and fields.any():
                doubts.append(answer.probabilities[fields, kind])
                weights.append(np.full(fields.sum(), 1 / fields.sum()))
        if doubts:
            limit = _quantile(np.concatenate(doubts), np.concatenate(weights), 1 - PRICE)
            found[kind] = max(LEAST_DOUBT, round(limit, 4))
    return found


def _quantile(values: NDArray[np.float32], weights: NDArray[np.float64], share: float) -> float:
    order = np.argsort(values)
    reached = np.cumsum(weights[order]) / weights.sum()
    return float(values[order][np.searchsorted(reached, share)])
