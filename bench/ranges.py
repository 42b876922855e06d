"""Bytes over the wire for 1 km2 of a 110 km tile, read by ranges as `sign` reads it: six bands, and all that the shipped model needs.

The server counts what it sends. The tile is a Sentinel-2 L2A product as Earth Search serves it (COG, DEFLATE, blocks of 1024 pixels,
overviews) with noise of 10 bits where the area lies, and the area lies where four blocks meet, which is the worst place. The peer is
GDAL's own /vsicurl for the same windows.
"""

from __future__ import annotations

import os
import tempfile
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np

SIX = {"B02": 10, "B03": 10, "B04": 10, "B08": 10, "B11": 20, "B12": 20}
BANDS = SIX | {"B05": 20, "B06": 20, "B07": 20, "B8A": 20, "SCL": 20}
"""Metres of a pixel."""
SIDE_M, BLOCK = 109_800, 1024
LEFT, TOP = 600_000, 5_400_000
CORNER = 5 * BLOCK
"""Row and column (10 m) of the middle of the area: a corner of blocks at 10 m and, by 20 m, at the middle of a block's edge."""
GOAL_MB = 50.0


class _Server(ThreadingHTTPServer):
    """Serves one folder and counts the bytes of bodies."""

    daemon_threads = True
    folder: Path
    sent = 0
    lock = threading.Lock()


class _Handler(SimpleHTTPRequestHandler):
    """Single ranges, whole files, HEAD."""

    server: _Server
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.server.folder / Path(self.path).name
        if not path.is_file():
            self.send_error(404)
            return
        size = path.stat().st_size
        first, last = 0, size - 1
        if asked := self.headers.get("Range"):
            start, _, stop = asked.removeprefix("bytes=").partition("-")
            first, last = int(start), min(int(stop or last), last)
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(last - first + 1))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", '"one"')
        if asked:
            self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
        self.end_headers()
        if self.command == "HEAD":
            return
        with path.open("rb") as file:
            file.seek(first)
            data = file.read(last - first + 1)
        with self.server.lock:
            self.server.sent += len(data)
        self.wfile.write(data)


def make_band(path: Path, resolution: int, seed: int) -> None:
    """Write a whole tile of one band: noise on the blocks around the area, a constant elsewhere (which nobody reads)."""
    import rasterio
    import rasterio.shutil
    from rasterio.transform import from_origin

    size, middle = SIDE_M // resolution, CORNER * 10 // resolution
    plain = path.with_suffix(".plain.tif")
    profile = {"width": size, "height": size, "count": 1, "dtype": "uint16", "crs": "EPSG:32633", "nodata": 0}
    layout = {"tiled": True, "blockxsize": 512, "blockysize": 512, "transform": from_origin(LEFT, TOP, resolution, resolution)}
    pixels = np.full((size, size), 1000, np.uint16)
    near = slice(middle - 2 * BLOCK, middle + 2 * BLOCK)
    pixels[near, near] = np.random.default_rng(seed).normal(2000, 300, pixels[near, near].shape).clip(1, 10_000)
    with rasterio.open(plain, "w", driver="GTiff", **profile, **layout) as dataset:
        dataset.write(pixels, 1)
    options = {"blocksize": BLOCK, "compress": "DEFLATE", "predictor": "STANDARD", "num_threads": "2", "level": 6}
    rasterio.shutil.copy(plain, path, driver="COG", **options)
    plain.unlink()


def item(url: str) -> Any:  # noqa: ANN401 - pystac, imported late
    """The product as a search gives it."""
    import pystac
    from rasterio.warp import transform_bounds

    box = transform_bounds("EPSG:32633", "EPSG:4326", LEFT, TOP - SIDE_M, LEFT + SIDE_M, TOP)
    west, south, east, north = box
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    properties = {"datetime": "2017-06-13T10:10:31Z", "earthself:baseline": "N0205", "earthself:access": "open"}
    return pystac.Item.from_dict(
        {
            "type": "Feature", "stac_version": "1.1.0", "id": "tile", "geometry": {"type": "Polygon", "coordinates": [ring]}, "bbox": box,
            "properties": {**properties, "earthself:provider": "bench", "earthself:observation": "S2A_33UXP_20170613T101031_R022"},
            "assets": {band: {"href": f"{url}/{band}.tif"} for band in BANDS}, "links": [],
        }
    )  # fmt: skip


def square() -> Any:  # noqa: ANN401 - Area, imported late
    """1 km2 around the corner of the blocks."""
    from earthself.data.area import Area
    from rasterio.warp import transform_geom

    x, y = LEFT + 10 * CORNER, TOP - 10 * CORNER
    ring = [(x - 500, y - 500), (x + 500, y - 500), (x + 500, y + 500), (x - 500, y + 500), (x - 500, y - 500)]
    return Area.from_conf(transform_geom("EPSG:32633", "EPSG:4326", {"type": "Polygon", "coordinates": [ring]}))


def ours(url: str, folder: Path, needs: Any) -> dict[str, tuple[int, ...]]:  # noqa: ANN401 - Needs, imported late
    """Fetch what `sign` would; gives the window of each band."""
    from earthself.data.sources import SourceConfig, Sources
    from earthself.processing.meter import Meter
    from earthself.processing.raster import gdal
    from earthself.processing.steps.fetch import Fetcher

    with Sources(SourceConfig(providers=("bench",))) as sources, gdal():
        scene = Fetcher(needs, square(), sources, Meter()).fetch(item(url), folder)
    assert scene is not None
    with scene:
        return {str(each["asset"]): tuple(each["window"]) for each in scene.item.properties["earthself:inputs"]}


def theirs(url: str, windows: dict[str, tuple[int, ...]]) -> None:
    """Read the same windows by GDAL's own HTTP."""
    import rasterio
    from rasterio.windows import Window

    for band, window in windows.items():
        with (
            rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR", GDAL_HTTP_MAX_RETRY="0"),
            rasterio.open(f"/vsicurl/{url}/{band}.tif") as dataset,
        ):
            dataset.read(1, window=Window(*window))


def run() -> list[dict[str, Any]]:
    """Measure both on one server."""
    from earthself.processing.masks import MaskOptions
    from earthself.processing.models import load_card
    from earthself.processing.steps.fetch import Needs

    os.environ["no_proxy"] = "127.0.0.1"
    asked = {
        "six bands": (Needs(tuple(SIX), 0, MaskOptions("none")), GOAL_MB),
        "all that the shipped model needs, SCL too": (Needs.of(load_card("baseline"), MaskOptions()), None),
    }
    rows = []
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home)
        for seed, (band, resolution) in enumerate(BANDS.items()):
            make_band(folder / f"{band}.tif", resolution, seed)
        server = _Server(("127.0.0.1", 0), _Handler)
        server.folder = folder
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            url = f"http://127.0.0.1:{server.server_address[1]}"
            for name, (needs, goal) in asked.items():
                server.sent = 0
                windows = ours(url, folder / "scene", needs)
                mine, server.sent = server.sent, 0
                theirs(url, windows)
                rows.append(_row(f"1 km2 of a 110 km tile by ranges, {name}", mine, server.sent, goal))
        finally:
            server.shutdown()
            thread.join()
            server.server_close()
    return rows


def _row(name: str, mine: int, peer: int, goal: float | None) -> dict[str, Any]:
    row = {"name": name, "value": mine / 1e6, "unit": "MB sent", "peer": "GDAL /vsicurl, the same windows"}
    return {**row, "peer_value": peer / 1e6, "ratio": mine / peer, "goal": goal}


if __name__ == "__main__":
    print(run())
