"""A stored segmentation as a lazy xarray.DataArray: windows are fetched when their pixels are asked for."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from earthself.data.errors import BadInput
from earthself.data.legends import LegendEntry, legend
from earthself.signature.rpc import Connection, Rpc
from earthself.signature.wire.earthself.signature.v1 import signature_pb2 as own

if TYPE_CHECKING:
    import xarray

SERVICE = "earthself.signature.v1.SignatureService"
_BLOCK = 1024


@dataclass(frozen=True)
class Window:
    """Fetches the pixels of one window; a function of its own, so that dask can send it anywhere."""

    connection: Connection
    """The server."""
    product_id: str
    """Whose layer."""
    layer: str
    """Which one."""

    def __call__(self, column: int, row: int, width: int, height: int) -> np.ndarray[Any, Any]:
        """Fetch (height, width) pixels."""
        window = own.Window(column=column, row=row, width=width, height=height)
        request = own.GetRequest(product_id=self.product_id, layers=[self.layer], window=window)
        answers = _rpc(self.connection, os.getpid()).stream(SERVICE, "Get", request)
        return pixels_of(b"".join(answer.chunk.content for answer in answers))


def pixels_of(geotiff: bytes) -> np.ndarray[Any, Any]:
    """Read the first band of a GeoTIFF in memory, (rows, columns)."""
    from rasterio.io import MemoryFile

    with MemoryFile(geotiff) as memory, memory.open() as dataset:
        pixels: np.ndarray[Any, Any] = dataset.read(1)
    return pixels


def from_geotiff(geotiff: bytes) -> xarray.DataArray:
    """Open a whole GeoTIFF in memory as one lazy block."""
    import dask.array as da
    from rasterio.io import MemoryFile

    with MemoryFile(geotiff) as memory, memory.open() as dataset:
        pixels = da.from_array(dataset.read(1).astype("uint16"), chunks=-1)  # type: ignore[no-untyped-call]
        return georeferenced(pixels, dataset.crs.to_wkt(), tuple(dataset.transform)[:6])


def windows_array(fetch: Window, layer: own.Layer) -> xarray.DataArray:
    """Make a lazy (y, x) array of a layer in blocks of 1024 pixels, without attributes of the product."""
    import dask.array as da
    from dask.delayed import delayed

    rows = [(start, min(_BLOCK, layer.height - start)) for start in range(0, layer.height, _BLOCK)]
    columns = [(start, min(_BLOCK, layer.width - start)) for start in range(0, layer.width, _BLOCK)]
    get = delayed(fetch, pure=True)
    as_block: Any = da.from_delayed
    blocks = [
        [as_block(get(column, row, width, height), (height, width), layer.data_type) for column, width in columns] for row, height in rows
    ]
    return georeferenced(da.block(blocks), layer.crs, tuple(layer.transform))  # type: ignore[no-untyped-call]


def georeferenced(pixels: Any, crs: str, transform: tuple[float, ...]) -> xarray.DataArray:  # noqa: ANN401 - numpy or dask
    """Give pixels their coordinates (centres, in metres) and CRS (CF grid mapping `spatial_ref`, which rioxarray and GDAL read)."""
    import xarray
    from rasterio.crs import CRS

    a, _, c, _, e, f = transform
    height, width = pixels.shape
    wkt = CRS.from_user_input(crs).to_wkt()
    mapping = {"spatial_ref": wkt, "crs_wkt": wkt, "GeoTransform": f"{c!r} {a!r} 0.0 {f!r} 0.0 {e!r}"}
    x = ("x", c + a * (np.arange(width) + 0.5), {"standard_name": "projection_x_coordinate", "units": "m"})
    y = ("y", f + e * (np.arange(height) + 0.5), {"standard_name": "projection_y_coordinate", "units": "m"})
    made = xarray.DataArray(pixels, dims=("y", "x"), coords={"y": y, "x": x, "spatial_ref": ((), 0, mapping)}, name="segmentation")
    made.encoding["grid_mapping"] = "spatial_ref"
    return made


def described(array: xarray.DataArray, product_id: str, properties: Mapping[str, Any]) -> xarray.DataArray:
    """Say what the codes mean (CF `flag_values`, `flag_meanings`; `class_names` in full) and which product it is."""
    entries = _entries(properties)
    array.attrs.update(
        long_name="CORINE land cover",
        product_id=product_id,
        creation_date=properties.get("creation_date", ""),
        flag_values=np.array([entry.code for entry in entries], dtype="uint16"),
        flag_meanings=" ".join(_word(entry.name) for entry in entries),
        class_names=[entry.name for entry in entries],
        nodata=0,
    )
    return array


def _entries(properties: Mapping[str, Any]) -> list[LegendEntry]:
    """Give the legend that the product names, else the codes of all levels."""
    for key in ("legend", "earthself:legend"):
        try:
            return list(legend(properties[key]).entries)
        except (KeyError, BadInput):
            continue
    return [entry for name in ("clc:1", "clc:2", "clc:3") for entry in legend(name).entries]


def _word(name: str) -> str:
    return "_".join("".join(c if c.isalnum() else " " for c in name.lower()).split())


@functools.lru_cache(maxsize=8)
def _rpc(connection: Connection, _process: int) -> Rpc:
    """One channel for each server and process: channels do not survive a fork."""
    return Rpc(connection)
