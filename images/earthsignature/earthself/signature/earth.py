"""True sizes on the earth."""

from __future__ import annotations

import shapely
from pyproj import Geod
from shapely.geometry.base import BaseGeometry

EARTH = Geod(ellps="WGS84")


def area_ha(geometry: BaseGeometry) -> float:
    """Hectares on the WGS 84 ellipsoid, of a geometry in longitude and latitude whose edges are geodesics."""
    return float(abs(EARTH.geometry_area_perimeter(shapely.orient_polygons(geometry))[0])) / 10_000
