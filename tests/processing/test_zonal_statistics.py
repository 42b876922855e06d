"""Hectares that add up: exact at the area's edge, on the ellipsoid, with what was not seen as a row of its own."""

from __future__ import annotations

import csv
import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import rasterio
from affine import Affine
from earthself.data.area import Area
from earthself.processing.areas import Estimate, Sample, adjusted
from earthself.processing.catalog import read_items
from earthself.processing.errors import BadInput, ProcessingError
from earthself.processing.placing import pixel_m2
from earthself.processing.raster import Grid
from earthself.processing.steps.mosaic import mosaic
from earthself.processing.steps.zonal_statistics import zonal_statistics
from earthself.processing.zones import Zone
from pyproj import Geod, Transformer
from scenes import UTM33, Scenes, context, grid, inside
from stac_schemas import check_item


@pytest.fixture
def scenes(tmp_path):
    return Scenes(tmp_path / "in")


def measure(scenes, tmp_path, area, **parameters):
    mosaic(scenes.context(tmp_path / "map", area=area), **parameters)
    return statistics(tmp_path)


def statistics(tmp_path):
    result = zonal_statistics(context(tmp_path / "map", tmp_path / "statistics"))
    with (tmp_path / "statistics" / "statistics.csv").open() as file:
        rows = {int(row["code"]): row for row in csv.DictReader(file)}
    return result, rows


def hectares(rows):
    return {code: float(row["hectares"]) for code, row in rows.items()}


def lonlat(polygon, crs=UTM33):
    to_lonlat = Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    return {"type": "Polygon", "coordinates": [[list(to_lonlat.transform(*point)) for point in polygon]]}


def test_a_triangle_of_one_hectare_has_one_hectare(scenes, tmp_path):
    """Legs of 141.42 m, at an odd place between the pixels' edges; where the map's scale is 0.9996 it is 1.0008 ha on the ground.

    An edge along a parallel bends by 0.4 mm on the map: 8 parts in a million of the triangle, which are measured too.
    """
    leg, x, y = 2**0.5 * 100, 500_003.3, 5_299_907.7
    triangle = lonlat([(x, y), (x + leg, y), (x, y + leg), (x, y)])
    scenes.add(code=2, where=grid(left=499_900, top=5_300_200, width=60, height=60))
    _, rows = measure(scenes, tmp_path, triangle)
    assert hectares(rows)[2] == pytest.approx(1 / 0.9996**2, rel=1e-5)
    assert hectares(rows)[2] == pytest.approx(Area.from_conf(triangle).geodesic_m2 / 1e4, rel=1e-6)
    assert hectares(rows)[-1] == pytest.approx(0, abs=1e-9)


def test_fractions_of_pixels_go_to_the_class_under_them(scenes, tmp_path):
    """A rectangle over columns 0.25 to 1.75 of two classes: three quarters of a pixel of each in every row."""
    code = np.tile([2, 3] * 6, (10, 1))
    scenes.add(code=code)
    x, top = 500_002.5, 5_299_980
    strip = lonlat([(x, top - 50), (x + 15, top - 50), (x + 15, top), (x, top), (x, top - 50)])
    _, rows = measure(scenes, tmp_path, strip)
    assert hectares(rows)[2] == pytest.approx(5 * 0.0075 / 0.9996**2, rel=1e-5)
    assert hectares(rows)[3] == pytest.approx(5 * 0.0075 / 0.9996**2, rel=1e-5)


