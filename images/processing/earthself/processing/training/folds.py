"""Ways to leave truth out: a site, a site with a season, a kind; and the random split that flatters."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from earthself.processing.training.fit import Recipe, fit
from earthself.processing.training.truth import BUILT, FOREST, GROUND, KINDS, OTHER, Truth

if TYPE_CHECKING:
    from earthself.processing.training.network import Network
    from numpy.typing import NDArray

SEASONS = ("December-February", "March-May", "June-August", "September-November")

SITE, SITE_AND_SEASON, RANDOM, UNSEEN = "left_out_site", "left_out_site_and_season", "random_split", "unseen_kind"


@dataclass(frozen=True)
class Fold:
    """What one network is trained on, and the rows that it is asked about."""

    way: str
    """`SITE`, `SITE_AND_SEASON`, `RANDOM` or `UNSEEN`."""
    name: str
    """What was left out."""
    train: NDArray[np.bool_]
    """(n) rows of the truth."""
    test: NDArray[np.bool_]
    """(n) rows of the truth, clear and of a kind on the ground."""


@dataclass(frozen=True)
class Answers:
    """What a network that never saw them says about some rows."""

    fold: Fold
    """Where they come from."""
    rows: NDArray[np.intp]
    """(m) rows of the truth."""
    probabilities: NDArray[np.float32]
    """(m, kinds)."""
    novelty: NDArray[np.float32]
    """(m, kinds), in units of whitened space until `reach` is known."""


def folds(truth: Truth, seed: int = 0) -> Iterator[Fold]:
    """All folds of a truth that have something to learn from and to ask about, in a fixed order."""
    known = truth.clear & np.isin(truth.kind, GROUND)
    for fold in _folds(truth, seed):
        if (fold.test & known).any() and (fold.train & truth.seen).any():
            yield Fold(fold.way, fold.name, fold.train, fold.test & known)


def _folds(truth: Truth, seed: int) -> Iterator[Fold]:
    for number, site in enumerate(truth.sites):
        here = np.asarray(truth.site == number)
        yield Fold(SITE, site, ~here, here)
    for number, site in enumerate(truth.sites):
        here = np.asarray(truth.site == number)
        if len(np.unique(truth.season[here])) == 1:
            continue
        for season, name in enumerate(SEASONS):
            then = np.asarray(truth.season == season)
            yield Fold(SITE_AND_SEASON, f"{site}, {name}", ~here & ~then, here & then)
    half = np.asarray(np.random.default_rng(seed).random(len(truth)) < 0.5)
    yield Fold(RANDOM, "half of all pixels", half, ~half)
    for kinds in ((FOREST,), (BUILT, OTHER)):
        yield Fold(UNSEEN, KINDS[kinds[0]].name, ~np.isin(truth.kind, kinds), np.asarray(truth.kind == kinds[0]))


def ask(truth: Truth, fold: Fold, recipe: Recipe) -> Answers:
    """Train without what the fold leaves out, and answer for it."""
    network = fit(truth.take(fold.train), recipe)
    rows = np.flatnonzero(fold.test)
    probabilities, novelty = answer(network, truth.features[rows])
    return Answers(fold, rows, probabilities, novelty)


def answer(network: Network, features: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Probabilities and novelty of (n, COUNT), in parts that fit into memory."""
    parts = [(network.probabilities(part), network.novelty(part)) for part in np.array_split(features, max(1, len(features) // 50_000))]
    return np.concatenate([p for p, _ in parts]), np.concatenate([d for _, d in parts])
