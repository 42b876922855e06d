"""Signature items and areas for the raster steps' tests: small rasters whose truth is known pixel by pixel."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pystac
import rasterio
from affine import Affine
from earthself.data.area import Area
from earthself.processing.catalog import write_items
from earthself.processing.items import declare_extensions, raster_asset, raster_item
from earthself.processing.raster import CogWriter, Grid
from earthself.processing.step import StepContext
from pyproj import Transformer

UTM33 = "EPSG:32633"
UTM32 = "EPSG:32632"


def grid(left=500_000, top=5_300_000, width=12, height=10, *, resolution=10, crs=UTM33) -> Grid:
    return Grid(crs, Affine(resolution, 0, left, 0, -resolution, top), width, height)


def lonlat_box(where: Grid) -> dict:
    """The grid's corners as a GeoJSON polygon."""
    left, bottom, right, top = where.bounds
    corners = [(left, bottom), (right, bottom), (right, top), (left, top), (left, bottom)]
    to_lonlat = Transformer.from_crs(where.crs, "EPSG:4326", always_xy=True)
    return {"type": "Polygon", "coordinates": [[list(to_lonlat.transform(*corner)) for corner in corners]]}


def inside(where: Grid, pixels: float = 0.02) -> dict:
    """The grid's outline drawn in by a share of a pixel, so that the map of that area has exactly the grid's pixels."""
    a = where.transform
    return lonlat_box(
        Grid(
            where.crs,
            Affine(
                a.a * (where.width - 2 * pixels) / where.width,
                0,
                a.c + pixels * a.a,
                0,
                a.e * (where.height - 2 * pixels) / where.height,
                a.f + pixels * a.e,
            ),
            where.width,
            where.height,
        )
    )


@dataclass
class Scenes:
    """Collects signature items in a step's input folder."""

    folder: Path

    def __post_init__(self):
        self.folder.mkdir(parents=True, exist_ok=True)
        self.items: list[pystac.Item] = []

    def add(
        self, code, confidence=80, flags=0, *, where: Grid | None = None, observation=None, name=None, legend="clc:1", **properties
    ) -> pystac.Item:
        where = where or grid()
        shape = (where.height, where.width)
        number = len(self.items)
        observation = observation or f"S2A_33UUP_2017{1 + number // 28:02d}{1 + number % 28:02d}T101031_R022"
        name = name or f"product{number}"
        home = self.folder / name
        home.mkdir()
        when = dt.datetime(2017, 1, 1, tzinfo=dt.UTC) + dt.timedelta(days=number)
        fields = {
            "earthself:observation": observation,
            "earthself:baseline": "N0500",
            "earthself:product": name,
            "earthself:model": "baseline:1",
            "earthself:legend": legend,
            "earthself:validated_level": 1,
            "earthself:preprocessing": "pre1:scl:60",
            "earthself:mask": "scl",
            **properties,
        }
        item = raster_item(name, where, when, lonlat_box(where), fields)
        for layer, values, dtype in (("segmentation", code, "uint16"), ("confidence", confidence, "uint8"), ("flags", flags, "uint8")):
            path = home / f"{layer}.tif"
            with CogWriter(path, where, 1, dtype, 0, categorical=True) as cog:
                cog.write(np.broadcast_to(np.asarray(values, dtype), shape), where.window)
            item.add_asset(layer, raster_asset(path, ["data"], layer))
        self.items.append(declare_extensions(item))
        return item

    def context(self, output: Path, area: dict | list | None = None, items=None, name="step") -> StepContext:
        write_items(self.folder, self.items if items is None else items, "input")
        if area is not None:
            (self.folder / "area.geojson").write_text(json.dumps(Area.from_conf(area).geojson))
        output.mkdir(parents=True, exist_ok=True)
        scratch = output.with_name(output.name + "-scratch")
        scratch.mkdir(exist_ok=True)
        return StepContext(name, self.folder, output, scratch, cpus=1)


def context(folder: Path, output: Path) -> StepContext:
    """A step that reads what another one wrote."""
    output.mkdir(parents=True, exist_ok=True)
    scratch = output.with_name(output.name + "-scratch")
    scratch.mkdir(exist_ok=True)
    return StepContext("step", folder, output, scratch, cpus=1)


def bands(path: Path) -> dict[str, np.ndarray]:
    with rasterio.open(path) as dataset:
        return dict(zip(dataset.descriptions, dataset.read(), strict=True))
