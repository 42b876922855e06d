"""From a CQL2 filter that somebody typed to what the database can answer, and what is left to check product by product.

The parser (cql2, in Rust) and the database are only handed what is within bounds: a text that nests too deeply would end the process.
`narrowed` gives a condition that no matching product fails; where it is not exact, `matches` decides.
"""

from __future__ import annotations

import functools
import json
import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import cql2
import sqlalchemy as sa
from earthself.data.area import Area
from earthself.data.dates import format_instant, parse_instant
from earthself.data.errors import BadInput
from earthself.signature.errors import BadSignature
from earthself.signature.filters import parse_area
from shapely.errors import ShapelyError
from shapely.geometry import shape
from shapely.geometry.base import BaseGeometry
from shapely.ops import unary_union

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LONGEST_TEXT = 65_536
_MOST_SYNTAX = 2_000  # characters of a text beside its numbers; the parser bears 3,000 levels, one needs at least one character
_DEEPEST = 24
_MOST_NODES = 500
_MOST_CORNERS = 10_000
_LONGEST_STRING = 512
_NUMBERS = re.compile(r"-?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|[\s,]+")
_GEOMETRIES = {"Point", "MultiPoint", "LineString", "MultiLineString", "Polygon", "MultiPolygon", "GeometryCollection"}
_COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "=": operator.eq,
    "<>": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_MIRRORED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
_QUERY = {"eq": "=", "neq": "<>", "lt": "<", "lte": "<=", "gt": ">", "gte": ">="}
_PATTERNS = {"startsWith": "{}%", "endsWith": "%{}", "contains": "%{}%"}

Json = dict[str, Any]


@dataclass(frozen=True)
class Column:
    """A property that the database can compare."""

    expression: sa.ColumnElement[Any]
    """Its column."""
    kind: str
    """text, number or instant."""

    def literal(self, name: str, value: Any) -> Any:  # noqa: ANN401 - a JSON value
        """Give the column's value for what a filter compares with; raises `BadSignature` for another type."""
        if self.kind == "instant":
            return _microseconds(name, value)
        fits = isinstance(value, str) if self.kind == "text" else isinstance(value, (int, float)) and not isinstance(value, bool)
        if not fits:
            raise BadSignature(f"filter: {name} is a {self.kind}; compare it with a {self.kind}, not with {_short(value)}")
        return value


@dataclass(frozen=True)
class Columns:
    """What of a product the database knows."""

    properties: Mapping[str, Column]
    """By the names that filters use."""
    classes: Callable[[frozenset[int]], sa.ColumnElement[bool]]
    """The condition that a product has one of these codes or of their descendants."""
    classes_name: str
    """The property that lists the codes."""


@dataclass(frozen=True)
class Narrowed:
    """What the database can be asked; each None asks nothing."""

    condition: sa.ColumnElement[bool] | None = None
    """Must hold."""
    area: BaseGeometry | None = None
    """Longitude and latitude; a footprint must meet it."""
    exact: bool = False
    """Whether every product that passes matches the filter."""


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
    syntax = len(_NUMBERS.sub("", text))
    if syntax > _MOST_SYNTAX:
        raise BadSignature(f"filter has {syntax} characters beside its numbers; at most {_MOST_SYNTAX} are read, ask for less at once")
    try:
        parsed = cql2.parse_text(text)
        return from_json(parsed.to_json())
    except (cql2.ParseError, cql2.ValidationError, RecursionError, ValueError) as error:
        raise BadSignature(f"filter {_short(text)} is no CQL2 text ({_reason(error)}); write it like eo:cloud_cover < 20") from error


def from_json(tree: Any) -> Filter:  # noqa: ANN401 - what a stranger sent
    """Read CQL2 JSON; raises `BadSignature` for what is none, or too large or too nested."""
    _check_size(tree)
    return _filter(_normal(tree))


