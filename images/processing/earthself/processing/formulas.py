"""Formulas that a user typed, read as data: an allow-list of syntax, names and sizes, evaluated without ever running their text.

A formula is a sum, difference, product, quotient or power of bands, numbers and a few functions. Everything else is refused by name before
any pixel is read: attributes, other calls, subscripts, comparisons, lambdas, comprehensions, strings, huge numbers and powers.
"""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from earthself.processing.errors import BadInput
from numpy.typing import NDArray

LONGEST = 500
"""Characters of a formula."""
_STRANGE = re.compile(r"[^A-Za-z0-9_+\-*/()., ]")
_NODES = 250
_DEEPEST = 40
_LARGEST_NUMBER = 1e9
_LARGEST_POWER = 16
_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: np.divide,
}
_SIGNS: dict[type[ast.unaryop], Callable[[Any], Any]] = {ast.UAdd: operator.pos, ast.USub: operator.neg}
_FUNCTIONS: dict[str, tuple[int, Callable[..., Any]]] = {
    "abs": (1, np.abs),
    "sqrt": (1, np.sqrt),
    "exp": (1, np.exp),
    "log": (1, np.log),
    "min": (2, np.minimum),
    "max": (2, np.maximum),
}
_WHAT_IS_ALLOWED = f"a formula may use + - * / **, numbers, parentheses, band names and {', '.join(_FUNCTIONS)}"


