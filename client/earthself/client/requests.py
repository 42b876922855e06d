"""What a person writes as area and period, turned into the `conf` of a run; the common slips are caught before anything is sent."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from earthself.client.errors import BadInput

AreaLike = Sequence[float] | dict[str, Any] | str | Path | Any
"""[west, south, east, north], "west,south,east,north", GeoJSON (object, text or file), or anything with `__geo_interface__`."""

_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d([Tt ]\d\d:\d\d(:\d\d(\.\d+)?)?([Zz]|[+-]\d\d:\d\d)?)?", re.ASCII)
"""Python reads more than that, such as 2017-W24-2, which the server does not."""


def area(value: AreaLike) -> list[float] | dict[str, Any]:
    """Return the area as the workflow takes it; raises `BadInput` with a hint."""
    if hasattr(value, "__geo_interface__"):
        value = value.__geo_interface__
    if isinstance(value, (str, Path)):
        value = _from_text(str(value))
    if isinstance(value, dict):
        return _geojson(value)
    if isinstance(value, Sequence):
        return _box(value)
    raise BadInput(f"the area is a {type(value).__name__}; give [west, south, east, north] in degrees, or GeoJSON")


def instant(name: str, value: str | date | datetime) -> str:
    """Return a date or time as RFC 3339 text; raises `BadInput` naming `name`."""
    if isinstance(value, date):
        return value.isoformat()
    slip = BadInput(f"{name} is {value!r}, which is not a date; write it like 2017-06-13 or 2017-06-13T10:00:00Z")
    if not isinstance(value, str) or not _RFC3339.fullmatch(value):
        raise slip
    try:
        datetime.fromisoformat(value.upper())
    except ValueError:
        raise slip from None
    return value


def period(start: str | date, end: str | date) -> tuple[str, str]:
    """Return both ends of `[start, end)`; raises `BadInput` for an empty period."""
    first, last = instant("start", start), instant("end", end)
    if _moment(first) >= _moment(last):
        raise BadInput(f"the period from {first} to {last} is empty; end is the day after the last day and lies after start")
    return first, last


def time(text: str) -> str:
    """Return a day or `start/end` as the server takes it; raises `BadInput` for what is neither."""
    first, slash, last = text.partition("/")
    if slash:
        return "/".join(period(first.strip(), last.strip()))
    return instant("time", first.strip())


def _moment(text: str) -> datetime:
    """Read what `instant` gave; what names no zone is taken as UTC (the server refuses a time without one)."""
    moment = datetime.fromisoformat(text.upper())
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def centre(area_: list[float] | dict[str, Any]) -> tuple[float, float]:
    """Return a longitude and latitude near the middle of the area, for messages."""
    if isinstance(area_, list):
        west, south, east, north = area_
        east = east + 360 if east < west else east
        return ((west + east) / 2 + 180) % 360 - 180, (south + north) / 2
    points = list(positions(area_))
    return sum(x for x, _ in points) / len(points), sum(y for _, y in points) / len(points)


def positions(geojson: dict[str, Any]) -> Iterator[tuple[float, float]]:
    """Walk all positions of a GeoJSON object."""
    if "geometry" in geojson:
        yield from positions(geojson["geometry"] or {})
    for part in (*geojson.get("features", ()), *geojson.get("geometries", ())):
        yield from positions(part)
    nested = [geojson.get("coordinates", [])]
    while nested:
        part = nested.pop()
        if isinstance(part, (list, tuple)) and len(part) >= 2 and all(isinstance(number, (int, float)) for number in part[:2]):
            yield float(part[0]), float(part[1])
        elif isinstance(part, (list, tuple)):
            nested.extend(reversed(part))


def _from_text(text: str) -> Any:  # noqa: ANN401 - checked by the caller
    path = Path(text)
    try:
        if not text.lstrip().startswith("{") and path.suffix.lower() in {".geojson", ".json"}:
            text = path.read_text()
        if text.lstrip().startswith(("{", "[")):
            return json.loads(text)
        return [float(part) for part in text.split(",")]
    except OSError as error:
        raise BadInput(f"the area's file {path} cannot be read ({error.strerror}); check the path") from None
    except ValueError:
        raise BadInput(f"the area {text[:60]!r} cannot be read; write west,south,east,north in degrees, or name a GeoJSON file") from None


def _box(value: Sequence[Any]) -> list[float]:
    if len(value) != 4 or not all(isinstance(number, (int, float)) and not isinstance(number, bool) for number in value):
        raise BadInput(f"the area {list(value)!r} is not a box; give the four numbers [west, south, east, north] in degrees")
    west, south, east, north = (float(number) for number in value)
    _check([(west, south), (east, north)])
    if south >= north:
        raise BadInput(f"the area's south {south:g} is not below its north {north:g}; the order is [west, south, east, north]")
    if west == east:
        raise BadInput(f"the area's west and east are both {west:g}, so it has no width; give two different longitudes")
    return [west, south, east, north]


def _geojson(value: dict[str, Any]) -> dict[str, Any]:
    if value.get("type") == "FeatureCollection":
        features = value.get("features") or []
        if len(features) != 1:
            raise BadInput(f"the GeoJSON has {len(features)} features; give one Polygon or MultiPolygon")
        value = features[0]
    kind = (value.get("geometry") or {}).get("type") if value.get("type") == "Feature" else value.get("type")
    if kind not in {"Polygon", "MultiPolygon"}:
        raise BadInput(f"the area is a GeoJSON {kind}; give a Polygon or a MultiPolygon")
    _check(positions(value))
    return value


def _check(points: Any) -> None:  # noqa: ANN401 - an iterable of positions
    for longitude, latitude in points:
        if 180 >= abs(latitude) > 90 >= abs(longitude):
            raise BadInput(
                f"latitude {latitude:g} is beyond 90 degrees: longitude and latitude look swapped; longitude comes first "
                "([west, south, east, north], and so in GeoJSON)"
            )
        if not (abs(latitude) <= 90 and abs(longitude) <= 180):
            raise BadInput(
                f"({longitude:g}, {latitude:g}) is not on Earth; longitudes go from -180 to 180, latitudes from -90 to 90, in degrees"
            )
