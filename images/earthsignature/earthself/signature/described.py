"""Many products at once, described without rasters: from documents to rows of the tables.

Does what `product.from_feature` does one by one, with the geometry of a whole batch in one call; what is unusual about a product (holes,
several parts, the antimeridian, a pole) goes the way of a single one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import orjson
import shapely
from earthself.data.errors import EarthSelfError
from earthself.signature import product
from earthself.signature.errors import BadSignature
from earthself.signature.filters import ALL_CODES, check_legend
from earthself.signature.items import feature_of_item
from earthself.signature.product import Said
from earthself.signature.rows import CREATED, CodeShare, Rows, box_row, micros, product_row

_CLASSES = "classification:classes"
_MOST_PIXELS = 10**15  # the land of the earth in pixels of half a metre


def read_rows(documents: Sequence[bytes], now: datetime) -> tuple[Rows, list[tuple[int, str]]]:
    """Read STAC items or GeoJSON features, each as JSON; gives rows, and for each bad one its number in the batch with what is wrong."""
    said: list[Said] = []
    codes: list[list[CodeShare]] = []
    geometries: list[Any] = []
    numbers: list[int] = []
    bad: list[tuple[int, str]] = []
    for number, document in enumerate(documents):
        try:
            feature, classes = _feature(document)
            known = product.said_of(feature)
            shares = code_shares_of(known.product_id, classes)
            if "legend" in known.properties:
                check_legend(known.properties["legend"], [share[0] for share in shares])
        except EarthSelfError as error:
            bad.append((number, str(error)))
            continue
        said.append(known)
        codes.append(shares)
        geometries.append(feature.get("geometry"))
        numbers.append(number)
    footprints = _usual(geometries)
    for at in np.flatnonzero(shapely.is_missing(footprints)).tolist():
        try:
            footprints[at] = product.footprint_of(said[at].product_id, geometries[at])
        except EarthSelfError as error:
            bad.append((numbers[at], str(error)))
    there = np.flatnonzero(~shapely.is_missing(footprints)).tolist()
    return _rows([said[at] for at in there], footprints[there], [codes[at] for at in there], now), sorted(bad)


def _rows(said: Sequence[Said], footprints: Any, codes: Sequence[Sequence[CodeShare]], now: datetime) -> Rows:  # noqa: ANN401
    """Put what was read together as `rows.rows_of` does, for products without rasters."""
    after = (None, None, micros(now), None)
    digests = product.digests([(one.product_id, one.known) for one in said], footprints)
    outlines = shapely.to_wkb(footprints, byte_order=1)
    products = [product_row(one, wkb, digest, after) for one, wkb, digest in zip(said, outlines, digests, strict=True)]
    created = [row[CREATED] for row in products]
    parts, owner = shapely.get_parts(footprints, return_index=True)
    boxes = [box_row(at, box, created[at]) for at, box in zip(owner.tolist(), shapely.bounds(parts).tolist(), strict=True)]
    return Rows(products, [], [(at, *code) for at, shares in enumerate(codes) for code in shares], boxes)


def code_shares_of(product_id: str, classes: Any) -> list[CodeShare]:  # noqa: ANN401 - a stranger's property
    """Read the histogram that a description carries as `classification:classes` (value, count, and hectares where they are known)."""
    if not classes:
        return []
    try:
        counted = _counted(classes)
        total = sum([pixels for pixels, _ in counted.values()])
        strange = [code for code, (pixels, _) in counted.items() if code not in ALL_CODES or not 0 <= pixels <= _MOST_PIXELS]
        shares = [CodeShare(code, pixels, pixels / total if total else 0.0, ha) for code, (pixels, ha) in sorted(counted.items())]
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise BadSignature(f"product {product_id}: {_CLASSES} cannot be read ({error!r}); send a list of value and count") from error
    if strange:
        raise BadSignature(
            f"product {product_id}: {_CLASSES} has {strange[:5]}; values are CORINE Land Cover codes, counts go from 0 to {_MOST_PIXELS}"
        )
    return shares


def _counted(classes: Any) -> dict[int, tuple[int, float | None]]:  # noqa: ANN401
    """Give the pixels and hectares of each code; raises `ValueError` and others for what is no list of those."""
    counted: dict[int, tuple[int, float | None]] = {}
    for entry in classes:
        pixels, hectares = entry.get("count"), entry.get("hectares")
        if pixels is None:
            continue
        code, ha = int(entry["value"]), None if hectares is None else float(hectares)
        if code in counted or (ha is not None and ha < 0):
            raise ValueError("a value twice, or hectares below 0")
        counted[code] = int(pixels), ha
    counted.pop(0, None)
    return counted


def _feature(document: bytes) -> tuple[Mapping[str, Any], Any]:
    """Give the feature with the properties of the interface, and its classes."""
    try:
        read = orjson.loads(document)
    except orjson.JSONDecodeError as error:
        raise BadSignature(f"{document[:60]!r} is no JSON ({error}); give a STAC item or a GeoJSON feature a line") from error
    if not isinstance(read, dict) or read.get("type") != "Feature":
        raise BadSignature(f"{document[:60]!r} is no GeoJSON Feature; give a STAC item or a GeoJSON feature a line")
    properties = read.get("properties")
    classes = properties.get(_CLASSES) if isinstance(properties, dict) else None
    if "stac_version" not in read:
        return read, classes
    if classes is None:
        asset = (read.get("assets") or {}).get("segmentation") or {}
        classes = asset.get(_CLASSES) or next((band[_CLASSES] for band in asset.get("bands") or () if _CLASSES in band), None)
    return feature_of_item(read), classes


def _usual(geometries: Sequence[Any]) -> Any:  # noqa: ANN401 - an array of objects
    """Make the polygons of one ring that lie plainly in the world; None for all others."""
    rings: list[Any] = []
    at: list[int] = []
    for number, geometry in enumerate(geometries):
        if isinstance(geometry, dict) and geometry.get("type") == "Polygon":
            coordinates = geometry.get("coordinates")
            if isinstance(coordinates, list) and len(coordinates) == 1 and isinstance(coordinates[0], list) and len(coordinates[0]) > 3:
                rings.append(coordinates[0])
                at.append(number)
    found = np.full(len(geometries), None, dtype=object)
    lengths = [len(ring) for ring in rings]
    try:
        points = np.array([point for ring in rings for point in ring], dtype="float64")
    except (TypeError, ValueError):
        return found  # one of them is no ring: each is looked at on its own
    if points.ndim != 2 or points.shape[1] != 2:
        return found
    points[:, 0] += 0.0  # no longitude of -0.0, as of a single one
    starts = np.concatenate([[0], np.cumsum(lengths)])
    owner = np.repeat(np.arange(len(rings)), lengths)
    steps = np.abs(np.diff(points[:, 0], append=points[-1, 0]))
    steps[starts[1:] - 1] = 0
    strange = ~((np.abs(points[:, 0]) <= 180) & (np.abs(points[:, 1]) <= 90)) | (steps > 180)
    fine = np.bincount(owner, weights=strange, minlength=len(rings)) == 0
    fine &= (points[starts[:-1]] == points[starts[1:] - 1]).all(axis=1)
    if not fine.all():
        rings, at = [[part for part, good in zip(parts, fine, strict=True) if good] for parts in (rings, at)]
        points, lengths = points[fine[owner]], [len(ring) for ring in rings]
    polygons = shapely.polygons(shapely.linearrings(points, indices=np.repeat(np.arange(len(rings)), lengths)))
    good = shapely.is_valid(polygons) & (shapely.area(polygons) > 0)
    found[np.array(at, dtype=int)[good]] = polygons[good]
    return found
