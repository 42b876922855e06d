"""Train one network on some of the truth. The same rows, recipe and seed give the same weights on the same machine."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from earthself.processing.training.features import BANDS, BRIGHTNESS
from earthself.processing.training.network import Network
from earthself.processing.training.truth import BUILT, FIELD, FOREST, KINDS, OBSCURED, OTHER, WATER, Truth

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Recipe:
    """How a network is trained. The values were chosen by looking at the scores on left-out sites, which flatters those a little."""

    seed: int = 0
    """Of sampling, first weights, order and jitter."""
    hidden: tuple[int, ...] = (64, 48)
    """Width of the hidden layers."""
    epochs: int = 25
    """Times each sampled pixel is seen."""
    batch: int = 1024
    """Pixels a step."""
    rate: float = 4e-3
    """First learning rate; it falls to zero along half a cosine."""
    decay: float = 1e-4
    """Weight decay."""
    brightness: float = 0.05
    """Spread of the common shift of all log reflectances of a pixel: sun, slope and air differ elsewhere."""
    jitter: float = 0.02
    """Spread of the shift of each feature by itself."""
    most: tuple[int, ...] = (250, 600, 400, 250, 60, 80)
    """Pixels of a kind taken from a block at most, by kind."""
    weight: tuple[float, ...] = (2.0, 1.0, 1.0, 1.0, 1.0, 0.5)
    """Weight of a kind, times its number of pixels to the power of -1/4."""
    caution: tuple[float, ...] = (6.0, 1.0, 1.0, 1.0, 1.0, 0.5)
    """Cost of missing a kind: its probability is multiplied by this before any decision."""
    prototypes: tuple[int, ...] = (16, 32, 16, 0, 0, 0)
    """Typical spectra kept of each kind, against which novelty is measured; none for kinds without a code."""
    ridge: float = 0.02
    """Added to the variance along each axis before whitening: directions of pure noise count little."""


def fit(truth: Truth, recipe: Recipe) -> Network:
    """Train on the rows of `truth` where the ground shows and on the obscured ones; a kind without a row is never said."""
    from threadpoolctl import threadpool_limits

    # One thread: the matrices are small, and sums are then formed in the same order on every run.
    with threadpool_limits(1):
        return _fit(truth, recipe)


def _fit(truth: Truth, recipe: Recipe) -> Network:
    random = np.random.default_rng(recipe.seed)
    rows = _sample(truth, recipe, random)
    features, kind = truth.features[rows], truth.kind[rows].astype(np.intp)
    mean, spread = features.mean(axis=0), features.std(axis=0)
    counts = np.bincount(kind, minlength=len(KINDS))
    weights = np.array(recipe.weight) * np.maximum(counts, 1) ** -0.25
    layers = _train((features - mean) / spread, kind, weights / weights[kind].mean(), recipe, random)
    bias = layers[-1][1] + np.log(recipe.caution).astype(np.float32)
    bias[counts == 0] = -30
    whiten, prototypes = _prototypes((features[:, : len(BANDS)] - mean[: len(BANDS)]) / spread[: len(BANDS)], kind, recipe)
    return Network(
        mean=mean.astype(np.float32),
        spread=spread.astype(np.float32),
        layers=(*layers[:-1], (layers[-1][0], bias)),
        whiten=whiten,
        prototypes=prototypes,
        reach=(1.0,) * len(KINDS),
    )


def _sample(truth: Truth, recipe: Recipe, random: np.random.Generator) -> NDArray[np.intp]:
    usable = np.flatnonzero(truth.seen | (truth.kind == OBSCURED))
    shuffled = random.permutation(usable)
    groups = truth.block[shuffled].astype(np.int64) * len(KINDS) + truth.kind[shuffled]
    by_group = shuffled[np.argsort(groups, kind="stable")]
    edges = np.flatnonzero(np.diff(np.sort(groups))) + 1
    return np.concatenate([group[: recipe.most[truth.kind[group[0]]]] for group in np.split(by_group, edges)])


_Layers = tuple[tuple["NDArray[np.float32]", "NDArray[np.float32]"], ...]


def _train(
    x: NDArray[np.float32], kind: NDArray[np.intp], weights: NDArray[np.float64], recipe: Recipe, random: np.random.Generator
) -> _Layers:
    """Adam (Kingma and Ba 2015, arXiv:1412.6980) on weighted cross-entropy."""
    sizes = (x.shape[1], *recipe.hidden, len(KINDS))
    parameters = []
    for inputs, outputs in pairwise(sizes):
        parameters += [random.normal(0, np.sqrt(2 / inputs), (outputs, inputs)).astype(np.float32), np.zeros(outputs, np.float32)]
    first, second = [np.zeros_like(p) for p in parameters], [np.zeros_like(p) for p in parameters]
    together = np.zeros(x.shape[1], np.float32)
    together[list(BRIGHTNESS)] = recipe.brightness
    x = x.astype(np.float32)
    steps_each, step = -(-len(x) // recipe.batch), 0
    for _ in range(recipe.epochs):
        order = random.permutation(len(x))
        for part in np.array_split(order, steps_each):
            step += 1
            shaken = x[part] + random.standard_normal((len(part), 1), np.float32) * together
            shaken += random.standard_normal(shaken.shape, np.float32) * np.float32(recipe.jitter)
            rate = recipe.rate * 0.5 * (1 + np.cos(np.pi * step / (recipe.epochs * steps_each)))
            gradients = _gradients(parameters, shaken, kind[part], weights[kind[part]].astype(np.float32))
            for i, gradient in enumerate(gradients):
                first[i] += 0.1 * (gradient - first[i])
                second[i] += 0.001 * (gradient**2 - second[i])
                move = (first[i] / (1 - 0.9**step)) / (np.sqrt(second[i] / (1 - 0.999**step)) + 1e-8)
                parameters[i] -= np.float32(rate) * (move + np.float32(recipe.decay) * parameters[i]).astype(np.float32)
    return tuple(zip(parameters[::2], parameters[1::2], strict=True))


def _gradients(
    parameters: list[NDArray[np.float32]], x: NDArray[np.float32], kind: NDArray[np.intp], weight: NDArray[np.float32]
) -> list[NDArray[np.float32]]:
    seen = [x]
    for i in range(0, len(parameters), 2):
        x = x @ parameters[i].T + parameters[i + 1]
        if i < len(parameters) - 2:
            x = np.maximum(x, 0)
            seen.append(x)
    x = np.exp(x - x.max(axis=1, keepdims=True))
    x /= x.sum(axis=1, keepdims=True)
    x[np.arange(len(kind)), kind] -= 1
    x *= weight[:, None] / len(kind)
    found: list[NDArray[np.float32]] = []
    for i in range(len(parameters) - 2, -1, -2):
        found[:0] = [x.T @ seen[i // 2], x.sum(axis=0)]
        if i:
            x = (x @ parameters[i]) * (seen[i // 2] > 0)
    return found


def _prototypes(
    z: NDArray[np.float32], kind: NDArray[np.intp], recipe: Recipe
) -> tuple[NDArray[np.float32], tuple[NDArray[np.float32], ...]]:
    from sklearn.cluster import MiniBatchKMeans

    land = np.isin(kind, (BUILT, FIELD, FOREST, WATER, OTHER))
    values, axes = np.linalg.eigh(np.cov(z[land].T))
    whiten = (axes / np.sqrt(values + recipe.ridge)).T.astype(np.float32)
    found = []
    for number, wanted in enumerate(recipe.prototypes):
        of_kind = z[kind == number] @ whiten.T
        if not wanted or len(of_kind) < wanted:
            # A kind that was not seen is never said, so nothing need be far from it.
            found.append(np.zeros((0, len(BANDS)), np.float32))
            continue
        means = MiniBatchKMeans(wanted, random_state=recipe.seed, n_init=1, batch_size=4096, max_iter=50).fit(of_kind)
        found.append(means.cluster_centers_.astype(np.float32))
    return whiten, tuple(found)
