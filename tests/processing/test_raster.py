"""COGs written window by window, and the items that describe them."""

from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys

import numpy as np
import pytest
import rasterio
from affine import Affine
from earthself.data.area import Area
from earthself.data.legends import legend
from earthself.processing.errors import BadInput
from earthself.processing.items import declare_extensions, raster_asset, raster_item
from earthself.processing.placing import Placement, take
from earthself.processing.raster import CogWriter, Grid, RasterError, windows
from rasterio.windows import Window
from scenes import grid, inside
from stac_schemas import check_item


def test_a_grid_covers_an_area_in_whole_pixels():
    where = Grid.for_area(Area.from_conf(inside(grid())), 10)
    assert where == grid()
    assert where.bounds == (500_000, 5_299_900, 500_120, 5_300_000)


def test_windows_tile_the_grid():
    where = grid(width=2500, height=1030)
    seen = np.zeros((1030, 2500), np.uint8)
    for window in windows(where, 1024):
        seen[window.row_off : window.row_off + window.height, window.col_off : window.col_off + window.width] += 1
    assert (seen == 1).all()
    assert where.window_grid(Window(1024, 0, 10, 10)).bounds == (510_240, 5_299_900, 510_340, 5_300_000)


def test_a_resolution_of_nothing_is_refused():
    with pytest.raises(BadInput, match="resolution 0"):
        Grid.for_area(Area.from_conf(inside(grid())), 0)


def test_a_centre_on_an_edge_belongs_to_the_pixel_right_and_below():
    """Pixels of twice the size have their centres on edges of the source; rounding of floats must not send some of them back."""
    fine, coarse = 0.0001, 0.0002
    source = Grid("EPSG:4326", Affine(fine, 0, 15.0003, 0, -fine, 47.8507), 400, 400)
    target = Grid("EPSG:4326", Affine(coarse, 0, 15.0003, 0, -coarse, 47.8507), 200, 200)
    rows, columns = Placement(source, target).pixels(target.window)
    np.testing.assert_array_equal(rows.ravel(), np.arange(1, 400, 2))
    np.testing.assert_array_equal(columns.ravel(), np.arange(1, 400, 2))


@pytest.mark.parametrize("crs", ["EPSG:32633", "EPSG:32632"])
def test_reading_in_pieces_changes_no_pixel(tmp_path, monkeypatch, crs):
    """A coarse map over fine pixels, in its own zone and beside it, also beyond the source's edges."""
    fine = grid(left=266_000, top=5_310_000, width=400, height=300)
    image = np.random.default_rng(0).integers(1, 60_000, (300, 400)).astype("u2")
    with CogWriter(tmp_path / "x.tif", fine, 1, "uint16", 0, categorical=True) as cog:
        cog.write(image, fine.window)
    west, south, east, north = Area.from_conf(inside(fine)).bounds
    target = Grid.for_area(Area.from_conf([west - 0.01, south - 0.01, east, north]), 70, crs)
    with rasterio.open(tmp_path / "x.tif") as dataset:
        whole = take(dataset, Placement(fine, target), target.window, outside=7)
        monkeypatch.setattr("earthself.processing.placing._MOST", 50)
        np.testing.assert_array_equal(take(dataset, Placement(fine, target), target.window, outside=7), whole)
    assert (whole == 7).any()
    assert (whole != 7).sum() > 1000


@pytest.mark.parametrize(
    ("dtype", "count", "categorical", "nodata"),
    [("uint16", 1, True, 0), ("uint16", 4, True, 0), ("uint8", 1, True, 0), ("uint16", 6, False, 0), ("float32", 2, False, float("nan"))],
)
def test_pixels_come_back_from_a_cog(tmp_path, dtype, count, categorical, nodata):
    where = grid(width=1300, height=700)
    rng = np.random.default_rng(1)
    image = rng.integers(0, 200, (count, 700, 1300)).astype(dtype)
    names = [f"band{n}" for n in range(count)]
    path = tmp_path / "x.tif"
    with CogWriter(path, where, count, dtype, nodata, categorical=categorical, descriptions=names, tags={"MADE": "here"}) as cog:
        for window in windows(where, 512):
            rows, columns = window.toslices()
            cog.write(image[:, rows, columns], window)
    with rasterio.open(path) as dataset:
        np.testing.assert_array_equal(dataset.read(), image)
        assert dataset.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert dataset.crs.to_epsg() == 32633
        assert dataset.transform == where.transform
        assert list(dataset.descriptions) == names
        assert dataset.tags()["MADE"] == "here"
        assert dataset.overviews(1) == [2, 4]
        assert dataset.nodata == nodata or np.isnan(dataset.nodata)
    assert [each.name for each in tmp_path.iterdir()] == ["x.tif"]


