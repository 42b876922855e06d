"""From a filter to what the database can answer: conditions over columns, a place, a period.

`narrowed` gives what no matching product fails. Where it is not exact, each product that passes has to be checked with the filter itself.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import shapely
import sqlalchemy as sa
from earthself.signature.errors import BadSignature
from earthself.signature.filters import parse_area, united
from earthself.signature.limits import USUAL
from earthself.signature.rows import micros
from earthself.signature.web.cql import GEOMETRIES, MOST_CORNERS, instant_text, reason, short
from shapely.errors import ShapelyError
from shapely.geometry import GeometryCollection, shape
from shapely.geometry.base import BaseGeometry

_COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "=": operator.eq,
    "<>": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_MIRRORED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}


@dataclass(frozen=True)
class Column:
    """A property that the database can compare."""

    expression: sa.ColumnElement[Any]
    """Its column."""
    kind: str
    """text, number, instant or truth."""

    def literal(self, name: str, value: Any) -> Any:  # noqa: ANN401 - a JSON value
        """Give the column's value for what a filter compares with; raises `BadSignature` for another type."""
        if self.kind == "instant":
            return _microseconds(name, value)
        if self.kind == "truth" and isinstance(value, bool):
            return int(value)
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        fits = isinstance(value, str) if self.kind == "text" else number and self.kind == "number"
        if not fits:
            raise BadSignature(f"filter: {name} is a {self.kind}, {short(value)} is none; see /queryables")
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
    start: int | None = None
    """First microsecond of the acquisition; the condition says so, too."""
    end: int | None = None
    """The microsecond before which the acquisition lies; the condition says so, too."""
    exact: bool = False
    """Whether every product that passes condition and area matches the filter."""


def narrowed(tree: Any, columns: Columns) -> Narrowed:  # noqa: ANN401
    """Translate what of a filter's tree the database can answer; raises `BadSignature` for a value of the wrong type."""
    found = _narrowed(tree, columns)
    if not isinstance(found.area, GeometryCollection):
        return found
    # Once, at the end: one union after the other costs more and more.
    return replace(found, area=united([part for part in found.area.geoms if not part.is_empty]))


def _narrowed(tree: Any, columns: Columns) -> Narrowed:  # noqa: ANN401
    if isinstance(tree, bool):
        return Narrowed(sa.true() if tree else sa.false(), exact=True)
    operation, args = (tree.get("op"), tree.get("args") or []) if isinstance(tree, dict) else (None, [])
    if operation == "and":
        return functools.reduce(_both, (_narrowed(arg, columns) for arg in args))
    if operation == "or":
        return functools.reduce(_either, (_narrowed(arg, columns) for arg in args))
    if operation == "not" and len(args) == 1:
        inner = _narrowed(args[0], columns)
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
        sa.and_(*conditions) if conditions else None,
        areas[0] if areas else None,
        max((part.start for part in (one, other) if part.start is not None), default=None),
        min((part.end for part in (one, other) if part.end is not None), default=None),
        exact=one.exact and other.exact and len(areas) < 2,
    )


def _either(one: Narrowed, other: Narrowed) -> Narrowed:
    conditions = [part.condition for part in (one, other) if part.condition is not None]
    areas = [part.area for part in (one, other) if part.area is not None]
    return Narrowed(
        sa.or_(*conditions) if len(conditions) == 2 else None,
        GeometryCollection(_parts(areas)) if len(areas) == 2 else None,
        None if one.start is None or other.start is None else min(one.start, other.start),
        None if one.end is None or other.end is None else max(one.end, other.end),
        # Where one asks for a place and the other for something else, neither alone can be handed on.
        exact=one.exact and other.exact and (not conditions or not areas),
    )


def _parts(areas: Sequence[BaseGeometry]) -> list[BaseGeometry]:
    return [part for area in areas for part in (area.geoms if isinstance(area, GeometryCollection) else (area,))]


def _intersects(args: Sequence[Any]) -> Narrowed:
    given = [arg for arg in args if isinstance(arg, dict) and arg.get("type") in GEOMETRIES]
    if {"property": "geometry"} not in args or len(given) != 1:
        return Narrowed()
    return Narrowed(area=area_of(given[0], "filter"), exact=True)


