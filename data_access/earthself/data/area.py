"""An area of interest as the user means it: checked once, split at the antimeridian, with its true size.

Edges are straight lines in longitude and latitude (RFC 7946), not great circles; an edge longer than 180 degrees is taken
the shorter way round, over the antimeridian.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from earthself.data.errors import BadInput
from shapely.geometry import MultiPolygon, Polygon, box, mapping
from shapely.ops import unary_union

_MAX_VERTICES = 100_000
_ROUNDING = 1e-9
_SWAPPED = "longitude comes first, then latitude: were they swapped?"
_WHAT_IS_AN_AREA = "give [west, south, east, north] in degrees, or a GeoJSON Polygon or MultiPolygon (longitude, latitude)"

# WGS 84 (NIMA TR8350.2): semi-major axis in metres, and flattening.
_A = 6378137.0
_F = 1 / 298.257223563


@dataclass(frozen=True)
class Area:
    """A valid, non-empty area on the earth; make one with `Area.from_conf`."""

    geometry: Polygon | MultiPolygon
    """Longitude and latitude in degrees (WGS 84), -180 to 180, valid, split at the antimeridian."""

    @classmethod
    def from_conf(cls, value: Any) -> Area:  # noqa: ANN401 - what a user typed may be anything
        """Read `[west, south, east, north]` (west > east crosses the antimeridian) or a GeoJSON Polygon, MultiPolygon or Feature of one.

        Raises `BadInput` with a hint: latitude and longitude swapped, out of range, empty, self-crossing.
        """
        if isinstance(value, Area):
            return value
        if isinstance(value, dict):
            return cls(_from_geojson(value))
        if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
            return cls(_from_bbox(value))
        raise BadInput(f"{_short(value)} is not an area; {_WHAT_IS_AN_AREA}")

    @property
    def geojson(self) -> dict[str, Any]:
        """The geometry as GeoJSON, in lists and plain numbers."""
        made: dict[str, Any] = _plain(mapping(self.geometry))
        return made

    @property
    def wkt(self) -> str:
        """The geometry as well-known text, with all digits; corners are added where an edge longer than 180 degrees had two meanings."""
        return str(shapely.to_wkt(shapely.segmentize(self.geometry, 180), rounding_precision=-1))

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """West, south, east, north in degrees; west > east where the area crosses the antimeridian (RFC 7946)."""
        west, east = self._lon_range()
        _, south, _, north = self.geometry.bounds
        return west, south, (east - 360 if east > 180 else east), north

    @property
    def crosses_antimeridian(self) -> bool:
        """Whether the area has parts on both sides of longitude 180 that belong together."""
        return self._lon_range()[1] > 180

    @property
    def geodesic_m2(self) -> float:
        """Size on the WGS 84 ellipsoid in square metres, for edges that are straight in longitude and latitude."""
        return float(sum(_polygon_m2(part) for part in _parts(self.geometry)))

    def may_touch(self, footprint: Any) -> bool:  # noqa: ANN401 - what a catalogue states may be anything
        """Whether a GeoJSON geometry intersects the area, however it is drawn at the antimeridian; true where it cannot be read."""
        from shapely.affinity import translate
        from shapely.geometry import shape

        try:
            return bool(self.geometry.intersects(Area.from_conf(footprint).geometry))
        except BadInput:
            pass
        try:
            drawn = shapely.make_valid(shape(footprint))
        except Exception:  # noqa: BLE001 - shapely raises many kinds for what is no geometry
            return True
        return drawn.is_empty or any(self.geometry.intersects(translate(drawn, degrees)) for degrees in (0, -360, 360))

    def utm_epsg(self) -> int:
        """EPSG code of the UTM zone of the centroid (with the exceptions for Norway and Svalbard), beyond 84 N or 80 S that of UPS."""
        centre = self.unwrapped().centroid
        return utm_epsg((centre.x + 180) % 360 - 180, centre.y)

    def unwrapped(self) -> Polygon | MultiPolygon:
        """The geometry in one piece over the antimeridian: longitudes from -180 to 540 where it crosses, else as it is."""
        if not self.crosses_antimeridian:
            return self.geometry
        west = self._lon_range()[0]
        parts = [p if p.bounds[0] >= west else shapely.transform(p, lambda xy: xy + np.array([360.0, 0.0])) for p in _parts(self.geometry)]
        return unary_union(parts)

    def _lon_range(self) -> tuple[float, float]:
        """The shortest range of longitudes that holds all parts: west from -180 to 180, east from west to west + 360."""
        spans = sorted((p.bounds[0], p.bounds[2]) for p in _parts(self.geometry))
        best = (spans[0][0], max(east for _, east in spans))
        east = spans[0][1]
        for i, (start, end) in enumerate(spans[1:], 1):
            # A gap between this part and all before it: starting here and going round the back may be shorter.
            if start > east and max(e for _, e in spans[:i]) + 360 - start < best[1] - best[0]:
                best = (start, max(*(e for _, e in spans[i:]), max(e for _, e in spans[:i]) + 360))
            east = max(east, end)
        return best


def utm_epsg(lon: float, lat: float) -> int:
    """EPSG code of the UTM zone (WGS 84) of a point in degrees; beyond 84 N or 80 S the one of UPS (easting, northing)."""
    if lat > 84:
        return 5041
    if lat < -80:
        return 5042
    zone = min(int((lon + 180) // 6) + 1, 60)
    if 56 <= lat < 64 and 3 <= lon < 12:
        zone = 32
    elif lat >= 72 and 0 <= lon < 42:
        zone = 31 + 2 * int((lon + 3) // 12)
    return (32600 if lat >= 0 else 32700) + zone


def _from_bbox(value: Sequence[Any]) -> Polygon | MultiPolygon:
    if len(value) != 4:
        raise BadInput(f"{_short(value)} has {len(value)} numbers, not 4; {_WHAT_IS_AN_AREA}")
    west, south, east, north = (_number(v, value) for v in value)
    _check_range([(west, south), (east, north)])
    if south > north:
        raise BadInput(f"south {south:g} is north of north {north:g}; {_WHAT_IS_AN_AREA}")
    if south == north or west == east:
        raise BadInput(f"{_short(value)} has no extent; {_WHAT_IS_AN_AREA}")
    if west < east:
        return box(west, south, east, north)
    halves = [box(a, south, b, north) for a, b in ((west, 180.0), (-180.0, east)) if a < b]
    if not halves:
        raise BadInput(f"{_short(value)} has no extent; {_WHAT_IS_AN_AREA}")
    return halves[0] if len(halves) == 1 else MultiPolygon(halves)


def _from_geojson(value: dict[str, Any]) -> Polygon | MultiPolygon:
    kind = value.get("type")
    if kind == "Feature":
        inner = value.get("geometry")
        if not isinstance(inner, dict):
            raise BadInput("the GeoJSON Feature has no geometry; " + _WHAT_IS_AN_AREA)
        return _from_geojson(inner)
    if kind == "FeatureCollection":
        raise BadInput("a FeatureCollection is several areas; give one Feature, or one MultiPolygon of them all")
    if kind not in ("Polygon", "MultiPolygon"):
        raise BadInput(f"GeoJSON of type {_short(kind)} is no area; {_WHAT_IS_AN_AREA}")
    coordinates = value.get("coordinates")
    polygons = [coordinates] if kind == "Polygon" else coordinates
    if not isinstance(polygons, (list, tuple)) or not polygons:
        raise BadInput(f"the {kind} is empty; {_WHAT_IS_AN_AREA}")
    parts = [part for rings in polygons for part in _polygon(rings)]
    if len(parts) == 1:
        return parts[0]
    whole = MultiPolygon(parts)
    return whole if whole.is_valid else unary_union(parts)


def _polygon(rings: Any) -> list[Polygon]:  # noqa: ANN401
    """One GeoJSON polygon, cut at the antimeridian."""
    if not isinstance(rings, (list, tuple)) or not rings:
        raise BadInput(f"a polygon without a ring is empty; {_WHAT_IS_AN_AREA}")
    if sum(len(ring) for ring in rings if isinstance(ring, (list, tuple))) > _MAX_VERTICES:
        raise BadInput(f"the area has more than {_MAX_VERTICES} vertices; simplify it, pixels are 10 m wide")
    shell, *holes = [_unwrapped_ring(_positions(ring)) for ring in rings]
    west = min(x for x, _ in shell)
    east = max(x for x, _ in shell)
    # A hole was unwrapped on its own: bring it beside the shell that it lies in.
    holes = [[(x + 360 * round(((west + east) / 2 - _middle(h)) / 360), y) for x, y in h] for h in holes]
    made = Polygon(shell, holes)
    if not made.is_valid:
        raise BadInput(f"the area crosses itself ({shapely.is_valid_reason(made)}); draw it without crossing lines, holes inside the shell")
    if made.area == 0:
        raise BadInput(f"the area is empty: all its corners are in one line; {_WHAT_IS_AN_AREA}")
    return [part for shift in (-360.0, 0.0, 360.0) for part in _cut(made, shift)]


def _cut(polygon: Polygon, shift: float) -> list[Polygon]:
    """What of the polygon lies between -180 and 180 after moving it east by `shift` degrees."""
    west, _, east, _ = polygon.bounds
    if west + shift >= 180 or east + shift <= -180:
        return []
    moved = shapely.transform(polygon, lambda xy: xy + np.array([shift, 0.0])) if shift else polygon
    inside = moved if west + shift >= -180 and east + shift <= 180 else moved.intersection(box(-180, -90, 180, 90))
    return [part for part in _parts(inside) if part.area > 0]


def _positions(ring: Any) -> list[tuple[float, float]]:  # noqa: ANN401
    if not isinstance(ring, (list, tuple)) or not all(isinstance(p, (list, tuple)) and len(p) >= 2 for p in ring):
        raise BadInput(f"{_short(ring)} is not a ring of [longitude, latitude] positions; {_WHAT_IS_AN_AREA}")
    points = [(_number(p[0], p), _number(p[1], p)) for p in ring]
    if len(set(points)) < 3:
        raise BadInput(f"a ring of {len(set(points))} different corners encloses nothing; {_WHAT_IS_AN_AREA}")
    _check_range(points)
    return points if points[0] == points[-1] else [*points, points[0]]


def _unwrapped_ring(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Longitudes made continuous, so that no edge is longer than 180 degrees; the whole circle (360) stays as it is."""
    out, turns = [points[0]], 0
    for (before, _), (lon, lat) in itertools.pairwise(points):
        if 180 < abs(lon - before) < 360:
            turns += 1 if lon < before else -1
        # Whole turns are added to what was given: adding up steps would let the ring miss its own start by a rounding.
        out.append((lon + 360 * turns, lat))
    return out if abs(out[-1][0] - out[0][0]) < _ROUNDING else _over_the_pole(out)


