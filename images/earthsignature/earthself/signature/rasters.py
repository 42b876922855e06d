"""The rasters of a product: what of an upload is checked, and how it is stored and read again.

Everything goes in strips of so many pixels at most, so that memory does not grow with the scene. What is stored is a COG with DEFLATE,
since the v1 interface hands the file itself to clients whose GDAL we do not choose. It is read again before it counts: GDAL tells
a full disk late, or not at all.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil
from affine import Affine
from earthself.data.area import Area
from earthself.signature.earth import area_ha
from earthself.signature.errors import BadSignature, StoreBroken, StoreFull
from earthself.signature.filters import ALL_CODES
from rasterio._err import CPLE_BaseError  # what GDAL raises through rasterio has no public name
from rasterio.errors import CRSError, RasterioError
from rasterio.io import DatasetReader, MemoryFile
from rasterio.warp import transform as reproject
from rasterio.windows import Window

MOST_PIXELS = 400_000_000
"""A Sentinel-2 tile at 10 m has 120 million."""
MOST_SIDE = 40_000
"""A Sentinel-2 tile at 10 m has 10,980 rows and columns."""
_MOST_BLOCK = 1 << 25  # GDAL unpacks a whole block, however small it is in the file
_STRIP = 512
_STRIP_PIXELS = 6_000_000  # 512 rows of a Sentinel-2 tile
_ROUGH = {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "zstd", "zstd_level": 1}
_COG = {"COMPRESS": "DEFLATE", "BLOCKSIZE": 512, "OVERVIEW_RESAMPLING": "NEAREST", "BIGTIFF": "IF_SAFER"}
_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_PSEUDO_MERCATOR = 3857
_CORNERS = 8  # a side
_NEAR_THE_POLE = 80  # degrees; straight lines on the ground are curves in longitude and latitude there


@dataclass(frozen=True)
class LayerKind:
    """What a layer must be like."""

    name: str
    """Its name in the interface."""
    accepted: tuple[str, ...]
    """Data types of an upload."""
    stored: str
    """Data type of the store."""
    values: frozenset[int]
    """Values that a pixel may have."""
    meaning: str
    """The values in words, for messages."""
    bits: int = 0
    """Bits a pixel in the file, 0 for all of the data type's."""


LAYERS = {
    kind.name: kind
    for kind in (
        LayerKind("segmentation", ("uint16", "int16"), "uint16", ALL_CODES | {0}, "CORINE Land Cover codes, and 0 where there is none"),
        LayerKind("cloud_mask", ("uint8",), "uint8", frozenset((0, 1)), "1 for cloud and 0 for the rest", bits=1),
        LayerKind("confidence", ("uint8",), "uint8", frozenset(range(101)), "percent from 0 to 100"),
        LayerKind("flags", ("uint8",), "uint8", frozenset(range(128)), "bits from 1 to 64 added up"),
    )
}
"""All layers of a signature by name; v1 knows the first two."""


@dataclass(frozen=True)
class Grid:
    """Where the pixels lie."""

    crs: str
    """EPSG:n, or WKT where there is no number; projected, in metres."""
    transform: tuple[float, float, float, float, float, float]
    """x = t0 * column + t1 * row + t2, y = t3 * column + t4 * row + t5."""
    width: int
    """Columns."""
    height: int
    """Rows."""

    def __str__(self) -> str:
        """Say it in a message."""
        size, corner = self.transform[0], (self.transform[2], self.transform[5])
        return f"{self.width}x{self.height} pixels of {size:g} m in {self.crs[:40]} from {corner[0]:.10g}, {corner[1]:.10g}"

    @property
    def pixel_ha(self) -> float:
        """Mean size of a pixel on the ellipsoid, in hectares."""
        return area_ha(Area.from_conf(self.outline()).geometry) / (self.width * self.height)

    def outline(self) -> dict[str, Any]:
        """Draw the edge of the raster as a GeoJSON Polygon in longitude and latitude, with extra corners where it bends."""
        drawn = self._edge(_CORNERS)
        return drawn if max(abs(lat) for _, lat in drawn["coordinates"][0]) < _NEAR_THE_POLE else self._edge(_CORNERS * 16)

    def _edge(self, corners: int) -> dict[str, Any]:
        steps = np.linspace(0, 1, corners + 1)[:-1]
        ones = np.ones_like(steps)
        columns = np.concatenate([steps, ones, 1 - steps, 0 * ones, [0.0]]) * self.width
        rows = np.concatenate([0 * ones, steps, ones, 1 - steps, [0.0]]) * self.height
        a, b, c, d, e, f = self.transform
        xs, ys = a * columns + b * rows + c, d * columns + e * rows + f
        lons, lats = reproject(self.crs, "EPSG:4326", xs, ys)
        return {"type": "Polygon", "coordinates": [[[lon, lat] for lon, lat in zip(lons, lats, strict=True)]]}


