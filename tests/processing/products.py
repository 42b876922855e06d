"""Sentinel-2 products and models whose every pixel is known, for the tests of `sign` and its parts."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from pathlib import Path

import numpy as np
import pystac
import rasterio
from affine import Affine
from earthself.data.area import Area
from earthself.data.sentinel2 import BANDS, SCL_RESOLUTION
from earthself.processing.step import step_main
from onnx import TensorProto, helper, numpy_helper
from pyproj import Transformer
from rasterio.crs import CRS

UTM33 = "EPSG:32633"
LEFT, TOP = 300_000, 5_400_000
RESOLUTION = {name: band.resolution for name, band in BANDS.items()} | {"SCL": SCL_RESOLUTION}
CRS_OBJECT = CRS.from_user_input(UTM33)


def lonlat(left: float, bottom: float, right: float, top: float, crs: str = UTM33) -> dict:
    """A rectangle in metres as a GeoJSON polygon in lon/lat."""
    to_lonlat = Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    corners = [(left, bottom), (right, bottom), (right, top), (left, top), (left, bottom)]
    return {"type": "Polygon", "coordinates": [[list(to_lonlat.transform(*corner)) for corner in corners]]}


def pixels_area(column: float, row: float, width: float, height: float) -> dict:
    """The area that covers 10 m pixels of a product, drawn in by a fifth of a pixel."""
    x0, x1 = LEFT + 10 * (column + 0.2), LEFT + 10 * (column + width - 0.2)
    y0, y1 = TOP - 10 * (row + height - 0.2), TOP - 10 * (row + 0.2)
    return lonlat(x0, y0, x1, y1)


SENSED = dt.datetime(2017, 6, 13, 10, 10, 31, tzinfo=dt.UTC)


class Products:
    """The input folder of a step, filled with products."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self.links: list[dict] = []

    def add(self, name: str, bands: dict[str, np.ndarray], block: int = 256, when: dt.datetime = SENSED, **properties) -> pystac.Item:
        """Write each band at its own resolution; the first 10 m band is the size of the product."""
        home = self.folder / name
        home.mkdir()
        height, width = next(array.shape for band, array in bands.items() if RESOLUTION[band] == 10)
        fields = {
            "earthself:observation": f"S2A_33UUP_20170613T101031_R022_{name}",
            "earthself:baseline": "N0209",
            "earthself:provider": "sample",
            "earthself:collection": "S2_MSI_L2A",
            "eo:cloud_cover": 12.5,
            **properties,
        }
        geometry = lonlat(LEFT, TOP - 10 * height, LEFT + 10 * width, TOP)
        ring = np.array(geometry["coordinates"][0])
        item = pystac.Item(name, geometry, [*ring.min(0), *ring.max(0)], when, fields)
        for band, array in bands.items():
            path = home / f"{band}.tif"
            size = RESOLUTION[band]
            options = {"tiled": True, "blockxsize": block, "blockysize": block} if block else {}
            with rasterio.open(
                path, "w", driver="GTiff", width=array.shape[1], height=array.shape[0], count=1, dtype=array.dtype, crs=CRS_OBJECT,
                transform=Affine(size, 0, LEFT, 0, -size, TOP), nodata=0, compress="DEFLATE", **options,
            ) as dataset:  # fmt: skip
                dataset.write(array, 1)
            item.add_asset(band, pystac.Asset(str(path), media_type="image/tiff; application=geotiff"))
        (home / f"{name}.json").write_text(json.dumps(item.to_dict(include_self_link=False, transform_hrefs=False)))
        self.links.append({"rel": "item", "href": f"./{name}/{name}.json"})
        self._write_catalog()
        return item

    def set_area(self, value: dict | list) -> None:
        (self.folder / "area.geojson").write_text(json.dumps(Area.from_conf(value).geojson))

    def _write_catalog(self) -> None:
        catalog = {"type": "Catalog", "stac_version": "1.1.0", "id": "products", "description": "-", "links": self.links}
        (self.folder / "catalog.json").write_text(json.dumps(catalog))


