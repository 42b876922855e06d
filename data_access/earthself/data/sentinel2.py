"""What is the same for every Sentinel-2 product: its bands and the classes of its scene classification.

Sources: Sentinel-2 User Handbook (ESA, 2015) for resolutions and wavelengths, STAC `eo` extension 1.1 for common names,
Sen2Cor L2A Product Definition Document for the scene classification (SCL) and its colours.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

TILE_PIXELS = 10_980
"""Pixels of 10 m along each side of a whole product."""
TILE_MEGAPIXELS = TILE_PIXELS**2 / 1e6
"""Of a whole product, millions of 10 m."""


@dataclass(frozen=True)
class Band:
    """One band of the MultiSpectral Instrument."""

    name: str
    """`B01` ... `B12`, `B8A`."""
    resolution: int
    """Native pixel size in metres: 10, 20 or 60."""
    wavelength: float
    """Centre wavelength in micrometres."""
    common_name: str
    """Name in the STAC `eo` extension."""


@dataclass(frozen=True)
class SclClass:
    """One class of the scene classification."""

    code: int
    """0 ... 11."""
    name: str
    """English name."""
    color: str
    """Colour as `#rrggbb`."""


BANDS = MappingProxyType(
    {
        band.name: band
        for band in (
            Band("B01", 60, 0.443, "coastal"),
            Band("B02", 10, 0.490, "blue"),
            Band("B03", 10, 0.560, "green"),
            Band("B04", 10, 0.665, "red"),
            Band("B05", 20, 0.704, "rededge071"),
            Band("B06", 20, 0.740, "rededge075"),
            Band("B07", 20, 0.783, "rededge078"),
            Band("B08", 10, 0.842, "nir"),
            Band("B8A", 20, 0.865, "nir08"),
            Band("B09", 60, 0.945, "nir09"),
            Band("B10", 60, 1.375, "cirrus"),
            Band("B11", 20, 1.610, "swir16"),
            Band("B12", 20, 2.190, "swir22"),
        )
    }
)
"""Bands by name, by ascending wavelength. L2A products have no B10."""

SCL_RESOLUTION = 20
"""Native pixel size of the scene classification in metres."""

SCL = MappingProxyType(
    {
        scl.code: scl
        for scl in (
            SclClass(0, "no data", "#000000"),
            SclClass(1, "saturated or defective", "#ff0000"),
            SclClass(2, "dark area or topographic shadow", "#2f2f2f"),
            SclClass(3, "cloud shadow", "#643200"),
            SclClass(4, "vegetation", "#00a000"),
            SclClass(5, "not vegetated", "#ffe65a"),
            SclClass(6, "water", "#0000ff"),
            SclClass(7, "unclassified", "#808080"),
            SclClass(8, "cloud, medium probability", "#c0c0c0"),
            SclClass(9, "cloud, high probability", "#ffffff"),
            SclClass(10, "thin cirrus", "#64c8ff"),
            SclClass(11, "snow or ice", "#ff96ff"),
        )
    }
)
"""Classes of the scene classification by code."""
