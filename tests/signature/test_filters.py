"""Filters mean what the interface says: footprints and not boxes, half-open periods, descendants, any-of within and all-of across."""

from __future__ import annotations

import contextvars
import itertools
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
import shapely
import sqlalchemy as sa
from earthself.data.area import Area
from earthself.signature import filters, product, scan
from earthself.signature.catalog import Catalog
from earthself.signature.errors import BadSignature, Unavailable
from earthself.signature.rasters import Grid, Layer
from earthself.signature.rows import Stored, code_shares
from earthself.signature.waiting import WAITING, Waiting
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.affinity import rotate
from shapely.geometry import Point, box, mapping

GRID = Grid("EPSG:32633", (10.0, 0.0, 500000.0, 0.0, -10.0, 5400000.0), 10, 10)
NUMBER = itertools.count()


def stored(name, geometry, created="2020-01-01T00:00:00Z", codes=(311,)):
    said = {"creation_date": created, "publication_date": created, "product_type": "S2MSI2A", "cloud_cover": 0}
    made = product.from_parts(name, mapping(geometry), said)
    layer = Layer("segmentation", GRID, "uint16", "0" * 64, 1)
    return Stored(made, (layer,), name, made.digest(), None, code_shares(dict.fromkeys(codes, 5), 0.01))


@pytest.fixture
def catalog(new_database):
    made = Catalog(new_database())
    made.migrate()
    yield made
    made.close()


def found(catalog, **asked):
    return [hit.product.product_id for hit in catalog.find(filters.query(**asked))]


class Stamp:
    def __init__(self, seconds, nanos=0):
        self.seconds, self.nanos = seconds, nanos


def stamp(text):
    return Stamp(int(datetime.fromisoformat(text).timestamp()))


quadrangles = st.builds(
    lambda x, y, w, h, turn: rotate(box(x, y, x + w, y + h), turn),
    st.floats(-170, 160),
    st.floats(-75, 70),
    st.floats(0.01, 8),
    st.floats(0.01, 8),
    st.floats(0, 90),
)


@pytest.fixture(scope="module")
def shared(new_database):
    """One catalogue for the many examples of a property; they tell their products apart by id."""
    made = Catalog(new_database())
    made.migrate()
    yield made
    made.close()


@settings(max_examples=25)
@given(st.lists(quadrangles, min_size=1, max_size=6), st.lists(quadrangles, min_size=1, max_size=3))
def test_area_finds_exactly_the_footprints_that_it_meets(shared, footprints, area):
    shapes = {f"area-{next(NUMBER)}": shape for shape in footprints}
    for name, footprint in shapes.items():
        shared.put(stored(name, footprint))
    whole = shapely.union_all(area)
    met = {name for name, footprint in shapes.items() if Area.from_conf(mapping(footprint)).geometry.intersects(whole)}
    assert set(found(shared, wkt=shapely.GeometryCollection(area).wkt, product_ids=shapes)) == met


def test_a_box_that_touches_is_no_footprint_that_touches(catalog):
    triangle = shapely.Polygon([(10, 50), (11, 50), (10, 51)])
    catalog.put(stored("P", triangle))
    assert found(catalog, wkt=box(10.8, 50.8, 11, 51).wkt) == []
    assert found(catalog, wkt=box(10.4, 50.4, 11, 51).wkt) == ["P"]


def test_a_footprint_over_the_antimeridian_is_found_on_both_sides_only(catalog):
    catalog.put(stored("P", shapely.Polygon([(179.5, 0), (-179.5, 0), (-179.5, 1), (179.5, 1)])))
    assert found(catalog, wkt="POLYGON((179 0,179.8 0,179.8 1,179 1,179 0))") == ["P"]
    assert found(catalog, wkt="POLYGON((-179.8 0,-179 0,-179 1,-179.8 1,-179.8 0))") == ["P"]
    assert found(catalog, wkt="POLYGON((180.1 0,181 0,181 1,180.1 1,180.1 0))") == ["P"]
    assert found(catalog, wkt="POLYGON((-10 -10,10 -10,10 10,-10 10,-10 -10))") == []
    assert found(catalog, wkt="POLYGON((-180 -90,180 -90,180 90,-180 90,-180 -90))") == ["P"]