def test_a_product_half_nodata_leaves_half_unobserved(scenes, tmp_path):
    flags = np.zeros((10, 12), np.uint8)
    flags[:, 6:] = 1
    code = np.full((10, 12), 3)
    code[:5, :6] = 0
    scenes.add(code=code, flags=flags)
    result, rows = measure(scenes, tmp_path, inside(grid(), pixels=1e-4))
    pixel = 0.01 / 0.9996**2
    assert hectares(rows) == pytest.approx({3: 30 * pixel, 0: 30 * pixel, -1: 60 * pixel}, rel=1e-3)
    assert result.metrics["observed_fraction"] == pytest.approx(0.5, rel=1e-3)
    assert rows[-1]["name"] == "Unobserved"
    assert rows[0]["name"] == "Observed, no class"
    assert sum(float(row["share"]) for row in rows.values()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("area", "crs"),
    [
        ([11.9, 47.9, 12.1, 48.0], None),  # over the border of UTM zones 32 and 33
        ([179.93, -16.9, -179.94, -16.8], None),  # over the antimeridian
        ([11.0, 47.0, 13.0, 47.1], None),  # two degrees wide, far from the central meridian
        ([24.9, 69.9, 25.1, 70.0], None),
        ([-0.1, -0.05, 0.1, 0.05], None),  # over the equator and the zero meridian
        ([14.9, 47.9, 15.1, 48.0], "EPSG:3035"),  # an equal-area map
        ([14.9, 47.9, 15.1, 48.0], "EPSG:3857"),  # a map that doubles areas here
        ([14.9, 47.9, 15.1, 48.0], "EPSG:4326"),  # pixels in degrees
    ],
)
def test_rows_add_up_to_the_geodesic_size(scenes, tmp_path, area, crs):
    scenes.add(code=2, where=grid(left=500_000, top=5_310_000, width=20, height=20))
    resolution = 0.001 if crs == "EPSG:4326" else 100
    _, rows = measure(scenes, tmp_path, area, crs=crs, resolution=resolution)
    total = sum(hectares(rows).values())
    expected = Area.from_conf(area).geodesic_m2 / 1e4
    assert total == pytest.approx(expected, rel=1e-5)  # the contract says 1e-4


def test_the_size_of_a_pixel_is_its_size_on_the_ellipsoid():
    """Against the geodesic area of the pixel's own outline, near and far from the central meridian, and in degrees."""
    for where in (
        grid(left=500_000, top=5_300_000, resolution=100),
        grid(left=900_000, top=7_000_000, resolution=100),
        Grid("EPSG:4326", Affine(0.002, 0, 15, 0, -0.001, 48), 30, 30),
        Grid("EPSG:3857", Affine(50, 0, 1_700_000, 0, -50, 6_100_000), 30, 30),
    ):
        to_lonlat = Transformer.from_crs(where.crs, "EPSG:4326", always_xy=True)
        sizes = np.broadcast_to(pixel_m2(where, where.window), (where.height, where.width))
        for row, column in ((0, 0), (7, 9)):
            corners = [where.transform @ (column + dx, row + dy) for dx, dy in ((0, 0), (0, 1), (1, 1), (1, 0))]
            lon, lat = to_lonlat.transform(*zip(*corners, strict=True))
            assert sizes[row, column] == pytest.approx(abs(Geod(ellps="WGS84").polygon_area_perimeter(lon, lat)[0]), rel=1e-6)


def test_parts_of_the_area_beyond_the_map_are_unobserved(scenes, tmp_path):
    """The map may be smaller than the area: what it leaves out was not observed."""
    scenes.add(code=2)
    mosaic(scenes.context(tmp_path / "map", area=inside(grid())))
    larger = inside(grid(left=499_940, top=5_300_050, width=24, height=20))
    (tmp_path / "map" / "area.geojson").write_text(json.dumps(larger))
    _, rows = statistics(tmp_path)
    assert hectares(rows)[2] == pytest.approx(1.2 / 0.9996**2, rel=1e-3)
    assert sum(hectares(rows).values()) == pytest.approx(Area.from_conf(larger).geodesic_m2 / 1e4, rel=1e-6)


def test_holes_and_islands_are_measured_as_they_are(scenes, tmp_path):
    outer, hole = (
        inside(grid(), pixels=0.4)["coordinates"][0],
        inside(grid(left=500_043, top=5_299_967, width=3, height=2))["coordinates"][0],
    )
    island = inside(grid(left=500_200, top=5_299_800, width=3, height=3))["coordinates"]
    area = {"type": "MultiPolygon", "coordinates": [[outer, hole], island]}
    scenes.add(code=2)
    _, rows = measure(scenes, tmp_path, area)
    island_ha = Area.from_conf({"type": "Polygon", "coordinates": island}).geodesic_m2 / 1e4
    assert hectares(rows)[-1] == pytest.approx(island_ha, rel=1e-5)
    assert hectares(rows)[2] == pytest.approx(Area.from_conf(area).geodesic_m2 / 1e4 - island_ha, rel=1e-5)


