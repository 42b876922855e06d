"""Version 1 gives whole rasters, version 2 polygons; both at two service paths, of the same products."""

from __future__ import annotations

import io

import numpy as np
import pyproj
import pytest
import rasterio
import shapely
from earthself.signature import geobuf
from earthself.signature.testing import GRID, feature, geotiff, layers
from rasterio.features import rasterize
from shapely.geometry import box, shape

OLDER = "snapearth.api.{}.database.DatabaseProductService"
SEGMENTATION = np.full((50, 60), 311, "uint16")
SEGMENTATION[:20, :30] = 211  # 6 ha
SEGMENTATION[40:42, 40:42] = 512  # 0.04 ha, below the smallest patch
SEGMENTATION[45:, 50:] = 0
CLOUDS = SEGMENTATION == 0


@pytest.fixture(scope="module", autouse=True)
def product(client):
    """The product "A", in the store before all tests of this module."""
    sent = feature("A", legend="clc:3", model="baseline:1", processing_baseline="N0510")
    assert client.create(sent, layers(SEGMENTATION, CLOUDS)) == "created"
    return sent


def pixels(geotiff_bytes):
    with rasterio.open(io.BytesIO(geotiff_bytes)) as dataset:
        return dataset.read(1), dataset.profile, dataset.tags(1, ns="IMAGE_STRUCTURE")


@pytest.mark.parametrize("path", ["snapearth.api.{}.DatabaseProductService", OLDER])
def test_v1_gives_the_rasters_and_all_that_is_said(call, product, path):
    (answer,) = call("v1.ListSegmentation", path, product_ids=["A"])
    codes, profile, _ = pixels(answer.segmentation)
    assert (codes == SEGMENTATION).all()
    assert profile["dtype"] == "uint16"
    assert profile["count"] == 1
    assert profile["crs"].to_epsg() == 32633
    assert tuple(profile["transform"])[:6] == GRID.transform
    mask, mask_profile, structure = pixels(answer.cloud_mask)
    assert (mask == CLOUDS).all()
    assert structure["NBITS"] == "1"
    assert mask_profile["transform"] == profile["transform"]
    said = product["properties"]
    assert (answer.product_id, answer.product_type) == ("A", said["product_type"])
    assert (answer.quicklook, answer.browse_url, answer.download_url) == (said["quicklook"], said["browse_url"], said["download_url"])
    assert answer.cloud_cover == said["cloud_cover"]
    assert answer.creation_date.ToJsonString() == said["creation_date"]
    assert answer.publication_date.ToJsonString() == said["publication_date"]
    assert shapely.from_wkt(answer.wkt).equals_exact(shape(product["geometry"]), 1e-6)


@pytest.mark.parametrize("path", ["snapearth.api.{}.DatabaseProductService", OLDER])
def test_v1_lists_ids_with_footprint_and_dates(call, product, path):
    (answer,) = call("v1.ListProductIds", path, categories=["21"])
    assert answer.product_id == "A"
    assert shapely.from_wkt(answer.wkt).equals_exact(shape(product["geometry"]), 1e-6)
    assert answer.creation_date.ToJsonString() == product["properties"]["creation_date"]
    assert answer.publication_date.ToJsonString() == product["properties"]["publication_date"]
    assert call("v1.ListProductIds", path, categories=["4"]) == []


@pytest.mark.parametrize("path", ["snapearth.api.{}.DatabaseProductService", OLDER])
def test_v2_lists_one_feature_with_all_properties(call, product, path):
    (answer,) = call("v2.ListProductIds", path, categories=[21])
    found = geobuf.decode(answer.segmentation)
    assert (found["type"], found["id"], found["properties"]) == ("Feature", "A", product["properties"])
    assert shape(found["geometry"]).equals_exact(shape(product["geometry"]), 1e-6)


@pytest.mark.parametrize("path", ["snapearth.api.{}.DatabaseProductService", OLDER])
def test_v2_gives_sieved_polygons_that_lie_on_the_pixels(call, path):
    (answer,) = call("v2.ListSegmentation", path, product_ids=["A"])
    collection = geobuf.decode(answer.segmentation)
    assert collection["type"] == "FeatureCollection"
    assert {f["properties"]["category"] for f in collection["features"]} == {211, 311}
    assert {f["properties"]["product_id"] for f in collection["features"]} == {"A"}
    to_metres = pyproj.Transformer.from_crs(4326, 32633, always_xy=True)
    drawn = [
        (shapely.transform(shape(f["geometry"]), lambda xy: np.column_stack(to_metres.transform(*xy.T))), f["properties"]["category"])
        for f in collection["features"]
    ]
    expected = np.where(SEGMENTATION == 512, 311, SEGMENTATION)
    assert (rasterize(drawn, (50, 60), transform=rasterio.Affine(*GRID.transform), dtype="uint16") == expected).all()
    # In the middle of a UTM zone lengths are 0.9996 of true ones.
    for code, hectares in ((211, 6.0), (311, 23.5)):
        (area,) = (f["properties"]["area_ha"] for f in collection["features"] if f["properties"]["category"] == code)
        assert area == pytest.approx(hectares / 0.9996**2, abs=0.003)
    numbers = shapely.get_coordinates([shape(f["geometry"]) for f in collection["features"]])
    assert np.abs(numbers * 1e6 - np.rint(numbers * 1e6)).max() < 1e-3


