"""Real labelled scenes for the tests of the shipped model, read from the files themselves rather than by the training's code."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cache
from pathlib import Path

import numpy as np
import pytest

DATA = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"
BANDS = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
CLEAR = (2, 4, 5, 6, 7, 11)
"""SCL classes that the mask leaves: all but nodata, defective, shadow, clouds and cirrus."""

SNOW = 11

needs_data = pytest.mark.skipif(
    not DATA.is_dir(), reason="the labelled scenes are not in ../shared/data; docs/models.md says where to get them"
)


@dataclass(frozen=True)
class Day:
    day: date
    reflectance: np.ndarray
    clear: np.ndarray
    snow: np.ndarray
    """What the scene classification takes for snow; the mask leaves it."""


@dataclass(frozen=True)
class Parcels:
    name: str
    days: tuple[Day, ...]
    cover: np.ndarray
    """11 annual crop, 13 grassland, 60 built-up, 99 other."""


def twice(values):
    return values.repeat(2, axis=-2).repeat(2, axis=-1)


def reflectance(numbers):
    return np.where(numbers == 0, np.nan, numbers / 10000).astype(np.float32)


@cache
def parcels() -> tuple[Parcels, ...]:
    import netCDF4

    found = []
    for path in sorted((DATA / "worldcereal").glob("S2_L2A_10m_*.nc")):
        key = path.stem.split("_")[3]
        others = [path.with_name(path.name.replace("10m", "20m")), next(path.parent.glob(f"OUTPUT_*_{key}_*"))]
        fine, coarse, labels = (netCDF4.Dataset(p) for p in (path, *others))
        for data in (fine, coarse, labels):
            data.set_auto_maskandscale(False)
        numbers = np.stack([fine[b][:] if b in fine.variables else twice(coarse[b][:]) for b in BANDS], axis=1)
        start = datetime.fromisoformat(fine["timestamp"].units.split("since ")[1])
        days = [(start + timedelta(seconds=int(s))).date() for s in fine["timestamp"][:]]
        scl = twice(coarse["SCL"][:])
        found.append(
            Parcels(fine["B02"].tile, tuple(map(Day, days, reflectance(numbers), np.isin(scl, CLEAR), scl == SNOW)), labels["LC"][:])
        )
    return tuple(found)


@cache
def patches() -> dict[str, np.ndarray]:
    import rasterio

    found = {}
    for path in sorted((DATA / "bigearthnet_v2").glob("*_12b.tif")):
        with rasterio.open(path) as data:
            found[path.name.removesuffix("_12b.tif")] = reflectance(data.read([data.descriptions.index(b) + 1 for b in BANDS]))
    return found


@cache
def patch_labels() -> dict[str, list[str]]:
    return json.loads((DATA / "bigearthnet_v2" / "patch_labels.json").read_text())


@cache
def corine_patch() -> tuple[str, np.ndarray]:
    import rasterio

    path = next((DATA / "bigearthnet_v2").glob("*_reference_map.tif"))
    with rasterio.open(path) as data:
        return path.name.removesuffix("_reference_map.tif"), data.read(1) // 100