def test_overviews_of_classes_hold_no_new_class(tmp_path):
    where = grid(width=1200, height=1200)
    image = np.random.default_rng(0).choice([111, 523], (1200, 1200)).astype("u2")
    with CogWriter(tmp_path / "x.tif", where, 1, "uint16", 0, categorical=True) as cog:
        for window in windows(where, 512):
            rows, columns = window.toslices()
            cog.write(image[rows, columns], window)
    with rasterio.open(tmp_path / "x.tif", OVERVIEW_LEVEL=0) as overview:
        assert overview.shape == (600, 600)
        assert set(np.unique(overview.read(1))) == {111, 523}


def test_windows_that_are_not_written_are_nodata(tmp_path):
    where = grid(width=1200, height=600)
    with CogWriter(tmp_path / "x.tif", where, 1, "uint16", 0, categorical=True) as cog:
        cog.write(np.full((512, 512), 7, "u2"), Window(512, 0, 512, 512))
    with rasterio.open(tmp_path / "x.tif") as dataset:
        image = dataset.read(1)
    assert (image[:512, 512:1024] == 7).all()
    assert image.sum() == 7 * 512 * 512


def test_a_failure_leaves_no_file(tmp_path):
    where = grid()

    def interrupted():
        with CogWriter(tmp_path / "x.tif", where, 1, "uint8", 0, categorical=True) as cog:
            cog.write(np.ones((10, 12), "u1"), where.window)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_an_array_that_does_not_fit_is_refused(tmp_path):
    where = grid()
    with pytest.raises(RasterError, match="does not fit"), CogWriter(tmp_path / "x.tif", where, 1, "uint8", 0, categorical=True) as cog:
        cog.write(np.ones((3, 3), "u1"), where.window)


def test_a_palette_of_one_byte_classes(tmp_path):
    where = grid()
    colors = legend("clc:1").colors()
    with CogWriter(tmp_path / "x.tif", where, 1, "uint8", 0, categorical=True, colors=colors) as cog:
        cog.write(np.full((10, 12), 5, "u1"), where.window)
    with rasterio.open(tmp_path / "x.tif") as dataset:
        assert dataset.colormap(1)[5] == (*colors[5], 255)


def test_items_are_valid_and_say_what_the_file_is(tmp_path):
    where = grid()
    with CogWriter(tmp_path / "x.tif", where, 1, "float32", float("nan"), categorical=False, descriptions=["ndvi"]) as cog:
        cog.write(np.zeros((10, 12), "f4"), where.window)
    item = raster_item("x", where, dt.datetime(2017, 6, 13, tzinfo=dt.UTC), None, {"eo:cloud_cover": 12})
    item.add_asset("ndvi", raster_asset(tmp_path / "x.tif", ["data"], "NDVI", bands=[{"description": "index"}]))
    check_item(declare_extensions(item))
    asset = item.assets["ndvi"].to_dict()
    assert asset["type"] == "image/tiff; application=geotiff; profile=cloud-optimized"
    assert asset["proj:shape"] == [10, 12]
    assert asset["proj:transform"] == [10, 0, 500_000, 0, -10, 5_300_000]
    assert asset["bands"] == [
        {"name": "ndvi", "data_type": "float32", "nodata": "nan", "description": "index", "raster:spatial_resolution": 10}
    ]
    assert asset["file:size"] == (tmp_path / "x.tif").stat().st_size
    assert item.bbox == pytest.approx([15.0, 47.8524, 15.0016, 47.8533], abs=1e-4)


def test_an_item_over_the_antimeridian_is_cut_there():
    where = grid(left=180_000, top=8_130_000, width=300, height=100, crs="EPSG:32701")
    item = raster_item("x", where, dt.datetime(2017, 6, 13, tzinfo=dt.UTC), None, {})
    check_item(item)
    assert item.geometry["type"] == "MultiPolygon"
    west, _, east, _ = item.bbox
    assert west > 179
    assert east < -179


def test_a_raster_without_a_place_is_refused(tmp_path):
    with (
        pytest.warns(rasterio.errors.NotGeoreferencedWarning),
        rasterio.open(tmp_path / "x.tif", "w", driver="GTiff", width=4, height=4, count=1, dtype="uint8") as dataset,
    ):
        dataset.write(np.ones((1, 4, 4), "u1"))
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning), pytest.raises(RasterError, match="no coordinate reference system"):
        raster_asset(tmp_path / "x.tif", ["data"], "X")


