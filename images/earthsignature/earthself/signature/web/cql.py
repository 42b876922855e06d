"""A CQL2 filter that somebody typed, read within bounds and brought into one form.

The parser (cql2, in Rust) and the database are only handed what is within bounds: a text that nests too deeply would end the process.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from typing import Any

import cql2
from earthself.data.area import Area
from earthself.data.dates import format_instant, parse_instant
from earthself.data.errors import BadInput
from earthself.signature.errors import BadSignature

_LONGEST_TEXT = 65_536
_MOST_SYNTAX = 4_000  # characters of a text beside its numbers
_MOST_SIGNS = 64  # the parser bears a thousand levels in all
_MOST_BRACKETS = 10  # within each other; each doubles the time that the parser takes to find out that a text is wrong
_SIGNS = re.compile(r"[-^]|\bnot\b", re.IGNORECASE)
_PLAIN_QUOTES = re.compile(r"""'[^'"()\\]*'|"[^'"()\\]*\"""")
_DEEPEST = 24
_MOST_NODES = 500
MOST_CORNERS = 10_000
_LONGEST_STRING = 512
_NUMBERS = re.compile(r"-?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|[\s,]+")
GEOMETRIES = {"Point", "MultiPoint", "LineString", "MultiLineString", "Polygon", "MultiPolygon", "GeometryCollection"}

_OPERATIONS = frozenset(
    "and or not = <> < <= > >= between like in isNull + - * / % ^ div casei accenti "
    "s_intersects s_equals s_disjoint s_touches s_within s_overlaps s_crosses s_contains "
    "t_after t_before t_contains t_disjoint t_during t_equals t_finishedBy t_finishes t_intersects t_meets t_metBy t_overlappedBy "
    "t_overlaps t_startedBy t_starts a_equals a_contains a_containedBy a_overlaps".lower().split()
)
"""What the library can decide; of anything else it would say that no product matches."""

Json = dict[str, Any]


@dataclass(frozen=True)
class Filter:
    """A filter within bounds."""

    tree: Any
    """CQL2 in JSON, in the form that this module reads: names without `properties.`, instants in UTC."""
    names: frozenset[str]
    """The properties that it asks for."""
    _parsed: cql2.Expr = field(repr=False, compare=False)

    def matches(self, item: Json) -> bool:
        """Tell whether an item (id, collection, geometry, properties) matches; what is unknown of it does not match."""
        try:
            return bool(self._parsed.matches(item))
        except Exception:  # noqa: BLE001 - the library has no class for "cannot be decided", as with a property that is not there
            return False

    def __and__(self, other: Filter) -> Filter:
        return _filter({"op": "and", "args": [self.tree, other.tree]})


def from_text(text: str) -> Filter:
    """Read CQL2 text; raises `BadSignature` for what is none, or too long or too nested."""
    if len(text) > _LONGEST_TEXT:
        raise BadSignature(f"filter of {len(text)} characters; at most {_LONGEST_TEXT} are read, send large areas as intersects by POST")
    syntax = _NUMBERS.sub(" ", text)
    if len(syntax) > _MOST_SYNTAX:
        raise BadSignature(f"filter has {len(syntax)} characters beside its numbers; at most {_MOST_SYNTAX} are read, ask for less at once")
    if len(_SIGNS.findall(syntax)) > _MOST_SIGNS:
        raise BadSignature(f"filter has more than {_MOST_SIGNS} signs and NOTs; ask for less at once")
    if _depth(text) > _MOST_BRACKETS:
        raise BadSignature(f"filter has brackets {_depth(text)} deep; at most {_MOST_BRACKETS} are read, send more as CQL2 JSON")
    try:
        parsed = cql2.parse_text(text)
        return from_json(parsed.to_json())
    except (cql2.ParseError, cql2.ValidationError, RecursionError, ValueError) as error:
        raise BadSignature(f"filter {short(text)} is no CQL2 text ({reason(error)}); write it like eo:cloud_cover < 20") from error


def _depth(text: str) -> int:
    """Count how deep brackets lie in each other; all of them where quotes make it hard to tell which of them are brackets."""
    bare = _PLAIN_QUOTES.sub("", text)
    if "'" in bare or '"' in bare:
        return bare.count("(")
    deep = deepest = 0
    for sign in re.findall(r"[()]", bare):
        deep += 1 if sign == "(" else -1
        deepest = max(deepest, deep)
        if deep < 0:
            break  # what follows is not read
    return deepest


def from_json(tree: Any) -> Filter:  # noqa: ANN401 - what a stranger sent
    """Read CQL2 JSON; raises `BadSignature` for what is none, or too large or too nested."""
    _check_size(tree)
    return _filter(_normal(tree))


def _filter(tree: Any) -> Filter:  # noqa: ANN401
    try:
        parsed = cql2.parse_json(json.dumps(tree, allow_nan=False))
        parsed.to_text()  # what cannot be written again was no operation with its arguments
    except (cql2.ParseError, cql2.ValidationError, RecursionError, ValueError) as error:
        raise BadSignature(f"filter is no CQL2 ({reason(error)}); see /queryables for what can be asked") from error
    return Filter(tree, frozenset(_names(tree)), parsed)


def _check_size(tree: Any) -> None:  # noqa: ANN401
    """Walk without recursion, since what comes may be nested without end."""
    todo: list[tuple[Any, int, bool]] = [(tree, 0, False)]
    nodes = corners = 0
    while todo:
        value, depth, inside = todo.pop()
        inside = inside or (isinstance(value, dict) and value.get("type") in GEOMETRIES)
        nodes, corners = nodes + (not inside), corners + inside
        if depth > _DEEPEST or nodes > _MOST_NODES or corners > 4 * MOST_CORNERS:
            raise BadSignature(
                f"filter is too large; at most {_DEEPEST} levels, {_MOST_NODES} terms and {MOST_CORNERS} corners are read, ask for less"
            )
        if isinstance(value, str) and len(value) > _LONGEST_STRING:
            raise BadSignature(f"filter has a text of {len(value)} characters; at most {_LONGEST_STRING} are compared")
        if isinstance(value, float) and not math.isfinite(value):
            raise BadSignature(f"filter has the number {value}; compare with finite numbers")
        children = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
        todo += [(child, depth + 1, inside) for child in children]


def _normal(tree: Any) -> Any:  # noqa: ANN401
    """Bring names and instants into one form, and `between` with a list into three arguments."""
    if not isinstance(tree, dict):
        return [_normal(part) for part in tree] if isinstance(tree, list) else tree
    if "property" in tree:
        return {"property": bare(str(tree["property"]))}
    if "date" in tree or "timestamp" in tree:
        return {"timestamp": instant_text("a date", tree.get("date", tree.get("timestamp")))}
    if tree.get("type") in GEOMETRIES:
        return tree
    if set(tree) == {"bbox"}:
        return _boxed(tree["bbox"])
    args = tree.get("args")
    if not isinstance(args, list) or not isinstance(tree.get("op"), str):
        return {key: _normal(value) for key, value in tree.items()}
    if tree["op"].lower() not in _OPERATIONS:
        raise BadSignature(f"filter: there is no operation or function {short(tree['op'])}; there are {', '.join(sorted(_OPERATIONS))}")
    if tree["op"] == "between" and len(args) == 2 and isinstance(args[1], list):
        args = [args[0], *args[1]]
    made = [_normal(arg) for arg in args]
    if {"property": "datetime"} in made:
        made = [{"timestamp": instant_text("datetime", arg)} if isinstance(arg, str) else arg for arg in made]
    if tree["op"] == "between" and len(made) == 3:
        # The parser's own evaluation knows `between` for numbers only.
        return {"op": "and", "args": [{"op": ">=", "args": made[:2]}, {"op": "<=", "args": [made[0], made[2]]}]}
    return {"op": tree["op"], "args": made}


def _boxed(bbox: Any) -> Json:  # noqa: ANN401
    """Write BBOX(west, south, east, north) as a polygon."""
    try:
        west, south, east, north = (float(value) for value in bbox)
    except (TypeError, ValueError) as error:
        raise BadSignature(f"filter: {short(bbox)} is no box; write BBOX(west, south, east, north)") from error
    return Area.from_conf([west, south, east, north]).geojson


def _names(tree: Any) -> list[str]:  # noqa: ANN401
    if isinstance(tree, dict):
        return [tree["property"]] if "property" in tree else [name for value in tree.values() for name in _names(value)]
    return [name for part in tree for name in _names(part)] if isinstance(tree, list) else []


def bare(name: str) -> str:
    """The name of a property, which some write with `properties.` before it."""
    return name.removeprefix("properties.")


def instant_text(name: str, value: Any) -> str:  # noqa: ANN401
    """Write an instant in UTC; raises `BadSignature` with its name for what is none."""
    try:
        return format_instant(parse_instant(value))
    except BadInput as error:
        raise BadSignature(f"filter: {name}: {error}") from error


def reason(error: Exception) -> str:
    """Say on one line what a library complains of."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def short(value: Any) -> str:  # noqa: ANN401
    """Show a value in a message."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
