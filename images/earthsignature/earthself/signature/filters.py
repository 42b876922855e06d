"""What a caller may ask for, checked before the database sees it: an area, a period, ids, categories and how many.

Meaning of the filters: several values of one are any-of, different filters combine with all-of, empty strings are absent.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import shapely
from earthself.data.errors import BadInput
from earthself.data.legends import legend, matches
from earthself.signature.errors import BadSignature
from shapely.geometry import Polygon
from shapely.geometry.base import BaseGeometry
from shapely.ops import unary_union

MOST_PRODUCTS = 500
"""Products that one `ListSegmentation` gives at most."""
_MOST_IDS = 10_000
_MOST_CATEGORIES = 1_000
_MOST_CROSSINGS = 50_000  # a union of as many takes a second
_SAMPLE = 64
_ACCEPTED = "send a POLYGON, MULTIPOLYGON or GEOMETRYCOLLECTION of longitude and latitude in degrees"
_LEGENDS = ("clc:1", "clc:2", "clc:3")
ALL_CODES = frozenset(entry.code for name in _LEGENDS for entry in legend(name).entries)
"""Every CORINE Land Cover code, of levels 1, 2 and 3."""


class Instant(Protocol):
    """What is used of a protobuf Timestamp."""

    @property
    def seconds(self) -> int:
        """Whole seconds since 1970."""

    @property
    def nanos(self) -> int:
        """From 0 to 999,999,999."""


@dataclass(frozen=True)
class Query:
    """A checked question to the catalogue; None or empty filters nothing."""

    area: BaseGeometry | None = None
    """Longitude -180 to 180, latitude, valid; a footprint must meet it."""
    start: int | None = None
    """First microsecond since 1970 (UTC) of the acquisition."""
    end: int | None = None
    """The microsecond since 1970 (UTC) before which the acquisition lies."""
    product_ids: frozenset[str] = frozenset()
    """Ids, any of them."""
    codes: frozenset[int] = frozenset()
    """CORINE codes with their descendants, any of them."""
    limit: int | None = None
    """At most so many products."""
    least_share: float = 0.0
    """Of the codes together, among a product's pixels that have any; 0 to 1."""
    segmented: bool = False
    """Only products with a segmentation."""
    current: bool = False
    """Only products that no newer one of the same observation supersedes."""


def query(
    *,
    wkt: str = "",
    start: Instant | None = None,
    end: Instant | None = None,
    product_ids: Iterable[str] = (),
    categories: Iterable[str | int] = (),
    limit: int | None = None,
    least_share: float = 0.0,
    segmented: bool = False,
    current: bool = False,
) -> Query:
    """Check the filters of a request; raises `BadSignature` with what is wrong and what to send instead."""
    first, last = _microseconds(start, "start_date"), _microseconds(end, "end_date")
    if first is not None and last is not None and last < first:
        raise BadSignature("end_date lies before start_date; the period is [start_date, end_date)")
    if limit is not None and limit < 1:
        raise BadSignature(f"{limit} results were asked for; ask for 1 or more, or leave the number out")
    if not 0 <= least_share <= 1:
        raise BadSignature(f"least_share is {least_share:g}; send a part of the pixels from 0 to 1")
    codes = _codes(categories)
    if least_share and not codes:
        raise BadSignature(f"least_share is {least_share:g} and no categories are named; say the share of which codes")
    return Query(parse_area(wkt), first, last, _ids(product_ids), codes, limit, least_share, segmented, current)


def parse_area(wkt: str) -> BaseGeometry | None:
    """Read well-known text in longitude and latitude; None for an empty string. Longitudes from 180 to 360 are brought back.

    Edges are straight lines in longitude and latitude, as drawn. One longer than 180 degrees, but no whole circle, is refused, since
    many programs mean the short way over the antimeridian by it; not so in a polygon from -180 to 180, which tells the two apart.
    Raises `BadSignature`.
    """
    if not wkt.strip():
        return None
    try:
        shape = shapely.from_wkt(wkt)
    except shapely.errors.ShapelyError as error:
        raise BadSignature(f"wkt {_short(wkt)} cannot be read ({error}); {_ACCEPTED}") from error
    if shape.is_empty:
        raise BadSignature(f"wkt {_short(wkt)} is empty; {_ACCEPTED}, or leave it out")
    west, south, east, north = shape.bounds
    if not (south >= -90 and north <= 90):
        raise BadSignature(f"wkt has latitudes from {south:g} to {north:g}, outside -90 to 90; longitude comes first, were they swapped?")
    if not (west >= -360 and east <= 360 and east - west <= 360):
        raise BadSignature(f"wkt has longitudes from {west:g} to {east:g}, outside -180 to 180; {_ACCEPTED}")
    _check_edges(shape)
    for part in getattr(shape, "geoms", (shape,)):
        if not part.is_valid:
            raise BadSignature(f"wkt crosses itself ({shapely.is_valid_reason(part)}); draw rings without crossing lines, holes inside")
    if hasattr(shape, "geoms"):
        _check_crossings(shape)
    whole = unary_union(list(shape.geoms)) if hasattr(shape, "geoms") else shape
    return whole if west >= -180 and east <= 180 else _wrapped(whole)


