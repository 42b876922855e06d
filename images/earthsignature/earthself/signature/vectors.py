"""Land cover as polygons: made from a segmentation for v2 readers, and made into one for v1 readers when a product came as polygons.

Polygons of pixels are sieved first (a patch below the smallest mapped size takes the class around it), since a noisy segmentation
has tens of thousands of them.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import shapely
from affine import Affine
from earthself.data.area import Area
from earthself.data.errors import BadInput
from earthself.signature.earth import EARTH, area_ha
from earthself.signature.errors import BadSignature, StoreBroken
from earthself.signature.filters import code_of
from earthself.signature.rasters import MOST_PIXELS, MOST_SIDE, writable
from pyproj import Transformer
from rasterio.errors import RasterioError
from rasterio.features import rasterize, shapes, sieve
from shapely.geometry import MultiPolygon, Polygon

_PIXEL = 10.0
_LONGEST_EDGE = 1000.0  # metres; a straight line of that length bends by 2 cm between UTM and degrees
_LONGEST_EDGE_DEGREES = 0.01
_STRIP = 1024
_AT_A_TIME = 10_000
_FOOTPRINT_VERTICES = 2000


@dataclass(frozen=True)
class ClassPolygon:
    """One polygon of land cover."""

    category: int
    """CORINE code."""
    geometry: Polygon | MultiPolygon
    """Longitude and latitude, split at the antimeridian."""

    def feature(self, product_id: str) -> dict[str, Any]:
        """Make the GeoJSON Feature of v2."""
        properties = {"category": self.category, "area_ha": round(area_ha(self.geometry), 4), "product_id": product_id}
        return {"type": "Feature", "geometry": Area(self.geometry).geojson, "properties": properties}


def polygonize(segmentation: Path, sieve_ha: float) -> Iterator[ClassPolygon]:
    """Make polygons of a stored segmentation, in longitude and latitude.

    A patch smaller than `sieve_ha` takes the class of its largest neighbour; one without a neighbour (an island among clouds) is
    left out. Pixels without a class stay out. Where no patch reaches the size, nothing is sieved. Raises `StoreBroken` for a damaged file.
    """
    try:
        with rasterio.open(segmentation) as dataset:
            codes, transform, crs = dataset.read(1), dataset.transform, dataset.crs
    except RasterioError as error:
        where = f"{segmentation.parent.name}/{segmentation.name}"
        raise StoreBroken(f"{where} cannot be read ({error}); restore it from a backup, or store the product again") from error
    smallest = _pixels_of(sieve_ha, transform, crs, codes.shape)
    seen = codes != 0
    whole = sieve(codes, smallest, mask=seen, connectivity=4) if 1 < smallest < codes.size else codes
    found = ((shapely.geometry.shape(ring), int(code)) for ring, code in shapes(whole, mask=seen, connectivity=4))
    to_degrees = Transformer.from_crs(crs, "EPSG:4326", always_xy=True)

    def place(pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        x, y = transform.c + transform.a * pixels[:, 0], transform.f + transform.e * pixels[:, 1]
        return np.column_stack(to_degrees.transform(x, y))

    def placed(some: Sequence[tuple[Polygon, int]]) -> Iterator[ClassPolygon]:
        outlines = np.array([polygon for polygon, _ in some], dtype=object)
        dense = shapely.segmentize(outlines, _LONGEST_EDGE / max(transform.a, -transform.e))
        for polygon, (_, code) in zip(shapely.transform(dense, place), some, strict=True):
            yield ClassPolygon(code, _within_180(polygon))

    # A few at a time: all at once, in every state between pixels and degrees, are gigabytes.
    any_large = False
    small: list[tuple[Polygon, int]] = []
    while some := list(islice(found, _AT_A_TIME)):
        large = [(polygon, code) for polygon, code in some if polygon.area >= smallest]
        any_large = any_large or bool(large)
        small = [] if any_large else [*small, *some]
        if large:
            yield from placed(large)
    for start in range(0, len(small), _AT_A_TIME):
        yield from placed(small[start : start + _AT_A_TIME])


def collection(product_id: str, properties: Mapping[str, Any], features: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Make the FeatureCollection of a product that v2 readers get."""
    return {"type": "FeatureCollection", "features": features, "id": product_id, "properties": dict(properties)}


def classes_of(features: Iterable[Any], product_id: str) -> list[ClassPolygon]:
    """Check the features of a product that came as polygons; raises `BadSignature` with the number of the bad one."""
    found = []
    for number, feature in enumerate(features):
        where = f"product {product_id}: feature {number}"
        category = (feature.get("properties") or {}).get("category")
        code = code_of(category)
        if code is None:
            raise BadSignature(f"{where} has the category {category!r}; send a CORINE Land Cover code such as 3, 31 or 311")
        try:
            found.append(ClassPolygon(code, Area.from_conf(feature["geometry"]).geometry))
        except BadInput as error:
            raise BadSignature(f"{where}: {error}") from error
    if not found:
        raise BadSignature(f"product {product_id} has no polygons; send a FeatureCollection with one Feature for each of them")
    return found


def classes_digest(classes: Sequence[ClassPolygon]) -> str:
    """SHA-256 of the polygons in their order, whatever the order of rings and corners; coordinates to 6 decimals."""
    rounded = [shapely.transform(c.geometry, lambda xy: xy.round(6) + 0.0).normalize().wkb_hex for c in classes]
    return hashlib.sha256(json.dumps([[c.category for c in classes], rounded]).encode()).hexdigest()


