"""Grids, windows and COG files, so that no step ever holds a whole scene.

A raster is written window by window into tiled GeoTIFFs, its overviews along with it, and put together as a COG when it is complete; the
name that was asked for appears only then. GDAL's own COG writer cannot be streamed to: it wants the finished image. Reasons and figures:
docs/decisions/cog-assembly.md.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from earthself.processing.cog import assemble
from earthself.processing.errors import BadInput
from earthself.processing.pyramid import Layout, Pyramid

if TYPE_CHECKING:
    import numpy as np
    from affine import Affine
    from earthself.data.area import Area
    from numpy.typing import NDArray
    from rasterio.windows import Window

BLOCK = 512
"""Side of a tile of every raster that we write, pixels."""
_LARGEST = 2**31 - 1
"""Pixels a side that a GeoTIFF can have."""
_COARSEST = {"degrees": 1.0, "metres": 100_000.0}
"""Largest pixels: coarser ones are metres that were meant for degrees, or a slip."""


class RasterError(BadInput):
    """A raster cannot be read, written or placed as asked (exit 65)."""


@dataclass(frozen=True)
class Grid:
    """Where the pixels of a north-up raster lie."""

    crs: str
    """What pyproj understands, preferably `EPSG:<code>`."""
    transform: Affine
    """Pixel (column, row) to CRS coordinates of its upper left corner, units of the CRS."""
    width: int
    """Pixels from west to east."""
    height: int
    """Pixels from north to south."""

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """Left, bottom, right, top in units of the CRS."""
        left, top = self.transform.c, self.transform.f
        return (left, top + self.height * self.transform.e, left + self.width * self.transform.a, top)

    @property
    def resolution(self) -> float:
        """Pixel width in units of the CRS."""
        return float(self.transform.a)

    @property
    def window(self) -> Window:
        """The window that is the whole grid."""
        from rasterio.windows import Window

        return Window(0, 0, self.width, self.height)

    def window_grid(self, window: Window) -> Grid:
        """Cut out the grid of the pixels in `window`."""
        from affine import Affine

        return Grid(self.crs, self.transform @ Affine.translation(window.col_off, window.row_off), int(window.width), int(window.height))

    @classmethod
    def of(cls, dataset: Any) -> Grid:  # noqa: ANN401 (a rasterio dataset, which has no types)
        """Take the grid of an open rasterio dataset; raises `RasterError` where it is not georeferenced."""
        if dataset.crs is None:
            raise RasterError(f"{dataset.name} has no coordinate reference system; write one with the transform before it is used")
        return cls(_crs_name(dataset.crs), dataset.transform, dataset.width, dataset.height)

    @classmethod
    def for_area(cls, area: Area, resolution: float, crs: str | None = None) -> Grid:
        """Lay the smallest grid over `area` whose edges are multiples of `resolution` (units of the CRS).

        Without `crs` it is the UTM zone of the area's centroid. Transverse Mercator counts longitudes from its central meridian, so an
        area over the antimeridian, or over several zones, is one raster without a seam. Raises `BadInput` for a CRS or a resolution
        that cannot be used.
        """
        from affine import Affine
        from earthself.processing.zones import in_crs

        crs = crs or f"EPSG:{area.utm_epsg()}"
        check_resolution(resolution, crs)
        left, bottom, right, top = in_crs(area, crs).bounds
        columns = (math.floor(left / resolution + 1e-6), math.ceil(right / resolution - 1e-6))
        rows = (math.floor(bottom / resolution + 1e-6), math.ceil(top / resolution - 1e-6))
        transform = Affine(resolution, 0, columns[0] * resolution, 0, -resolution, rows[1] * resolution)
        grid = cls(crs, transform, max(1, columns[1] - columns[0]), max(1, rows[1] - rows[0]))
        if max(grid.width, grid.height) > _LARGEST:
            raise BadInput(
                f"{grid.width} x {grid.height} pixels are more than a raster can have; ask for a coarser --resolution than {resolution:g}"
            )
        return grid


def check_resolution(resolution: float, crs: str) -> None:
    """Raise `BadInput` for a pixel size that no map in that CRS can have, or a CRS that no map can have."""
    from earthself.processing.zones import map_crs

    unit, example = ("degrees", 0.0001) if map_crs(crs).is_geographic else ("metres", 10)
    if not 0 < resolution <= _COARSEST[unit]:
        raise BadInput(
            f"resolution {resolution:g} is outside 0 to {_COARSEST[unit]:g} {unit}; "
            f"give the pixel size in units of the map's CRS, {crs}, such as {example:g}"
        )


def gdal(cache: int = 64 * 2**20) -> Any:  # noqa: ANN401 (a rasterio environment, which has no types)
    """Keep GDAL's block cache to `cache` bytes and let it look at no neighbouring files: a context manager around reading and writing.

    GDAL's own default is 5 % of the machine's memory, whatever the container may use.
    """
    import rasterio

    return rasterio.Env(GDAL_CACHEMAX=cache, GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR")


@contextlib.contextmanager
def readable(what: object) -> Iterator[None]:
    """Say which file it was when GDAL cannot open or read one: raises `RasterError` (exit 65) naming `what`."""
    import rasterio

    try:
        yield
    except rasterio.errors.RasterioIOError as error:
        raise RasterError(f"{what} cannot be read: {error.__cause__ or error}; make or fetch it again") from error


def nodata_to_zero(pixels: NDArray[Any], nodata: float | None) -> None:
    """Write 0, which is no data in all our digital numbers, wherever a file says "no data" by another value; in place."""
    if nodata:
        pixels[pixels == nodata] = 0


def windows(grid: Grid, size: int = 1024) -> Iterator[Window]:
    """Windows of `size` pixels a side over `grid`, row by row; those at the right and lower edge are smaller."""
    from rasterio.windows import Window

    for row in range(0, grid.height, size):
        for column in range(0, grid.width, size):
            yield Window(column, row, min(size, grid.width - column), min(size, grid.height - row))


@dataclass
class CogWriter:
    """Write a COG window by window; memory does not depend on the size of the image.

    >>> with CogWriter(path, grid, 1, "uint16", nodata=0, categorical=True) as cog:
    ...     for window in windows(grid):
    ...         cog.write(codes(window), window)

    Windows should be whole tiles and must not overlap; what is never written is nodata. Leaving the block with an error, or being
    interrupted, leaves no file.
    """

    path: Path
    grid: Grid
    count: int
    """Bands."""
    dtype: str
    nodata: float | None
    categorical: bool
    """True: overviews by nearest neighbour, no value is ever made that was not in the image; False: mean of what is not nodata."""
    descriptions: Sequence[str] = ()
    """A name for each band."""
    colors: Mapping[int, tuple[int, int, int]] | None = None
    """Value to red, green, blue (0-255), as `Legend.colors()` gives them; a palette where the raster is one band of uint8,
    otherwise kept as the band's tag `COLORS`."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """GDAL metadata of the file."""
    level: int = 6
    """DEFLATE level, 1 (fast) to 9 (small)."""
    threads: int = 1
    """Threads that compress."""
    copy_seconds: float = field(default=0.0, init=False)
    """CPU seconds for overviews and for putting the COG together, known after close: a step's metric."""

    def __post_init__(self) -> None:
        self.path = Path(self.path)
        self._part = self.path.with_name(f".{self.path.name}.{os.getpid()}.part")
        layout = Layout(
            self.grid.width, self.grid.height, self.grid.transform, self.dtype, self.nodata, self.categorical, BLOCK, self._options()
        )
        self._pyramid = Pyramid(self._part, self.count, layout, self._describe)

    def __enter__(self) -> Self:
        self._pyramid.open()
        return self

    def write(self, array: NDArray[np.generic], window: Window) -> None:
        """Write `array`, (bands, rows, columns) or (rows, columns) of a single band, at `window`."""
        data = array[None] if array.ndim == 2 else array
        if data.shape != (self.count, int(window.height), int(window.width)):
            raise RasterError(f"{self.path.name}: an array of {array.shape} does not fit {self.count} bands at {window}")
        self._pyramid.write(data.astype(self.dtype, copy=False), window)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        started = time.process_time()
        try:
            if kind is None:
                assemble(self._pyramid.close(), self._part)
                self._part.replace(self.path)
        finally:
            self._pyramid.discard()
            self._part.unlink(missing_ok=True)
        self.copy_seconds = time.process_time() - started

    def _options(self) -> dict[str, Any]:
        predictor = 1 if self.categorical else 3 if self.dtype.startswith("float") else 2
        codec = {"compress": "DEFLATE", "zlevel": self.level, "predictor": predictor, "num_threads": self.threads}
        return {**codec, "crs": self.grid.crs, "interleave": "pixel"}

    def _describe(self, dataset: Any, level: int) -> None:  # noqa: ANN401 (a rasterio dataset)
        palette = self.colors is not None and self.count == 1 and self.dtype == "uint8"
        if self.colors and palette:
            dataset.write_colormap(1, {value: (*color, 255) for value, color in self.colors.items()})
        if level:
            return
        dataset.update_tags(**self.tags)
        for index, text in enumerate(self.descriptions, start=1):
            dataset.set_band_description(index, text)
        if self.colors and not palette:
            dataset.update_tags(1, COLORS=" ".join(f"{value}=#{bytes(color).hex()}" for value, color in sorted(self.colors.items())))


def _crs_name(crs: Any) -> str:  # noqa: ANN401 (a rasterio CRS)
    code = crs.to_epsg()
    return f"EPSG:{code}" if code else str(crs.to_wkt())
