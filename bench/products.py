"""Whole products into EarthSignature, and tiles out of it: 120 x 120 pixels each in, and a raster of a whole Sentinel-2 tile out.

Products are durable when they count. Tiles are asked for as a map asks that is moved about: each once, after a few others, over HTTP.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson
from earthself.signature.client import SignatureClient
from earthself.signature.items import read_signature
from earthself.signature.rasters import Grid
from earthself.signature.testing import layers, running_server, running_web

PRODUCTS = 1500
BESIDE_SERVER = 300
_SIDE, _TILE = 120, 10_980
_CODES = (1, 2, 3, 5)
_ZOOMS = (9, 11, 13, 14)
_WARM_UP, _TILES = 20, 200
Row = dict[str, Any]


def run() -> list[Row]:
    """Store the same products both ways, then look at one that is large."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        items = _write_products(folder / "items")
        rows = [_direct(folder / "direct", folder / "items"), _through_server(folder / "served", items[:BESIDE_SERVER])]
        return [*rows, _tiles(folder)]


def _direct(home: Path, items: Path) -> Row:
    started = time.perf_counter()
    _ingest(home, items)
    rate = PRODUCTS / (time.perf_counter() - started)
    return {"name": "whole products, ingest --direct, start included", "value": round(rate, 1), "unit": "products/s", "goal": 100}


def _through_server(home: Path, items: list[Path]) -> Row:
    signatures = [(found.feature, found.layers()) for found in map(read_signature, items)]
    with running_server(home) as server, SignatureClient(server.target) as client:
        started = time.perf_counter()
        for feature, rasters in signatures:
            client.create(feature, rasters)
        rate = len(signatures) / (time.perf_counter() - started)
    return {"name": "whole products, one after the other through a server", "value": round(rate, 1), "unit": "products/s"}


def _tiles(folder: Path) -> Row:
    grid = Grid("EPSG:32633", (10.0, 0.0, 399_960.0, 0.0, -10.0, 5_400_000.0), _TILE, _TILE)
    _write_product(folder / "large", "T33UVP", grid, np.random.default_rng(2))
    home = folder / "tiles"
    _ingest(home, folder / "large")
    taken = []
    with running_web(home) as url, httpx.Client(base_url=url, timeout=60, trust_env=False) as http:
        for number in range(_WARM_UP + _TILES):
            z, x, y = _address(number)
            started = time.perf_counter()
            http.get(f"/products/T33UVP/segmentation/tiles/{z}/{x}/{y}.png").raise_for_status()
            taken.append((time.perf_counter() - started) * 1000)
    tail = statistics.quantiles(taken[_WARM_UP:], n=20)[-1]
    return {"name": "tile of a 110 km raster, warm, p95", "value": round(tail, 1), "unit": "ms", "goal": 40}


def _address(number: int) -> tuple[int, int, int]:
    """Give zoom, column and row of a tile over the middle of the raster."""
    rng = np.random.default_rng(number)
    lon, lat = rng.uniform((13.9, 48.0), (14.8, 48.5))
    zoom = _ZOOMS[number % len(_ZOOMS)]
    x = (lon + 180) / 360
    y = (1 - np.arcsinh(np.tan(np.radians(lat))) / np.pi) / 2
    return zoom, int(x * 2**zoom), int(y * 2**zoom)


def _ingest(home: Path, items: Path) -> None:
    command = [sys.executable, "-m", "earthself.signature", "ingest", "--direct", "--home", str(home), str(items)]
    subprocess.run(command, check=True, capture_output=True)


def _write_products(folder: Path) -> list[Path]:
    grid = Grid("EPSG:32633", (10.0, 0.0, 500_000.0, 0.0, -10.0, 5_400_000.0), _SIDE, _SIDE)
    rng = np.random.default_rng(0)
    return [_write_product(folder, f"P{number:04}", grid, rng) for number in range(PRODUCTS)]


def _write_product(folder: Path, name: str, grid: Grid, rng: np.random.Generator) -> Path:
    """Write a STAC item and its rasters, of patches of 10 x 10 pixels; gives the item's path."""
    patches = rng.choice(_CODES, (grid.height // 10, grid.width // 10))
    codes = patches.repeat(10, 0).repeat(10, 1).astype("uint16")
    clouds = rng.random((grid.height // 10, grid.width // 10)).repeat(10, 0).repeat(10, 1) > 0.9
    home = folder / name
    home.mkdir(parents=True)
    contents: Mapping[str, bytes] = layers(codes, clouds, grid)
    for layer, content in contents.items():
        (home / f"{layer}.tif").write_bytes(content)
    item = {
        "type": "Feature",
        "stac_version": "1.1.0",
        "id": name,
        "geometry": grid.outline(),
        "properties": {"datetime": "2017-06-13T10:10:31Z", "eo:cloud_cover": 5.0},
        "assets": {layer: {"href": f"./{layer}.tif"} for layer in contents},
    }
    path = home / f"{name}.json"
    path.write_bytes(orjson.dumps(item))
    return path
