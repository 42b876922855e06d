"""Geobuf carries GeoJSON both ways, speaks the dialect of the public package, and refuses what contradicts itself."""

from __future__ import annotations

import contextlib

import geobuf as public
import pytest
from earthself.signature import geobuf
from earthself.signature.errors import BadSignature
from hypothesis import given
from hypothesis import strategies as st

lon = st.integers(-180_000_000, 180_000_000).map(lambda n: n / 1e6)
lat = st.integers(-90_000_000, 90_000_000).map(lambda n: n / 1e6)
positions = st.tuples(lon, lat).map(list)
lines = st.lists(positions, min_size=2, max_size=6)
rings = st.lists(positions, min_size=3, max_size=6).map(lambda ring: [*ring, ring[0]])
polygons = st.lists(rings, min_size=1, max_size=3)


def _geometry(kind, coordinates):
    return st.fixed_dictionaries({"type": st.just(kind), "coordinates": coordinates})


simple = st.one_of(
    _geometry("Point", positions),
    _geometry("MultiPoint", st.lists(positions, max_size=5)),
    _geometry("LineString", lines),
    _geometry("MultiLineString", st.lists(lines, min_size=1, max_size=3)),
    _geometry("Polygon", polygons),
    _geometry("MultiPolygon", st.lists(polygons, min_size=1, max_size=3)),
)
geometries = st.recursive(
    simple,
    lambda inner: st.fixed_dictionaries({"type": st.just("GeometryCollection"), "geometries": st.lists(inner, max_size=3)}),
    max_leaves=4,
)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
)
values = st.recursive(scalars, lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text("abc", max_size=3), v, max_size=3), max_leaves=4)
properties = st.dictionaries(st.text("abcdefgh:_", min_size=1, max_size=5), values, max_size=5)
ids = st.integers(-(2**63), 2**63 - 1) | st.text("abcXYZ019_.", max_size=8)
features = st.fixed_dictionaries(
    {"type": st.just("Feature"), "geometry": geometries, "properties": properties},
    optional={"id": ids, "extra": values},
)
collections = st.fixed_dictionaries(
    {"type": st.just("FeatureCollection"), "features": st.lists(features, max_size=3)},
    optional={"extra": values},
)


@given(st.one_of(geometries, features, collections))
def test_what_is_encoded_is_decoded(geojson):
    sent = geobuf.encode(geojson).SerializeToString()
    assert geobuf.decode(geobuf.Data.FromString(sent)) == geojson


plain = st.one_of(st.booleans(), st.integers(-(2**63), 2**63), st.text("abc", max_size=5), st.floats(-1e6, 1e6))
public_features = st.fixed_dictionaries(
    {
        "type": st.just("Feature"),
        "id": st.text("abcXYZ019_.", min_size=1, max_size=8),
        "geometry": simple.filter(lambda g: g["coordinates"]),
        "properties": st.dictionaries(st.text("abc", min_size=1, max_size=5), plain, min_size=1, max_size=4),
    }
)


@given(public_features)
def test_the_public_package_reads_what_we_write(feature):
    read = public.decode(geobuf.encode(feature).SerializeToString())
    assert read == feature


@given(public_features)
def test_we_read_what_the_public_package_writes(feature):
    assert geobuf.decode(geobuf.Data.FromString(public.encode(feature))) == feature


@given(lat, st.integers(0, 7))
def test_coordinates_keep_the_asked_decimals(degrees, precision):
    sent = geobuf.encode({"type": "Point", "coordinates": [degrees, degrees]}, precision)
    assert geobuf.decode(sent)["coordinates"][0] == pytest.approx(degrees, abs=0.5001 * 10**-precision)


@given(st.binary(max_size=60), features)
def test_broken_bytes_are_bad_signatures_and_nothing_else(noise, feature):
    sent = bytearray(geobuf.encode(feature).SerializeToString())
    sent[len(sent) // 2 : len(sent) // 2 + len(noise)] = noise
    try:
        data = geobuf.Data.FromString(bytes(sent))
    except Exception:  # noqa: BLE001 - protobuf refuses it before us
        return
    with contextlib.suppress(BadSignature):
        assert geobuf.decode(data)["type"]


def _polygon(**fields):
    data = geobuf.encode({"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 0]]]})
    for name, value in fields.items():
        del getattr(data.geometry, name)[:]
        getattr(data.geometry, name).extend(value)
    return data


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (geobuf.Data(), "empty"),
        (geobuf.Data(dimensions=7, precision=6), "dimensions"),
        (geobuf.Data(precision=40), "precision"),
        (_polygon(coords=[1, 2, 3]), "one is missing"),
        (_polygon(lengths=[5]), "3 were sent"),
        (_polygon(coords=[2**62, 0, 2**62, 0]), "far outside"),
        (geobuf.Data(feature={"geometry": {"type": "POINT", "coords": [1, 2]}, "properties": [0, 0]}), "points at key 0 of 0"),
        (geobuf.Data(feature={"geometry": {"type": "POINT", "coords": [1, 2]}, "properties": [0]}), "pairs"),
        (
            geobuf.Data(keys=["a"], feature={"geometry": {"coords": [1, 2]}, "values": [{"json_value": "{"}], "properties": [0, 0]}),
            "no JSON",
        ),
        (geobuf.Data(geometry={"type": "MULTIPOLYGON", "lengths": [2, 1, 3], "coords": [0, 0, 1, 0, 0, 1]}), "lengths end after 1"),
        (geobuf.Data(geometry={"type": "MULTIPOLYGON", "lengths": [1, 1, 3], "coords": [0] * 8}), "add up to 3"),
        (geobuf.Data(geometry={"type": "POINT", "coords": [1, 2, 3, 4]}), "Point of 2 positions"),
    ],
)
def test_each_contradiction_is_named(data, said):
    with pytest.raises(BadSignature, match=said):
        geobuf.decode(data)


@pytest.mark.parametrize(
    "geojson",
    [
        {"type": "Feature", "geometry": None, "properties": {}},
        {"type": "Circle", "coordinates": [0, 0]},
        {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 1]]]},
        {"type": "Point", "coordinates": [float("nan"), 0]},
        {"type": "LineString", "coordinates": [[0, 0], [1]]},
        {"type": "Feature", "geometry": {"type": "Point", "coordinates": [0, 0]}, "properties": {"a": float("inf")}},
    ],
)
def test_what_is_no_geojson_is_not_written(geojson):
    with pytest.raises(BadSignature):
        geobuf.encode(geojson)
