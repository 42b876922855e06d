"""The baseline's network: a small perceptron on log reflectance with a distance to the training beside it, as one ONNX graph.

Differences of log reflectances are logs of band ratios, so the first layer can form any normalised index by itself. Each pixel
stands alone (1x1), which keeps windowed and whole results equal and inference at several megapixels a CPU second.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

FLOOR = 0.001
"""Reflectance below which differences are noise; logs are taken above it."""
CEILING = 2.0
"""Reflectance above which all is cloud or glint."""


@dataclass(frozen=True)
class Network:
    """Weights of the baseline, enough to write the graph or to run it in numpy."""

    mean: NDArray[np.float32]
    """Of log reflectance, (bands)."""
    spread: NDArray[np.float32]
    """Standard deviation of log reflectance, (bands)."""
    layers: tuple[tuple[NDArray[np.float32], NDArray[np.float32]], ...]
    """Weights (out, in) and bias (out) of each layer; ReLU between, softmax behind the last."""
    centres: NDArray[np.float32]
    """Prototypes of the training in whitened space, (k, bands)."""
    whiten: NDArray[np.float32]
    """(bands, bands): maps standardised log reflectance to the space of the prototypes."""

    def features(self, reflectance: NDArray[np.float32]) -> NDArray[np.float32]:
        """Standardised log reflectance of (n, bands)."""
        return standardise(reflectance, self.mean, self.spread)

    def distance(self, reflectance: NDArray[np.float32]) -> NDArray[np.float32]:
        """Distance to the nearest prototype, (n), of (n, bands)."""
        z = self.features(reflectance) @ self.whiten.T
        square = (z**2).sum(1)[:, None] - 2 * z @ self.centres.T + (self.centres**2).sum(1)
        return np.asarray(np.sqrt(np.maximum(square.min(axis=1), 0)), np.float32)

    def probabilities(self, reflectance: NDArray[np.float32]) -> NDArray[np.float32]:
        """Softmax of the last layer, (n, classes), of (n, bands)."""
        x = self.features(reflectance)
        for i, (weight, bias) in enumerate(self.layers):
            x = x @ weight.T + bias
            if i < len(self.layers) - 1:
                x = np.maximum(x, 0)
        x = np.exp(x - x.max(axis=1, keepdims=True))
        return np.asarray(x / x.sum(axis=1, keepdims=True), np.float32)


def logs(reflectance: NDArray[np.float32]) -> NDArray[np.float32]:
    """Log of reflectance, held between `FLOOR` and `CEILING`."""
    return np.asarray(np.log(np.clip(reflectance, FLOOR, CEILING)), np.float32)


def standardise(reflectance: NDArray[np.float32], mean: NDArray[np.float32], spread: NDArray[np.float32]) -> NDArray[np.float32]:
    """Log reflectance with zero mean and unit spread."""
    return np.asarray((logs(reflectance) - mean) / spread, np.float32)


def graph(network: Network) -> bytes:
    """Write the network as ONNX (opset 17, IR 8).

    Input `reflectance` (1, bands, h, w); outputs `probabilities` (1, classes, h, w) and `novelty` (1, 1, h, w).
    """
    from onnx import TensorProto, helper

    bands, classes = len(network.mean), len(network.layers[-1][1])
    nodes, constants = _Nodes(), _Constants()
    shape = constants.add("flat", np.array([bands, -1], np.int64))
    x = nodes.add("Reshape", ["reflectance", shape])
    x = nodes.add("Clip", [x, constants.add("floor", np.float32(FLOOR)), constants.add("ceiling", np.float32(CEILING))])
    x = nodes.add("Log", [x])
    # Standardising and whitening are linear: both are folded into the matrices behind them.
    scale, shift = 1 / network.spread, -network.mean / network.spread
    y = x
    for i, (weight, bias) in enumerate(network.layers):
        w, b = (weight * scale, bias + weight @ shift) if i == 0 else (weight, bias)
        y = nodes.linear(constants, f"layer{i}", y, w, b)
        if i < len(network.layers) - 1:
            y = nodes.add("Relu", [y])
    y = nodes.add("Softmax", [y], axis=0)
    z = nodes.linear(constants, "whiten", x, network.whiten * scale, network.whiten @ shift)
    d = _distance(nodes, constants, z, network.centres)
    size = nodes.add("Shape", ["reflectance"], start=2)
    for name, value, channels in (("probabilities", y, classes), ("novelty", d, 1)):
        head = constants.add(f"{name}_head", np.array([1, channels], np.int64))
        target = nodes.add("Concat", [head, size], axis=0)
        nodes.add("Reshape", [value, target], output=name)
    made = helper.make_graph(
        nodes.made,
        "earthself-baseline",
        [helper.make_tensor_value_info("reflectance", TensorProto.FLOAT, [1, bands, "height", "width"])],
        [
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [1, classes, "height", "width"]),
            helper.make_tensor_value_info("novelty", TensorProto.FLOAT, [1, 1, "height", "width"]),
        ],
        constants.made,
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], producer_name="earthself", ir_version=8)
    _check(model)
    return bytes(model.SerializeToString())


def _check(model: Any) -> None:  # noqa: ANN401 - onnx ships no types
    from onnx import checker

    checker.check_model(model, full_check=True)


def _distance(nodes: _Nodes, constants: _Constants, z: str, centres: NDArray[np.float32]) -> str:
    cross = nodes.linear(constants, "centres", z, -2 * centres, (centres**2).sum(1))
    least = nodes.add("ReduceMin", [cross], axes=[0], keepdims=1)
    own = nodes.add("ReduceSumSquare", [z], axes=[0], keepdims=1)
    square = nodes.add("Relu", [nodes.add("Add", [least, own])])
    return nodes.add("Sqrt", [square])


class _Constants:
    def __init__(self) -> None:
        self.made: list[Any] = []

    def add(self, name: str, value: Any) -> str:  # noqa: ANN401
        from onnx import numpy_helper

        self.made.append(numpy_helper.from_array(np.asarray(value), name))
        return name


class _Nodes:
    def __init__(self) -> None:
        self.made: list[Any] = []

    def add(self, kind: str, inputs: list[str], output: str | None = None, **attributes: Any) -> str:  # noqa: ANN401
        from onnx import helper

        name = output or f"{kind.lower()}{len(self.made)}"
        self.made.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def linear(self, constants: _Constants, name: str, source: str, weight: NDArray[Any], bias: NDArray[Any]) -> str:
        product = self.add("MatMul", [constants.add(f"{name}_weight", weight.astype(np.float32)), source])
        return self.add("Add", [product, constants.add(f"{name}_bias", bias.astype(np.float32)[:, None])])
