"""Areas: what users type, what they meant, and how large it is."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import shapely
from earthself.data.area import Area, utm_epsg
from earthself.data.errors import BadInput
from hypothesis import assume, given
from hypothesis import strategies as st
from pyproj import Geod

GEOD = Geod(ellps="WGS84")
EARTH_M2 = 510_065_621_724_088.5

lon = st.floats(-180, 180)
lat = st.floats(-90, 90)


def corners(west: float, east: float, most: int) -> st.SearchStrategy[list[tuple[float, float]]]:
    """Corners with six decimals, as maps write them."""
    return st.lists(
        st.tuples(st.integers(int(west * 1e6), int(east * 1e6)), st.integers(-80_000_000, 80_000_000)), min_size=3, max_size=most
    ).map(lambda points: [(x / 1e6, y / 1e6) for x, y in points])


def ring(*points: tuple[float, float]) -> dict:
    return {"type": "Polygon", "coordinates": [[list(p) for p in (*points, points[0])]]}


@given(lon, lat, lon, lat)
def test_a_box_has_its_corners_and_fits_the_globe(west: float, south: float, east: float, north: float) -> None:
    assume(north - south > 1e-6 and abs(east - west) > 1e-6 and not (west > east and west - east > 359.999))
    area = Area.from_conf([west, south, east, north])
    assert area.geometry.is_valid
    assert shapely.box(-180, -90, 180, 90).covers(area.geometry)
    width = (east - west) % 360 or 360
    assert sum(part.bounds[2] - part.bounds[0] for part in shapely.get_parts(area.geometry)) == pytest.approx(width, abs=1e-6)
    # The ellipsoid between two parallels: its authalic zone, times the share of the circle.
    zone = Area.from_conf([-180, south, 180, north]).geodesic_m2
    assert area.geodesic_m2 == pytest.approx(zone * width / 360, rel=1e-6, abs=1)


@given(st.floats(-180, 180), st.floats(-89, 89), st.floats(0.001, 0.5), st.floats(0.001, 0.5))
def test_moving_a_box_round_the_globe_keeps_its_size(west: float, south: float, width: float, height: float) -> None:
    east = (west + width + 180) % 360 - 180
    assume(south + height < 90 and abs(east - west) > 1e-6 and abs(abs(west) - 180) > 1e-9 and abs(abs(east) - 180) > 1e-9)
    here = Area.from_conf([west, south, east, south + height])
    there = Area.from_conf([0, south, width, south + height])
    assert here.geodesic_m2 == pytest.approx(there.geodesic_m2, rel=1e-6)
    assert here.crosses_antimeridian == (west > east)
    assert here.bounds == pytest.approx((west, south, east, south + height), abs=1e-9)


@given(corners(-85, 85, 12))
def test_the_size_is_that_of_pyproj_once_the_edges_are_straight_in_degrees(points: list[tuple[float, float]]) -> None:
    hull = shapely.MultiPoint(points).convex_hull
    assume(hull.geom_type == "Polygon" and hull.area > 1)
    area = Area.from_conf(shapely.geometry.mapping(hull))
    dense, _ = GEOD.geometry_area_perimeter(shapely.segmentize(area.geometry, 0.1))
    assert area.geodesic_m2 == pytest.approx(abs(dense), rel=1e-5)


@given(corners(-60, 60, 8), st.integers(-180, 180))
def test_a_polygon_over_the_antimeridian_is_the_one_drawn_elsewhere(points: list[tuple[float, float]], shift: int) -> None:
    hull = shapely.MultiPoint(points).convex_hull
    assume(hull.geom_type == "Polygon" and hull.area > 1)
    moved = [((x + shift + 180) % 360 - 180, y) for x, y in hull.exterior.coords]
    assume(all(abs(abs(x) - 180) > 1e-6 for x, _ in moved))
    here = Area.from_conf(ring(*moved[:-1]))
    assert here.geodesic_m2 == pytest.approx(Area(hull).geodesic_m2, rel=1e-6)
    assert here.geometry.is_valid
    assert here.crosses_antimeridian == any(abs(a[0] - b[0]) > 180 for a, b in itertools.pairwise(moved))
    again = Area.from_conf(here.geojson)
    assert again.geodesic_m2 == pytest.approx(here.geodesic_m2, rel=1e-9)
    assert again.bounds == pytest.approx(here.bounds)


def test_the_whole_earth_has_the_size_of_the_ellipsoid() -> None:
    assert Area.from_conf([-180, -90, 180, 90]).geodesic_m2 == pytest.approx(EARTH_M2, rel=1e-12)
    world = ring((-180, -90), (180, -90), (180, 90), (-180, 90))
    assert Area.from_conf(world).geodesic_m2 == pytest.approx(EARTH_M2, rel=1e-12)


def test_a_cap_round_a_pole_is_drawn_along_the_edge_of_the_map() -> None:
    cap = ring((-180, 80), (180, 80), (180, 90), (-180, 90))
    assert Area.from_conf(cap).geodesic_m2 == pytest.approx(Area.from_conf([-180, 80, 180, 90]).geodesic_m2)
    assert Area.from_conf([-180, 85, 180, 90]).utm_epsg() == 5041
    assert Area.from_conf([-180, -90, 180, -85]).utm_epsg() == 5042
    for corners in (((0, 80), (120, 80), (-120, 80)), ((-120, 80), (120, 80), (0, 80))):
        assert Area.from_conf(ring(*corners)).geodesic_m2 == pytest.approx(Area.from_conf(cap).geodesic_m2)
    south = Area.from_conf(ring((30, -80), (150, -80), (-90, -80)))
    assert south.bounds == (-180, -90, 180, -80)
    assert south.geometry.is_valid
    with pytest.raises(BadInput, match="over which pole is not said"):
        Area.from_conf(ring((0, 80), (120, -10), (-120, 80)))


def test_a_hole_counts_on_either_side_of_the_antimeridian() -> None:
    shell = [[178, -5], [-178, -5], [-178, 5], [178, 5], [178, -5]]
    hole = [[-179.5, -1], [-179, -1], [-179, 1], [-179.5, 1], [-179.5, -1]]
    area = Area.from_conf({"type": "Polygon", "coordinates": [shell, hole]})
    expected = Area.from_conf([178, -5, -178, 5]).geodesic_m2 - Area.from_conf([-179.5, -1, -179, 1]).geodesic_m2
    assert area.geodesic_m2 == pytest.approx(expected, rel=1e-9)
    assert area.bounds == (178, -5, -178, 5)


def test_overlapping_parts_count_once() -> None:
    twice = {
        "type": "MultiPolygon",
        "coordinates": [ring((0, 0), (2, 0), (2, 2), (0, 2))["coordinates"], ring((1, 1), (3, 1), (3, 3), (1, 3))["coordinates"]],
    }
    expected = shapely.union(shapely.box(0, 0, 2, 2), shapely.box(1, 1, 3, 3))
    assert Area.from_conf(twice).geometry.equals(expected)


def test_features_and_third_coordinates_are_understood() -> None:
    flat = ring((14, 47), (15, 47), (15, 48))
    deep = {"type": "Polygon", "coordinates": [[[x, y, 400.0] for x, y in flat["coordinates"][0]]]}
    feature = {"type": "Feature", "properties": None, "geometry": deep}
    assert Area.from_conf(feature).geometry.equals(Area.from_conf(flat).geometry)


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        ([48.1, 116.3, 48.2, 116.4], "swapped"),
        (ring((48.1, 116.3), (48.2, 116.3), (48.2, 116.4)), "swapped"),
        ([16, 49, 17, 48], "south 49 is north of north 48"),
        ([170, -10, 190, 10], "write -170"),
        ([16, 48, 17, 91], "outside -90 to 90"),
        ([300000, 5300000, 310000, 5310000], "EPSG:4326"),
        ([16, 48, 16, 49], "no extent"),
        ([180, 48, -180, 49], "no extent"),
        ([16, 48, 17], "3 numbers, not 4"),
        ([16, 48, 17, float("nan")], "not a number"),
        ([16, 48, 17, True], "not a number"),
        ([16, 48, 17, "49"], "not a number"),
        ("Vienna", "is not an area"),
        (None, "is not an area"),
        (ring((0, 0), (1, 1), (1, 0), (0, 1)), "crosses itself"),
        (ring((0, 0), (1, 1), (2, 2)), "empty|crosses itself"),
        (ring((0, 0), (0, 0), (1, 1)), "encloses nothing"),
        ({"type": "Polygon", "coordinates": []}, "empty"),
        ({"type": "MultiPolygon", "coordinates": []}, "empty"),
        ({"type": "Polygon", "coordinates": [[1, 2, 3]]}, "not a ring"),
        ({"type": "Polygon", "coordinates": "x"}, "not a ring|empty"),
        ({"type": "Polygon"}, "empty"),
        ({"type": "Point", "coordinates": [1, 2]}, "'Point' is no area"),
        ({"type": "Feature", "geometry": None}, "no geometry"),
        ({"type": "FeatureCollection", "features": []}, "several areas"),
        ({"type": "Polygon", "coordinates": [[[0, 0]] * 100_001]}, "simplify"),
    ],
)
def test_what_is_no_area_is_refused_with_a_hint(value: object, hint: str) -> None:
    with pytest.raises(BadInput, match=hint) as caught:
        Area.from_conf(value)
    assert len(str(caught.value)) < 400


@given(lon, lat)
def test_every_point_has_a_zone_that_covers_it(x: float, y: float) -> None:
    code = utm_epsg(x, y)
    if code in (5041, 5042):
        assert y > 84 or y < -80
        return
    zone = code % 100
    assert 1 <= zone <= 60
    assert code - zone == (32600 if y >= 0 else 32700)
    centre = zone * 6 - 183
    assert abs((x - centre + 180) % 360 - 180) <= (9 if y >= 56 else 3 + 1e-9)


@pytest.mark.parametrize(
    ("x", "y", "code"),
    [(15.4, 47.1, 32633), (5.3, 60.4, 32632), (8.9, 78, 32631), (9.1, 78, 32633), (-60, -35, 32721), (180, 0, 32660), (-180, 0, 32601)],
)
def test_zones_follow_the_exceptions_of_the_north(x: float, y: float, code: int) -> None:
    assert utm_epsg(x, y) == code


def test_the_zone_of_an_area_over_the_antimeridian_is_on_one_of_its_sides() -> None:
    assert Area.from_conf([179, 10, -178, 11]).utm_epsg() == 32601
    assert Area.from_conf([178, 10, -179, 11]).utm_epsg() == 32660
    assert math.isclose(Area.from_conf([179, 10, -178, 11]).unwrapped().centroid.x % 360, 180.5, abs_tol=0.01)


def square(west: float, east: float) -> dict[str, Any]:
    return {"type": "Polygon", "coordinates": [[[west, 0], [east, 0], [east, 1], [west, 1], [west, 0]]]}


@pytest.mark.parametrize(
    ("area", "footprint", "touches"),
    [
        ([16, 0, 17, 1], square(16.5, 18), True),
        ([16, 0, 17, 1], square(17.5, 18), False),
        ([179.5, 0, -179.5, 1], square(179, -179), True),
        ([-179.8, 0, -179.5, 1], square(179, 181), True),
        ([179.5, 0, 179.8, 1], square(-181, -179), True),
        ([179.5, 0, 179.8, 1], square(179, -179), True),
        ([0, 0, 1, 1], square(179, 181), False),
        ([0, 0, 1, 1], square(179, -179), False),
        ([0, 0, 1, 1], None, True),
        ([0, 0, 1, 1], {"type": "Polygon", "coordinates": "?"}, True),
    ],
)
def test_footprints_are_compared_however_they_are_drawn(area: list[float], footprint: Any, touches: bool) -> None:
    assert Area.from_conf(area).may_touch(footprint) is touches


def test_the_text_of_a_wide_area_has_one_meaning() -> None:
    """An edge over 180 degrees would be read the short way by some, over the antimeridian."""
    area = Area.from_conf([-170, -10, 170, 10])
    longitudes = shapely.get_coordinates(shapely.from_wkt(area.wkt))[:, 0]
    assert max(abs(a - b) for a, b in itertools.pairwise(longitudes)) <= 180
    assert shapely.from_wkt(area.wkt).equals(area.geometry)
    assert shapely.get_num_coordinates(shapely.from_wkt(Area.from_conf([14, 47, 15, 48]).wkt)) == 5


def test_a_cap_round_a_pole_can_be_read_again() -> None:
    for corners in (((-135, 89), (-45, 89), (45, 89), (135, 89)), ((30, -80), (150, -80), (-90, -80))):
        cap = Area.from_conf(ring(*corners))
        again = Area.from_conf(cap.geojson)
        assert again.geometry.equals(cap.geometry)
        assert again.geojson == cap.geojson
