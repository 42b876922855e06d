"""Small real signatures for tests: four rasters on one grid, described as the step `sign` describes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

SIZE = 64
LEFT, TOP = 332_320.0, 5_333_960.0


def product(name: str, *, observation: str | None = None, baseline: str = "N0510", column: int = 0, scl: bool = True) -> dict[str, Any]:
    """Describe a product as `earthself.data.sources` gives it; `column` shifts it east by its own width."""
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "id": name,
        "geometry": footprint(column),
        "bbox": _bbox(column),
        "links": [],
        "assets": {"B04": {"href": f"/nowhere/{name}/B04.tif"}, **({"SCL": {"href": f"/nowhere/{name}/SCL.tif"}} if scl else {})},
        "properties": {
            "datetime": "2017-06-13T10:10:31Z",
            "eo:cloud_cover": 3.0,
            "earthself:observation": observation or f"S2A_33UUP_20170613T101031_R022_{name}",
            "earthself:baseline": baseline,
            "earthself:provider": "test",
            "earthself:collection": "S2_MSI_L2A",
        },
    }


def footprint(column: int = 0) -> dict[str, Any]:
    """Outline of the pixels in longitude and latitude."""
    west, south, east, north = _bbox(column)
    return {"type": "Polygon", "coordinates": [[[west, south], [east, south], [east, north], [west, north], [west, south]]]}


def signature(folder: Path, of: dict[str, Any], *, code: int = 3, column: int = 0, **properties: Any) -> dict[str, Any]:
    """Write the rasters of a signature of a product into `folder/<id>` and return its item, hrefs relative to it."""
    own = folder / of["id"]
    own.mkdir(parents=True, exist_ok=True)
    for name, (kind, value, extra) in {
        "segmentation": ("uint16", code, {"nodata": 0}),
        "confidence": ("uint8", 80, {}),
        "flags": ("uint8", 0, {}),
        "cloud_mask": ("uint8", 0, {"nbits": 1}),
    }.items():
        _write(own / f"{name}.tif", kind, value, column, extra)
    return {
        **of,
        "stac_extensions": [],
        "assets": {
            name: {"href": f"./{name}.tif", "type": "image/tiff", "roles": ["data"]}
            for name in ("segmentation", "confidence", "flags", "cloud_mask")
        },
        "properties": {
            **of["properties"],
            "earthself:product": of["id"],
            "earthself:model": "baseline:1",
            "earthself:legend": "clc:1",
            "earthself:validated_level": 1,
            "earthself:preprocessing": "pre1:scl:60",
            "earthself:mask": "scl",
            "earthself:clear_fraction": 1.0,
            "earthself:offset": -1000,
            "earthself:inputs": [
                {"asset": "B04", "href": "http://host/x/B04.tif", "sha256": "ab" * 32, "bytes": 8192, "window": [0, 0, 64, 64]}
            ],
            **properties,
        },
    }


def _write(path: Path, kind: str, value: int, column: int, extra: dict[str, Any]) -> None:
    import numpy as np
    import rasterio
    from affine import Affine

    transform = Affine(10, 0, LEFT + 10 * SIZE * column, 0, -10, TOP)
    profile = {"driver": "GTiff", "width": SIZE, "height": SIZE, "count": 1, "dtype": kind, "crs": "EPSG:32633", "transform": transform}
    with rasterio.open(path, "w", **profile, **extra) as dataset:
        dataset.write(np.full((SIZE, SIZE), value, kind), 1)


def _bbox(column: int) -> list[float]:
    from pyproj import Transformer

    left = LEFT + 10 * SIZE * column
    to_lonlat = Transformer.from_crs("EPSG:32633", "EPSG:4326", always_xy=True)
    return [round(v, 7) for v in to_lonlat.transform_bounds(left, TOP - 10 * SIZE, left + 10 * SIZE, TOP)]