def test_a_speckled_product_has_no_patch_below_half_a_hectare(call, client):
    noisy = np.where(np.random.default_rng(3).random((50, 60)) < 0.2, 211, 311).astype("uint16")
    noisy[:, 30:33] = 0
    noisy[10:13, 31] = 512  # an island among clouds
    client.create(feature("noisy"), layers(noisy))
    (answer,) = call("v2.ListSegmentation", product_ids=["noisy"])
    features = geobuf.decode(answer.segmentation)["features"]
    assert features
    assert min(f["properties"]["area_ha"] for f in features) >= 0.5


def test_a_product_smaller_than_the_smallest_patch_keeps_its_patches(call, client):
    tiny = np.full((4, 5), 3, "uint16")
    tiny[:2] = 2
    grid = type(GRID)(GRID.crs, GRID.transform, 5, 4)
    client.create(feature("tiny", grid), layers(tiny, grid=grid))
    (answer,) = call("v2.ListSegmentation", product_ids=["tiny"])
    assert sorted(f["properties"]["category"] for f in geobuf.decode(answer.segmentation)["features"]) == [2, 3]


def test_a_product_without_a_class_has_no_polygons(call, client):
    client.create(feature("clouded"), layers(np.zeros((50, 60), "uint16"), np.ones((50, 60))))
    (answer,) = call("v2.ListSegmentation", product_ids=["clouded"])
    assert geobuf.decode(answer.segmentation)["features"] == []
    assert call("v1.ListProductIds", categories=["1", "2", "3", "4", "5"], wkt="POLYGON((15 48,15.1 48,15.1 49,15 49,15 48))")


def _collection(name, features, **properties):
    said = feature(name, **properties)["properties"]
    return {"type": "FeatureCollection", "id": name, "properties": said, "features": features}


def _square(category, west, south, side=0.01, **properties):
    return {
        "type": "Feature",
        "geometry": shapely.geometry.mapping(box(west, south, west + side, south + side)),
        "properties": {"category": category, **properties},
    }


def test_v2_polygons_are_given_back_and_rasterised_for_v1(call):
    sent = _collection("V2", [_square(312, 16.0, 47.0), _square(512, 16.01, 47.0), _square(111, 16.004, 47.004, 0.0005)])
    call("v2.CreateProduct", product=geobuf.encode(sent))
    call("v2.CreateProduct", product=geobuf.encode(sent))  # the same again is fine
    (answer,) = call("v1.ListSegmentation", product_ids=["V2"])
    codes, profile, _ = pixels(answer.segmentation)
    assert profile["crs"].to_epsg() == 32633
    assert profile["transform"].a == 10
    assert [profile["transform"].c % 10, profile["transform"].f % 10] == [0, 0]
    to_metres = pyproj.Transformer.from_crs(4326, 32633, always_xy=True)
    for lon, lat, code in ((16.002, 47.002, 312), (16.017, 47.008, 512), (16.00425, 47.00425, 111)):
        column, row = ~profile["transform"] @ to_metres.transform(lon, lat)
        assert codes[int(row), int(column)] == code
    # 0.01 degrees at 47 N are 760.4 by 1111.7 m.
    assert (codes == 512).sum() == pytest.approx(8454, rel=0.005)
    clouds, _, structure = pixels(answer.cloud_mask)
    assert (clouds.sum(), structure["NBITS"]) == (0, "1")
    (polygons,) = call("v2.ListSegmentation", product_ids=["V2"])
    given = geobuf.decode(polygons.segmentation)["features"]
    assert [f["properties"]["category"] for f in given] == [312, 512, 111]
    for one, other in zip(given, sent["features"], strict=True):
        assert shape(one["geometry"]).symmetric_difference(shape(other["geometry"])).area < 1e-9
        assert one["properties"]["product_id"] == "V2"
    assert given[1]["properties"]["area_ha"] == pytest.approx(84.54, rel=0.002)
    assert [p.product_id for p in call("v1.ListProductIds", categories=["11"])] == ["V2"]


def test_v2_takes_the_product_from_its_features_too(call):
    said = feature("x")["properties"]
    features = [_square(31, 16.1, 47.1, product_id="alike", **said), _square(21, 16.2, 47.1, product_id="alike", **said)]
    call("v2.CreateProduct", product=geobuf.encode({"type": "FeatureCollection", "features": features}))
    (answer,) = call("v2.ListProductIds", categories=[21], wkt="POINT(16.205 47.105)")
    found = geobuf.decode(answer.segmentation)
    assert (found["id"], found["properties"]) == ("alike", said)
    whole = shapely.union_all([shape(f["geometry"]) for f in features])
    assert shape(found["geometry"]).symmetric_difference(whole).area < 1e-9


def test_at_most_500_products_with_rasters_and_all_without(call, client):
    tile = {"segmentation": geotiff(np.full((2, 2), 5, "uint16")), "cloud_mask": geotiff(np.zeros((2, 2), "uint8"))}
    grid = type(GRID)(GRID.crs, GRID.transform, 2, 2)
    for n in range(40):
        client.create(feature(f"many{n:02}", grid, creation_date=f"2030-01-01T00:00:{n:02}Z"), tile)
    newest = [f"many{n:02}" for n in range(39, -1, -1)]
    assert [p.product_id for p in call("v1.ListSegmentation", n_results=3)] == newest[:3]
    assert [p.product_id for p in call("v1.ListSegmentation", n_results=100_000)][:40] == newest
    assert [p.product_id for p in call("v1.ListProductIds")][:40] == newest
    assert len(call("v2.ListSegmentation", n_results=2, categories=[5])) == 2