def _over_the_pole(ring: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Close a ring that goes once round the earth along its pole: the one of the hemisphere that it lies in."""
    south, north = min(lat for _, lat in ring), max(lat for _, lat in ring)
    if abs(abs(ring[-1][0] - ring[0][0]) - 360) > _ROUNDING or south <= 0 <= north:
        raise BadInput("the area goes round the earth, and over which pole is not said; draw edges along -180, the pole and 180")
    pole = 90.0 if south > 0 else -90.0
    # Corners along the pole, since an edge longer than 180 degrees is read as one the other way round.
    along = np.linspace(ring[-1][0], ring[0][0], 5).tolist()
    return [*ring, *((lon, pole) for lon in along), ring[0]]


def _check_range(points: list[tuple[float, float]]) -> None:
    for lon, lat in points:
        if abs(lon) <= 180 and abs(lat) <= 90:
            continue
        where = f"({lon:g}, {lat:g})"
        if abs(lon) > 1000 or abs(lat) > 1000:
            raise BadInput(f"{where} looks like metres of a projected system; give longitude and latitude in degrees (EPSG:4326)")
        if abs(lat) > 90 and abs(lon) <= 90 and abs(lat) <= 180:
            raise BadInput(f"latitude {lat:g} is outside -90 to 90; {_SWAPPED}")
        if abs(lat) > 90:
            raise BadInput(f"latitude {lat:g} of {where} is outside -90 to 90; {_WHAT_IS_AN_AREA}")
        raise BadInput(
            f"longitude {lon:g} of {where} is outside -180 to 180; write {(lon + 180) % 360 - 180:g} "
            "(an area over the antimeridian has west > east)"
        )


def _polygon_m2(polygon: Polygon) -> float:
    holes = sum(abs(_ring_m2(np.asarray(hole.coords))) for hole in polygon.interiors)
    return abs(_ring_m2(np.asarray(polygon.exterior.coords))) - holes


def _ring_m2(ring: np.ndarray[Any, np.dtype[np.float64]]) -> float:
    """Integrate the authalic height along each edge (Snyder 1987, eq. 3-12), by Gauss and Legendre in pieces of at most 1 degree."""
    lon, lat = np.radians(ring[:, 0]), np.radians(ring[:, 1])
    nodes, weights = np.polynomial.legendre.leggauss(8)
    total = 0.0
    for i in range(len(ring) - 1):
        dlon = lon[i + 1] - lon[i]
        if dlon == 0:
            continue
        pieces = max(1, math.ceil(abs(math.degrees(lat[i + 1] - lat[i]))))
        at = (np.arange(pieces)[:, None] + (nodes[None, :] + 1) / 2) / pieces
        q = _authalic_q(np.sin(lat[i] + (lat[i + 1] - lat[i]) * at))
        total += dlon * float((q * weights / 2).sum()) / pieces
    return total * _A * _A / 2


def _authalic_q(sine: np.ndarray[Any, np.dtype[np.float64]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    e2 = _F * (2 - _F)
    e = math.sqrt(e2)
    out: np.ndarray[Any, np.dtype[np.float64]] = (1 - e2) * (sine / (1 - e2 * sine**2) + np.arctanh(e * sine) / e)
    return out


def _parts(geometry: Any) -> list[Polygon]:  # noqa: ANN401 - any shapely geometry
    if isinstance(geometry, Polygon):
        return [geometry] if not geometry.is_empty else []
    return [part for part in getattr(geometry, "geoms", ()) for part in _parts(part)]


def _middle(ring: list[tuple[float, float]]) -> float:
    return (min(x for x, _ in ring) + max(x for x, _ in ring)) / 2


def _number(value: Any, within: Any) -> float:  # noqa: ANN401
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise BadInput(f"{_short(value)} in {_short(within)} is not a number; {_WHAT_IS_AN_AREA}")
    return float(value)


def _plain(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, dict):
        return {key: _plain(v) for key, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, (list, tuple)) else value


def _short(value: Any) -> str:  # noqa: ANN401
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
