"""Real CORINE land cover goes through: the reference map of a Sentinel-2 patch, and all of Guadeloupe as polygons and back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyproj
import pytest
import rasterio
import shapely
from earthself.data.legends import legend
from earthself.signature import geobuf
from earthself.signature.rasters import Grid
from earthself.signature.testing import feature, geotiff, layers
from rasterio.features import rasterize
from shapely.geometry import shape

DATA = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"


def opened(pattern):
    found = sorted(DATA.glob(pattern))
    if not found:
        pytest.skip(f"{DATA / pattern} is missing; get it with the project's shared test data")
    with rasterio.open(found[0]) as dataset:
        grid = Grid(f"EPSG:{dataset.crs.to_epsg()}", tuple(dataset.transform)[:6], dataset.width, dataset.height)
        return found[0], dataset.read(1), grid


def drawn_back(features, grid):
    """The polygons as pixels on the grid."""
    to_metres = pyproj.Transformer.from_crs("EPSG:4326", grid.crs, always_xy=True)
    shapes = [
        (shapely.transform(shape(f["geometry"]), lambda xy: np.column_stack(to_metres.transform(*xy.T))), f["properties"]["category"])
        for f in features
    ]
    return rasterize(shapes, (grid.height, grid.width), transform=rasterio.Affine(*grid.transform), dtype="uint16")


def test_the_reference_map_of_a_patch(client, call):
    path, codes, grid = opened("bigearthnet_v2/*_reference_map.tif")
    clouds = geotiff(np.zeros(codes.shape, "uint8"), grid)
    assert client.create(feature(path.stem, grid, legend="clc:3"), {"segmentation": path.read_bytes(), "cloud_mask": clouds}) == "created"
    assert (client.segmentation(path.stem).to_numpy() == codes).all()
    (answer,) = call("v2.ListSegmentation", product_ids=[path.stem])
    features = geobuf.decode(answer.segmentation)["features"]
    assert {f["properties"]["category"] for f in features} <= set(np.unique(codes).tolist())
    assert (drawn_back(features, grid) == codes).mean() > 0.99
    # 1200 by 1200 m, 2.3 degrees from the middle of the zone.
    assert sum(f["properties"]["area_ha"] for f in features) == pytest.approx(144, rel=1e-3)


def test_guadeloupe_as_polygons_and_back(client, call):
    _, numbers, grid = opened("corine/U2018_CLC2018_*.tif")
    codes = np.array([0, *(entry.code for entry in legend("clc:3").entries)], "uint16")[numbers]
    assert client.create(feature("guadeloupe", grid, legend="clc:3"), layers(codes, grid=grid)) == "created"
    (answer,) = call("v2.ListSegmentation", product_ids=["guadeloupe"])
    features = geobuf.decode(answer.segmentation)["features"]
    # A pixel is 1 ha: nothing is below the smallest patch, so every pixel comes back.
    assert (drawn_back(features, grid) == codes).all()
    by_class = {}
    for f in features:
        by_class[f["properties"]["category"]] = by_class.get(f["properties"]["category"], 0) + f["properties"]["area_ha"]
    counts = dict(zip(*(a.tolist() for a in np.unique(codes[codes > 0], return_counts=True)), strict=True))
    assert by_class == pytest.approx(counts, rel=2e-3)