def from_query(query: Mapping[str, Mapping[str, Any]], columns: Columns) -> Filter:
    """Read the query extension's `{property: {operator: value}}`; raises `BadSignature` for an operator that there is not."""
    args: list[Any] = []
    for name, asked in query.items():
        if not isinstance(asked, Mapping):
            raise BadSignature(f"query: {_short(name)} has no operator; write it like {{'eo:cloud_cover': {{'lt': 20}}}}")
        args += [_queried(name, operation, value, columns) for operation, value in asked.items()]
    if not args:
        raise BadSignature("query is empty; write it like {'eo:cloud_cover': {'lt': 20}}, or leave it out")
    return from_json({"op": "and", "args": args} if len(args) > 1 else args[0])


def _queried(name: str, operation: str, value: Any, columns: Columns) -> Json:  # noqa: ANN401
    bare = _bare(name)
    column, prop = columns.properties.get(bare), {"property": bare}
    if bare == columns.classes_name and operation in ("in", "contains"):
        return {"op": "a_overlaps", "args": [prop, value if isinstance(value, list) else [value]]}
    if column is not None and column.kind == "number":
        value = [_number(v) for v in value] if isinstance(value, list) else _number(value)
    if operation == "in":
        if not isinstance(value, list):
            raise BadSignature(f"query: in needs a list, not {_short(value)}")
        among = {"op": "in", "args": [prop, value]}
        return among if column is not None else {"op": "or", "args": [among, {"op": "a_overlaps", "args": [prop, value]}]}
    if operation in _PATTERNS:
        return {"op": "like", "args": [prop, _PATTERNS[operation].format(re.sub(r"([\\%_])", r"\\\1", str(value)))]}
    if operation in _QUERY:
        return {"op": _QUERY[operation], "args": [prop, value]}
    raise BadSignature(f"query: operator {_short(operation)} is not known; known are {', '.join([*_QUERY, *_PATTERNS, 'in'])}")


