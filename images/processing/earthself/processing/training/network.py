"""The baseline's network: a small perceptron on `features`, with the distance to each kind's training beside it.

`Network` runs in numpy while models are compared; `graph` writes the same as ONNX, with the features inside, so that whoever
has the file needs no code of ours.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from earthself.processing.training.features import BANDS, CEILING, CONTEXT, COUNT, FLOOR, ROUGH, SMOOTH, STILL, WIDE

if TYPE_CHECKING:
    from numpy.typing import NDArray

_GROUP = 8


@dataclass(frozen=True)
class Network:
    """Weights, for features (n, COUNT) and kinds in a fixed order."""

    mean: NDArray[np.float32]
    """Of each feature, (COUNT)."""
    spread: NDArray[np.float32]
    """Standard deviation of each feature, (COUNT)."""
    layers: tuple[tuple[NDArray[np.float32], NDArray[np.float32]], ...]
    """Weights (out, in) and bias (out) of each layer; ReLU between, softmax behind the last."""
    whiten: NDArray[np.float32]
    """(bands, bands): maps standardised log reflectance to the space of the prototypes."""
    prototypes: tuple[NDArray[np.float32], ...]
    """For each kind (k, bands): typical spectra of its training, whitened; (0, bands) where nothing is far from the kind."""
    reach: tuple[float, ...]
    """For each kind: the distance that counts as 1."""

    def probabilities(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Probability of each kind, (n, kinds)."""
        x = (features - self.mean) / self.spread
        for i, (weight, bias) in enumerate(self.layers):
            x = x @ weight.T + bias
            if i < len(self.layers) - 1:
                x = np.maximum(x, 0)
        x = np.exp(x - x.max(axis=1, keepdims=True))
        return np.asarray(x / x.sum(axis=1, keepdims=True), np.float32)

    def novelty(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Distance to the nearest prototype of each kind in units of `reach`, (n, kinds)."""
        bands = len(BANDS)
        z = ((features[:, :bands] - self.mean[:bands]) / self.spread[:bands]) @ self.whiten.T
        own = (z**2).sum(axis=1)
        squares = [own + ((p**2).sum(axis=1)[:, None] - 2 * p @ z.T).min(axis=0) if len(p) else 0 * own for p in self.prototypes]
        return np.asarray(np.sqrt(np.maximum(np.stack(squares, axis=1), 0)) / np.array(self.reach), np.float32)

    def with_reach(self, reach: tuple[float, ...]) -> Network:
        """Give the same network other distances that count as 1."""
        return replace(self, reach=reach)


def graph(network: Network) -> bytes:
    """Write the network as ONNX (opset 17, IR 8).

    Input `reflectance` (1, bands, h, w), 0 where a pixel is missing; outputs `probabilities` and `novelty` (1, kinds, h, w).
    """
    from onnx import TensorProto, checker, helper

    bands, kinds = len(BANDS), len(network.prototypes)
    draft = _Draft()
    log, all_features = _features(draft)
    y = _perceptron(draft, network, all_features)
    d = _novelty(draft, network, log)
    size = draft.add("Shape", ["reflectance"], start=2)
    target = draft.add("Concat", [draft.constant("head", np.array([1, kinds], np.int64)), size], axis=0)
    draft.add("Reshape", [y, target], output="probabilities")
    draft.add("Reshape", [d, target], output="novelty")
    axes = ["height", "width"]
    made = helper.make_graph(
        draft.nodes,
        "earthself-baseline",
        [helper.make_tensor_value_info("reflectance", TensorProto.FLOAT, [1, bands, *axes])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, kinds, *axes]) for name in ("probabilities", "novelty")],
        draft.constants,
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], producer_name="earthself", ir_version=8)
    checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def _features(draft: _Draft) -> tuple[str, str]:
    """Log reflectance (bands, n) and all features (COUNT, n), as `features.features` makes them."""
    clipped = draft.add("Clip", ["reflectance", draft.constant("floor", np.float32(FLOOR)), draft.constant("ceiling", np.float32(CEILING))])
    log = draft.add("Log", [clipped])
    least = draft.add("ReduceMin", ["reflectance"], axes=[1], keepdims=1)
    weight = draft.add("Cast", [draft.add("Greater", [least, draft.constant("zero", np.float32(0))])], to=1)
    chosen = draft.add("Gather", [log, draft.constant("rough_bands", np.array(ROUGH, np.int64))], axis=1)
    weighed = draft.add("Mul", [chosen, weight])
    moments = draft.add("Concat", [weight, weighed, draft.add("Mul", [weighed, chosen])], axis=1)
    margin = [0, 0, CONTEXT, CONTEXT]
    sums = _sum3(draft, draft.add("Pad", [moments, draft.constant("pads", np.array(2 * margin, np.int64))]), 1)
    inner = sums
    for axis in (2, 3):
        inner = _slice(draft, inner, axis, WIDE, -WIDE)
    mean, rough = _moments(draft, inner)
    smooth = draft.add("Gather", [mean, draft.constant("smooth_bands", np.array(SMOOTH, np.int64))], axis=1)
    every = draft.add("Concat", [log, rough, _moments(draft, _sum3(draft, sums, WIDE))[1], smooth], axis=1)
    flat_log = draft.add("Reshape", [log, draft.constant("flat_log", np.array([len(BANDS), -1], np.int64))])
    return flat_log, draft.add("Reshape", [every, draft.constant("flat", np.array([COUNT, -1], np.int64))])


def _moments(draft: _Draft, sums: str) -> tuple[str, str]:
    """Mean and log standard deviation of sums of weights, values and squares."""
    edges = (0, 1, 1 + len(ROUGH), 1 + 2 * len(ROUGH))
    count, value, square = (_slice(draft, sums, 1, start, end) for start, end in pairwise(edges))
    count = draft.add("Max", [count, draft.shared("one", np.array(1, np.float32))])
    mean = draft.add("Div", [value, count])
    variance = draft.add("Sub", [draft.add("Div", [square, count]), draft.add("Mul", [mean, mean])])
    deviation = draft.add("Sqrt", [draft.add("Relu", [variance])])
    return mean, draft.add("Log", [draft.add("Add", [deviation, draft.shared("still", np.array(STILL, np.float32))])])


def _sum3(draft: _Draft, values: str, step: int) -> str:
    # Slices and additions rather than a pooling operator: a pixel's sum is then formed in the same order wherever it lies.
    for axis in (2, 3):
        parts = [_slice(draft, values, axis, start, end) for start, end in ((0, -2 * step), (step, -step), (2 * step, 1 << 30))]
        values = draft.add("Add", [draft.add("Add", parts[:2]), parts[2]])
    return values


def _slice(draft: _Draft, values: str, axis: int, start: int, end: int) -> str:
    numbers = [draft.shared(f"i{n}", np.array([n], np.int64)) for n in (start, end, axis)]
    return draft.add("Slice", [values, *numbers])


def _perceptron(draft: _Draft, network: Network, x: str) -> str:
    # Standardising is linear: it is folded into the first layer.
    scale, shift = 1 / network.spread, -network.mean / network.spread
    for i, (weight, bias) in enumerate(network.layers):
        w, b = (weight * scale, bias + weight @ shift) if i == 0 else (weight, bias)
        x = draft.linear(f"layer{i}", x, w, b)
        if i < len(network.layers) - 1:
            x = draft.add("Relu", [x])
    return draft.add("Softmax", [x], axis=0)


def _novelty(draft: _Draft, network: Network, log: str) -> str:
    bands = len(BANDS)
    scale, shift = 1 / network.spread[:bands], -network.mean[:bands] / network.spread[:bands]
    z = draft.linear("whiten", log, network.whiten * scale, network.whiten @ shift)
    own = draft.add("ReduceSumSquare", [z], axes=[0], keepdims=1)
    nothing = draft.add("Mul", [own, draft.constant("nothing", np.float32(0))])
    found = []
    for kind, prototypes in enumerate(network.prototypes):
        if not len(prototypes):
            found.append(nothing)
            continue
        square = draft.add("Relu", [draft.add("Add", [_least(draft, f"prototypes{kind}", z, prototypes), own])])
        found.append(draft.add("Mul", [draft.add("Sqrt", [square]), draft.constant(f"reach{kind}", np.float32(1 / network.reach[kind]))]))
    return draft.add("Concat", found, axis=0)


def _least(draft: _Draft, name: str, z: str, prototypes: NDArray[np.float32]) -> str:
    # Groups of rows and an n-ary Min between them: ReduceMin over many rows is several times slower.
    groups = [prototypes[start : start + _GROUP] for start in range(0, len(prototypes), _GROUP)]
    short = _GROUP * len(groups) - len(prototypes)
    groups[-1] = np.concatenate([groups[-1], np.repeat(groups[-1][-1:], short, axis=0)])
    squares = [draft.linear(f"{name}_{i}", z, -2 * rows, (rows**2).sum(axis=1)) for i, rows in enumerate(groups)]
    least = draft.add("Min", squares) if len(squares) > 1 else squares[0]
    return draft.add("ReduceMin", [least], axes=[0], keepdims=1)


class _Draft:
    """Nodes and constants of a graph in the making."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self._known: set[str] = set()

    def constant(self, name: str, value: Any) -> str:  # noqa: ANN401 (whatever numpy takes)
        from onnx import numpy_helper

        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        self._known.add(name)
        return name

    def shared(self, name: str, value: Any) -> str:  # noqa: ANN401 (whatever numpy takes)
        return name if name in self._known else self.constant(name, value)

    def add(self, kind: str, inputs: list[str], output: str | None = None, **attributes: Any) -> str:  # noqa: ANN401 (ONNX attributes)
        from onnx import helper

        name = output or f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def linear(self, name: str, source: str, weight: NDArray[Any], bias: NDArray[Any]) -> str:
        product = self.add("MatMul", [self.constant(f"{name}_weight", weight.astype(np.float32)), source])
        return self.add("Add", [product, self.constant(f"{name}_bias", bias.astype(np.float32)[:, None])])