def test_windows_leave_no_pixel_out(scenes, tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    where = grid(width=90, height=70)
    code = rng.integers(0, 6, (70, 90))
    scenes.add(code=code, where=where)
    round_area = lonlat([(500_450 + 340 * np.cos(a), 5_299_650 + 330 * np.sin(a)) for a in np.linspace(0, 2 * np.pi, 41)])
    _, whole = measure(scenes, tmp_path, round_area)
    monkeypatch.setattr("earthself.processing.steps.zonal_statistics.WINDOW", 16)
    _, pieces = statistics(tmp_path)
    assert hectares(pieces) == pytest.approx(hectares(whole), rel=1e-9)


def test_never_a_sum_over_products(scenes, tmp_path):
    scenes.add(code=2)
    scenes.add(code=3)
    with pytest.raises(BadInput, match="never a sum over products"):
        zonal_statistics(scenes.context(tmp_path / "out", area=inside(grid())))


def test_a_signature_is_not_a_map(scenes, tmp_path):
    scenes.add(code=2)
    with pytest.raises(BadInput, match="no asset 'land_cover'"):
        zonal_statistics(scenes.context(tmp_path / "out", area=inside(grid())))


def test_files_say_that_mapped_areas_are_no_estimates(scenes, tmp_path):
    scenes.add(code=2)
    result, _ = measure(scenes, tmp_path, inside(grid()))
    table = pq.read_table(tmp_path / "statistics" / "statistics.parquet")
    assert table.column_names == ["code", "name", "hectares", "share"]
    assert table.schema.metadata[b"note"] == b"mapped area, not an estimate"
    assert table.schema.metadata[b"legend"] == b"clc:1"
    assert "mapped area, not an estimate" in result.message
    (item,) = read_items(tmp_path / "statistics")
    check_item(item)
    assert item.properties["earthself:note"] == "mapped area, not an estimate"
    assert set(item.assets) == {"parquet", "csv"}


def test_olofssons_worked_example():
    """Olofsson et al. 2014, tables 8 and 9: 21,158 ha of deforestation, plus or minus 6,158 ha, where 18,000 ha were mapped."""
    counts = {1: [66, 0, 5, 4], 2: [0, 55, 8, 12], 3: [1, 0, 153, 11], 4: [2, 1, 9, 313]}
    mapped = {1: 18_000.0, 2: 13_500.0, 3: 288_000.0, 4: 580_500.0}
    samples = [Sample(row, truth + 1) for row, numbers in counts.items() for truth, number in enumerate(numbers) for _ in range(number)]
    found = adjusted(mapped, samples)
    assert found[1].hectares == pytest.approx(21_158, abs=1)
    assert (found[1].interval[1] - found[1].interval[0]) / 2 == pytest.approx(6_158, abs=1)
    assert sum(one.hectares for one in found.values()) == pytest.approx(900_000)


def mapped_in_halves(scenes, tmp_path, unobserved_rows=0):
    """A map with agriculture (2) on the left, forest (3) on the right, and nothing seen of the first rows."""
    code, flags = np.full((10, 12), 2), np.zeros((10, 12), np.uint8)
    code[:, 6:] = 3
    flags[:unobserved_rows] = 1
    scenes.add(code=code, flags=flags)
    mosaic(scenes.context(tmp_path / "map", area=inside(grid(), pixels=1e-3)))


def place(column, row):
    """The middle of a pixel of `grid()` in lon/lat."""
    return Transformer.from_crs(UTM33, "EPSG:4326", always_xy=True).transform(500_005 + 10 * column, 5_299_995 - 10 * row)


def write_samples(tmp_path, places):
    lines = ["lon,lat,code", *(f"{lon},{lat},{code}" for lon, lat, code in places)]
    (tmp_path / "map" / "validation_samples.csv").write_text("\n".join(lines) + "\n")


def test_intervals_do_not_go_below_nothing():
    assert Estimate(1.0, 5.0).interval[0] == 0


@pytest.mark.parametrize("kind", ["geojson", "csv"])
def test_validation_samples_make_estimates_with_intervals(scenes, tmp_path, kind):
    """Half of the map is called forest (3), but one in four of its samples is really agriculture (211): a quarter moves over."""
    code = np.full((10, 12), 2)
    code[:, 6:] = 3
    scenes.add(code=code)
    mosaic(scenes.context(tmp_path / "map", area=inside(grid(), pixels=1e-3)))
    to_lonlat = Transformer.from_crs(UTM33, "EPSG:4326", always_xy=True)
    places = [(*to_lonlat.transform(500_005 + 10 * c, 5_299_995 - 10 * r), 211) for r in range(4) for c in (0, 2, 4)]
    places += [(*to_lonlat.transform(500_065 + 10 * c, 5_299_995 - 10 * r), 211 if r == 0 else 312) for r in range(4) for c in (0, 2, 4)]
    if kind == "csv":
        text = "lon,lat,code\n" + "\n".join(f"{lon},{lat},{truth}" for lon, lat, truth in places)
    else:
        points = [{"type": "Feature", "geometry": {"type": "Point", "coordinates": p[:2]}, "properties": {"code": p[2]}} for p in places]
        text = json.dumps({"type": "FeatureCollection", "features": points})
    (tmp_path / "map" / f"validation_samples.{kind}").write_text(text)
    result, rows = statistics(tmp_path)
    half = 0.6 / 0.9996**2
    assert hectares(rows)[2] == pytest.approx(half * 1.25, rel=1e-3)
    assert hectares(rows)[3] == pytest.approx(half * 0.75, rel=1e-3)
    error = half * (0.25 * 0.75 / 11) ** 0.5
    assert float(rows[3]["hectares_high"]) == pytest.approx(half * 0.75 + 1.96 * error, rel=1e-3)
    assert float(rows[3]["hectares_low"]) == pytest.approx(half * 0.75 - 1.96 * error, rel=1e-3)
    assert float(rows[3]["hectares_mapped"]) == pytest.approx(half, rel=1e-3)
    assert rows[-1]["hectares_low"] == ""
    assert sum(hectares(rows).values()) == pytest.approx(2 * half, rel=1e-3)
    assert "24 samples" in result.message
    assert b"error-adjusted" in pq.read_table(tmp_path / "statistics" / "statistics.parquet").schema.metadata[b"note"]


def test_too_few_samples_make_no_estimate(scenes, tmp_path):
    code = np.full((10, 12), 2)
    code[:, 6:] = 3
    scenes.add(code=code)
    mosaic(scenes.context(tmp_path / "map", area=inside(grid())))
    lon, lat = Transformer.from_crs(UTM33, "EPSG:4326", always_xy=True).transform(500_005, 5_299_995)
    (tmp_path / "map" / "validation_samples.csv").write_text("lon,lat,code\n" + f"{lon},{lat},2\n" * 5)
    result, rows = statistics(tmp_path)
    assert "hectares_low" not in rows[2]
    assert "mapped area, not an estimate" in result.message
    assert any("Forest" in warning for warning in result.warnings)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("lon,lat\n1,2\n", "code"),
        ("lon,lat,code\n1,2,forest\n", "code"),
        ("lon,lat,code\n15,47.85,999\n", "999"),
        ("lon,lat,code\n15,47.85,2\n15,47.85,0\n", "sample 2: code 0 is no class of legend clc:1"),
        ("lon,lat,code\n15,47.85,-1\n", "-1"),
        ("lon,lat,code\n15,47.85,2.5\n", "whole number"),
        ("lon,lat,code\nnan,47.85,2\n", "no place on the earth"),
        ("lon,lat,code\ninf,47.85,2\n", "no place on the earth"),
        ("lon,lat,code\n15,95,2\n", "swapped"),
        ("lon,lat,code\n15\n", "lon/lat"),
    ],
)
def test_unreadable_samples_are_refused(scenes, tmp_path, text, said):
    mapped_in_halves(scenes, tmp_path)
    (tmp_path / "map" / "validation_samples.csv").write_text(text)
    with pytest.raises(BadInput, match=said) as caught:
        statistics(tmp_path)
    assert "validation_samples.csv" in str(caught.value)