def _number(value: Any) -> Any:  # noqa: ANN401
    """Numbers arrive as text from forms and command lines."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _filter(tree: Any) -> Filter:  # noqa: ANN401
    try:
        parsed = cql2.parse_json(json.dumps(tree, allow_nan=False))
        parsed.to_text()  # what cannot be written again was no operation with its arguments
    except (cql2.ParseError, cql2.ValidationError, RecursionError, ValueError) as error:
        raise BadSignature(f"filter is no CQL2 ({_reason(error)}); see /queryables for what can be asked") from error
    return Filter(tree, frozenset(_names(tree)), parsed)


def _check_size(tree: Any) -> None:  # noqa: ANN401
    """Walk without recursion, since what comes may be nested without end."""
    todo: list[tuple[Any, int, bool]] = [(tree, 0, False)]
    nodes = corners = 0
    while todo:
        value, depth, inside = todo.pop()
        inside = inside or (isinstance(value, dict) and value.get("type") in _GEOMETRIES)
        nodes, corners = nodes + (not inside), corners + inside
        if depth > _DEEPEST or nodes > _MOST_NODES or corners > 4 * _MOST_CORNERS:
            raise BadSignature(
                f"filter is too large; at most {_DEEPEST} levels, {_MOST_NODES} terms and {_MOST_CORNERS} corners are read, ask for less"
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
        return {"property": _bare(str(tree["property"]))}
    if "date" in tree or "timestamp" in tree:
        return {"timestamp": _instant("a date", tree.get("date", tree.get("timestamp")))}
    if tree.get("type") in _GEOMETRIES:
        return tree
    if set(tree) == {"bbox"}:
        return _boxed(tree["bbox"])
    args = tree.get("args")
    if not isinstance(args, list) or not isinstance(tree.get("op"), str):
        return {key: _normal(value) for key, value in tree.items()}
    if tree["op"] == "between" and len(args) == 2 and isinstance(args[1], list):
        args = [args[0], *args[1]]
    made = [_normal(arg) for arg in args]
    if {"property": "datetime"} in made:
        made = [{"timestamp": _instant("datetime", arg)} if isinstance(arg, str) else arg for arg in made]
    return {"op": tree["op"], "args": made}


def _boxed(bbox: Any) -> Json:  # noqa: ANN401
    """Write BBOX(west, south, east, north) as a polygon."""
    try:
        west, south, east, north = (float(value) for value in bbox)
    except (TypeError, ValueError) as error:
        raise BadSignature(f"filter: {_short(bbox)} is no box; write BBOX(west, south, east, north)") from error
    return Area.from_conf([west, south, east, north]).geojson


def _names(tree: Any) -> list[str]:  # noqa: ANN401
    if isinstance(tree, dict):
        return [tree["property"]] if "property" in tree else [name for value in tree.values() for name in _names(value)]
    return [name for part in tree for name in _names(part)] if isinstance(tree, list) else []


def narrowed(tree: Any, columns: Columns) -> Narrowed:  # noqa: ANN401
    """Translate what of a filter's tree the database can answer; raises `BadSignature` for a value of the wrong type."""
    if isinstance(tree, bool):
        return Narrowed(sa.true() if tree else sa.false(), exact=True)
    operation, args = (tree.get("op"), tree.get("args") or []) if isinstance(tree, dict) else (None, [])
    if operation == "and":
        return functools.reduce(_both, (narrowed(arg, columns) for arg in args))
    if operation == "or":
        return functools.reduce(_either, (narrowed(arg, columns) for arg in args))
    if operation == "not" and len(args) == 1:
        inner = narrowed(args[0], columns)
        turned = inner.exact and inner.area is None and inner.condition is not None
        return Narrowed(sa.not_(inner.condition), exact=True) if turned and inner.condition is not None else Narrowed()
    if operation == "s_intersects" and len(args) == 2:
        return _intersects(args)
    if operation in ("a_contains", "a_overlaps") and len(args) == 2 and args[0] == {"property": columns.classes_name}:
        return _classes(operation, args[1], columns)
    if operation and args:
        return _compared(operation, args, columns)
    return Narrowed()


def _both(one: Narrowed, other: Narrowed) -> Narrowed:
    conditions = [part.condition for part in (one, other) if part.condition is not None]
    areas = [part.area for part in (one, other) if part.area is not None]
    return Narrowed(
        sa.and_(*conditions) if conditions else None, areas[0] if areas else None, exact=one.exact and other.exact and len(areas) < 2
    )


def _either(one: Narrowed, other: Narrowed) -> Narrowed:
    condition = None if one.condition is None or other.condition is None else sa.or_(one.condition, other.condition)
    area = None if one.area is None or other.area is None else unary_union([one.area, other.area])
    pure = (condition is None and one.condition is None and other.condition is None) or (one.area is None and other.area is None)
    return Narrowed(condition, area, exact=one.exact and other.exact and pure)


def _intersects(args: Sequence[Any]) -> Narrowed:
    given = [arg for arg in args if isinstance(arg, dict) and arg.get("type") in _GEOMETRIES]
    if {"property": "geometry"} not in args or len(given) != 1:
        return Narrowed()
    return Narrowed(area=area_of(given[0], "filter"), exact=True)


def area_of(geometry: Any, where: str) -> BaseGeometry:  # noqa: ANN401 - a stranger's geometry
    """Read a GeoJSON geometry in longitude and latitude; raises `BadSignature` for one that is wrong or has too many corners."""
    try:
        drawn = shape(geometry)
        corners = sum(len(part.exterior.coords) if hasattr(part, "exterior") else 1 for part in getattr(drawn, "geoms", [drawn]))
        text = drawn.wkt
    except (ShapelyError, ValueError, TypeError, KeyError, AttributeError, IndexError, LookupError) as error:
        raise BadSignature(f"{where}: the geometry cannot be read ({_reason(error)}); send GeoJSON in longitude and latitude") from error
    if corners > _MOST_CORNERS:
        raise BadSignature(f"{where}: the geometry has {corners} corners; at most {_MOST_CORNERS} are read, simplify it")
    found = parse_area(text)
    if found is None:
        raise BadSignature(f"{where}: the geometry is empty; send one with corners")
    return found


