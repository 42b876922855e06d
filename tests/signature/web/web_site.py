"""Products of every kind, a published result, and how tests ask a web server for them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from affine import Affine
from earthself.signature.rasters import Grid
from earthself.signature.testing import GRID, feature

ROWS, COLUMNS = GRID.height, GRID.width
OVER_180 = Grid("EPSG:32660", (10.0, 0.0, 827500.0, 0.0, -10.0, 1_106_000.0), 300, 50)
"""3 km by 500 m around longitude 180, 10 N."""
RESULT = "land_cover_map-manual__1"


@dataclass(frozen=True)
class Site:
    """A running web server."""

    url: str
    """Without a slash at the end."""
    store: str
    """URL of its database."""
    home: Path
    """Folder of its store."""

    def get(self, path: str, **options: Any) -> httpx.Response:
        return httpx.get(self.url + path, timeout=30, **options)

    def search(self, **body: Any) -> list[str]:
        """Ids that POST /search finds."""
        answer = httpx.post(f"{self.url}/search", json={"limit": 100, **body}, timeout=30)
        assert answer.status_code == 200, answer.text
        return [item["id"] for item in answer.json()["features"]]

    def refused(self, **body: Any) -> str:
        """What POST /search says that it cannot do."""
        answer = httpx.post(f"{self.url}/search", json=body, timeout=30)
        assert answer.status_code == 400, answer.text
        assert answer.headers["content-type"] == "application/json"
        return str(answer.json()["description"])


def codes(*values: int, grid: Grid = GRID) -> np.ndarray:
    """A raster of vertical stripes of equal width."""
    at = np.arange(grid.width) * len(values) // grid.width
    return np.broadcast_to(np.array(values, "uint16")[at], (grid.height, grid.width)).copy()


FULL = {
    "earthself:model": "baseline:1.0",
    "earthself:legend": "clc:3",
    "earthself:observation": "S2A_33UUP_20170613T101031_R022",
    "tags": ["harvest", "dry"],
    "height": 5,
}
PRODUCTS = {
    "forest": (feature("forest", **FULL), codes(311, 211)),
    "water": (
        feature("water", creation_date="2017-07-01T00:00:00Z", cloud_cover=60, product_type="S2MSI1C", legend="clc:3", height=7),
        codes(512),
    ),
    "town": (feature("town", creation_date="2018-01-05T10:00:00.250Z", cloud_cover=0, browse_url="", download_url=""), codes(111, 0)),
    "coarse": (feature("coarse", creation_date="2019-06-13T10:10:31Z", legend="clc:1"), codes(3)),
    "odd/id %41?#é": (feature("odd/id %41?#é", creation_date="2020-06-13T10:10:31Z"), codes(231)),
    "over180": (feature("over180", OVER_180, creation_date="2021-06-13T10:10:31Z", cloud_cover=100), codes(523, grid=OVER_180)),
}
"""Oldest first."""
DESCRIBED = feature("described", creation_date="2016-01-01T00:00:00Z", cloud_cover=33)


def publish(workspace: Path, title: str = "A map") -> Path:
    """Leave a result as the last task of a run does; gives its folder."""
    import rasterio

    run = workspace / "runs" / "land_cover_map" / "manual__1"
    run.mkdir(parents=True, exist_ok=True)
    code = codes(1, 2, 0, 5)
    bands = np.stack([code, np.where(code, 80, 0), np.where(code, 3, 0), np.where(code, 100, 0)]).astype("uint16")
    profile = {"crs": GRID.crs, "transform": Affine(*GRID.transform), "width": COLUMNS, "height": ROWS, "count": 4, "dtype": "uint16"}
    with rasterio.open(run / "land_cover.tif", "w", driver="COG", **profile) as out:
        out.write(bands)
    (run / "report.html").write_text("<!DOCTYPE html><title>Report</title>")
    (run / "secret.txt").write_text("not published")
    names = ("code", "confidence", "observations", "agreement")
    item = {
        "type": "Feature",
        "stac_version": "1.1.0",
        "id": RESULT,
        "geometry": GRID.outline(),
        "bbox": [15.0, 48.7, 15.1, 48.8],
        "properties": {
            "title": title,
            "created": "2026-01-01T00:00:00Z",
            "start_datetime": "2017-06-13T00:00:00Z",
            "end_datetime": "2017-06-14T00:00:00Z",
            "earthself:legend": "clc:1",
            "earthself:warnings": ["4 % of the area was not observed"],
        },
        "links": [],
        "assets": {
            "land_cover": {"href": "./land_cover.tif", "type": "image/tiff", "bands": [{"name": name} for name in names]},
            "report": {"href": "./report.html", "type": "text/html"},
            "manifest": {"href": "../../../../earthsignature/store-id", "type": "application/json"},
        },
    }
    (run / "item.json").write_text(json.dumps(item))
    (workspace / "catalog").mkdir(exist_ok=True)
    links = [
        {"rel": "item", "href": "../runs/land_cover_map/manual__1/item.json"},
        {"rel": "item", "href": "../runs/land_cover_map/gone/item.json"},
        {"rel": "item", "href": "../../elsewhere/item.json"},
    ]
    (workspace / "catalog" / "catalog.json").write_text(json.dumps({"type": "Catalog", "links": links}))
    return run
