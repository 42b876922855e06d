"""A step's keyword-only arguments are its parameters: this module reads them and turns `--name value` into values.

The command line is the only way that parameters reach a step (so that steps can be written in any language), and what
arrives there is text: every value is parsed by its annotation, and a value that does not fit is the caller's fault.
"""

from __future__ import annotations

import inspect
import json
import types
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from earthself.processing.errors import BadInput

RESERVED = frozenset({"input", "output", "result", "scratch", "help", "json"})
_Type = Any
"""An annotation as a step's author wrote it, and what such an annotation makes of a text."""
_WORDS = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}


@dataclass(frozen=True)
class Parameter:
    """One parameter of a step."""

    name: str
    """Name of the keyword-only argument; `--name` on the command line (hyphens and underscores mean the same)."""
    kind: _Type
    """Its type: str, int, float, bool, a Literal of these, a tuple or list of these, dict, or one of them or None."""
    default: Any
    """Default, or `inspect.Parameter.empty` when it must be given."""
    help: str
    """One phrase from `Annotated[type, "phrase"]`, or empty."""

    @property
    def required(self) -> bool:
        """Whether the step cannot run without it."""
        return self.default is inspect.Parameter.empty

    def describe(self) -> dict[str, Any]:
        """Plain types for `--json`."""
        known: dict[str, Any] = {"name": self.name, "type": _spell(self.kind), "required": self.required, "help": self.help}
        return known if self.required else known | {"default": self.default}

    def line(self) -> str:
        """One line for `--help`."""
        default = "required" if self.required else f"default {_show(self.default)}"
        return f"--{self.name} {_spell(self.kind)}  ({default})" + (f"  {self.help}" if self.help else "")


def parameters_of(function: Callable[..., Any]) -> tuple[Parameter, ...]:
    """Read the keyword-only arguments of a step; raises `BadInput` for a name or a type that a command line cannot carry."""
    found = []
    signature = inspect.signature(function, eval_str=True)
    for argument in signature.parameters.values():
        if argument.kind is not inspect.Parameter.KEYWORD_ONLY:
            continue
        if argument.name in RESERVED:
            raise BadInput(
                f"step {function.__name__} has a parameter {argument.name!r}, which the runner needs itself; give it another name"
            )
        kind, text = argument.annotation, ""
        if typing.get_origin(kind) is typing.Annotated:
            kind, *notes = typing.get_args(kind)
            text = next((note for note in notes if isinstance(note, str)), "")
        found.append(Parameter(argument.name, str if kind is inspect.Parameter.empty else kind, argument.default, text))
    return tuple(found)


def parse(parameters: Sequence[Parameter], arguments: Sequence[str]) -> dict[str, Any]:
    """Turn `--name value` or `--name=value` into keyword arguments; raises `BadInput` naming what does not fit."""
    known = {parameter.name: parameter for parameter in parameters}
    values: dict[str, Any] = {}
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--"):
            raise BadInput(f"unexpected argument {word!r}; parameters are given as --name value")
        name, equals, text = word[2:].partition("=")
        parameter = known.get(name.replace("-", "_"))
        if parameter is None:
            raise BadInput(f"unknown parameter --{name}; this step knows {', '.join('--' + each for each in known) or 'none'}")
        if not equals:
            if not rest:
                raise BadInput(f"--{name} needs a value ({_spell(parameter.kind)})")
            text = rest.pop(0)
        values[parameter.name] = _convert(parameter, text)
    missing = [parameter.name for parameter in parameters if parameter.required and parameter.name not in values]
    if missing:
        raise BadInput(f"missing parameter {', '.join('--' + each for each in missing)}")
    return values


def _convert(parameter: Parameter, text: str) -> _Type:
    try:
        return _value(parameter.kind, text)
    except (ValueError, TypeError, KeyError) as error:
        raise BadInput(f"--{parameter.name} {text!r} is not {_spell(parameter.kind)}") from error


def _value(kind: _Type, text: str) -> _Type:
    origin, inner = _taken_apart(kind)
    if origin in (typing.Union, types.UnionType):
        if type(None) in inner and text in {"", "null", "None"}:
            return None
        return _first_that_fits([each for each in inner if each is not type(None)], text)
    if origin is typing.Literal:
        return {str(choice): choice for choice in inner}[text]
    if origin in (tuple, list):
        return origin(_value(inner[0] if inner else str, part) for part in _parts(text))
    if origin is dict:
        return _mapping(text)
    if kind is bool:
        return _WORDS[text.lower()]
    return text if kind in (str, Any) else kind(text)


def _taken_apart(kind: _Type) -> tuple[_Type, tuple[_Type, ...]]:
    origin: _Type = typing.get_origin(kind)
    return (kind if origin is None else origin), typing.get_args(kind)


def _first_that_fits(kinds: Sequence[_Type], text: str) -> _Type:
    for kind in kinds[:-1]:
        try:
            return _value(kind, text)
        except (ValueError, TypeError, KeyError):
            continue
    return _value(kinds[-1], text)


def _parts(text: str) -> list[str]:
    if text.lstrip().startswith("["):
        return [part if isinstance(part, str) else json.dumps(part) for part in json.loads(text)]
    return [part.strip() for part in text.split(",") if part.strip()]


def _mapping(text: str) -> dict[str, Any]:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise TypeError(text)
    return value


def _spell(kind: _Type) -> str:
    origin, inner = _taken_apart(kind)
    if origin is typing.Literal:
        return "|".join(map(str, inner))
    if origin in (typing.Union, types.UnionType):
        return "|".join("null" if each is type(None) else _spell(each) for each in inner)
    if origin in (tuple, list):
        return f"{_spell(inner[0]) if inner else 'str'},…"
    return str(getattr(kind, "__name__", kind))


def _show(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, (tuple, list)):
        return ",".join(map(str, value)) or "empty"
    return str(value).lower() if isinstance(value, bool) else str(value)