def _classes(operation: str, wanted: Any, columns: Columns) -> Narrowed:  # noqa: ANN401
    values = wanted if isinstance(wanted, list) else [wanted]
    if not all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values):
        raise BadSignature(f"filter: {columns.classes_name} lists numbers; compare it with CORINE codes, not with {_short(wanted)}")
    codes = [int(value) if float(value).is_integer() else -1 for value in values]
    if operation == "a_overlaps":
        return Narrowed(columns.classes(frozenset(codes)), exact=True)
    return Narrowed(sa.and_(sa.true(), *(columns.classes(frozenset({code})) for code in codes)), exact=True)


def _compared(operation: str, args: Sequence[Any], columns: Columns) -> Narrowed:
    if operation in _COMPARISONS and len(args) == 2 and not _is_property(args[0]):
        operation, args = _MIRRORED.get(operation, operation), (args[1], args[0])
    name = args[0]["property"] if _is_property(args[0]) else None
    column = columns.properties.get(str(name))
    if column is None or any(isinstance(arg, dict) and "timestamp" not in arg and "interval" not in arg for arg in args[1:]):
        return Narrowed()
    expression, value = column.expression, functools.partial(column.literal, str(name))
    if operation in _COMPARISONS and len(args) == 2:
        return Narrowed(_COMPARISONS[operation](expression, value(args[1])), exact=True)
    if operation == "between" and len(args) == 3:
        return Narrowed(expression.between(value(args[1]), value(args[2])), exact=True)
    if operation == "in" and len(args) == 2 and isinstance(args[1], list):
        return Narrowed(expression.in_([value(one) for one in args[1]]), exact=True)
    if operation == "isNull":
        return Narrowed(sa.false(), exact=True)  # every product has all of the columns
    if operation == "like" and len(args) == 2 and column.kind == "text":
        # SQLite takes upper and lower case for the same here, CQL2 does not.
        return Narrowed(expression.like(str(value(args[1])), escape="\\"))
    if operation == "t_intersects" and column.kind == "instant" and isinstance(args[1], dict) and "interval" in args[1]:
        return _within(column, args[1]["interval"])
    return Narrowed()


def _within(column: Column, interval: Any) -> Narrowed:  # noqa: ANN401
    if not isinstance(interval, list) or len(interval) != 2:
        raise BadSignature(f"filter: {_short(interval)} is no interval; write INTERVAL('2017-06-01', '2017-07-01')")
    start, end = (None if end in ("..", "", None) else column.literal("datetime", end) for end in interval)
    parts = [column.expression >= start] if start is not None else []
    parts += [column.expression <= end] if end is not None else []
    return Narrowed(sa.and_(sa.true(), *parts), exact=True)


def _is_property(arg: Any) -> bool:  # noqa: ANN401
    return isinstance(arg, dict) and "property" in arg


def _bare(name: str) -> str:
    return name.removeprefix("properties.")


def _instant(name: str, value: Any) -> str:  # noqa: ANN401
    try:
        return format_instant(parse_instant(value))
    except BadInput as error:
        raise BadSignature(f"filter: {name}: {error}") from error


def _microseconds(name: str, value: Any) -> int:  # noqa: ANN401
    text = value.get("timestamp", value.get("date")) if isinstance(value, dict) else value
    return microseconds(datetime.fromisoformat(_instant(name, text)))


def microseconds(instant: datetime) -> int:
    """Microseconds since 1970 UTC, as the tables hold instants."""
    return (instant - _EPOCH) // timedelta(microseconds=1)


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _short(value: Any) -> str:  # noqa: ANN401
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
