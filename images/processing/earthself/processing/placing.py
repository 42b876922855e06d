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
_MOST = 2**21
"""Source pixels that are read at once for fewer pixels of the map."""
_ON_EDGE = 1e-6
"""Share of a pixel; a centre closer than this to the next pixel's edge belongs to that pixel, whatever the rounding of floats."""


# WGS 84 (NIMA TR8350.2): semi-major axis in metres, and the square of the eccentricity.
_A = 6378137.0
_E2 = (2 - 1 / 298.257223563) / 298.257223563


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


def take(dataset: Any, placement: Placement, window: Window, *, outside: int, band: int = 1) -> NDArray[Any]:  # noqa: ANN401 (a rasterio dataset)
    """Read a band of a source raster at the map pixels of `window`; pixels that the source does not cover get `outside`."""
    rows, columns = placement.pixels(window)
    out = np.full((int(window.height), int(window.width)), outside, dataset.dtypes[band - 1])
    _fill(out, dataset, band, rows, columns)
    return out


def _fill(out: NDArray[Any], dataset: Any, band: int, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> None:  # noqa: ANN401
    """Write source pixels where they exist; in halves where much of the source lies between few pixels of the map."""
    from rasterio.windows import Window as Rectangle

    inside = np.broadcast_to((rows >= 0) & (rows < dataset.height) & (columns >= 0) & (columns < dataset.width), out.shape)
    if not inside.any():
        return
    top, bottom = max(0, int(rows.min())), min(dataset.height - 1, int(rows.max()))
    left, right = max(0, int(columns.min())), min(dataset.width - 1, int(columns.max()))
    if (bottom - top + 1) * (right - left + 1) > max(_MOST, out.size):
        for part in _halves(out.shape):
            _fill(out[part], dataset, band, _cut(rows, part), _cut(columns, part))
        return
    data = dataset.read(band, window=Rectangle(left, top, right - left + 1, bottom - top + 1))
    found = data[np.clip(rows - top, 0, data.shape[0] - 1), np.clip(columns - left, 0, data.shape[1] - 1)]
    out[inside] = np.broadcast_to(found, out.shape)[inside]


def _cut(where: NDArray[np.int64], part: tuple[slice, slice]) -> NDArray[np.int64]:
    """Cut an array that broadcasts to the window: an axis of length 1 stands for all of it."""
    return where[tuple(piece if size > 1 else slice(None) for piece, size in zip(part, where.shape, strict=True))]


def _halves(shape: tuple[int, ...]) -> list[tuple[slice, slice]]:
    """Cut the longer side of (rows, columns) in two."""
    rows, columns = shape
    if rows >= columns:
        return [(slice(0, rows // 2), slice(None)), (slice(rows // 2, None), slice(None))]
    return [(slice(None), slice(0, columns // 2)), (slice(None), slice(columns // 2, None))]


def pixel_m2(grid: Grid, window: Window) -> NDArray[np.float64]:
    """Size of the ground under each pixel of `window` in square metres on the WGS 84 ellipsoid, (rows, columns).

    The pixel's extent in longitude and latitude (the Jacobian of the inverse projection at its centre) times the radii of curvature
    there: what an equal-area projection of that pixel would measure. Works for any CRS, also for those whose sphere is not the earth.
    """
    rows = np.arange(window.row_off, window.row_off + window.height)
    columns = np.arange(window.col_off, window.col_off + window.width)
    x, y = np.meshgrid(_x(grid, _knots(columns)), _y(grid, _knots(rows)))
    to_lonlat = _transformer(grid.crs, "EPSG:4326").transform
    across, down = grid.transform.a * _STEP / 2, grid.transform.e * _STEP / 2
    right = _turn(*to_lonlat(x + across, y, errcheck=True), *to_lonlat(x - across, y, errcheck=True))
    below = _turn(*to_lonlat(x, y + down, errcheck=True), *to_lonlat(x, y - down, errcheck=True))
    latitude = np.radians(to_lonlat(x, y, errcheck=True)[1])
    radii = _A**2 * (1 - _E2) * np.cos(latitude) / (1 - _E2 * np.sin(latitude) ** 2) ** 2
    per_pixel = np.abs(right[0] * below[1] - right[1] * below[0]) * radii / _STEP**2
    return _between(per_pixel, rows, columns)


def _turn(
    lon: NDArray[np.float64], lat: NDArray[np.float64], from_lon: NDArray[np.float64], from_lat: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Differences in radians, the shorter way round the earth."""
    return np.radians((lon - from_lon + 180) % 360 - 180), np.radians(lat - from_lat)


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