@dataclass(frozen=True)
class Formula:
    """A checked formula; make one with `Formula.parse`."""

    text: str
    bands: tuple[str, ...]
    """Names of the bands that it needs, sorted."""
    _tree: ast.expr
    _constants: Mapping[str, float]

    @classmethod
    def parse(cls, text: str, bands: Mapping[str, str], constants: Mapping[str, float] | None = None) -> Formula:
        """Check a formula; `bands` maps every name that it may use to a band, `constants` further names to numbers.

        Raises `BadInput` naming the first thing that is not allowed.
        """
        if not isinstance(text, str):
            raise BadInput(f"the formula {_short(str(text))} is {type(text).__name__}, not text; {_WHAT_IS_ALLOWED}")
        if len(text) > LONGEST:
            raise BadInput(f"a formula of {len(text)} characters is longer than {LONGEST}; {_WHAT_IS_ALLOWED}")
        strange = _STRANGE.search(text)
        if strange:
            raise BadInput(f"{_short(text)}: the character {strange[0]!r} is not allowed; {_WHAT_IS_ALLOWED}")
        try:
            tree = ast.parse(text.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise BadInput(f"{_short(text)} is not a formula; {_WHAT_IS_ALLOWED}") from error
        if sum(1 for _ in ast.walk(tree)) > _NODES:
            raise BadInput(f"{_short(text)} has more than {_NODES} parts; split it into several formulas")
        checked = _Check(text, set(bands), dict(constants or {}))
        checked.expression(tree, 0)
        if not checked.used:
            raise BadInput(f"{_short(text)} uses no band; {_WHAT_IS_ALLOWED}")
        names = {name: bands[name] for name in checked.used}
        return cls(text, tuple(sorted(set(names.values()))), _Rename(names).visit(tree), dict(constants or {}))

    def evaluate(self, values: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
        """Compute the formula on arrays of one shape, by band; NaN where a band is, or the result is no finite number."""
        with np.errstate(all="ignore"):
            found = np.array(self._value(self._tree, values), dtype=np.float32)
        found[~np.isfinite(found)] = np.nan
        for band in self.bands:  # NaN ** 0 is 1
            found[np.isnan(values[band])] = np.nan
        return found

    def _value(self, node: ast.expr, values: Mapping[str, NDArray[np.float32]]) -> Any:  # noqa: ANN401 (an array or a number)
        match node:
            case ast.Constant(value=int() | float() as number):
                return np.float32(number)
            case ast.Name():
                return np.float32(self._constants[node.id]) if node.id in self._constants else values[node.id]
            case ast.UnaryOp():
                return _SIGNS[type(node.op)](self._value(node.operand, values))
            case ast.BinOp(op=ast.Pow()):
                return np.power(self._value(node.left, values), np.float32(_number(node.right, self._constants)))
            case ast.BinOp():
                return _ARITHMETIC[type(node.op)](self._value(node.left, values), self._value(node.right, values))
            case ast.Call(func=ast.Name(id=name)):
                return _FUNCTIONS[name][1](*(self._value(argument, values) for argument in node.args))
        raise BadInput(f"{_short(self.text)}: {type(node).__name__} is not allowed; {_WHAT_IS_ALLOWED}")


class _Check:
    """Walks a formula and refuses what is not on the list; collects the names of bands."""

    def __init__(self, text: str, bands: set[str], constants: dict[str, float]) -> None:
        self._text, self._bands, self._constants = text, bands, constants
        self.used: set[str] = set()

    def expression(self, node: ast.expr, depth: int) -> None:
        if depth > _DEEPEST:
            raise self._refusal(f"nested deeper than {_DEEPEST}")
        match node:
            case ast.Constant():
                self._constant(node.value)
            case ast.Name():
                self._name(node.id)
            case ast.UnaryOp() if type(node.op) in _SIGNS:
                self.expression(node.operand, depth + 1)
            case ast.BinOp(op=ast.Pow()):
                self.expression(node.left, depth + 1)
                self._power(node.right)
            case ast.BinOp() if type(node.op) in _ARITHMETIC:
                self.expression(node.left, depth + 1)
                self.expression(node.right, depth + 1)
            case ast.Call():
                self._call(node, depth)
            case _:
                raise self._refusal(f"{type(getattr(node, 'op', node)).__name__} is not allowed")

    def _constant(self, value: object) -> None:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self._refusal(f"{_short(repr(value))} is not a number")
        if not abs(value) <= _LARGEST_NUMBER:
            raise self._refusal(f"a number beyond {_LARGEST_NUMBER:g}")

    def _name(self, name: str) -> None:
        if name in self._constants:
            return
        if name not in self._bands:
            raise self._refusal(f"{_short(name)} is no band; bands are {', '.join(sorted(self._bands))}")
        self.used.add(name)

    def _power(self, node: ast.expr) -> None:
        try:
            value = _number(node, self._constants)
        except (KeyError, ZeroDivisionError, OverflowError) as error:
            raise self._refusal("a power must be a number") from error
        if not abs(value) <= _LARGEST_POWER:
            raise self._refusal(f"a power of {value:g} is beyond {_LARGEST_POWER}")

    def _call(self, node: ast.Call, depth: int) -> None:
        if not isinstance(node.func, ast.Name) or node.func.id not in _FUNCTIONS:
            raise self._refusal(f"the call {_short(ast.unparse(node))} is not allowed")
        wanted = _FUNCTIONS[node.func.id][0]
        if node.keywords or len(node.args) != wanted or any(isinstance(argument, ast.Starred) for argument in node.args):
            raise self._refusal(f"{node.func.id} takes {wanted} argument{'s' * (wanted > 1)}")
        for argument in node.args:
            self.expression(argument, depth + 1)

    def _refusal(self, what: str) -> BadInput:
        return BadInput(f"{_short(self._text)}: {what}; {_WHAT_IS_ALLOWED}")


class _Rename(ast.NodeTransformer):
    """Writes the bands' own names for the letters that a formula may use."""

    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = names

    def visit_Name(self, node: ast.Name) -> ast.Name:
        return ast.Name(self._names.get(node.id, node.id), ast.Load())


def _number(node: ast.expr, constants: Mapping[str, float]) -> float:
    """Work out a power: numbers, named constants, signs, products and quotients, no powers; raises KeyError for anything else."""
    match node:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            return float(value) if abs(value) <= _LARGEST_NUMBER else math.inf
        case ast.Name(id=name):
            return float(constants[name])
        case ast.UnaryOp() if type(node.op) in _SIGNS:
            return float(_SIGNS[type(node.op)](_number(node.operand, constants)))
        case ast.BinOp(op=ast.Mult()):
            return _number(node.left, constants) * _number(node.right, constants)
        case ast.BinOp(op=ast.Div()):
            return _number(node.left, constants) / _number(node.right, constants)
    raise KeyError(type(node).__name__)


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."