def area_of(geometry: Any, where: str) -> BaseGeometry:  # noqa: ANN401 - a stranger's geometry
    """Read a GeoJSON geometry in longitude and latitude; raises `BadSignature` for one that is wrong or has too many corners."""
    try:
        drawn = shape(geometry)
        corners = shapely.count_coordinates(drawn)
    except (ShapelyError, ValueError, TypeError, LookupError, AttributeError) as error:
        raise BadSignature(f"{where}: the geometry cannot be read ({reason(error)}); send GeoJSON in longitude and latitude") from error
    if corners > MOST_CORNERS:
        raise BadSignature(f"{where}: the geometry has {corners} corners; at most {MOST_CORNERS} are read, simplify it")
    try:
        text = shapely.to_wkt(drawn, rounding_precision=-1)
        USUAL.check_area(text)
        found = parse_area(text)
    except BadSignature as error:
        raise BadSignature(f"{where}: {error}") from error
    if found is None:
        raise BadSignature(f"{where}: the geometry is empty; send one with corners")
    return found


def _classes(operation: str, wanted: Any, columns: Columns) -> Narrowed:  # noqa: ANN401
    values = wanted if isinstance(wanted, list) else [wanted]
    if not all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values):
        raise BadSignature(f"filter: {columns.classes_name} lists numbers; compare it with CORINE codes, not with {short(wanted)}")
    codes = [int(value) if float(value).is_integer() else -1 for value in values]
    if operation == "a_overlaps":
        return Narrowed(columns.classes(frozenset(codes)), exact=True)
    return Narrowed(sa.and_(sa.true(), *(columns.classes(frozenset({code})) for code in codes)), exact=True)


def _compared(operation: str, args: Sequence[Any], columns: Columns) -> Narrowed:
    if operation in _COMPARISONS and len(args) == 2 and not _is_property(args[0]):
        operation, args = _MIRRORED.get(operation, operation), (args[1], args[0])
    name = args[0]["property"] if _is_property(args[0]) else None
    if name == columns.classes_name and operation in (*_COMPARISONS, "in", "like"):
        raise BadSignature(
            f"filter: {name} is a list, {operation} asks for one value; ask a_contains({name}, (311)), or a_overlaps for any of several"
        )
    column = columns.properties.get(str(name))
    if column is None or any(isinstance(arg, dict) and "timestamp" not in arg and "interval" not in arg for arg in args[1:]):
        return Narrowed()
    expression, value = column.expression, functools.partial(column.literal, str(name))
    if operation in _COMPARISONS and len(args) == 2:
        wanted = value(args[1])
        start, end = _period(operation, wanted) if name == "datetime" else (None, None)
        return Narrowed(_COMPARISONS[operation](expression, wanted), None, start, end, exact=True)
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


def _period(operation: str, instant: int) -> tuple[int | None, int | None]:
    start = instant if operation in ("=", ">", ">=") else None
    return start, instant + 1 if operation in ("=", "<", "<=") else None


def _within(column: Column, interval: Any) -> Narrowed:  # noqa: ANN401
    if not isinstance(interval, list) or len(interval) != 2:
        raise BadSignature(f"filter: {short(interval)} is no interval; write INTERVAL('2017-06-01', '2017-07-01')")
    start, end = (None if end in ("..", "", None) else column.literal("datetime", end) for end in interval)
    parts = [column.expression >= start] if start is not None else []
    parts += [column.expression <= end] if end is not None else []
    return Narrowed(sa.and_(sa.true(), *parts), None, start, None if end is None else end + 1, exact=True)


def _is_property(arg: Any) -> bool:  # noqa: ANN401
    return isinstance(arg, dict) and "property" in arg


def _microseconds(name: str, value: Any) -> int:  # noqa: ANN401
    text = value.get("timestamp", value.get("date")) if isinstance(value, dict) else value
    return micros(datetime.fromisoformat(instant_text(name, text)))