def footprint_of(classes: Sequence[ClassPolygon]) -> dict[str, Any]:
    """Join all polygons to the footprint of a product that names none, as GeoJSON."""
    whole = shapely.union_all([c.geometry for c in classes])
    if shapely.get_num_coordinates(whole) > _FOOTPRINT_VERTICES:
        whole = whole.simplify(_PIXEL / 111_000).buffer(0)
    return Area(whole).geojson


def rasterize_classes(classes: Sequence[ClassPolygon], segmentation: Path, cloud_mask: Path) -> None:
    """Write polygons as a 10 m segmentation in the UTM zone of their middle, and a mask without a cloud on the same grid.

    A pixel takes the last polygon that holds its centre, 0 where there is none. Raises `BadSignature` when they span too much.
    """
    whole = Area(MultiPolygon([part for c in classes for part in getattr(c.geometry, "geoms", [c.geometry])]))
    crs = f"EPSG:{whole.utm_epsg()}"
    to_metres = Transformer.from_crs("EPSG:4326", crs, always_xy=True)
    dense = shapely.segmentize(np.array([c.geometry for c in classes], dtype=object), _LONGEST_EDGE_DEGREES)
    placed = shapely.transform(dense, lambda xy: np.column_stack(to_metres.transform(xy[:, 0], xy[:, 1])))
    west, south, east, north = shapely.total_bounds(placed)
    span = (east - west) / 1000, (north - south) / 1000
    # Far from its zone the projection has no numbers at all.
    sides = [kilometres * 1000 / _PIXEL for kilometres in span]
    if not all(map(math.isfinite, span)) or sides[0] * sides[1] > MOST_PIXELS or max(sides) > MOST_SIDE:
        raise BadSignature(f"the polygons span {span[0]:.0f} by {span[1]:.0f} km; a product is one tile at most, send several")
    left, top = math.floor(west / _PIXEL) * _PIXEL, math.ceil(north / _PIXEL) * _PIXEL
    width, height = math.ceil((east - left) / _PIXEL), math.ceil((top - south) / _PIXEL)
    tree = shapely.STRtree(placed)
    profile = {"driver": "GTiff", "width": width, "height": height, "count": 1, "crs": crs, "tiled": True, "compress": "zstd"}
    transform = Affine(_PIXEL, 0, left, 0, -_PIXEL, top)
    with (
        writable("segmentation", segmentation.parent),
        rasterio.open(segmentation, "w", dtype="uint16", nodata=0, transform=transform, **profile) as out,
    ):
        for row in range(0, height, _STRIP):
            rows = min(_STRIP, height - row)
            upper = top - row * _PIXEL
            hits = sorted(tree.query(shapely.box(west, upper - rows * _PIXEL, east, upper)))
            drawn = ((placed[i], classes[i].category) for i in hits)
            grid = {"out_shape": (rows, width), "transform": Affine(_PIXEL, 0, left, 0, -_PIXEL, upper)}
            pixels = rasterize(drawn, fill=0, dtype="uint16", **grid) if hits else np.zeros((rows, width), "uint16")
            out.write(pixels, 1, window=rasterio.windows.Window(0, row, width, rows))
    with (
        writable("cloud_mask", cloud_mask.parent),
        rasterio.open(cloud_mask, "w", dtype="uint8", nbits=1, transform=transform, **profile) as out,
    ):
        for row in range(0, height, _STRIP):
            rows = min(_STRIP, height - row)
            out.write(np.zeros((rows, width), "uint8"), 1, window=rasterio.windows.Window(0, row, width, rows))


def metadata_of(collection: Mapping[str, Any]) -> tuple[str, Any, dict[str, Any]]:
    """Find id, footprint (or None) and properties of a product in a FeatureCollection.

    They stand at the collection (members `id`, `geometry`, `properties`, or the properties as members), else alike in all features.
    """
    features = [f for f in collection.get("features") or () if isinstance(f, Mapping)]
    members = {k: v for k, v in collection.items() if k not in ("type", "features", "id", "geometry", "properties", "bbox")}
    own = collection.get("properties")
    shared = _shared([f.get("properties") or {} for f in features])
    said = {**shared, **members, **(own if isinstance(own, Mapping) else {})}
    ids = {f.get("id") for f in features}
    names = (collection.get("id"), said.pop("product_id", None), ids.pop() if len(ids) == 1 else None)
    for key in ("category", "area_ha", "name"):
        said.pop(key, None)
    product_id = next((str(name) for name in names if name not in (None, "")), "")
    if not product_id:
        raise BadSignature("the product has no id; give the FeatureCollection an id, or every feature the same property product_id")
    return product_id, collection.get("geometry"), said


def _shared(dicts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    if not dicts:
        return {}
    first, *others = dicts
    return {key: value for key, value in first.items() if all(other.get(key) == value for other in others)}


def _pixels_of(hectares: float, transform: Affine, crs: Any, shape: tuple[int, int]) -> int:  # noqa: ANN401
    """Count the pixels of the smallest patch, so that none is smaller than the hectares anywhere in the raster."""
    height, width = shape
    to_degrees = Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    sizes = []
    for column, row in ((0, 0), (width - 1, 0), (0, height - 1), (width - 1, height - 1), (width // 2, height // 2)):
        corners = [transform @ (column + dx, row + dy) for dx, dy in ((0, 0), (0, 1), (1, 1), (1, 0))]
        xs, ys = zip(*corners, strict=True)
        lons, lats = to_degrees.transform(xs, ys)
        sizes.append(abs(EARTH.polygon_area_perimeter(lons, lats)[0]) / 10_000)
    return math.ceil(hectares / min(sizes) - 1e-9)


def _within_180(polygon: Polygon) -> Polygon | MultiPolygon:
    west, _, east, _ = polygon.bounds
    return Area.from_conf(shapely.geometry.mapping(polygon)).geometry if east - west > 180 else polygon