@dataclass(frozen=True)
class Layer:
    """A stored raster."""

    name: str
    """segmentation, cloud_mask, confidence or flags."""
    grid: Grid
    """Where its pixels lie."""
    data_type: str
    """uint16 or uint8."""
    sha256: str
    """Of the georeference and the pixels, whatever the file's tiling and compression."""
    size: int
    """Bytes of the stored file."""
    counts: dict[int, int] = field(default_factory=dict, compare=False)
    """Pixels of each value but 0, for a segmentation."""


@dataclass(frozen=True)
class PixelWindow:
    """A part of a layer, in pixels from its upper left corner."""

    column: int
    """First column."""
    row: int
    """First row."""
    width: int
    """Columns, at least 1."""
    height: int
    """Rows, at least 1."""

    def lies_in(self, width: int, height: int) -> bool:
        """Tell whether a raster of that size holds all of it."""
        starts = min(self.column, self.row) >= 0 and min(self.width, self.height) >= 1
        return starts and self.column + self.width <= width and self.row + self.height <= height


def file_name(layer: str) -> str:
    """Give the file's name of a layer in a product's folder."""
    return f"{layer}.tif"


def store_layer(source: Path, name: str, folder: Path) -> Layer:
    """Check an uploaded GeoTIFF and write it as a COG into the folder; raises `BadSignature` with what is wrong."""
    kind = LAYERS[name]
    target = folder / file_name(name)
    rough = folder / f"{name}.rough.tif"
    _check_magic(source, name)
    with _opened(source, name) as dataset:
        grid = _check_header(dataset, kind)
        # What fits in one block is a COG as it is written; the rest becomes one by a copy with its overviews.
        small = max(grid.width, grid.height) <= _STRIP
        profile = {**_profile(kind, grid), "driver": "GTiff", **(_one_block(grid) if small else _ROUGH)}
        digest = _digest(grid)
        counts = np.zeros(65536, dtype=np.int64)
        with writable(name, folder), rasterio.open(target if small else rough, "w", **profile) as out:
            for window, pixels in _strips(dataset, kind):
                counts += _count(pixels, kind)
                stored = pixels.astype(kind.stored, copy=False)
                digest.update(_bytes(stored))
                out.write(stored, 1, window=window)
    if not small:
        with writable(name, folder):
            rasterio.shutil.copy(rough, target, driver="COG", **_COG)
        rough.unlink()
    found = {int(code): int(counts[code]) for code in np.flatnonzero(counts) if code} if name == "segmentation" else {}
    layer = Layer(name, grid, kind.stored, digest.hexdigest(), target.stat().st_size, found)
    if not is_whole(target, layer):
        raise _full(name, folder)
    return layer


def _one_block(grid: Grid) -> dict[str, Any]:
    return {"tiled": False, "blockysize": grid.height, "compress": "deflate"}