def test_two_files_of_samples_are_refused(scenes, tmp_path):
    mapped_in_halves(scenes, tmp_path)
    for kind in ("csv", "geojson"):
        (tmp_path / "map" / f"validation_samples.{kind}").write_text("")
    with pytest.raises(BadInput, match="leave one of them"):
        statistics(tmp_path)


def test_samples_of_a_spreadsheet_are_read(scenes, tmp_path):
    """Excel begins its UTF-8 with a byte order mark, and pandas writes whole numbers as 2.0 where a column had gaps."""
    mapped_in_halves(scenes, tmp_path)
    lines = [f"{lon},{lat},{code}.0" for column, code in ((2, 2), (3, 2), (8, 3), (9, 3)) for lon, lat in [place(column, 4)]]
    (tmp_path / "map" / "validation_samples.csv").write_text("\ufefflon,lat,code\n" + "\n".join(lines) + "\n", encoding="utf-8")
    result, rows = statistics(tmp_path)
    assert "4 samples" in result.message
    assert result.warnings == []
    assert float(rows[2]["hectares_mapped"]) > 0


def test_samples_that_cannot_count_are_counted_and_named(scenes, tmp_path):
    mapped_in_halves(scenes, tmp_path, unobserved_rows=2)
    places = [(*place(column, 4), code) for column, code in ((2, 2), (3, 2), (8, 3), (9, 3))]
    lost = [(*place(3, 0), 2), (*place(500, 4), 2), (-165, -47, 2)]
    write_samples(tmp_path, places + lost)
    result, _ = statistics(tmp_path)
    assert result.metrics["samples"] == 4
    assert any("3 of 7 validation samples" in warning and "not used" in warning for warning in result.warnings)
    write_samples(tmp_path, lost)
    result, rows = statistics(tmp_path)
    assert "hectares_low" not in rows[2]
    assert any("3 of 3 validation samples" in warning for warning in result.warnings)
    write_samples(tmp_path, [])
    result, _ = statistics(tmp_path)
    assert any("holds none" in warning for warning in result.warnings)


