"""Which observation a product is of: names and items of several catalogues, copies, reprocessings, parts."""

from __future__ import annotations

import itertools
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import shapely
from earthself.data.errors import BadInput
from earthself.data.items import normalised
from earthself.data.observation import Observation, baseline_of, made_of, newest_of_each
from hypothesis import given
from hypothesis import strategies as st

SQUARE = {"type": "Polygon", "coordinates": [[[14, 47], [15, 47], [15, 48], [14, 48], [14, 47]]]}


def item(name: str, geometry: dict[str, Any] = SQUARE, **properties: Any) -> dict[str, Any]:
    """A found product in the project's form."""
    raw = {"id": name, "geometry": geometry, "properties": {"datetime": "2017-06-13T10:10:31Z", **properties}, "assets": {}}
    return normalised(raw, "somewhere", "S2_MSI_L2A", open_access=True)


names = st.fixed_dictionaries(
    {
        "mission": st.sampled_from(["S2A", "S2B", "S2C"]),
        "start": st.datetimes(datetime.fromisoformat("2015-06-23"), datetime.fromisoformat("2035-01-01")),
        "orbit": st.integers(1, 143),
        "baseline": st.integers(0, 9999).map("N{:04d}".format),
        "place": st.tuples(st.integers(1, 60), st.sampled_from(["UUP", "CWA", "XDK"])).map(lambda t: f"{t[0]:02d}{t[1]}"),
        "part": st.sampled_from([None, "26_57", "p3"]),
    }
)


@given(names, st.sampled_from(["", ".SAFE"]))
def test_a_product_name_says_everything(said: dict[str, Any], suffix: str) -> None:
    expected = Observation(**{**said, "start": said["start"].replace(microsecond=0, tzinfo=UTC)})
    tail = f"_{said['part']}" if said["part"] else ""
    core = f"R{said['orbit']:03d}_T{said['place']}"
    assert (
        Observation.from_name(
            f"{said['mission']}_MSIL2A_{expected.start:%Y%m%dT%H%M%S}_{said['baseline']}_{core}_20200101T000000{tail}{suffix}"
        )
        == expected
    )
    assert expected.key == f"{said['mission']}_{said['place']}_{expected.start:%Y%m%dT%H%M%S}_R{said['orbit']:03d}{tail}"


def test_the_patches_of_the_sample_are_parts_of_one_datatake() -> None:
    patch = Observation.from_name("S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_26_57")
    other = Observation.from_name("S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_27_57")
    assert patch == Observation("S2A", "33UUP", datetime(2017, 6, 13, 10, 10, 31, tzinfo=UTC), 22, "26_57", "N9999")
    assert patch.key == "S2A_33UUP_20170613T101031_R022_26_57"
    assert patch.key != other.key


@pytest.mark.parametrize("name", ["", "S2A", "LC08_L2SP_190027_20170613", "S2A_MSIL2A_20171332T101031_N0205_R022_T33UUP"])
def test_what_is_no_product_name_is_refused(name: str) -> None:
    with pytest.raises(BadInput):
        Observation.from_name(name)


def test_real_documents_of_two_catalogues_are_understood(shared: Path) -> None:
    old = json.loads((shared / "stac_items" / "S2A_28QCH_20200714_0_L2A.json").read_text())
    made = Observation.from_item(old)
    assert made == Observation("S2A", "28QCH", datetime(2020, 7, 14, 11, 52, 21, tzinfo=UTC), 123, None, "N0214")
    assert made_of(old) == datetime(2020, 7, 14, 19, 13, 10, tzinfo=UTC)
    azure = json.loads((shared / "stac_items" / "S2B_MSIL2A_20190629T212529_R043_T06VVN_20201006T080531_raster_ext.json").read_text())
    assert Observation.from_item(azure) == Observation("S2B", "06VVN", datetime(2019, 6, 29, 21, 25, 29, tzinfo=UTC), 43, None, "N0212")
    for document in (old, azure):
        assets = normalised(document, "p", "S2_MSI_L2A", open_access=True)["assets"]
        assert list(assets)[:13] == ["B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12", "SCL"]