def is_whole(path: Path, layer: Layer) -> bool:
    """Tell whether the file holds the pixels of that layer, and overviews that can be read."""
    if not path.is_file():
        return False
    kind = LAYERS[layer.name]
    try:
        with rasterio.open(path) as dataset:
            grid = layer.grid
            if dataset.shape != (grid.height, grid.width) or not np.allclose(tuple(dataset.transform)[:6], grid.transform):
                return False
            # A CRS without a number may be written in other words than it was read.
            if dataset.crs is None or (grid.crs.startswith("EPSG:") and crs_text(dataset.crs) != grid.crs):
                return False
            digest, levels = _digest(grid), len(dataset.overviews(1))
            for _, pixels in _strips(dataset, kind):
                digest.update(_bytes(pixels))
        for level in range(levels):
            with rasterio.open(path, OVERVIEW_LEVEL=level) as overview:
                for _ in _strips(overview, kind):
                    pass
    except (RasterioError, BadSignature, CRSError):
        return False
    return str(digest.hexdigest()) == layer.sha256


@contextmanager
def writable(what: str, folder: Path) -> Iterator[None]:
    """Turn what GDAL raises while it writes into that folder into `StoreFull`."""
    try:
        yield
    except (RasterioError, CPLE_BaseError, SystemError) as error:  # the last: rasterio for a failure that GDAL gives no reason for
        raise _full(what, folder) from error


def _full(what: str, folder: Path) -> StoreFull:
    free = shutil.disk_usage(folder).free
    return StoreFull(
        f"{what} cannot be written: the store's disk is full or broken ({free / 1e6:.0f} MB are free now); "
        "nothing was stored, try again when there is room"
    )


def _digest(grid: Grid) -> Any:  # noqa: ANN401 - hashlib has no public type
    return hashlib.sha256(repr((grid.crs, [round(t, 6) for t in grid.transform], grid.width, grid.height)).encode())


def _bytes(pixels: np.ndarray[Any, Any]) -> bytes:
    return pixels.astype(f"<u{pixels.itemsize}", copy=False).tobytes()


def read_window(path: Path, name: str, window: PixelWindow) -> bytes:
    """Cut a window out of a stored layer, as a GeoTIFF with its own georeference; raises `BadSignature` outside of the layer."""
    kind = LAYERS[name]
    try:
        with rasterio.open(path) as dataset:
            if not window.lies_in(dataset.width, dataset.height):
                raise BadSignature(f"{window} is not inside {name}, which has {dataset.width}x{dataset.height} pixels")
            part = Window(window.column, window.row, window.width, window.height)
            pixels = dataset.read(1, window=part)
            cut = Grid(crs_text(dataset.crs), tuple(dataset.window_transform(part))[:6], window.width, window.height)
    except RasterioError as error:
        raise StoreBroken(f"{path} cannot be read ({error}); restore it from a backup") from error
    with MemoryFile() as memory:
        with memory.open(**_profile(kind, cut), driver="GTiff", compress="deflate", zlevel=1) as out:
            out.write(pixels, 1)
        return bytes(memory.read())


def crs_text(crs: Any) -> str:  # noqa: ANN401 - rasterio has no types
    """Write a CRS as EPSG:n where it has a number, else as WKT."""
    number = crs.to_epsg()
    return f"EPSG:{number}" if number else str(crs.to_wkt())


def _profile(kind: LayerKind, grid: Grid) -> dict[str, Any]:
    profile: dict[str, Any] = {"width": grid.width, "height": grid.height, "count": 1, "dtype": kind.stored}
    profile.update(crs=grid.crs, transform=Affine(*grid.transform))
    if kind.name == "segmentation":
        profile["nodata"] = 0
    if kind.bits:
        profile["nbits"] = kind.bits
    return profile


