"""What a request to search says, checked and brought into one form, whether it came by GET or by POST."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from earthself.data.area import Area
from earthself.data.errors import BadInput
from earthself.signature.errors import BadSignature
from earthself.signature.filters import Query
from earthself.signature.rows import micros
from earthself.signature.web import cql, query
from earthself.signature.web.addresses import COLLECTION
from earthself.signature.web.narrowing import area_of
from earthself.signature.web.search import COLUMNS, NEWEST, Wanted
from pydantic import field_validator
from shapely.geometry import LineString, Point
from shapely.geometry.base import BaseGeometry
from stac_fastapi.types.rfc3339 import str_to_interval
from stac_fastapi.types.search import BaseSearchPostRequest

MOST_ITEMS = 500
"""Items on a page; who asks for more gets these and a link to the next."""
MOST_IDS = 1_000
_CRS84 = ("http://www.opengis.net/def/crs/OGC/1.3/CRS84", "https://www.opengis.net/def/crs/OGC/1.3/CRS84")
_NOTHING = Query(product_ids=frozenset({""}))


class PostedSearch(BaseSearchPostRequest):
    """The body of a search; some clients send one name where a list of names is asked for."""

    @field_validator("collections", "ids", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:  # noqa: ANN401 - what a stranger sent
        return [value] if isinstance(value, str) else value


def wanted(asked: Mapping[str, Any]) -> Wanted:
    """Check a search by the names of the body of POST /search; raises `BadSignature` with what is wrong and what to send instead."""
    ids = asked.get("ids")
    if ids is not None and len(ids) > MOST_IDS:
        raise BadSignature(f"{len(ids)} ids in one search; ask for at most {MOST_IDS} at a time")
    start, end = period(asked.get("datetime"))
    narrow = Query(_area(asked), start, end, frozenset(ids or ()))
    if (asked.get("collections") and COLLECTION not in asked["collections"]) or ids == []:
        narrow = _NOTHING
    return Wanted(narrow, _filter(asked), _order(asked.get("sortby")), asked.get("token"), min(asked.get("limit") or 10, MOST_ITEMS))


def period(text: str | None) -> tuple[int | None, int | None]:
    """Read an instant or an interval with both ends as microseconds, the end being the first that is no longer meant."""
    found = str_to_interval(text)
    start, end = found if isinstance(found, tuple) else (found, found)
    return (None if start is None else micros(start)), (None if end is None else micros(end) + 1)


def _area(asked: Mapping[str, Any]) -> BaseGeometry | None:
    bbox, intersects = asked.get("bbox"), asked.get("intersects")
    if bbox and intersects:
        raise BadSignature("bbox and intersects say the same twice; send one of them")
    if bbox:
        return _box(bbox)
    if not intersects:
        return None
    geometry = _json(intersects, "intersects") if isinstance(intersects, str) else intersects
    if isinstance(geometry, dict) and geometry.get("type") == "Feature":
        geometry = geometry.get("geometry")
    return area_of(geometry, "intersects")


def _box(bbox: Sequence[float]) -> BaseGeometry:
    """Heights, where there are any, mean nothing here. A box without width is a line or a point, which is no area to the others."""
    west, south, east, north = (*bbox[:2], *bbox[3:5]) if len(bbox) == 6 else bbox
    try:
        if west != east and south != north:
            return Area.from_conf([west, south, east, north]).geometry
        flat = Point(west, south) if (west, south) == (east, north) else LineString([(west, south), (east, north)])
    except BadInput as error:
        raise BadSignature(f"bbox: {error}") from error
    return area_of(flat.__geo_interface__, "bbox")


def _filter(asked: Mapping[str, Any]) -> cql.Filter | None:
    crs = asked.get("filter-crs")
    if crs and crs not in _CRS84:
        raise BadSignature(f"filter-crs {crs[:80]!r} is not known; coordinates are longitude, latitude: {_CRS84[0]}")
    made = []
    if given := asked.get("filter"):
        if isinstance(given, str) and asked.get("filter-lang") != "cql2-json":
            made.append(cql.from_text(given))
        else:
            made.append(cql.from_json(_json(given, "filter") if isinstance(given, str) else given))
    if given := asked.get("query"):
        made.append(query.from_query(_json(given, "query") if isinstance(given, str) else given, COLUMNS))
    return made[0] & made[1] if len(made) == 2 else next(iter(made), None)


def _json(text: str, what: str) -> Any:  # noqa: ANN401
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadSignature(f"{what} is no JSON ({str(error)[:100]}); see the description of the interface") from error


def _order(sortby: Sequence[Any] | None) -> tuple[tuple[str, bool], ...]:
    if not sortby:
        return NEWEST
    found = []
    for one in sortby:
        name, down = (one.lstrip("+-"), one.startswith("-")) if isinstance(one, str) else (one["field"], one["direction"] == "desc")
        name = name.strip().removeprefix("properties.")
        if name not in COLUMNS.properties:
            raise BadSignature(f"sortby {name[:80]!r}: products cannot be sorted by that, only by {', '.join(COLUMNS.properties)}")
        found.append((name, down))
    if len(found) > len(COLUMNS.properties):
        raise BadSignature(f"sortby names {len(found)} properties; name each once")
    return tuple(found)
