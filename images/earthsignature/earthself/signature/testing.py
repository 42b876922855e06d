"""Makers of test data and a real server for tests, ours and those of programs that talk to EarthSignature."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from earthself.signature.errors import Unavailable
from earthself.signature.rasters import Grid
from rasterio.io import MemoryFile

GRID = Grid("EPSG:32633", (10.0, 0.0, 500000.0, 0.0, -10.0, 5400000.0), 60, 50)
"""600 by 500 m at 15 E, 48.75 N, in the middle of UTM zone 33."""


def geotiff(pixels: np.ndarray[Any, Any], grid: Grid = GRID, **profile: Any) -> bytes:  # noqa: ANN401 - options of rasterio
    """Write (rows, columns) or (bands, rows, columns) as a GeoTIFF with the grid's CRS and transform, or those of `profile`."""
    bands = pixels if pixels.ndim == 3 else pixels[None]
    count, height, width = bands.shape
    options: dict[str, Any] = {"crs": grid.crs, "transform": Affine(*grid.transform), "dtype": bands.dtype, **profile}
    with MemoryFile() as memory:
        with memory.open(driver="GTiff", count=count, height=height, width=width, **options) as out:
            out.write(bands)
        return bytes(memory.read())


def feature(product_id: str, grid: Grid = GRID, **properties: Any) -> dict[str, Any]:  # noqa: ANN401 - properties of a product
    """Make the Feature of a product on a grid; a property of None is left out."""
    usual: dict[str, Any] = {
        "creation_date": "2017-06-13T10:10:31Z",
        "publication_date": "2017-06-14T02:00:00Z",
        "product_type": "S2MSI2A",
        "cloud_cover": 12.5,
        "quicklook": "https://example.org/quicklook.png",
        "browse_url": "https://example.org/browse",
        "download_url": "https://example.org/download",
    }
    said = {key: value for key, value in {**usual, **properties}.items() if value is not None}
    return {"type": "Feature", "id": product_id, "geometry": grid.outline(), "properties": said}


def layers(segmentation: np.ndarray[Any, Any], clouds: np.ndarray[Any, Any] | None = None, grid: Grid = GRID) -> dict[str, bytes]:
    """Make the two layers that every product has; without clouds unless given."""
    mask = np.zeros_like(segmentation, dtype="uint8") if clouds is None else clouds.astype("uint8")
    return {"segmentation": geotiff(segmentation, grid), "cloud_mask": geotiff(mask, grid, nbits=1)}


@contextmanager
def running_server(home: Path, *options: str, environment: Mapping[str, str] | None = None) -> Iterator[RunningServer]:
    """Start `earthsignature serve` on a free port as a process of its own, and stop it at the end."""
    server = RunningServer(home, options, environment)
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def running_web(home: Path, *options: str, environment: Mapping[str, str] | None = None) -> Iterator[str]:
    """Start `earthsignature web` on a free port as a process of its own, and stop it at the end; gives its address."""
    command = [sys.executable, "-m", "earthself.signature", "web", "--port", "0", "--home", str(home), "--json", *options]
    log = home.with_name(home.name + "-web.log")
    with log.open("ab") as out:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=out, text=True, env=environment)
    with process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            if not line:
                raise Unavailable(f"the web server did not start: {log.read_text()[-2000:]}")
            yield str(json.loads(line)["url"])
        finally:
            process.terminate()
            process.wait(30)


class RunningServer:
    """A server process; `target` is its host:port."""

    def __init__(self, home: Path, options: tuple[str, ...] = (), environment: Mapping[str, str] | None = None) -> None:
        """Start and wait until it answers."""
        command = [sys.executable, "-m", "earthself.signature", "serve", "--port", "0", "--home", str(home), *options]
        self.log = home.with_name(home.name + ".log")
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment)
        line = self.process.stdout.readline() if self.process.stdout else ""
        if not line:
            raise Unavailable(f"the server did not start: {self.log.read_text()[-2000:]}")
        self.target = line.split("listens on ")[1].split(",")[0]

    def stop(self) -> int:
        """End it as a supervisor would; gives its exit code."""
        self.process.terminate()
        return self._gone()

    def kill(self) -> int:
        """End it as the kernel would, without a last word."""
        self.process.kill()
        return self._gone()

    def _gone(self) -> int:
        code = self.process.wait(30)
        if self.process.stdout:
            self.process.stdout.close()
        return code