_GROW = """
import resource, sys
import numpy as np
from affine import Affine
from pathlib import Path
from earthself.processing.placing import Placement, take
from earthself.processing.raster import CogWriter, Grid, gdal, windows
size = int(sys.argv[1])
where = Grid("EPSG:32633", Affine(10, 0, 5e5, 0, -10, 53e5), size, size)
rng = np.random.default_rng(0)
tile = np.broadcast_to(rng.integers(1, 9, (512, 1), dtype="u2"), (2, 512, 512))
with gdal(), CogWriter(Path(sys.argv[2]), where, 2, "uint16", 0, categorical=False, level=1) as cog:
    for window in windows(where, 512):
        cog.write(tile[:, : int(window.height), : int(window.width)], window)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def test_memory_does_not_grow_with_the_image(tmp_path):
    """Nine times the pixels (150 MB of them) in the same memory, give or take the block cache."""
    peak = {}
    for size in (2048, 6144):
        command = [sys.executable, "-c", _GROW, str(size), str(tmp_path / f"{size}.tif")]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
        peak[size] = float(done.stdout)
    assert peak[6144] < peak[2048] + 60


@pytest.mark.parametrize("size", [(1, 1), (512, 512), (1024, 1028), (516, 1100), (700, 1025)])
@pytest.mark.parametrize("dtype", ["uint16", "uint8", "int16", "float32"])
def test_the_layout_and_overviews_are_those_of_gdals_own_driver(tmp_path, size, dtype):
    from rio_cogeo import cog_validate

    where = grid(width=size[1], height=size[0])
    rng = np.random.default_rng(3)
    image = rng.integers(0, 255, (2, *size)).astype(dtype) - np.array(300 if dtype == "int16" else 0, dtype)
    image[:, : size[0] // 2][rng.random((2, size[0] // 2, size[1])) < 0.3] = 0  # nodata here and there
    with CogWriter(tmp_path / "ours.tif", where, 2, dtype, 0, categorical=False) as cog:
        for window in windows(where, 1024):
            rows, columns = window.toslices()
            cog.write(image[:, rows, columns], window)
    profile = {"width": size[1], "height": size[0], "count": 2, "dtype": dtype, "crs": where.crs, "transform": where.transform, "nodata": 0}
    with rasterio.open(tmp_path / "gdal.tif", "w", driver="COG", blocksize=512, overview_resampling="average", **profile) as dataset:
        dataset.write(image)
    valid, errors, warnings = cog_validate(tmp_path / "ours.tif", strict=True)
    assert (valid, errors, warnings) == (True, [], [])
    with rasterio.open(tmp_path / "ours.tif") as ours, rasterio.open(tmp_path / "gdal.tif") as theirs:
        np.testing.assert_array_equal(ours.read(), image)
        assert ours.overviews(1) == theirs.overviews(1)
        levels = len(ours.overviews(1))
    for level in range(levels):
        with (
            rasterio.open(tmp_path / "ours.tif", OVERVIEW_LEVEL=level) as ours,
            rasterio.open(tmp_path / "gdal.tif", OVERVIEW_LEVEL=level) as theirs,
        ):
            if any(side % 2 ** (level + 1) for side in size):  # GDAL's driver drops the odd row or column, gdaladdo and we keep it
                assert ours.shape == (-(-size[0] // 2 ** (level + 1)), -(-size[1] // 2 ** (level + 1)))
                continue
            np.testing.assert_allclose(ours.read(), theirs.read(), atol=0.01 if dtype == "float32" else 0)


def test_windows_at_odd_places_make_the_same_cog(tmp_path):
    where = grid(width=1300, height=900)
    image = np.random.default_rng(4).integers(1, 5000, (1, 900, 1300)).astype("u2")
    for name, size in (("even", 1024), ("odd", 333)):
        with CogWriter(tmp_path / f"{name}.tif", where, 1, "uint16", 0, categorical=False) as cog:
            for window in windows(where, size):
                rows, columns = window.toslices()
                cog.write(image[:, rows, columns], window)
    for level in (None, 0, 1):
        options = {} if level is None else {"OVERVIEW_LEVEL": level}
        with rasterio.open(tmp_path / "even.tif", **options) as even, rasterio.open(tmp_path / "odd.tif", **options) as odd:
            np.testing.assert_array_equal(even.read(), odd.read())


def test_large_files_have_eight_byte_offsets(tmp_path, monkeypatch):
    monkeypatch.setattr("earthself.processing.cog._CLASSIC_LIMIT", 1000)
    where = grid(width=1300, height=900)
    image = np.random.default_rng(4).integers(1, 5000, (1, 900, 1300)).astype("u2")
    with CogWriter(tmp_path / "x.tif", where, 1, "uint16", 0, categorical=False, descriptions=["one"]) as cog:
        cog.write(image, where.window)
    assert (tmp_path / "x.tif").read_bytes()[:4] == b"II\x2b\x00"
    with rasterio.open(tmp_path / "x.tif") as dataset:
        np.testing.assert_array_equal(dataset.read(), image)
        assert dataset.descriptions == ("one",)
        assert dataset.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert dataset.crs.to_epsg() == 32633