def test_a_wide_area_is_meant_as_drawn(catalog):
    catalog.put(stored("P", box(0, 0, 1, 1)))
    assert found(catalog, wkt="POLYGON((-170 -60,0 -60,170 -60,170 60,0 60,-170 60,-170 -60))") == ["P"]
    assert found(catalog, wkt="POLYGON((-180 -60,180 -60,180 60,-180 60,-180 -60))") == ["P"]
    assert found(catalog, wkt="POLYGON((0 -60,360 -60,360 60,0 60,0 -60))") == ["P"]
    wide = shapely.union_all([box(-180, 0, 180, 1), box(100, 0.5, 101, 1.5)])
    assert found(catalog, wkt=wide.wkt) == ["P"]
    assert found(catalog, wkt="POLYGON((-90 -60,90 -60,90 60,-90 60,-90 -60))") == ["P"]


@pytest.mark.parametrize(
    "wkt",
    [
        "POLYGON((170 0,-170 0,-170 10,170 10,170 0))",
        "POLYGON((170 0,170 10,-170 10,-170 0,170 0))",
        "POLYGON((-170 -60,170 -60,170 60,-170 60,-170 -60))",
        "POLYGON((10 0,350 0,350 10,10 10,10 0))",
        "POLYGON((179 0,-180 0,-180 1,179 1,179 0))",
        "MULTIPOLYGON(((0 0,1 0,1 1,0 0)),((179 0,-179 0,-179 1,179 0)))",
        "GEOMETRYCOLLECTION(POINT(1 1),LINESTRING(179 0,-179 1))",
    ],
)
def test_an_edge_of_two_meanings_is_refused_with_both_ways_to_write_it(wkt):
    with pytest.raises(BadSignature, match=r"two meanings; split the area at 180 .* \(170 to 190\) .* else set a corner"):
        filters.parse_area(wkt)


def test_an_area_over_the_antimeridian_finds_what_lies_there_and_nothing_else(catalog):
    catalog.put(stored("greenwich", box(3, 5, 3.1, 5.1)))
    catalog.put(stored("antimeridian", shapely.Polygon([(179.9, 5), (-179.9, 5), (-179.9, 5.1), (179.9, 5.1)])))
    split = Area.from_conf({"type": "Polygon", "coordinates": [[[170, 0], [-170, 0], [-170, 10], [170, 10], [170, 0]]]})
    assert found(catalog, wkt=split.wkt) == ["antimeridian"]
    assert found(catalog, wkt="POLYGON((170 0,190 0,190 10,170 10,170 0))") == ["antimeridian"]


instants = st.datetimes(datetime(2015, 1, 1), datetime(2025, 1, 1)).map(lambda t: t.replace(tzinfo=UTC))  # noqa: DTZ001


