"""Products that steps are measured on: fields with the spread and the noise of real ones, so that they are packed to about as many bytes.

A test holds them against the sample that ships with the platform. All of them is clear, so that a step skips nothing.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from earthself.data.items import ONLY_PROVIDER
from earthself.data.sentinel2 import BANDS, SCL_RESOLUTION

SMALLER = 4
"""What a step takes whatever the number of pixels is known from products with sides so many times shorter."""
_CLEAR = 4  # the scene class of vegetation
_FIELD = 24  # pixels of 10 m along each side of a field
_LEFT, _TOP, _CRS = 300_000, 5_400_000, "EPSG:32633"
_FOOTPRINT = [[12.3, 48.5], [12.6, 48.5], [12.6, 48.7], [12.3, 48.7], [12.3, 48.5]]


def make_products(folder: Path, bands: Sequence[str], products: int, side: int) -> None:
    """Write a step's input folder (docs/steps.md): so many dates of one place, of `side` x `side` pixels of 10 m, with scene classes."""
    links = []
    for number in range(products):
        name = f"product-{number}"
        (folder / name).mkdir(parents=True)
        draw = np.random.default_rng(number)
        for band in bands:
            _write(folder / name / f"{band}.tif", _land(draw, band, side), BANDS[band].resolution)
        across = -(-side * 10 // SCL_RESOLUTION)
        _write(folder / name / "SCL.tif", np.full((across, across), _CLEAR, np.uint8), SCL_RESOLUTION)
        (folder / name / f"{name}.json").write_text(json.dumps(_item(name, number, bands)))
        links.append({"rel": "item", "href": f"./{name}/{name}.json", "type": "application/geo+json"})
    catalog = {"type": "Catalog", "stac_version": "1.1.0", "id": "products", "description": "Made to measure", "links": links}
    (folder / "catalog.json").write_text(json.dumps(catalog))


def _item(name: str, number: int, bands: Sequence[str]) -> dict[str, Any]:
    when = f"2024-05-{1 + number:02d}"
    return {
        "type": "Feature", "stac_version": "1.1.0", "id": name, "links": [],
        "geometry": {"type": "Polygon", "coordinates": [_FOOTPRINT]}, "bbox": [*_FOOTPRINT[0], *_FOOTPRINT[2]],
        "properties": {
            "datetime": f"{when}T10:10:31Z", "earthself:observation": f"S2A_33UUP_{when.replace('-', '')}T101031_R022",
            "earthself:product": name, "earthself:baseline": "N0509", "earthself:offset": -1000, "earthself:provider": "made",
            "earthself:collection": "S2_MSI_L2A", "earthself:access": "open", ONLY_PROVIDER: True, "eo:cloud_cover": 0.0,
        },
        "assets": {band: {"href": f"./{band}.tif", "type": "image/tiff; application=geotiff"} for band in (*bands, "SCL")},
    }  # fmt: skip


def _land(draw: np.random.Generator, band: str, side: int) -> np.ndarray[Any, Any]:
    """Digital numbers of a place: fields, each of them uneven."""
    size = BANDS[band].resolution
    across, field = -(-side * 10 // size), max(1, _FIELD * 10 // size)
    bright = 2500 if BANDS[band].wavelength > 0.7 else 450
    fields = draw.normal(bright, 0.3 * bright, (-(-across // field),) * 2).clip(0.2 * bright)
    land = np.kron(fields, np.ones((field, field)))[:across, :across]
    return (1000 + land + draw.laplace(0, 0.07 * bright, land.shape)).clip(1, 12_000).astype(np.uint16)


def _write(path: Path, pixels: np.ndarray[Any, Any], size: int) -> None:
    import rasterio
    from rasterio.transform import from_origin

    with rasterio.open(
        path, "w", driver="GTiff", width=pixels.shape[1], height=pixels.shape[0], count=1, dtype=pixels.dtype, nodata=0, crs=_CRS,
        transform=from_origin(_LEFT, _TOP, size, size), tiled=True, blockxsize=512, blockysize=512, compress="DEFLATE", predictor=2,
    ) as file:  # fmt: skip
        file.write(pixels, 1)
