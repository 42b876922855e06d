"""The shipped sample: are its pixels the real ones, at the right place, said to be what they are."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import httpx
import numpy as np
import pystac
import pytest
import rasterio
import rasterio.warp
from earthself.local.sample import COLLECTION, DATA
from earthself.local.sample.make_sample import BANDS, SCENE, Patch, group
from shapely.geometry import Polygon, box, shape
from shapely.ops import unary_union

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "bigearthnet_v2"
ITEMS = sorted(DATA.glob("*.json"))


def patches() -> dict[str, tuple[str, int, int]]:
    """Patch name -> product id, column, row, from the items."""
    found = {}
    for path in ITEMS:
        item = json.loads(path.read_text())
        for name in item["properties"]["earthself:patches"]:
            found[name] = (item["id"], *(int(text) for text in name.split("_")[-2:]))
    return found


def test_the_sample_has_all_21_patches_in_five_groups_of_neighbours() -> None:
    found = patches()
    assert len(found) == 21
    assert sorted(len([1 for product, *_ in found.values() if product == path.stem]) for path in ITEMS) == [1, 1, 6, 6, 7]
    places = {(column, row): product for product, column, row in found.values()}
    for (column, row), product in places.items():
        for neighbour in ((column + 1, row), (column, row + 1)):
            assert places.get(neighbour, product) == product, f"{column}_{row} and {neighbour} touch but are in two products"


@pytest.mark.skipif(
    not SHARED.is_dir(), reason="the original patches are not in ../shared/data/bigearthnet_v2; put BigEarthNet v2's 12-band files there"
)
@pytest.mark.parametrize("name", sorted(patches()))
def test_every_pixel_is_the_original_at_the_original_place(name: str) -> None:
    product, _, _ = patches()[name]
    with rasterio.open(SHARED / f"{name}_12b.tif") as original:
        for number, band in enumerate(original.descriptions, 1):
            expected = original.read(number)
            with rasterio.open(DATA / product / f"{band}.tif") as raster:
                assert raster.crs == original.crs
                found = raster.read(1, window=raster.window(*original.bounds))
                repeats = 120 // found.shape[0]
                assert raster.res == (10 * repeats, 10 * repeats)
            np.testing.assert_array_equal(np.kron(found, np.ones((repeats, repeats), found.dtype)), expected)


@pytest.mark.parametrize("path", ITEMS, ids=lambda path: path.stem[-5:])
def test_an_item_is_valid_stac_and_describes_its_rasters(path: Path, provider: httpx.Client) -> None:
    served = provider.get(f"/collections/{COLLECTION}/items/{path.stem}").json()
    core = {**served, "stac_extensions": []}  # the extensions' schemas are on the web
    assert pystac.Item.from_dict(core).validate()  # raises with the schema's complaint
    item = json.loads(path.read_text())
    assert set(item["assets"]) == set(BANDS), "the bands of L2A, and no SCL"
    for band, asset in item["assets"].items():
        content = (DATA / asset["href"]).read_bytes()
        assert asset["file:size"] == len(content)
        assert asset["file:checksum"] == "1220" + hashlib.sha256(content).hexdigest()
        assert "raster:offset" not in asset, "N9999 products of 2017 carry no offset"
        with rasterio.open(DATA / asset["href"]) as raster:
            assert raster.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
            assert (raster.dtypes, raster.nodata, raster.descriptions) == (("uint16",), 0, (band,))
            assert asset["proj:shape"] == list(raster.shape)
            assert asset["proj:transform"] == list(raster.transform)[:6]


@pytest.mark.parametrize("path", ITEMS, ids=lambda path: path.stem[-5:])
def test_the_footprint_is_where_the_pixels_are(path: Path) -> None:
    item = json.loads(path.read_text())
    with rasterio.open(DATA / item["assets"]["B04"]["href"]) as raster:
        pixels, transform = raster.read(1), raster.transform
        covered = unary_union(covered_squares(pixels, transform))
        footprint = shape(rasterio.warp.transform_geom("OGC:CRS84", raster.crs, item["geometry"]))
    assert footprint.symmetric_difference(covered).area < 0.0005 * covered.area
    assert np.count_nonzero(pixels) * 100 == pytest.approx(covered.area)


def covered_squares(pixels: np.ndarray, transform: rasterio.Affine) -> list[Polygon]:
    """One square of 1200 m for each patch that holds pixels."""
    squares = []
    for row in range(0, pixels.shape[0], 120):
        for column in range(0, pixels.shape[1], 120):
            if pixels[row : row + 120, column : column + 120].all():
                west, north = transform.c + 10 * column, transform.f - 10 * row
                squares.append(box(west, north - 1200, west + 1200, north))
    return squares


def test_cloud_cover_is_the_share_of_patches_that_the_source_marks() -> None:
    found = {path.stem[-5:]: json.loads(path.read_text())["properties"]["eo:cloud_cover"] for path in ITEMS}
    assert found == {"P2655": 0, "P3369": 0, "P3787": 14.3, "P3858": 100, "P7040": 100}


def test_the_committed_sample_is_small_and_licensed() -> None:
    assert sum(path.stat().st_size for path in DATA.rglob("*") if path.is_file()) < 5e6
    text = (DATA / "ATTRIBUTION.md").read_text()
    assert "CDLA-Permissive-1.0" in text
    assert "Contains modified Copernicus Sentinel data" in text


def test_patches_that_touch_at_a_corner_only_are_two_products() -> None:
    def patch(column: int, row: int) -> Patch:
        return Patch(f"{SCENE}_{column}_{row}", column, row, cloudy=False, bands={})

    products = group([patch(3, 3), patch(1, 1), patch(2, 2), patch(1, 2)])
    assert [[(p.column, p.row) for p in product.patches] for product in products] == [[(1, 1), (1, 2), (2, 2)], [(3, 3)]]