def _check_magic(source: Path, name: str) -> None:
    with source.open("rb") as file:
        head = file.read(64)
    if not head:
        raise BadSignature(f"{name} is missing; send a GeoTIFF ({LAYERS[name].meaning})")
    if head[:4] in _TIFF_MAGIC:
        return
    text, times = head, 0
    while times < 3 and text[:4] not in _TIFF_MAGIC:
        try:
            text = base64.b64decode(text[: len(text) // 4 * 4], validate=True)
        except binascii.Error:
            raise BadSignature(f"{name} begins with {head[:8]!r} and is no TIFF; send the bytes of a GeoTIFF file") from None
        times += 1
    if text[:4] not in _TIFF_MAGIC:
        raise BadSignature(f"{name} begins with {head[:8]!r} and is no TIFF; send the bytes of a GeoTIFF file")
    raise BadSignature(f"{name} is a TIFF encoded as base64 {times} time(s); the field is binary, send the file's bytes as they are")


def _opened(source: Path, name: str) -> DatasetReader:
    try:
        # One driver only: a text that another driver reads could name other files of the server.
        return rasterio.open(source, driver="GTiff")
    except RasterioError as error:
        raise BadSignature(f"{name} cannot be opened as a GeoTIFF, it is cut off or damaged ({error}); write it again") from error


def _check_header(dataset: DatasetReader, kind: LayerKind) -> Grid:
    name = kind.name
    if dataset.count != 1:
        raise BadSignature(f"{name} has {dataset.count} bands; send one band ({kind.meaning})")
    if dataset.dtypes[0] not in kind.accepted:
        raise BadSignature(f"{name} is of type {dataset.dtypes[0]}; send {' or '.join(kind.accepted)} ({kind.meaning})")
    _check_size(dataset, name)
    try:
        crs = dataset.crs
        if not crs:
            raise BadSignature(f"{name} has no CRS; write the EPSG code of the product's UTM zone into the GeoTIFF")
        if not crs.is_projected or crs.linear_units_factor[1] != 1.0 or crs.to_epsg() == _PSEUDO_MERCATOR:
            raise BadSignature(f"{name} is in {crs_text(crs)}, whose pixels are no squares of metres; send it in the product's UTM zone")
        text = crs_text(crs)
    except CRSError as error:
        raise BadSignature(f"{name} has a CRS that cannot be read ({error}); write an EPSG code") from error
    transform = dataset.transform
    if transform.is_identity or transform.b or transform.d or transform.a <= 0 or transform.e >= 0:
        raise BadSignature(f"{name} has no georeference with north up ({tuple(transform)[:6]}); write pixel size and upper left corner")
    return Grid(text, tuple(transform)[:6], dataset.width, dataset.height)


def _check_size(dataset: DatasetReader, name: str) -> None:
    width, height = dataset.width, dataset.height
    if max(width, height) > MOST_SIDE or width * height > MOST_PIXELS:
        raise BadSignature(
            f"{name} has {width}x{height} pixels; a product has at most {MOST_SIDE} a side and {MOST_PIXELS} in all, send one tile"
        )
    rows, columns = dataset.block_shapes[0]
    if rows * columns > _MOST_BLOCK:
        raise BadSignature(f"{name} has blocks of {columns}x{rows} pixels; at most {_MOST_BLOCK}, write it in tiles of 512x512")


def _strips(dataset: DatasetReader, kind: LayerKind) -> Iterator[tuple[Window, np.ndarray[Any, Any]]]:
    rows = max(1, min(_STRIP, _STRIP_PIXELS // dataset.width))
    for row in range(0, dataset.height, rows):
        window = Window(0, row, dataset.width, min(rows, dataset.height - row))
        try:
            yield window, dataset.read(1, window=window)
        except RasterioError as error:
            raise BadSignature(f"{kind.name} is cut off or damaged at row {row} ({error}); send the whole file") from error


def _count(pixels: np.ndarray[Any, Any], kind: LayerKind) -> np.ndarray[Any, np.dtype[np.int64]]:
    counts = np.bincount(pixels.ravel().view(f"u{pixels.itemsize}"), minlength=65536)
    strange = [value for value in np.flatnonzero(counts).tolist() if value not in kind.values]
    if strange:
        shown = np.array(strange[:10], dtype=f"u{pixels.itemsize}").view(pixels.dtype).tolist()
        raise BadSignature(f"{kind.name} has pixels of {', '.join(map(str, shown))}; it may have {kind.meaning}")
    return counts
