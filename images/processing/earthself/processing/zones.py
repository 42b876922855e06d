"""The area of interest on a map's pixels: its outline in the map's CRS and the exact share of each pixel that it covers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from earthself.processing.errors import BadInput
from earthself.processing.raster import Grid
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pystac
    from earthself.data.area import Area
    from pyproj import CRS
    from rasterio.windows import Window

_DENSE = 0.002
"""Degrees between the points of an edge before it is projected: a straight line in lon/lat bends by under 2 mm within 0.002 degrees."""
_PIECES = 64
"""Pieces at least along the longer side of the area, so that the bend of its edges is lost on a small area neither."""
_WHICH = "a map needs a projected or a geographic one in two dimensions, such as EPSG:32633 (UTM) or EPSG:3035"


@dataclass(frozen=True)
class Zone:
    """An area in the CRS of a map."""

    shape: Any
    """A shapely geometry in CRS units."""
    grid: Grid
    """The map's pixels."""

    @classmethod
    def of(cls, area: Area, grid: Grid) -> Zone:
        """Project the area into the CRS of the grid."""
        return cls(in_crs(area, grid.crs), grid)

    def extended(self) -> Zone:
        """Return the same zone on a grid that covers all of it, with the map's pixels at whole offsets (see `offset`)."""
        from affine import Affine

        left, bottom, right, top = self.shape.bounds
        t = self.grid.transform
        first = (min(0, math.floor((left - t.c) / t.a)), min(0, math.floor((top - t.f) / t.e)))
        last = (max(self.grid.width, math.ceil((right - t.c) / t.a)), max(self.grid.height, math.ceil((bottom - t.f) / t.e)))
        grid = Grid(self.grid.crs, t @ Affine.translation(*first), last[0] - first[0], last[1] - first[1])
        return Zone(self.shape, grid)

    def touched(self, window: Window) -> NDArray[np.bool_]:
        """Say which pixels of `window` the area touches at all."""
        from rasterio.features import geometry_mask

        part = self._part(window)
        if isinstance(part, bool):
            return np.full(_shape(window), part)
        transform = self.grid.window_grid(window).transform
        return np.asarray(geometry_mask([part], _shape(window), transform, all_touched=True, invert=True))

    def coverage(self, window: Window) -> NDArray[np.float64]:
        """Compute the share of each pixel of `window` that the area covers, 0 to 1 (exactextract: exact to 1e-7 of a pixel)."""
        part = self._part(window)
        if isinstance(part, bool):
            return np.full(_shape(window), float(part))
        from exactextract import exact_extract
        from exactextract.raster import NumPyRasterSource
        from shapely.geometry import mapping

        left, bottom, right, top = self.grid.window_grid(window).bounds
        raster = NumPyRasterSource(np.zeros(_shape(window)), xmin=left, ymin=bottom, xmax=right, ymax=top)
        feature = {"type": "Feature", "properties": {}, "geometry": mapping(part)}
        (found,) = exact_extract(raster, feature, ["cell_id", "coverage"])
        shares = np.zeros(int(window.height) * int(window.width))
        shares[found["properties"]["cell_id"]] = found["properties"]["coverage"]
        return shares.reshape(_shape(window))

    def _part(self, window: Window) -> Any:  # noqa: ANN401 (a shapely geometry, or True for all and False for nothing)
        """Cut out the polygons within `window`, so that a long outline costs only where it runs."""
        import shapely

        rectangle = shapely.box(*self.grid.window_grid(window).bounds)
        if not shapely.intersects(self.shape, rectangle):
            return False
        if shapely.contains_properly(self.shape, rectangle):
            return True
        part = shapely.intersection(self.shape, rectangle)
        polygons = [each for each in shapely.get_parts(part) if each.geom_type == "Polygon" and each.area > 0]
        return shapely.MultiPolygon(polygons) if polygons else False


def own_area(item: pystac.Item) -> Area:
    """Take the footprint of a map for its area of interest; raises `BadInput` where it has none."""
    from earthself.data.area import Area

    if item.geometry is None:
        raise BadInput(
            f"neither area.geojson beside the input catalog nor a geometry in item {item.id} says what the map is of; add one of them"
        )
    return Area.from_conf(item.geometry)


def map_crs(crs: str) -> CRS:
    """Understand the CRS of a map; raises `BadInput` for what is none, or has no two axes over the ground."""
    from pyproj import CRS
    from pyproj.exceptions import CRSError

    try:
        found = CRS.from_user_input(crs)
    except CRSError as error:
        raise BadInput(f"{crs!r} is no coordinate reference system; {_WHICH}") from error
    if len(found.axis_info) != 2 or not (found.is_projected or found.is_geographic):
        raise BadInput(f"{crs} ({found.name}) is not the CRS of a map; {_WHICH}")
    return found


def in_crs(area: Area, crs: str) -> Any:  # noqa: ANN401 (a shapely geometry)
    """Project an area, in one piece over the antimeridian, with its edges following straight lines in lon/lat.

    Raises `BadInput` for a CRS that does not reach the area, or is cut where the area lies.
    """
    import shapely
    from pyproj import Transformer
    from pyproj.exceptions import ProjError

    target = map_crs(crs)
    to_map = Transformer.from_crs("EPSG:4326", target, always_xy=True)
    shape = area.unwrapped()
    west, south, east, north = shape.bounds
    dense = shapely.segmentize(shape, min(_DENSE, max(east - west, north - south) / _PIECES))
    try:
        projected = shapely.transform(dense, lambda lonlat: np.column_stack(to_map.transform(lonlat[:, 0], lonlat[:, 1], errcheck=True)))
    except ProjError as error:
        raise BadInput(f"{crs} does not reach the area; leave the CRS out, or take one such as EPSG:{area.utm_epsg()}") from error
    if (target.is_geographic and east > 180) or _is_torn(projected):
        raise BadInput(f"{crs} is cut where the area lies; leave the CRS out, or take one that is not, such as EPSG:{area.utm_epsg()}")
    projected = projected if projected.is_valid else shapely.make_valid(projected)
    shapely.prepare(projected)
    return projected


def _is_torn(projected: Any) -> bool:  # noqa: ANN401 (a shapely geometry)
    """Whether an outline jumps: between two points, at most 1/64 of it apart on the ground, lies more than half of the map."""
    import shapely

    left, bottom, right, top = projected.bounds
    points, ring = shapely.get_coordinates(shapely.get_rings(shapely.get_parts(projected)), return_index=True)
    steps = np.abs(np.diff(points, axis=0)).max(axis=1)[np.diff(ring) == 0]
    return bool(steps.max() > max(right - left, top - bottom) / 2)


def _shape(window: Window) -> tuple[int, int]:
    return int(window.height), int(window.width)