@settings(max_examples=40)
@given(instants, st.integers(-2_000, 2_000), st.integers(-2_000, 2_000))
def test_periods_hold_their_start_and_not_their_end(shared, created, first, last):
    name = f"period-{next(NUMBER)}"
    shared.put(stored(name, box(0, 0, 1, 1), created.isoformat()))
    nanos = (created - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000
    start, end = (Stamp(*divmod(nanos + offset, 1_000_000_000)) for offset in sorted((first, last)))
    inside = min(first, last) <= 0 < max(first, last)
    assert found(shared, start=start, end=end, product_ids=[name]) == ([name] if inside else [])


def test_products_come_newest_first_over_many_pages(catalog, monkeypatch):
    monkeypatch.setattr("earthself.signature.catalog._PAGE", 16)
    start = datetime(2020, 1, 1, tzinfo=UTC)
    order = np.random.default_rng(7).permutation(70)
    for n in order:
        # Two of each instant: then the id decides.
        catalog.put(stored(f"P{n:02}", box(n / 10, 0, n / 10 + 0.05, 1), (start + timedelta(minutes=int(n) // 2)).isoformat()))
    expected = sorted((f"P{n:02}" for n in range(70)), key=lambda name: (-(int(name[1:]) // 2), name))
    assert found(catalog) == expected
    assert found(catalog, limit=30) == expected[:30]
    east = [name for name in expected if int(name[1:]) >= 35]
    assert found(catalog, wkt=box(3.5, 0, 8, 1).wkt, limit=28) == east[:28]


def test_a_search_that_finds_nothing_ends_with_its_call(catalog, monkeypatch):
    """The area goes round all products: none meets it, and there is no message between two of which a call could end."""
    monkeypatch.setattr(scan, "_LEAST", 1)
    monkeypatch.setattr(scan, "_MOST", 1)
    for number in range(3):
        catalog.put(stored(f"P{number}", box(number, 0, number + 1, 1)))
    around = box(-10, -10, 20, 20) - box(-5, -5, 15, 15)
    assert found(catalog, wkt=around.wkt) == []

    monkeypatch.setattr(catalog._dialect, "meets", lambda _: None)  # shapely decides, also where the database could

    def asked():
        waiting = Waiting()
        WAITING.set(waiting)
        selected = []

        def gives_up(*_):
            selected.append(1)
            waiting.give_up()

        sa.event.listen(catalog._dialect.engine, "after_cursor_execute", gives_up)
        with pytest.raises(Unavailable, match="nobody waits"):
            found(catalog, wkt=around.wkt)
        return selected

    assert len(contextvars.copy_context().run(asked)) <= 2


def test_a_raster_over_a_pole_is_found_from_all_sides(catalog):
    arctic = Grid("EPSG:3413", (10.0, 0.0, -60_000.0, 0.0, -10.0, 50_000.0), 10_980, 10_980)
    beside = Grid("EPSG:3413", (10.0, 0.0, 60_000.0, 0.0, -10.0, 50_000.0), 10_980, 10_980)
    for name, grid in (("over", arctic), ("beside", beside)):
        catalog.put(stored(name, shapely.geometry.shape(grid.outline())))
        assert Area.from_conf(grid.outline()).geodesic_m2 == pytest.approx(10_980**2 * 100 * 1.06, rel=0.01)
    for lon in range(-180, 181, 30):
        assert "over" in found(catalog, wkt=f"POINT({lon} 89.8)")
    assert found(catalog, wkt="POINT(45 89.25)") == ["beside"]
    assert found(catalog, wkt="POINT(-135 89.5)") == ["over"]
    assert found(catalog, wkt="POINT(-135 88.9)") == []
    assert found(catalog, wkt=box(-180, 85, 180, 90).wkt) == ["beside", "over"]


def test_filters_combine_all_of_and_are_any_of_inside(catalog):
    catalog.put(stored("A", box(0, 0, 1, 1), "2020-01-01T00:00:00Z", (311, 211)))
    catalog.put(stored("B", box(0, 0, 1, 1), "2020-01-02T00:00:00Z", (312,)))
    catalog.put(stored("C", box(5, 5, 6, 6), "2020-01-03T00:00:00Z", (3,)))
    assert found(catalog, categories=["31"]) == ["B", "A"]
    assert found(catalog, categories=["3"]) == ["C", "B", "A"]
    assert found(catalog, categories=["311"]) == ["A"]
    assert found(catalog, categories=[211, 312]) == ["B", "A"]
    assert found(catalog, categories=["51"]) == []
    assert found(catalog, product_ids=["A", "C", "Z"]) == ["C", "A"]
    assert found(catalog, product_ids=["A", "C"], categories=["3"], wkt=box(0, 0, 2, 2).wkt) == ["A"]
    assert found(catalog, product_ids=["A", "B"], start=stamp("2020-01-02T00:00:00+00:00")) == ["B"]


def test_empty_strings_are_absent(catalog):
    catalog.put(stored("A", box(0, 0, 1, 1)))
    assert found(catalog, wkt="", product_ids=[""], categories=[""]) == ["A"]
    assert found(catalog, wkt="  ", product_ids=["", "B"]) == []


def test_a_bare_string_of_an_old_client_is_one_id(catalog):
    for name in ("S2A", "S", "X"):
        catalog.put(stored(name, box(0, 0, 1, 1)))
    assert found(catalog, product_ids="S2A") == ["S", "S2A"]
    assert found(catalog, product_ids=["X"]) == ["X"]


def test_an_id_is_taken_once_and_nothing_of_the_second_stays(catalog):
    catalog.put(stored("A", box(0, 0, 1, 1), codes=(311,)))
    assert catalog.put(stored("A", box(5, 5, 6, 6), codes=(512,))) is False
    assert found(catalog, categories=["512"]) == found(catalog, wkt=box(5, 5, 6, 6).wkt) == []


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"wkt": "POLYGON((0 0,1 0,1 1"}, "cannot be read"),
        ({"wkt": "nonsense"}, "cannot be read"),
        ({"wkt": "POLYGON((0 0,1 1,1 0,0 1,0 0))"}, "crosses itself"),
        ({"wkt": "GEOMETRYCOLLECTION(POLYGON((0 0,1 1,1 0,0 1,0 0)))"}, "crosses itself"),
        ({"wkt": "MULTIPOLYGON(((0 0,1 0,1 1,0 0)),((0 0,1 1,1 0,0 1,0 0)))"}, "crosses itself"),
        ({"wkt": "POLYGON EMPTY"}, "empty"),
        ({"wkt": "POLYGON((48 120,49 120,49 121,48 120))"}, "were they swapped"),
        ({"wkt": "POLYGON((500000 5,500100 5,500100 6,500000 5))"}, "longitudes"),
        ({"wkt": "POLYGON((nan 0,1 0,1 1,nan 0))"}, "wkt"),
        ({"start": Stamp(10), "end": Stamp(9)}, "end_date lies before"),
        ({"start": Stamp(10, 5000), "end": Stamp(10, 4000)}, "end_date lies before"),
        ({"start": Stamp(10**12)}, "no valid Timestamp"),
        ({"end": Stamp(1, -1)}, "no valid Timestamp"),
        ({"categories": ["999"]}, "no CORINE"),
        ({"categories": [0]}, "no CORINE"),
        ({"categories": [-1]}, "no CORINE"),
        ({"categories": ["forest"]}, "no CORINE"),
        ({"categories": ["³11"]}, "no CORINE"),
        ({"limit": 0}, "ask for 1 or more"),
        ({"limit": -3}, "ask for 1 or more"),
        ({"product_ids": [f"P{n}" for n in range(10_001)]}, "at most 10000"),
    ],
)
def test_what_cannot_be_meant_is_refused(asked, said):
    with pytest.raises(BadSignature, match=said):
        filters.query(**asked)


@given(st.text(max_size=80) | st.text("POLYGN(),.0123456789 -", max_size=80))
def test_no_text_for_an_area_does_anything_else_than_parse_or_be_refused(text):
    try:
        shape = filters.parse_area(text)
    except BadSignature:
        return
    assert shape is None or shape.within(box(-180, -90, 180, 90))


@settings(max_examples=30)
@given(st.floats(-180, 180), st.floats(-75, 75), st.floats(0.01, 3))
def test_the_outline_of_a_raster_lies_where_its_corners_are(lon, lat, side):
    area = Area.from_conf([max(lon - side / 2, -180), lat, min(lon + side / 2, 180), lat + side])
    epsg = area.utm_epsg()
    import pyproj

    to_metres = pyproj.Transformer.from_crs(4326, epsg, always_xy=True)
    x, y = to_metres.transform(lon, lat)
    grid = Grid(f"EPSG:{epsg}", (10.0, 0.0, round(x, -1), 0.0, -10.0, round(y, -1)), 300, 200)
    outline = Area.from_conf(grid.outline())
    assert outline.geodesic_m2 == pytest.approx(300 * 200 * 100, rel=3e-3)  # scale of UTM: 0.9996 to 1.001
    centre = to_metres.transform(round(x, -1) + 1500, round(y, -1) - 1000, direction="INVERSE")
    assert outline.geometry.distance(Point((centre[0] + 180) % 360 - 180, centre[1])) < 1e-9
