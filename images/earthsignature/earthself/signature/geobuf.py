"""GeoJSON to geobuf and back, on the message class of the interface.

A codec of our own: what arrives was written by strangers, so every position, length and number is checked, and a broken one is
`BadSignature`, not an IndexError. Format: https://github.com/mapbox/geobuf (coordinates in 10^-precision, delta-encoded).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from earthself.signature.errors import BadSignature
from earthself.signature.wire import geobuf_pb2

Data = geobuf_pb2.Data
_TYPES = ("Point", "MultiPoint", "LineString", "MultiLineString", "Polygon", "MultiPolygon", "GeometryCollection")
_MAX_PRECISION = 12
_LONGEST_JSON = 1 << 16  # as much as all properties of a product may be
_Pairs = Any  # a repeated uint32 field
MOST_NUMBERS = 8_000_000
"""In one geobuf: the polygons of a whole tile fit."""
MOST_OF_FEATURE = 100_000
"""Numbers in one Feature with its footprint."""


def encode(geojson: Mapping[str, Any], precision: int = 6) -> geobuf_pb2.Data:
    """Encode a GeoJSON object (FeatureCollection, Feature or geometry; longitude and latitude), keeping `precision` decimals.

    Members beyond the standard's become custom properties. Raises `BadSignature` for what GeoJSON does not know.
    """
    return _Encoder(precision).encode(geojson)


def decode(data: geobuf_pb2.Data, most: int = MOST_NUMBERS) -> dict[str, Any]:
    """Decode to a GeoJSON object of plain dicts and lists; raises `BadSignature` where the bytes contradict themselves.

    Each byte of geobuf can become fifty in Python, so one of more than `most` numbers (coordinates, lengths, properties) is refused.
    """
    numbers = _numbers_in(data)
    if numbers > most:
        raise BadSignature(
            f"a geobuf of {numbers} coordinates, lengths and properties; at most {most}: simplify its polygons, or send fewer"
        )
    return _Decoder(data).decode()


class _Encoder:
    def __init__(self, precision: int) -> None:
        self._data = Data(dimensions=2, precision=precision)
        self._factor = 10**precision
        self._keys: dict[str, int] = {}

    def encode(self, geojson: Mapping[str, Any]) -> geobuf_pb2.Data:
        kind = geojson.get("type")
        if kind == "FeatureCollection":
            self._collection(self._data.feature_collection, geojson)
        elif kind == "Feature":
            self._feature(self._data.feature, geojson)
        else:
            self._geometry(self._data.geometry, geojson)
        return self._data

    def _collection(self, target: geobuf_pb2.Data.FeatureCollection, geojson: Mapping[str, Any]) -> None:
        target.SetInParent()
        self._properties(_without(geojson, "type", "features"), target.custom_properties, target.values)
        for feature in geojson.get("features") or ():
            self._feature(target.features.add(), feature)

    def _feature(self, target: geobuf_pb2.Data.Feature, geojson: Mapping[str, Any]) -> None:
        name = geojson.get("id")
        if isinstance(name, int) and not isinstance(name, bool) and -(2**63) <= name < 2**63:
            target.int_id = name
        elif name is not None:
            target.id = str(name)
        self._properties(geojson.get("properties") or {}, target.properties, target.values)
        self._properties(_without(geojson, "type", "id", "properties", "geometry"), target.custom_properties, target.values)
        geometry = geojson.get("geometry")
        if not isinstance(geometry, Mapping):
            raise BadSignature(f"the feature {name!r} has no geometry, and geobuf cannot carry it without one")
        self._geometry(target.geometry, geometry)

    def _geometry(self, target: geobuf_pb2.Data.Geometry, geojson: Mapping[str, Any]) -> None:
        kind = geojson.get("type")
        if kind not in _TYPES:
            raise BadSignature(f"{kind!r} is no GeoJSON type; geometries are {', '.join(_TYPES)}")
        target.type = geobuf_pb2.Data.Geometry.Type.Name(_TYPES.index(kind))  # type: ignore[assignment]  # names are accepted, too
        self._properties(_without(geojson, "type", "coordinates", "geometries"), target.custom_properties, target.values)
        if kind == "GeometryCollection":
            for part in geojson.get("geometries") or ():
                self._geometry(target.geometries.add(), part)
            return
        try:
            lines, lengths = _lines(kind, geojson["coordinates"])
            target.lengths.extend(lengths)
            for line in lines:
                target.coords.extend(self._deltas(line))
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise BadSignature(f"the coordinates of a {kind} are not what GeoJSON asks for ({error})") from error

    def _deltas(self, line: Sequence[Sequence[float]]) -> list[int]:
        if not line:
            return []
        points = np.asarray([point[:2] for point in line], dtype=np.float64)
        if points.ndim != 2 or points.shape[1] != 2 or not np.isfinite(points).all():
            raise ValueError("positions are pairs of finite numbers")
        numbers = np.rint(points * self._factor).astype(np.int64)
        numbers[1:] -= numbers[:-1].copy()
        made: list[int] = numbers.ravel().tolist()
        return made

    def _properties(self, members: Mapping[str, Any], pairs: _Pairs, values: Any) -> None:  # noqa: ANN401
        for key, value in members.items():
            position = self._keys.setdefault(key, len(self._keys))
            if position == len(self._data.keys):
                self._data.keys.append(key)
            pairs.extend((position, len(values)))
            _set_value(values.add(), value)


class _Decoder:
    def __init__(self, data: geobuf_pb2.Data) -> None:
        self._data = data
        self._dimensions = data.dimensions
        if self._dimensions not in (2, 3):
            raise BadSignature(f"geobuf with {self._dimensions} dimensions; positions have 2 or 3")
        if data.precision > _MAX_PRECISION:
            raise BadSignature(f"geobuf with precision {data.precision}; at most {_MAX_PRECISION} decimal digits make sense for degrees")
        self._factor = float(10**data.precision)

    def decode(self) -> dict[str, Any]:
        kind = self._data.WhichOneof("data_type")
        if kind == "feature_collection":
            collection = self._data.feature_collection
            out = self._properties(collection.custom_properties, collection.values)
            return {**out, "type": "FeatureCollection", "features": [self._feature(f) for f in collection.features]}
        if kind == "feature":
            return self._feature(self._data.feature)
        if kind == "geometry":
            return self._geometry(self._data.geometry)
        raise BadSignature("the geobuf is empty; send a Feature (v1) or a FeatureCollection (v2)")

    def _feature(self, feature: geobuf_pb2.Data.Feature) -> dict[str, Any]:
        out = self._properties(feature.custom_properties, feature.values)
        out["type"] = "Feature"
        which = feature.WhichOneof("id_type")
        if which is not None:
            out["id"] = getattr(feature, which)
        out["geometry"] = self._geometry(feature.geometry)
        out["properties"] = self._properties(feature.properties, feature.values)
        return out

    def _geometry(self, geometry: geobuf_pb2.Data.Geometry) -> dict[str, Any]:
        kind = _TYPES[int(geometry.type)]
        out = self._properties(geometry.custom_properties, geometry.values)
        out["type"] = kind
        if kind == "GeometryCollection":
            out["geometries"] = [self._geometry(part) for part in geometry.geometries]
            return out
        if len(geometry.coords) % self._dimensions:
            raise BadSignature(f"a {kind} of {len(geometry.coords)} numbers with {self._dimensions} dimensions; one is missing")
        points = _numbers(geometry.coords).reshape(-1, self._dimensions)
        out["coordinates"] = self._coordinates(kind, points, list(geometry.lengths))
        return out

    def _coordinates(self, kind: str, points: np.ndarray[Any, np.dtype[np.int64]], lengths: list[int]) -> list[Any]:
        if kind == "Point":
            if len(points) != 1:
                raise BadSignature(f"a Point of {len(points)} positions")
            position: list[Any] = (points[0] / self._factor).tolist()
            return position
        if kind in ("MultiPoint", "LineString"):
            return self._line(points, closed=False)
        if kind == "MultiPolygon":
            return self._polygons(points, lengths)
        return self._rings(points, lengths or [len(points)], closed=kind == "Polygon")

    def _polygons(self, points: np.ndarray[Any, np.dtype[np.int64]], lengths: list[int]) -> list[Any]:
        if not lengths:
            return [self._rings(points, [len(points)], closed=True)]
        out: list[Any] = []
        at, start = 1, 0
        for _ in range(lengths[0]):
            if at >= len(lengths) or at + lengths[at] >= len(lengths):
                raise BadSignature(f"a MultiPolygon of {lengths[0]} polygons, but its lengths end after {len(out)}")
            rings = lengths[at + 1 : at + 1 + lengths[at]]
            out.append(self._rings(points[start : start + sum(rings)], rings, closed=True))
            at, start = at + 1 + lengths[at], start + sum(rings)
        if start != len(points):
            raise BadSignature(f"a MultiPolygon of {len(points)} positions, but its lengths add up to {start}")
        return out

    def _rings(self, points: np.ndarray[Any, np.dtype[np.int64]], lengths: Iterable[int], *, closed: bool) -> list[Any]:
        out, start = [], 0
        for length in lengths:
            out.append(self._line(points[start : start + length], closed=closed))
            start += length
        if start != len(points):
            raise BadSignature(f"lines of {start} positions in all, but {len(points)} were sent")
        return out

    def _line(self, deltas: np.ndarray[Any, np.dtype[np.int64]], *, closed: bool) -> list[Any]:
        points: list[Any] = (np.cumsum(deltas, axis=0) / self._factor).tolist()
        return [*points, list(points[0])] if closed and points else points

    def _properties(self, pairs: Sequence[int], values: Sequence[geobuf_pb2.Data.Value]) -> dict[str, Any]:
        if len(pairs) % 2:
            raise BadSignature("geobuf properties come in pairs of key and value; one is missing")
        keys = self._data.keys
        out = {}
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            if key >= len(keys) or value >= len(values):
                raise BadSignature(f"a geobuf property points at key {key} of {len(keys)} and value {value} of {len(values)}")
            out[keys[key]] = _value(values[value])
        return out


def _numbers_in(data: geobuf_pb2.Data) -> int:
    """Count what decoding would make objects of, without making them."""
    collection = data.feature_collection
    total = len(data.keys) + len(collection.custom_properties) + len(collection.values) + _numbers_of(data.geometry)
    for feature in (data.feature, *collection.features):
        total += 1 + len(feature.properties) + len(feature.custom_properties) + len(feature.values) + _numbers_of(feature.geometry)
    return total


def _numbers_of(geometry: geobuf_pb2.Data.Geometry) -> int:
    own = 1 + len(geometry.coords) + len(geometry.lengths) + len(geometry.custom_properties) + len(geometry.values)
    return own + sum(_numbers_of(part) for part in geometry.geometries)


def _lines(kind: str, coordinates: Any) -> tuple[list[Any], list[int]]:  # noqa: ANN401
    """Flatten a geometry into lines, rings without their closing point, and the `lengths` that tell them apart."""
    if kind == "Point":
        return [[coordinates]], []
    if kind in ("MultiPoint", "LineString"):
        return [coordinates], []
    if kind == "MultiLineString":
        return list(coordinates), [len(line) for line in coordinates] if len(coordinates) != 1 else []
    polygons = [coordinates] if kind == "Polygon" else coordinates
    polygons = [[_open(ring) for ring in rings] for rings in polygons]
    rings = [ring for polygon in polygons for ring in polygon]
    if kind == "Polygon":
        return rings, [len(ring) for ring in rings] if len(rings) != 1 else []
    if len(polygons) == 1 and len(rings) == 1:
        return rings, []
    return rings, [len(polygons), *(n for polygon in polygons for n in (len(polygon), *(len(ring) for ring in polygon)))]


def _open(ring: Sequence[Any]) -> Sequence[Any]:
    if len(ring) < 4 or list(ring[0]) != list(ring[-1]):
        raise ValueError("a ring has at least four positions, the last like the first")
    return ring[:-1]


def _numbers(coords: Sequence[int]) -> np.ndarray[Any, np.dtype[np.int64]]:
    numbers = np.asarray(coords, dtype=np.int64)
    # A sum of deltas must stay within 64 bits; degrees never come near.
    if len(numbers) and float(np.abs(numbers.astype(np.float64)).max()) * len(numbers) > 2**62:
        raise BadSignature("coordinates far outside of degrees; geobuf carries longitude and latitude")
    return numbers


def _set_value(target: geobuf_pb2.Data.Value, value: Any) -> None:  # noqa: ANN401
    if isinstance(value, bool):
        target.bool_value = value
    elif isinstance(value, int) and abs(value) < 2**64:
        if value >= 0:
            target.pos_int_value = value
        else:
            target.neg_int_value = -value
    elif isinstance(value, float) and math.isfinite(value):
        target.double_value = value
    elif isinstance(value, str):
        target.string_value = value
    else:
        try:
            target.json_value = json.dumps(value, separators=(",", ":"), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise BadSignature(f"the property value {value!r} cannot be written as JSON ({error})") from error


def _value(value: geobuf_pb2.Data.Value) -> Any:  # noqa: ANN401 - whatever JSON holds
    which = value.WhichOneof("value_type")
    if which is None:
        return None
    if which == "neg_int_value":
        return -value.neg_int_value
    if which == "json_value":
        if len(value.json_value) > _LONGEST_JSON:
            raise BadSignature(f"a geobuf property of {len(value.json_value)} characters of JSON; at most {_LONGEST_JSON} are kept")
        try:
            return json.loads(value.json_value)
        except (ValueError, RecursionError) as error:
            raise BadSignature(f"a geobuf property holds text that is no JSON ({error})") from error
    return getattr(value, which)


def _without(members: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {key: value for key, value in members.items() if key not in names}