def test_estimates_add_up_to_the_area_with_a_stratum_of_no_class(scenes, tmp_path):
    """What was observed without a class is shared out to the classes that its samples really are, and nothing is lost."""
    code = np.full((10, 12), 2)
    code[:, 6:] = 0
    scenes.add(code=code)
    mosaic(scenes.context(tmp_path / "map", area=inside(grid(), pixels=1e-3)))
    write_samples(tmp_path, [(*place(column, 4), truth) for column, truth in ((2, 2), (3, 2), (8, 3), (9, 2), (10, 3), (8, 3))])
    _, rows = statistics(tmp_path)
    half = 0.6 / 0.9996**2
    assert hectares(rows) == pytest.approx({2: 1.25 * half, 3: 0.75 * half, 0: 0, -1: 0}, rel=1e-3, abs=1e-9)


def test_rows_that_miss_the_area_are_refused(scenes, tmp_path, monkeypatch):
    """Neither mapped areas nor estimates pass when they miss the geodesic size by more than 0.01 %."""
    mapped_in_halves(scenes, tmp_path)
    steps = "earthself.processing.steps.zonal_statistics"
    with monkeypatch.context() as patch:
        patch.setattr(f"{steps}.pixel_m2", lambda *where: pixel_m2(*where) * 1.00015)
        with pytest.raises(ProcessingError, match=r"more than 0\.01% apart; map the area in a CRS"):
            statistics(tmp_path)
    write_samples(tmp_path, [(*place(column, 4), code) for column, code in ((2, 2), (3, 2), (8, 3), (9, 3))])
    estimates = {2: Estimate(0.5, 0.1), 3: Estimate(0.6, 0.1)}
    monkeypatch.setattr("earthself.processing.areas.adjusted", lambda *_: estimates)
    with pytest.raises(ProcessingError, match="leave out the validation samples"):
        statistics(tmp_path)


def test_coverage_is_exact_at_slanted_edges():
    """Against shapely's own intersection of every pixel with the polygon."""
    import shapely

    where = grid(width=40, height=40)
    shape = shapely.Polygon([(500_010.3, 5_299_700.1), (500_390.7, 5_299_655.5), (500_200.2, 5_299_950.9), (500_190, 5_299_760)])
    shapely.prepare(shape)
    found = Zone(shape, where).coverage(where.window)
    column, row = np.meshgrid(np.arange(40), np.arange(40))
    left, top = 500_000 + 10 * column, 5_300_000 - 10 * row
    expected = shapely.area(shapely.intersection(shapely.box(left, top - 10, left + 10, top), shape)) / 100
    np.testing.assert_allclose(found, expected, atol=2e-7)


def test_nothing_to_measure_is_no_failure(scenes, tmp_path):
    assert zonal_statistics(scenes.context(tmp_path / "out")).status == "nothing"


def test_another_raster_is_refused(scenes, tmp_path):
    scenes.add(code=2)
    mosaic(scenes.context(tmp_path / "map", area=inside(grid())))
    with rasterio.open(tmp_path / "map" / "land_cover.tif", "r+", IGNORE_COG_LAYOUT_BREAK="YES") as dataset:
        dataset.set_band_description(1, "height")
    with pytest.raises(BadInput, match="'code' and 'observations'"):
        statistics(tmp_path)
