"""Areas and dates as people write them, and the slips that they make."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from earthself.client import land, requests
from earthself.client.errors import BadInput
from hypothesis import given
from hypothesis import strategies as st

SQUARE = {"type": "Polygon", "coordinates": [[[14, 48], [15, 48], [15, 49], [14, 49], [14, 48]]]}


@pytest.mark.parametrize(
    "value",
    [[14.2, 48.2, 14.4, 48.3], (14.2, 48.2, 14.4, 48.3), "14.2,48.2,14.4,48.3", " 14.2, 48.2 ,14.4,48.3", "[14.2, 48.2, 14.4, 48.3]"],
)
def test_a_box_is_four_numbers_however_they_are_written(value: object) -> None:
    assert requests.area(value) == [14.2, 48.2, 14.4, 48.3]


def test_geojson_comes_as_object_text_file_feature_collection_of_one_or_shape(tmp_path: Path) -> None:
    from shapely.geometry import shape

    feature = {"type": "Feature", "properties": {}, "geometry": SQUARE}
    path = tmp_path / "area.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    assert requests.area(SQUARE) == requests.area(json.dumps(SQUARE)) == SQUARE
    assert requests.area(feature) == requests.area(path) == requests.area(str(path)) == feature
    assert requests.area(shape(SQUARE))["type"] == "Polygon"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([48.2, 114.2, 48.3, 114.4], "look swapped"),
        ({"type": "Polygon", "coordinates": [[[48, 114], [49, 114], [49, 115], [48, 114]]]}, "look swapped"),
        ([214, 48, 215, 49], "not on Earth"),
        ([14, float("inf"), 15, 49], "not on Earth"),
        ([14, 49, 15, 48], "south 49 is not below its north 48"),
        ([14, 48, 14, 49], "no width"),
        ([14, 48, 15], "four numbers"),
        (["14", "48", "15", "49"], "four numbers"),
        ("14;48;15;49", "cannot be read"),
        ("no-such-file.geojson", "cannot be read .No such file"),
        ({"type": "Point", "coordinates": [14, 48]}, "GeoJSON Point"),
        ({"type": "FeatureCollection", "features": []}, "0 features"),
        (7, "area is a int"),
    ],
)
def test_a_slip_is_told_in_one_sentence(value: object, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        requests.area(value)


def test_a_box_may_cross_the_antimeridian() -> None:
    assert requests.area([179, -17, -179, -16]) == [179, -17, -179, -16]
    assert requests.centre([179, -17, -178, -16]) == (-179.5, -16.5)


@given(st.floats(-180, 180), st.floats(-90, 90))
def test_every_place_on_earth_passes_the_check_and_is_on_the_map(longitude: float, latitude: float) -> None:
    requests.area({"type": "Polygon", "coordinates": [[[longitude, latitude]] * 4]})
    assert land.near(longitude, latitude) in {True, False}


@pytest.mark.parametrize(
    ("value", "text"),
    [("2017-06-13", "2017-06-13"), (date(2017, 6, 13), "2017-06-13"), (datetime(2017, 6, 13, 10, tzinfo=UTC), "2017-06-13T10:00:00+00:00")],
)
def test_dates_come_as_text_or_objects(value: str | date, text: str) -> None:
    assert requests.instant("start", value) == text


@pytest.mark.parametrize(
    ("start", "end", "message"),
    [
        ("13.6.2017", "2017-06-14", "start is '13.6.2017'"),
        ("2017-06-13", "soon", "end is 'soon'"),
        ("2017-W24-2", "2017-06-14", "start is '2017-W24-2', which is not a date"),
        ("20170613", "2017-06-14", "start is '20170613', which is not a date"),
        ("2017-06-14", "2017-06-13", "is empty"),
        ("2017-06-13T12:00:00Z", "2017-06-13T11:00:00Z", "is empty"),
        ("2017-06-13T12:00:00+02:00", "2017-06-13T10:00:00Z", "is empty"),
        ("2017-06-13", "2017-06-13", "is empty"),
    ],
)
def test_a_period_that_is_none_is_told(start: str, end: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        requests.period(start, end)


def test_a_period_may_lie_within_a_day_and_mix_dates_with_times() -> None:
    assert requests.period("2017-06-13", "2017-06-13T11:00:00Z") == ("2017-06-13", "2017-06-13T11:00:00Z")
    assert requests.period("2017-06-13T23:00:00-05:00", "2017-06-14t05:00:00.5z")[1].endswith("00.5z")


@pytest.mark.parametrize(
    ("place", "expected"),
    [((14.3, 48.3), True), ((-35, 40), False), ((75, -30), False), ((179.9, -16.7), True), ((-6, 45.5), False), ((0, -90), True)],
)
def test_the_coarse_map_knows_land_from_open_sea(place: tuple[float, float], expected: bool) -> None:
    assert land.near(*place) is expected
