"""From pixels to pictures and figures: tiles and previews in the layer's colours, and how much of each class there is.

Everything is bounded by the size of what is asked for, not of the raster: overviews are read where they do.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import morecantile
import numpy as np
from earthself.signature.errors import BadSignature, NotFound, StoreBroken
from earthself.signature.web.looks import NO_CLASS, Look
from earthself.signature.web.shown import Picture
from numpy.typing import NDArray
from PIL import Image
from rasterio.errors import RasterioError
from rio_tiler.errors import PointOutsideBounds, TileOutsideBounds
from rio_tiler.io import Reader

TILE = 256
LARGEST_PREVIEW = 1024
MOST_PIXELS_COUNTED = 4_000_000
"""Pixels that statistics are made of; a larger raster is thinned to that."""
TMS = morecantile.tms.get("WebMercatorQuad")
_DEEPEST = 24
_DEGREE = 111_319.49  # metres on the map
_ZERO = {"cloud_mask": "No cloud", "confidence": NO_CLASS, "observations": "Not observed, or outside of the area"}
_CLOSER = 3  # zoom levels beyond the raster's own, so that single pixels can be looked at


@dataclass(frozen=True)
class Place:
    """Where a picture lies."""

    bounds: tuple[float, float, float, float]
    """West, south, east, north in degrees; west > east over the antimeridian."""
    minzoom: int
    """Zoom at which all of it fits into a tile or two."""
    maxzoom: int
    """Beyond this there is nothing new to see."""

    @property
    def unwrapped(self) -> tuple[float, float, float, float]:
        """The bounds for those who take west > east for a mistake, or for what lies between: all around the Earth."""
        west, south, east, north = self.bounds
        return self.bounds if west <= east else (-180.0, south, 180.0, north)


def place(picture: Picture) -> Place:
    """Say where a picture lies and which zoom levels make sense."""
    return _place(str(picture.path), picture.state)


@lru_cache(maxsize=4096)
def _place(path: str, _state: str) -> Place:
    with _opened(path) as reader:
        west, south, east, north = reader.get_geographic_bounds(TMS.rasterio_geographic_crs)
        least, most = _zooms(reader, (south + north) / 2) if west > east else (reader.minzoom, reader.maxzoom)
        return Place((west, south, east, north), least, min(most + _CLOSER, _DEEPEST))


def _zooms(reader: Any, latitude: float) -> tuple[int, int]:  # noqa: ANN401 - rio-tiler's reader has no types
    """Tell the zoom levels from the size of a pixel: on the map, a raster over the antimeridian reaches around the world."""
    dataset = reader.dataset
    metres = _DEGREE if dataset.crs.is_geographic else dataset.crs.linear_units_factor[1] / math.cos(math.radians(latitude))
    pixel = dataset.res[0] * metres
    return TMS.zoom_for_res(pixel * max(dataset.width, dataset.height) / TILE), TMS.zoom_for_res(pixel)


def tile(picture: Picture, z: int, x: int, y: int) -> bytes:
    """Draw a tile of 256 x 256 pixels of the usual web map as PNG; transparent where there is nothing.

    Raises `NotFound` for a tile that the grid does not have.
    """
    if not 0 <= z <= _DEEPEST or not (0 <= x < 2**z and 0 <= y < 2**z):
        raise NotFound(f"tile {z}/{x}/{y} is not on the map; z goes from 0 to {_DEEPEST}, x and y from 0 to 2^z - 1")
    try:
        with _opened(str(picture.path)) as reader:
            image = reader.tile(x, y, z, tilesize=TILE, indexes=picture.band, resampling_method="nearest")
    except TileOutsideBounds:
        return _nothing()
    except RasterioError as error:
        raise _broken(picture, error) from error
    return _png(image.array[0], picture.look)


def preview(picture: Picture, size: int) -> bytes:
    """Draw the whole layer as PNG, its longer side at most `size` pixels, north up as in its own CRS."""
    if not 16 <= size <= LARGEST_PREVIEW:
        raise BadSignature(f"a preview of {size} pixels cannot be drawn; ask for 16 to {LARGEST_PREVIEW}")
    try:
        with _opened(str(picture.path)) as reader:
            image = reader.preview(indexes=picture.band, max_size=size, resampling_method="nearest")
    except RasterioError as error:
        raise _broken(picture, error) from error
    return _png(image.array[0], picture.look)


def point(picture: Picture, lon: float, lat: float) -> dict[str, Any]:
    """Give the value at a place in degrees and what it means; null outside of the raster."""
    try:
        with _opened(str(picture.path)) as reader:
            value = int(reader.point(lon, lat, indexes=picture.band).data[0])
    except PointOutsideBounds:
        return {"lon": lon, "lat": lat, "value": None, "label": None}
    except RasterioError as error:
        raise _broken(picture, error) from error
    return {"lon": lon, "lat": lat, "value": value, "label": meaning(picture.look, value)}


def meaning(look: Look, value: int) -> str:
    """Say in words what a pixel value means."""
    if look.name == "flags":
        return ", ".join(entry.label for entry in look.entries if entry.value and value & entry.value) or "Seen, with a class"
    if value == 0:
        return _ZERO.get(look.name, NO_CLASS)
    if look.name == "confidence":
        return f"{value} %"
    return {entry.value: entry.label for entry in look.entries}.get(value, str(value))


@lru_cache(maxsize=256)
def counted(picture: Picture) -> Mapping[str, Any]:
    """Count pixels by what they mean; `sampled` says which share of all pixels was looked at."""
    try:
        with _opened(str(picture.path)) as reader:
            height, width = reader.dataset.height, reader.dataset.width
            by = max(1, math.ceil(math.sqrt(height * width / MOST_PIXELS_COUNTED)))
            out = (math.ceil(height / by), math.ceil(width / by))
            values = reader.dataset.read(picture.band, out_shape=out)
    except RasterioError as error:
        raise _broken(picture, error) from error
    found, counts = np.unique(values, return_counts=True)
    total = int(counts.sum())
    rows = [
        {"value": int(value), "label": meaning(picture.look, int(value)), "share": round(int(n) / total, 6)}
        for value, n in zip(found, counts, strict=True)
    ]
    numbers = values[values > 0]
    mean = {"mean": round(float(numbers.mean()), 3)} if picture.look.name in ("confidence", "observations") and numbers.size else {}
    return {"pixels": height * width, "sampled": round(total / (height * width), 6), "values": rows, **mean}


def _opened(path: str) -> Any:  # noqa: ANN401 - rio-tiler's reader has no types
    try:
        return Reader(path, tms=TMS)
    except RasterioError as error:
        raise StoreBroken("the raster cannot be opened; restore it from a backup") from error


def _broken(picture: Picture, error: Exception) -> StoreBroken:
    return StoreBroken(f"layer {picture.name} cannot be read ({type(error).__name__}); restore it from a backup")


def _png(values: np.ma.MaskedArray[Any, Any], look: Look) -> bytes:
    """Write values as a PNG with a palette: smaller and quicker than one with four bands."""
    indexes: NDArray[np.uint8] = look.indexes[np.ma.getdata(values)]
    mask = np.ma.getmask(values)
    if mask is not np.ma.nomask:
        indexes[mask] = 0
    return _written(Image.fromarray(indexes), look.palette)


def _written(image: Image.Image, palette: NDArray[np.uint8]) -> bytes:
    image.putpalette(palette[:, :3].tobytes(), "RGB")
    out = io.BytesIO()
    image.save(out, "PNG", transparency=palette[:, 3].tobytes(), compress_level=4)
    return out.getvalue()


@lru_cache(maxsize=1)
def _nothing() -> bytes:
    return _written(Image.fromarray(np.zeros((TILE, TILE), np.uint8)), np.zeros((1, 4), np.uint8))
