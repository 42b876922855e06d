"""STAC 1.1 items and assets for the rasters that steps write: the same fields in every step, read from the file that is described."""

from __future__ import annotations

import datetime as dt
import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from earthself.processing.errors import BadInput
from earthself.processing.raster import Grid

if TYPE_CHECKING:
    import pystac
    from earthself.data.legends import Legend

PROJECTION = "https://stac-extensions.github.io/projection/v2.0.0/schema.json"
RASTER = "https://stac-extensions.github.io/raster/v2.0.0/schema.json"
EO = "https://stac-extensions.github.io/eo/v2.0.0/schema.json"
PROCESSING = "https://stac-extensions.github.io/processing/v1.2.0/schema.json"
FILE = "https://stac-extensions.github.io/file/v2.1.0/schema.json"
CLASSIFICATION = "https://stac-extensions.github.io/classification/v2.0.0/schema.json"

_PREFIXES = {"proj:": PROJECTION, "raster:": RASTER, "eo:": EO, "processing:": PROCESSING, "file:": FILE, "classification:": CLASSIFICATION}


def raster_item(
    id: str,  # noqa: A002 (STAC's own name)
    grid: Grid,
    datetime: dt.datetime | None,
    geometry: dict[str, Any] | None,
    properties: Mapping[str, Any],
) -> pystac.Item:
    """Make an item on `grid`; `geometry` is GeoJSON in lon/lat, None takes the outline of the grid.

    `datetime` None needs `start_datetime` and `end_datetime` (RFC 3339) among the properties. The extensions are declared from the
    names of the fields: call `declare_extensions` after the last asset.
    """
    import pystac
    import shapely.geometry
    from earthself.processing import __name__ as software

    shape = geometry or _outline(grid)
    bounds = _bbox(shapely.geometry.shape(shape))
    fields = {
        "proj:code": grid.crs if grid.crs.startswith("EPSG:") else None,
        **({} if grid.crs.startswith("EPSG:") else {"proj:wkt2": grid.crs}),
        "proj:shape": [grid.height, grid.width],
        "proj:transform": [float(v) for v in tuple(grid.transform)[:6]],
        "proj:bbox": [float(v) for v in grid.bounds],
        "processing:software": {software: _version()},
        **properties,
    }
    item = pystac.Item(id=id, geometry=shape, bbox=bounds, datetime=datetime, properties=fields)
    return declare_extensions(item)


def sensed_at(item: pystac.Item) -> dt.datetime:
    """Tell when an item was sensed, in UTC; raises `BadInput` for one that does not say."""
    when = item.datetime or item.common_metadata.start_datetime
    if when is None:
        raise BadInput(f"item {item.id} has neither datetime nor start_datetime; it must say when its product was sensed")
    return when.astimezone(dt.UTC) if when.tzinfo else when.replace(tzinfo=dt.UTC)


def rfc3339(when: dt.datetime) -> str:
    """Write a time in UTC as STAC wants it."""
    return when.isoformat().replace("+00:00", "Z")


def raster_asset(
    path: Path,
    roles: Sequence[str],
    title: str,
    *,
    bands: Sequence[Mapping[str, Any]] = (),
    legend: Legend | None = None,
    description: str | None = None,
) -> pystac.Asset:
    """Describe the raster at `path`: media type, grid, bands with type and nodata, size and checksum.

    `bands` adds fields to the bands in order (`name`, `description`, `unit`, `eo:common_name`, …; None removes a field); `legend`
    says what the values of the first band mean.
    """
    import pystac
    import rasterio

    with rasterio.open(path) as dataset:
        grid = Grid.of(dataset)
        cog = dataset.tags(ns="IMAGE_STRUCTURE").get("LAYOUT") == "COG"
        described = [_band(dataset, index, bands) for index in range(dataset.count)]
    if legend is not None:
        described[0]["classification:classes"] = legend.classification()
    for one in described:
        for name in [name for name, value in one.items() if value is None]:
            del one[name]
        one["raster:spatial_resolution"] = grid.resolution
    fields: dict[str, Any] = {
        "proj:code": grid.crs if grid.crs.startswith("EPSG:") else None,
        "proj:shape": [grid.height, grid.width],
        "proj:transform": [float(v) for v in tuple(grid.transform)[:6]],
        "bands": described,
        **file_fields(path),
    }
    return pystac.Asset(
        href=str(path),
        title=title,
        description=description,
        media_type=pystac.MediaType.COG if cog else pystac.MediaType.GEOTIFF,
        roles=list(roles),
        extra_fields=fields,
    )