def _check_edges(shape: BaseGeometry) -> None:
    if hasattr(shape, "geoms"):
        for part in shape.geoms:
            _check_edges(part)
        return
    if shape.bounds[0] == -180 and shape.bounds[2] == 180:
        return
    for line in (shape.exterior, *shape.interiors) if isinstance(shape, Polygon) else (shape,):
        lons = shapely.get_coordinates(line)[:, 0]
        steps = np.abs(np.diff(lons))
        for at in np.flatnonzero((steps > 180) & (steps < 360))[:1]:
            raise BadSignature(
                f"wkt has an edge from longitude {lons[at]:g} to {lons[at + 1]:g}, which has two meanings; split the area at 180 "
                "(MULTIPOLYGON) or count on beyond it (170 to 190) if it crosses the antimeridian, else set a corner between the two"
            )


def _check_crossings(shape: BaseGeometry) -> None:
    """Refuse parts that cross each other so often that their union would take minutes and gigabytes; counted on a sample of edges."""
    parts = _flat(shape)
    rings, of_ring = shapely.get_rings(parts, return_index=True)
    points, of_point = shapely.get_coordinates([*rings, *parts[shapely.get_dimensions(parts) == 1]], return_index=True)
    follow = np.flatnonzero(of_point[1:] == of_point[:-1])
    edges = shapely.linestrings(np.stack([points[follow], points[follow + 1]], axis=1)) if len(follow) else np.array([])
    owners = np.concatenate([of_ring, np.flatnonzero(shapely.get_dimensions(parts) == 1)])[of_point[follow]]
    sample = np.random.default_rng().permutation(len(edges))[:_SAMPLE]
    if not len(sample):
        return
    asked, met = shapely.STRtree(edges).query(edges[sample], predicate="crosses")
    crossings = int((owners[sample[asked]] != owners[met]).sum() * len(edges) / len(sample) / 2)
    if crossings > _MOST_CROSSINGS:
        raise BadSignature(
            f"the parts of wkt cross each other about {crossings} times; at most {_MOST_CROSSINGS}: send their union, or fewer"
        )


def _flat(shape: BaseGeometry) -> np.ndarray[Any, Any]:
    parts: np.ndarray[Any, Any] = shapely.get_parts([shape])
    while (shapely.get_type_id(parts) == shapely.GeometryType.GEOMETRYCOLLECTION).any() or (shapely.get_num_geometries(parts) > 1).any():
        parts = shapely.get_parts(parts)
    return parts


def _wrapped(shape: BaseGeometry) -> BaseGeometry:
    world = shapely.box(-180, -90, 180, 90)
    moved = (shapely.transform(shape, lambda xy, by=by: xy + np.array([by, 0.0])) for by in (-360.0, 0.0, 360.0))
    return unary_union([part.intersection(world) for part in moved])


def _ids(product_ids: Iterable[str]) -> frozenset[str]:
    ids = [name for name in product_ids if name]
    if any("\x00" in name for name in ids):
        raise BadSignature("a product_id has a NUL in it, which no id has; send ids as ListProductIds gives them")
    if len(ids) > _MOST_IDS:
        raise BadSignature(f"{len(ids)} product_ids in one question; ask for at most {_MOST_IDS} at a time")
    # Old clients assign one bare string to the repeated field, and Python sends its characters one by one.
    if len(ids) > 1 and all(len(name) == 1 for name in ids):
        return frozenset({*ids, "".join(ids)})
    return frozenset(ids)


def _codes(categories: Iterable[str | int]) -> frozenset[int]:
    wanted = [code for code in categories if code != ""]
    if len(wanted) > _MOST_CATEGORIES:
        raise BadSignature(
            f"{len(wanted)} categories in one question; there are {len(ALL_CODES)} codes, ask for at most {_MOST_CATEGORIES}"
        )
    found: set[int] = set()
    for code in set(wanted):
        text = str(code).strip()
        if not (text.isascii() and text.isdigit() and int(text) in ALL_CODES):
            raise BadSignature(f"category {code!r} is no CORINE Land Cover code; codes are like 3, 31 or 311 (legends clc:1, clc:2, clc:3)")
        found.update(known for known in ALL_CODES if matches(known, int(text)))
    return frozenset(found)


def _microseconds(instant: Instant | None, name: str) -> int | None:
    if instant is None:
        return None
    if not (-62135596800 <= instant.seconds <= 253402300799 and 0 <= instant.nanos < 1_000_000_000):
        raise BadSignature(f"{name} of {instant.seconds} s and {instant.nanos} ns is no valid Timestamp; years go from 1 to 9999")
    # Rounded up, so that [start, end) means the same as with nanoseconds.
    return instant.seconds * 1_000_000 - (-instant.nanos // 1000)


def check_legend(name: Any, codes: Iterable[int]) -> None:  # noqa: ANN401 - a property of a stranger's feature
    """Check that codes are of the legend that a product names; raises `BadSignature`."""
    try:
        known = legend(str(name))
    except BadInput as error:
        raise BadSignature(f"property legend: {error}") from error
    strange = [code for code in codes if code not in known]
    if strange:
        raise BadSignature(f"the product says legend {name}, but has codes {sorted(strange)[:10]}; send the legend that its codes are of")


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")