@pytest.mark.parametrize(
    ("name", "properties"),
    [
        ("S2A_33UUP_20170613_0_L2A", {"s2:product_uri": "S2A_MSIL2A_20170613T101031_N0205_R022_T33UUP_20170613T101608.SAFE"}),
        ("S2A_MSIL2A_20170613T101031_R022_T33UUP_20201011T000000", {"s2:processing_baseline": "02.05"}),
        ("S2A_MSIL2A_20170613T101031_N0205_R022_T33UUP_20170613T101608", {}),
        (
            "an-id-of-its-own",
            {
                "platform": "Sentinel-2A",
                "grid:code": "MGRS-33UUP",
                "sat:relative_orbit": 22,
                "s2:datatake_id": "GS2A_20170613T101031_010314_N02.05",
            },
        ),
        (
            "an-id-of-its-own",
            {"platform": "sentinel-2a", "s2:mgrs_tile": "T33UUP", "sat:relative_orbit": "22", "processing:version": "02.05"},
        ),
        (
            "an-id-of-its-own",
            {
                "platform": "S2A",
                "mgrs:utm_zone": 33,
                "mgrs:latitude_band": "U",
                "mgrs:grid_square": "UP",
                "sat:relative_orbit": 22,
                "processing:version": 2.05,
            },
        ),
    ],
)
def test_copies_in_different_catalogues_are_one_observation(name: str, properties: dict[str, Any]) -> None:
    made = item(name, **properties)["properties"]
    assert made["earthself:observation"] == "S2A_33UUP_20170613T101031_R022"
    assert made["earthself:baseline"] == "N0205"


def test_short_zone_numbers_are_the_same_tile() -> None:
    assert Observation.from_item(item("x", platform="S2A", **{"grid:code": "MGRS-5QKB"})).place == "05QKB"


def test_an_item_that_does_not_say_what_it_observed_is_refused() -> None:
    with pytest.raises(BadInput, match="platform, tile and time"):
        item("mystery")


@pytest.mark.parametrize(
    ("stated", "baseline"),
    [
        ("05.10", "N0510"),
        ("0510", "N0510"),
        ("N0510", "N0510"),
        (5.1, "N0510"),
        (5.09, "N0509"),
        (2.0, "N0200"),
        (510, "N0510"),
        (True, None),
        ("", None),
        ("v3", None),
        (None, None),
    ],
)
def test_baselines_are_written_in_many_ways(stated: object, baseline: str | None) -> None:
    assert baseline_of({"id": "x", "properties": {"processing:version": stated}}) == baseline


def test_the_reprocessed_product_is_used_and_the_older_one_listed() -> None:
    old = item("S2A_MSIL2A_20170613T101031_N0205_R022_T33UUP_20170613T101608")
    new = item("S2A_MSIL2A_20170613T101031_N0500_R022_T33UUP_20230601T000000")
    for order in ([old, new], [new, old]):
        used, superseded = newest_of_each([json.loads(json.dumps(i)) for i in order])
        assert [i["id"] for i in used] == [new["id"]]
        assert [(i["id"], i["properties"]["earthself:superseded_by"]) for i in superseded] == [(old["id"], new["id"])]


def test_of_two_copies_the_later_made_is_used() -> None:
    first = item("S2A_MSIL2A_20170613T101031_N0205_R022_T33UUP_20170613T101608")
    second = item("S2A_MSIL2A_20170613T101031_N0205_R022_T33UUP_20170614T235959")
    stated = item("S2A_MSIL2A_20170613T101031_N0205_R022_T33UUP_20170613T101609", **{"s2:generation_time": "2017-06-20T00:00:00Z"})
    used, superseded = newest_of_each([first, second, stated])
    assert [i["id"] for i in used] == [stated["id"]]
    assert len(superseded) == 2


def test_a_private_baseline_does_not_outrank_a_numbered_one() -> None:
    private = item("S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_20230101T000000")
    numbered = item("S2A_MSIL2A_20170613T101031_N0205_R022_T33UUP_20170613T101608")
    assert [i["id"] for i in newest_of_each([private, numbered])[0]] == [numbered["id"]]