def file_fields(path: Path) -> dict[str, Any]:
    """Size in bytes and checksum (multihash, SHA-256) of a file, as the file extension wants them."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return {"file:size": path.stat().st_size, "file:checksum": "1220" + digest.hexdigest()}


def declare_extensions(item: pystac.Item) -> pystac.Item:
    """List the extensions whose fields the item, its assets or their bands use; returns the item."""
    names = set(item.properties)
    for asset in item.assets.values():
        names.update(asset.extra_fields)
        for band in asset.extra_fields.get("bands", ()):
            names.update(band)
    used = {schema for prefix, schema in _PREFIXES.items() if any(name.startswith(prefix) for name in names)}
    item.stac_extensions = sorted(used | set(item.stac_extensions or ()))
    return item


def _band(dataset: Any, index: int, extra: Sequence[Mapping[str, Any]]) -> dict[str, Any]:  # noqa: ANN401 (a rasterio dataset)
    nodata = dataset.nodatavals[index]
    if nodata is not None:
        nodata = "nan" if math.isnan(nodata) else int(nodata) if float(nodata).is_integer() else float(nodata)
    described: dict[str, Any] = {"name": dataset.descriptions[index] or f"b{index + 1}", "data_type": dataset.dtypes[index]}
    if nodata is not None:
        described["nodata"] = nodata
    described.update(extra[index] if index < len(extra) else {})
    return described


def _outline(grid: Grid) -> dict[str, Any]:
    """Draw the grid's edge in lon/lat, its sides bent as the projection bends them, cut at the antimeridian."""
    import numpy as np
    import shapely
    import shapely.geometry
    from pyproj import Transformer
    from shapely.affinity import translate

    left, bottom, right, top = grid.bounds
    edge = shapely.get_coordinates(shapely.segmentize(shapely.box(left, bottom, right, top), max(right - left, top - bottom) / 8))
    lon, lat = Transformer.from_crs(grid.crs, "EPSG:4326", always_xy=True).transform(edge[:, 0], edge[:, 1], errcheck=True)
    lon = np.asarray(lon)
    if lon.max() - lon.min() > 180:
        lon = np.where(lon < 0, lon + 360, lon)
    ring = shapely.orient_polygons(shapely.Polygon(np.round(np.column_stack([lon, lat]), 7)))
    east = shapely.intersection(ring, shapely.box(-180, -90, 180, 90))
    west = translate(shapely.intersection(ring, shapely.box(180, -90, 540, 90)), xoff=-360)
    parts = [part for part in (east, west) if part.area > 0]
    whole = parts[0] if len(parts) == 1 else shapely.MultiPolygon(parts)
    return dict(shapely.geometry.mapping(whole))


def _bbox(geometry: Any) -> list[float]:  # noqa: ANN401 (a shapely geometry)
    """West, south, east, north; west > east where the parts meet at the antimeridian, as GeoJSON (RFC 7946, 5.2) wants it."""
    west, south, east, north = geometry.bounds
    parts = getattr(geometry, "geoms", ())
    if west <= -180 and east >= 180 and len(parts) > 1:
        west = min(part.bounds[0] for part in parts if part.bounds[0] > 0)
        east = max(part.bounds[2] for part in parts if part.bounds[2] < 0)
    return [float(west), float(south), float(east), float(north)]


def _version() -> str:
    from importlib.metadata import version

    return version("earthself-processing")