def random_bands(height: int, width: int, bands=("B04", "B11", "B09"), seed: int = 1) -> dict[str, np.ndarray]:
    """Digital numbers 1 to 9999 at each band's own resolution."""
    rng = np.random.default_rng(seed)
    sizes = {band: RESOLUTION[band] // 10 for band in bands}
    return {band: rng.integers(1, 10_000, (-(-height // n), -(-width // n)), dtype=np.uint16) for band, n in sizes.items()}


SCENE = (1300, 1100)
"""Rows and columns: more than one window, and not a whole number of blocks."""


def scene(seed: int = 1, height: int = SCENE[0], width: int = SCENE[1]) -> dict[str, np.ndarray]:
    """Random bands with a corner without data, and a scene classification with clouds, shadows and snow here and there."""
    bands = random_bands(height, width, seed=seed)
    bands["B04"][:100, :50] = 0
    bands["B11"][140, 30] = 0  # one band is enough
    rng = np.random.default_rng(seed + 100)
    scl = np.full((-(-height // 2), -(-width // 2)), 4, np.uint8)
    for value in (0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11):
        for row, column in rng.integers(0, scl.shape, (3, 2)):
            scl[row : row + 4, column : column + 3] = value
    # Clouds on both sides of the seams between windows of 1024 and blocks of 512 pixels.
    if height == SCENE[0]:
        scl[509:511, 255:257] = 9
        scl[255, 511] = 8
    return bands | {"SCL": scl}


def at_10m(array: np.ndarray, band: str, height: int, width: int) -> np.ndarray:
    """What a band is on the 10 m grid: every pixel repeated."""
    n = RESOLUTION[band] // 10
    return np.kron(array, np.ones((n, n), array.dtype))[:height, :width]


def brightest_model(registry: Path, bands=("B04", "B11", "B09"), name: str = "brightest", context: int = 0) -> Path:
    """A model that says which band is brightest: code 1, 2, 3 for the first, second, third; its reflectance is the probability.

    With `context` 1 it looks at the mean of each band over 3 x 3 pixels.
    """
    count = len(bands)
    if context:
        kernel = np.zeros((count, count, 3, 3), np.float32)
        kernel[range(count), range(count)] = 1 / 9
        nodes = [helper.make_node("Conv", ["x", "kernel"], ["probabilities"], pads=[1, 1, 1, 1])]
        weights = [numpy_helper.from_array(kernel, "kernel")]
        shape = [1, count, None, None]
    else:
        nodes, weights, shape = [helper.make_node("Identity", ["x"], ["probabilities"])], [], [None, count]
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    answer = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, shape)
    model = helper.make_model(
        helper.make_graph(nodes, name, [given], [answer], weights), opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )
    folder = registry / name
    folder.mkdir(parents=True, exist_ok=True)
    data = model.SerializeToString()
    (folder / "model.onnx").write_bytes(data)
    classes = [{"code": (n + 1) % 6, "name": bands[n]} for n in range(count)]  # clc:1 has five codes; 0 is a kind without one
    card = {
        "card": 1,
        "name": name,
        "version": "7",
        "title": "Brightest band",
        "input": {"bands": list(bands), "layout": "image" if context else "pixels", "context": context},
        "output": {"legend": "clc:1", "validated_level": 1, "classes": classes},
        "training": {"sources": ["none"]},
        "scores": {},
        "limits": [],
        "file": {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)},
    }
    (folder / "card.json").write_text(json.dumps(card))
    return registry


def run(step, source: Path, output: Path, *arguments: str) -> tuple[int, dict]:
    """Run a step as its process would; returns the exit code and the result document."""
    result = output.with_name(output.name + ".result.json")
    code = step_main(step, ["--input", str(source), "--output", str(output), "--result", str(result), *arguments])
    return code, json.loads(result.read_text())


def signatures(folder: Path) -> dict[str, pystac.Item]:
    """Items of a step's output by id, asset hrefs absolute."""
    found = {}
    for item in pystac.Catalog.from_file(str(folder / "catalog.json")).get_items():
        item.make_asset_hrefs_absolute()
        found[item.id] = item
    return found


def layer(item: pystac.Item, key: str) -> np.ndarray:
    with rasterio.open(item.assets[key].href) as dataset:
        return dataset.read(1)


def shared(*parts: str) -> Path:
    """A real file of the shared data, or a skip that says how to get it."""
    import pytest

    path = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / Path(*parts)
    if not path.exists():
        pytest.skip(f"{'/'.join(parts)} is not there; put the shared data beside the checkout (../shared/data)")
    return path.resolve()
