"""Where a map pixel lies: under which source pixel (nearest neighbour only, so that no class is ever invented), and how large it is.

GDAL's warper approximates and depends on how the image is cut into chunks; here the answer for a pixel is the same in every window.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from earthself.processing.raster import Grid
from numpy.typing import NDArray

if TYPE_CHECKING:
    from rasterio.windows import Window

_STEP = 16
"""Pixels between the points that are projected exactly; in between positions are interpolated (between two UTM zones to under 1 mm)."""
_ON_EDGE = 1e-6
"""Share of a pixel; a centre closer than this to the next pixel's edge belongs to that pixel, whatever the rounding of floats."""


@dataclass(frozen=True)
class Placement:
    """Nearest-neighbour lookup from a map's grid into a source raster."""

    source: Grid
    target: Grid

    def pixels(self, window: Window) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows and columns of the source under the centres of the map pixels in `window`.

        The two arrays broadcast to (rows, columns) of the window; they may point outside the source.
        """
        x, y = self._positions(window)
        column = (x - self.source.transform.c) / self.source.transform.a
        row = (y - self.source.transform.f) / self.source.transform.e
        return np.floor(row + _ON_EDGE).astype(np.int64), np.floor(column + _ON_EDGE).astype(np.int64)

    def target_bounds(self) -> tuple[float, float, float, float]:
        """Left, bottom, right, top of the source in the map's CRS (for finding what a window needs)."""
        if self.source.crs == self.target.crs:
            return self.source.bounds
        import shapely

        left, bottom, right, top = self.source.bounds
        edge = shapely.get_coordinates(shapely.segmentize(shapely.box(left, bottom, right, top), max(right - left, top - bottom) / 16))
        x, y = _transformer(self.source.crs, self.target.crs).transform(edge[:, 0], edge[:, 1], errcheck=True)
        return (float(x.min()), float(y.min()), float(x.max()), float(y.max()))

    def _positions(self, window: Window) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        rows = np.arange(window.row_off, window.row_off + window.height)
        columns = np.arange(window.col_off, window.col_off + window.width)
        if self.source.crs == self.target.crs:
            return _x(self.target, columns)[None, :], _y(self.target, rows)[:, None]
        knot_rows, knot_columns = _knots(rows), _knots(columns)
        x, y = np.meshgrid(_x(self.target, knot_columns), _y(self.target, knot_rows))
        exact = _transformer(self.target.crs, self.source.crs).transform(x, y)
        return _between(exact[0], rows, columns), _between(exact[1], rows, columns)


def take(dataset: Any, placement: Placement, window: Window, *, outside: int) -> NDArray[Any]:  # noqa: ANN401 (a rasterio dataset)
    """Read band 1 of a source raster at the map pixels of `window`; pixels that the source does not cover get `outside`."""
    from rasterio.windows import Window as Rectangle

    rows, columns = placement.pixels(window)
    shape = (int(window.height), int(window.width))
    inside = np.broadcast_to((rows >= 0) & (rows < dataset.height) & (columns >= 0) & (columns < dataset.width), shape)
    out = np.full(shape, outside, dataset.dtypes[0])
    if not inside.any():
        return out
    top, bottom = max(0, int(rows.min())), min(dataset.height - 1, int(rows.max()))
    left, right = max(0, int(columns.min())), min(dataset.width - 1, int(columns.max()))
    data = dataset.read(1, window=Rectangle(left, top, right - left + 1, bottom - top + 1))
    found = data[np.clip(rows - top, 0, data.shape[0] - 1), np.clip(columns - left, 0, data.shape[1] - 1)]
    out[inside] = np.broadcast_to(found, shape)[inside]
    return out


def pixel_m2(grid: Grid, window: Window) -> NDArray[np.float64]:
    """Size of the ground under each pixel of `window` in square metres, on the ellipsoid of the CRS; broadcasts to (rows, columns).

    A pixel's size on the map divided by the areal scale of the projection at its centre (Snyder 1987, p. 24): what an equal-area
    projection of that pixel would measure.
    """
    from pyproj import CRS, Proj

    crs = CRS(grid.crs)
    geod = crs.get_geod()
    rows = np.arange(window.row_off, window.row_off + window.height)
    columns = np.arange(window.col_off, window.col_off + window.width)
    nominal = abs(grid.transform.a * grid.transform.e)
    if crs.is_geographic and geod is not None:
        latitude = np.radians(_y(grid, rows))
        radii = geod.a**2 * (1 - geod.es) / (1 - geod.es * np.sin(latitude) ** 2) ** 2
        return np.asarray(np.radians(1) ** 2 * nominal * radii * np.cos(latitude))[:, None]
    x, y = np.meshgrid(_x(grid, _knots(columns)), _y(grid, _knots(rows)))
    lon, lat = _transformer(grid.crs, "EPSG:4326").transform(x, y)
    metres = crs.axis_info[0].unit_conversion_factor
    return nominal * metres**2 / _between(np.asarray(Proj(crs).get_factors(lon, lat, errcheck=True).areal_scale), rows, columns)


def _x(grid: Grid, columns: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.asarray(grid.transform.c + (columns + 0.5) * grid.transform.a)


def _y(grid: Grid, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.asarray(grid.transform.f + (rows + 0.5) * grid.transform.e)


def _knots(pixels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Multiples of _STEP of the whole map around the pixels, so that what a pixel gets does not depend on the window it is asked in."""
    return np.arange(pixels[0] // _STEP, pixels[-1] // _STEP + 2) * _STEP


def _between(knots: NDArray[np.float64], rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.float64]:
    """Bilinear interpolation of a grid of knots at whole pixels."""
    row, part_row = np.divmod(rows - rows[0] // _STEP * _STEP, _STEP)
    column, part_column = np.divmod(columns - columns[0] // _STEP * _STEP, _STEP)
    down = (part_row / _STEP)[:, None]
    along = knots[row] * (1 - down) + knots[row + 1] * down
    right = part_column / _STEP
    return np.asarray(along[:, column] * (1 - right) + along[:, column + 1] * right)


@lru_cache(maxsize=32)
def _transformer(source: str, target: str) -> Any:  # noqa: ANN401 (a pyproj transformer)
    from pyproj import Transformer

    return Transformer.from_crs(source, target, always_xy=True)
