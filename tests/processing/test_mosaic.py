"""One map out of many signatures: who votes, who wins, and that the order of the products changes no pixel."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
import rasterio
from earthself.processing.catalog import read_items
from earthself.processing.errors import BadInput
from earthself.processing.raster import Grid
from earthself.processing.signatures import Files, datatake, open_signatures
from earthself.processing.steps.mosaic import mosaic, voted
from earthself.processing.voting import Vote
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scenes import UTM32, UTM33, Scenes, bands, grid, inside, lonlat_box
from stac_schemas import check_item


@pytest.fixture
def scenes(tmp_path):
    return Scenes(tmp_path / "in")


def run(scenes, tmp_path, area=None, items=None, out="out", **parameters):
    result = mosaic(scenes.context(tmp_path / out, area=area or inside(grid()), items=items), **parameters)
    return result, bands(tmp_path / out / "land_cover.tif")


def test_the_class_with_the_greatest_confidence_wins(scenes, tmp_path):
    scenes.add(code=3, confidence=90)
    scenes.add(code=2, confidence=50)
    scenes.add(code=2, confidence=45)
    _, found = run(scenes, tmp_path)
    assert (found["code"] == 2).all()
    assert (found["confidence"] == 48).all()  # (50 + 45) / 2, halves up
    assert (found["observations"] == 3).all()
    assert (found["agreement"] == 67).all()


def test_ties_go_to_more_votes_then_to_the_smaller_code(scenes, tmp_path):
    first = np.full((10, 12), 5)
    first[0] = 4
    scenes.add(code=first, confidence=60)
    scenes.add(code=np.where(first == 4, 1, 2), confidence=np.where(first == 4, 60, 30))
    scenes.add(code=np.where(first == 4, 0, 2), confidence=30)
    _, found = run(scenes, tmp_path)
    assert (found["code"][0] == 1).all()  # 60 against 60, one vote each: the smaller code
    assert (found["code"][1:] == 2).all()  # 60 against 30 + 30: two votes beat one


def test_a_vote_weighs_at_least_one(scenes, tmp_path):
    """Three votes of confidence 0 beat one of confidence 1."""
    for _ in range(3):
        scenes.add(code=3, confidence=0)
    scenes.add(code=2, confidence=1)
    _, found = run(scenes, tmp_path)
    assert (found["code"] == 3).all()


@pytest.mark.parametrize("flag", [1, 2, 4, 8])
def test_what_was_not_seen_does_not_vote(scenes, tmp_path, flag):
    hidden = np.zeros((10, 12), np.uint8)
    hidden[:, :6] = flag
    scenes.add(code=3, confidence=99, flags=hidden)
    scenes.add(code=2, confidence=10)
    _, found = run(scenes, tmp_path)
    assert (found["code"][:, :6] == 2).all()
    assert (found["observations"][:, :6] == 1).all()
    assert (found["code"][:, 6:] == 3).all()
    assert (found["observations"][:, 6:] == 2).all()


@pytest.mark.parametrize("flag", [16, 32, 64])
def test_flags_of_the_model_leave_a_pixel_observed(scenes, tmp_path, flag):
    scenes.add(code=0 if flag != 64 else 5, confidence=0, flags=flag)
    _, found = run(scenes, tmp_path)
    assert (found["observations"] == 1).all()
    assert (found["code"] == (5 if flag == 64 else 0)).all()


def test_an_observation_without_a_class_abstains(scenes, tmp_path):
    scenes.add(code=0, confidence=99, flags=16)
    scenes.add(code=4, confidence=1)
    _, found = run(scenes, tmp_path)
    assert (found["code"] == 4).all()
    assert (found["observations"] == 2).all()
    assert (found["agreement"] == 50).all()


def test_outside_the_area_nothing_is_mapped(scenes, tmp_path):
    scenes.add(code=2, where=grid(width=40, height=40))
    west, south, east, north = _bounds(inside(grid(width=40, height=40)))
    corner = {"type": "Polygon", "coordinates": [[[west, south], [east, south], [west, north], [west, south]]]}
    _, found = run(scenes, tmp_path, area=corner)
    assert found["code"].shape == (40, 40)
    assert found["code"][0, -1] == 0
    assert found["observations"][0, -1] == 0
    assert found["code"][-1, 0] == 2
    touched = np.count_nonzero(found["observations"]) / 1600
    assert 0.5 < touched < 0.55  # half of the square, and the pixels that the long side cuts


def test_overlapping_tiles_of_one_datatake_count_once(scenes, tmp_path):
    clouds = np.zeros((10, 12), np.uint8)
    clouds[:5] = 2
    scenes.add(code=2, confidence=40, flags=clouds, observation="S2A_33UUP_20170613T101031_R022", name="a")
    scenes.add(code=3, confidence=90, observation="S2A_33UVP_20170613T101031_R022", name="b")
    _, found = run(scenes, tmp_path)
    assert (found["observations"] == 1).all()
    assert (found["code"][:5] == 3).all()  # where the first tile is cloudy the second one counts
    assert (found["code"][5:] == 2).all()  # 33UUP comes before 33UVP


def test_overlapping_zones_of_one_datatake_count_once_and_the_maps_own_zone_first(scenes, tmp_path):
    over = grid(left=266_000, top=5_310_000, width=60, height=60)
    neighbour = _same_place(over, UTM32)
    scenes.add(code=3, confidence=90, where=neighbour, observation="S2A_32UQU_20170613T101031_R022", name="a32")
    scenes.add(code=2, confidence=40, where=over, observation="S2A_33UUP_20170613T101031_R022", name="b33")
    result, found = run(scenes, tmp_path, area=inside(over), crs=UTM33)
    assert (found["observations"] == 1).all()
    assert (found["code"] == 2).all()
    assert result.metrics["observed_fraction"] == 1
    _, other = run(scenes, tmp_path, area=inside(over), crs=UTM32, out="other")
    area = other["observations"] > 0
    assert (other["observations"][area] == 1).all()
    assert (other["code"][area] == 3).all()


def test_two_datatakes_of_one_day_are_two_observations(scenes, tmp_path):
    scenes.add(code=2, observation="S2A_33UUP_20170613T101031_R022")
    scenes.add(code=2, observation="S2A_33UUP_20170613T100031_R122")
    _, found = run(scenes, tmp_path)
    assert (found["observations"] == 2).all()


def test_parts_of_one_tile_are_neighbours_not_copies(scenes, tmp_path):
    left, right = grid(width=6), grid(left=500_060, width=6)
    scenes.add(code=2, where=left, observation="S2A_33UUP_20170613T101031_R022_H27V57")
    scenes.add(code=3, where=right, observation="S2A_33UUP_20170613T101031_R022_H28V57")
    _, found = run(scenes, tmp_path)
    assert (found["code"][:, :6] == 2).all()
    assert (found["code"][:, 6:] == 3).all()
    assert (found["observations"] == 1).all()


def test_a_newer_baseline_of_the_same_observation_counts_and_the_older_does_not(scenes, tmp_path):
    same = "S2A_33UUP_20170613T101031_R022"
    scenes.add(code=2, observation=same, name="old", **{"earthself:baseline": "N0209"})
    scenes.add(code=3, observation=same, name="new", **{"earthself:baseline": "N0510"})
    scenes.add(code=4, observation=same, name="own", **{"earthself:baseline": "N9999"})
    _, found = run(scenes, tmp_path)
    assert (found["code"] == 3).all()
    assert (found["observations"] == 1).all()


def test_another_zone_is_resampled_to_the_nearest_pixel(scenes, tmp_path):
    """Every map pixel has the class of the source pixel that its centre falls into, computed here point by point."""
    from pyproj import Transformer

    target = grid(left=266_000, top=5_310_000, width=37, height=29)
    source = _same_place(grid(left=265_800, top=5_310_200, width=90, height=80), UTM32)
    rng = np.random.default_rng(5)
    code = rng.integers(1, 6, (source.height, source.width))
    scenes.add(code=code, where=source, observation="S2A_32UQU_20170613T101031_R022")
    _, found = run(scenes, tmp_path, area=inside(target), crs=UTM33)
    to_source = Transformer.from_crs(UTM33, UTM32, always_xy=True)
    for row, column in itertools.product(range(target.height), range(target.width)):
        x, y = to_source.transform(*(target.transform @ (column + 0.5, row + 0.5)))
        c, r = ~source.transform @ (x, y)
        assert found["code"][row, column] == code[int(r), int(c)]


def test_an_area_over_the_antimeridian_is_one_raster_without_a_gap(scenes, tmp_path):
    area = [179.95, -16.85, -179.95, -16.8]
    zone60, zone1 = "EPSG:32760", "EPSG:32701"
    for crs, number, code in ((zone60, "60KXV", 2), (zone1, "01KAB", 3)):
        west = cover(crs, [179.9, -16.9, 180, -16.75] if crs == zone60 else [-180, -16.9, -179.9, -16.75])
        scenes.add(code=code, where=west, observation=f"S2A_{number}_20170613T221031_R029")
    result, found = run(scenes, tmp_path, area=area, resolution=60)
    assert result.metrics["observed_fraction"] == 1
    height, width = found["code"].shape
    assert width * 60 < 11_500  # 0.1 degrees of longitude at 17 S are 10.6 km, not the way round the world
    assert (found["code"][height // 2, 5:-5] > 0).all()
    assert found["code"][height // 2, 10] == 2
    assert found["code"][height // 2, -10] == 3
    with rasterio.open(tmp_path / "out" / "land_cover.tif") as dataset:
        assert dataset.crs.to_epsg() in {32701, 32760}


def test_finer_legends_are_generalised_when_asked_and_never_refined(scenes, tmp_path):
    scenes.add(code=211, legend="clc:3")
    scenes.add(code=2, legend="clc:1")
    with pytest.raises(BadInput, match="clc:1, clc:3"):
        run(scenes, tmp_path)
    result, found = run(scenes, tmp_path, legend="clc:1")
    assert (found["code"] == 2).all()
    assert (found["agreement"] == 100).all()
    assert any("generalised" in warning for warning in result.warnings)
    (item,) = read_items(tmp_path / "out")
    assert item.properties["earthself:validated_level"] == 1
    with pytest.raises(BadInput, match="cannot be refined"):
        run(scenes, tmp_path, legend="clc:3")


@pytest.mark.parametrize(("legend", "said"), [("clc:3", 2), ("clc:2", 2), ("clc:1", 1)])
def test_a_map_claims_the_coarsest_level_it_was_validated_for(scenes, tmp_path, legend, said):
    """Signatures validated at levels 3 and 2: no map of them is better than 2, and a map of level 1 says no more than it shows."""
    scenes.add(code=211, legend="clc:3", **{"earthself:validated_level": 3})
    scenes.add(code=211, legend="clc:3", **{"earthself:validated_level": 2})
    run(scenes, tmp_path, legend=legend)
    (item,) = read_items(tmp_path / "out")
    assert item.properties["earthself:validated_level"] == said


def test_nothing_to_map_is_no_failure(scenes, tmp_path):
    result = mosaic(scenes.context(tmp_path / "out", area=inside(grid())))
    assert result.status == "nothing"
    assert read_items(tmp_path / "out") == []


def test_the_item_says_where_the_map_comes_from(scenes, tmp_path):
    scenes.add(code=2, name="p1", **{"earthself:mask": "none"})
    scenes.add(code=3, name="p2", **{"earthself:model": "other:2", "earthself:cautions": ["forest is known from June only"]})
    result, _ = run(scenes, tmp_path)
    (item,) = read_items(tmp_path / "out")
    check_item(item)
    assert item.properties["earthself:products"] == ["p1", "p2"]
    assert item.properties["earthself:models"] == ["baseline:1", "other:2"]
    assert item.properties["earthself:masks"] == ["none", "scl"]
    assert item.properties["start_datetime"] == "2017-01-01T00:00:00Z"
    assert item.properties["end_datetime"] == "2017-01-02T00:00:00Z"
    assert any("no cloud mask" in warning for warning in result.warnings)
    assert "forest is known from June only" in result.warnings
    code = item.assets["land_cover"].extra_fields["bands"][0]
    assert [one["value"] for one in code["classification:classes"]] == [0, 1, 2, 3, 4, 5]
    assert [band["name"] for band in item.assets["land_cover"].extra_fields["bands"]] == ["code", "confidence", "observations", "agreement"]
    assert json.loads((tmp_path / "out" / "area.geojson").read_text())["type"] == "Polygon"


def test_the_map_is_a_cog_on_the_areas_grid(scenes, tmp_path):
    scenes.add(code=2, where=grid(width=1100, height=700))
    run(scenes, tmp_path, area=inside(grid(width=1100, height=700), pixels=0.4))
    with rasterio.open(tmp_path / "out" / "land_cover.tif") as dataset:
        assert dataset.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert dataset.crs.to_epsg() == 32633
        assert dataset.transform[:6] == (10, 0, 500_000, 0, -10, 5_300_000)
        assert dataset.shape == (700, 1100)
        assert dataset.nodata == 0
        assert dataset.overviews(1)


@given(data=st.data())
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_order_of_the_votes_changes_no_pixel(data):
    number = data.draw(st.integers(1, 7))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    shape = (6, 8)
    votes = [
        (rng.integers(0, 4, shape).astype("u2"), rng.choice([0, 1, 50, 50, 100], shape).astype("u1"), rng.random(shape) < 0.7)
        for _ in range(number)
    ]
    order = data.draw(st.permutations(range(number)))
    first, second = Vote(shape), Vote(shape)
    for vote in votes:
        first.add(*vote)
    for index in order:
        second.add(*votes[index])
    np.testing.assert_array_equal(first.result(), second.result())


def test_the_order_of_the_products_changes_no_pixel(scenes, tmp_path):
    """Overlapping tiles, two zones, two datatakes and two baselines, in a third of all orders."""
    rng = np.random.default_rng(1)
    home = grid(left=266_000, top=5_310_000, width=30, height=30)
    shifted = grid(left=266_100, top=5_310_050, width=30, height=30)
    abroad = _same_place(home, UTM32)
    for where, observation, baseline in (
        (home, "S2A_33UUP_20170613T101031_R022", "N0209"),
        (home, "S2A_33UUP_20170613T101031_R022", "N0510"),
        (shifted, "S2A_33UVP_20170613T101031_R022", "N0510"),
        (abroad, "S2A_32UQU_20170613T101031_R022", "N0510"),
        (shifted, "S2B_33UVP_20170618T101031_R022", "N0510"),
    ):
        shape = (where.height, where.width)
        scenes.add(
            code=rng.integers(0, 6, shape),
            confidence=rng.integers(0, 101, shape),
            flags=rng.choice([0, 0, 0, 2, 16], shape),
            where=where,
            observation=observation,
            **{"earthself:baseline": baseline},
        )
    with Files() as files:
        expected = voted(open_signatures(scenes.items, home, "clc:1"), home, home.window, files)
        for order in list(itertools.permutations(scenes.items))[::3]:
            found = voted(open_signatures(order, home, "clc:1"), home, home.window, files)
            np.testing.assert_array_equal(found, expected)
    assert set(np.unique(expected[2])) == {0, 1, 2}


def test_windows_have_no_seams(scenes, tmp_path):
    """The same pixels come out whether a map is made at once or in pieces, also where another zone is resampled."""
    from earthself.processing.raster import windows

    home = grid(left=266_000, top=5_310_000, width=70, height=50)
    abroad = _same_place(home, UTM32)
    rng = np.random.default_rng(2)
    shape = (abroad.height, abroad.width)
    scenes.add(code=rng.integers(1, 6, shape), confidence=rng.integers(0, 101, shape), where=abroad)
    signatures = open_signatures(scenes.items, home, "clc:1")
    with Files() as files:
        whole = voted(signatures, home, home.window, files)
        for window in windows(home, 23):
            rows, columns = (slice(int(a), int(a + b)) for a, b in ((window.row_off, window.height), (window.col_off, window.width)))
            np.testing.assert_array_equal(voted(signatures, home, window, files), whole[:, rows, columns])


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("S2A_33UUP_20170613T101031_R022", "S2A_20170613T101031_R022"),
        ("S2A_33UUP_20170613T101031_R022_H27V57", "S2A_20170613T101031_R022"),
        ("S1A_IW_GRDH_whatever", "S1A_IW_GRDH_whatever"),
    ],
)
def test_a_datatake_is_the_observation_without_its_tile(key, expected):
    assert datatake(key) == expected


def _bounds(polygon):
    x, y = zip(*polygon["coordinates"][0], strict=True)
    return min(x), min(y), max(x), max(y)


def _same_place(where: Grid, crs: str) -> Grid:
    """A grid in another CRS that covers all of `where`, on its own multiples of 10 m."""
    return cover(crs, _bounds(lonlat_box(where)))


def cover(crs, bounds) -> Grid:
    from earthself.data.area import Area

    return Grid.for_area(Area.from_conf(list(bounds)), 10, crs)