def test_parts_are_never_merged() -> None:
    names = [f"S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_{part}" for part in ("26_57", "27_55", "38_90")]
    used, superseded = newest_of_each([item(name) for name in names])
    assert {i["id"] for i in used} == set(names)
    assert not superseded
    named = [item(f"same-{p}", platform="S2A", **{"grid:code": "MGRS-33UUP", "earthself:part": p}) for p in ("group1", "group2")]
    assert len(newest_of_each(named)[0]) == 2


def test_pieces_that_a_datastrip_boundary_cuts_are_both_used() -> None:
    south = {"type": "Polygon", "coordinates": [[[14, 47], [15, 47], [15, 47.4], [14, 47.4], [14, 47]]]}
    north = {"type": "Polygon", "coordinates": [[[14, 47.3], [15, 47.3], [15, 48], [14, 48], [14, 47.3]]]}
    pieces = [
        item("S2A_MSIL2A_20170613T101031_N0205_R022_T33UUP_20170613T101608", south),
        item("S2A_MSIL2A_20170613T101031_N0205_R022_T33UUP_20170613T150000", north),
    ]
    assert len(newest_of_each(pieces)[0]) == 2
    whole = item("S2A_MSIL2A_20170613T101031_N0500_R022_T33UUP_20230601T000000")
    used, superseded = newest_of_each([*pieces, whole])
    assert [i["id"] for i in used] == [whole["id"]]
    assert len(superseded) == 2


def west_to_east(west: float, east: float) -> dict[str, Any]:
    return {"type": "Polygon", "coordinates": [[[west, 47], [east, 47], [east, 48], [west, 48], [west, 47]]]}


OLD, NEW = "S2A_MSIL2A_20170613T101031_N0205_R022_T33UUP_20170613T10160", "S2A_MSIL2A_20170613T101031_N0500_R022_T33UUP_2023010"


def test_a_reprocessing_supersedes_only_the_ground_that_it_shows() -> None:
    """Of a tile that two datastrips share only one half was reprocessed: the other half stays."""
    west, east = item(f"{OLD}8", west_to_east(14, 14.5)), item(f"{OLD}9", west_to_east(14.5, 15))
    again = item(f"{NEW}1T000000", west_to_east(14, 14.5))
    for order in itertools.permutations([west, east, again]):
        used, superseded = newest_of_each(order)
        assert {i["id"]: i["properties"].get("earthself:beside") for i in used} == {again["id"]: None, east["id"]: again["id"]}
        assert [i["id"] for i in superseded] == [west["id"]]
    rest = item(f"{NEW}2T000000", west_to_east(14.5, 15))
    used, superseded = newest_of_each([west, east, again, rest])
    assert {i["id"] for i in used} == {again["id"], rest["id"]}
    assert {i["id"]: i["properties"]["earthself:superseded_by"] for i in superseded} == {west["id"]: again["id"], east["id"]: rest["id"]}
    assert not any("earthself:beside" in i["properties"] for i in used)


def test_a_whole_tile_is_used_beside_the_fifth_that_was_reprocessed() -> None:
    whole, fifth = item(f"{OLD}8", west_to_east(14, 15)), item(f"{NEW}1T000000", west_to_east(14, 14.2))
    used, superseded = newest_of_each([whole, fifth])
    assert ([i["id"] for i in used], superseded) == ([fifth["id"], whole["id"]], [])
    inside, across = (shapely.box(14.05, 47.1, east, 47.2) for east in (14.1, 14.3))
    assert [i["id"] for i in newest_of_each([whole, fifth], inside)[0]] == [fifth["id"]]
    assert len(newest_of_each([whole, fifth], across)[0]) == 2


def test_a_footprint_that_is_only_drawn_anew_is_the_same() -> None:
    for geometry in (west_to_east(13.995, 15), west_to_east(14, 15), SQUARE):
        used, superseded = newest_of_each([item(f"{OLD}8", geometry), item(f"{NEW}1T000000", west_to_east(14, 15))])
        assert ([i["id"] for i in used], len(superseded)) == ([f"{NEW}1T000000"], 1)


def test_numbers_of_earth_search_are_kept_apart_where_nothing_says_more() -> None:
    both = [item(f"S2A_33UUP_20170613_{n}_L2A") for n in (0, 1)]
    assert len({i["properties"]["earthself:observation"] for i in both}) == 2
