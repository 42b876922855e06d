"""A product as the database knows it: what of a GeoJSON Feature is checked, and how it looks when it is given back."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from json.encoder import encode_basestring_ascii
from typing import Any, NamedTuple

import numpy as np
import shapely
from earthself.data.area import Area
from earthself.data.dates import format_instant, is_usual, parse_instant
from earthself.data.errors import BadInput
from earthself.signature.errors import BadSignature
from shapely.geometry import MultiPolygon, Polygon
from shapely.ops import unary_union

REQUIRED = ("creation_date", "publication_date", "product_type", "cloud_cover")
"""Properties without which no product is stored."""
TEXTS = ("quicklook", "browse_url", "download_url")
"""Addresses; empty means there is none."""
_ALL_TEXTS = ("product_type", *TEXTS)
_ID = re.compile(r"[^\x00-\x1f\x7f]{1,255}")
_NO_ZONE = re.compile(r"\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:\d{2}(\.\d{1,9})?")
_MOST_PROPERTIES = 65_536
_SORTED = json.JSONEncoder(allow_nan=False, sort_keys=True)


@dataclass(frozen=True)
class Product:
    """What is known of a product beside its rasters."""

    product_id: str
    """Unique in the database, 1 to 255 characters."""
    creation_date: datetime
    """Acquisition, UTC."""
    publication_date: datetime
    """UTC."""
    product_type: str
    """Such as S2MSI2A."""
    cloud_cover: float
    """Percent, 0 to 100."""
    footprint: Polygon | MultiPolygon
    """Longitude and latitude, valid, split at the antimeridian."""
    properties: Mapping[str, Any]
    """All properties as they are given back, dates in UTC."""

    def feature(self) -> dict[str, Any]:
        """Make the GeoJSON Feature that readers get."""
        return {"type": "Feature", "id": self.product_id, "geometry": Area(self.footprint).geojson, "properties": dict(self.properties)}

    @property
    def text(self) -> str:
        """The properties as JSON."""
        return _texts(self.properties)[1]

    def digest(self) -> str:
        """SHA-256 of what the product says, whatever the order of properties, rings and corners; coordinates to 6 decimals."""
        return digests([(self.product_id, _texts(self.properties)[0])], np.array([self.footprint], dtype=object))[0]


class Said(NamedTuple):
    """A product without its footprint."""

    product_id: str
    """Unique in the database, 1 to 255 characters."""
    creation_date: datetime
    """Acquisition, UTC."""
    publication_date: datetime
    """UTC."""
    product_type: str
    """Such as S2MSI2A."""
    cloud_cover: float
    """Percent, 0 to 100."""
    properties: Mapping[str, Any]
    """All properties as they are given back, dates in UTC."""
    known: str
    """Those that are not empty as JSON, sorted."""
    text: str
    """All of them as JSON."""

    def with_footprint(self, footprint: Polygon | MultiPolygon) -> Product:
        """Make the product of it."""
        return Product(
            self.product_id, self.creation_date, self.publication_date, self.product_type, self.cloud_cover, footprint, self.properties
        )


def digests(said: Sequence[tuple[str, str]], footprints: np.ndarray[Any, Any]) -> list[str]:
    """Give `Product.digest` of many: of each the id with the properties that are not empty as sorted JSON, and the footprint."""
    rounded = shapely.normalize(shapely.transform(footprints, lambda xy: xy.round(6) + 0.0))
    outlines = shapely.to_wkb(rounded, hex=True)
    return [
        hashlib.sha256(f'[{encode_basestring_ascii(name)}, "{outline}", {known}]'.encode()).hexdigest()
        for (name, known), outline in zip(said, outlines, strict=True)
    ]


def from_feature(feature: Mapping[str, Any]) -> Product:
    """Check a GeoJSON Feature (id, footprint, properties of the interface); raises `BadSignature` with what is wrong."""
    return _with_footprint(said_of(feature), feature.get("geometry"))


def said_of(feature: Mapping[str, Any]) -> Said:
    """Check a GeoJSON Feature but for its footprint; raises `BadSignature`."""
    if feature.get("type") != "Feature":
        raise BadSignature(f"the product is a GeoJSON {feature.get('type')}; send a Feature with id, footprint and properties")
    name = feature.get("id")
    product_id = str(name) if name is not None else ""
    if not _ID.fullmatch(product_id):
        raise BadSignature(f"the product's id is {product_id[:80]!r}; the Feature needs an id of 1 to 255 printable characters")
    return _said(product_id, feature.get("properties") or {})


def from_parts(product_id: str, geometry: Any, properties: Mapping[str, Any]) -> Product:  # noqa: ANN401 - a stranger's geometry
    """Check a product whose parts did not come as one Feature; raises `BadSignature`."""
    return _with_footprint(_said(product_id, properties), geometry)


def restored(product_id: str, footprint: Polygon | MultiPolygon, properties: Mapping[str, Any]) -> Product:
    """Make a product of what a store said of it, whose footprint is cut at the antimeridian already; raises `BadSignature`."""
    return _said(product_id, properties).with_footprint(footprint)


def _with_footprint(said: Said, geometry: Any) -> Product:  # noqa: ANN401
    return said.with_footprint(footprint_of(said.product_id, geometry))


def _said(product_id: str, properties: Mapping[str, Any]) -> Said:
    missing = [key for key in REQUIRED if properties.get(key) in (None, "")]
    if missing:
        raise BadSignature(f"product {product_id}: properties {', '.join(missing)} are missing; add them to the feature")
    created, created_text = _instant(product_id, "creation_date", properties["creation_date"])
    published, published_text = _instant(product_id, "publication_date", properties["publication_date"])
    cover = properties["cloud_cover"]
    if isinstance(cover, bool) or not isinstance(cover, (int, float)) or not (math.isfinite(cover) and 0 <= cover <= 100):
        raise BadSignature(f"product {product_id}: cloud_cover {cover!r} is no percentage; send a number from 0 to 100")
    said = {key: value for key, value in properties.items() if value is not None}
    for key in _ALL_TEXTS:
        said[key] = _text(product_id, key, said.get(key) or "")
    said |= {"creation_date": created_text, "publication_date": published_text, "cloud_cover": float(cover)}
    return Said(product_id, created, published, said["product_type"], float(cover), said, *_checked(product_id, said))


def _checked(product_id: str, properties: Mapping[str, Any]) -> tuple[str, str]:
    try:
        known, text = _texts(properties)
    except (TypeError, ValueError) as error:
        raise BadSignature(f"product {product_id}: its properties are no JSON ({error})") from error
    if len(text) > _MOST_PROPERTIES:
        raise BadSignature(f"product {product_id}: {len(text)} bytes of properties; at most {_MOST_PROPERTIES} are kept, leave out lists")
    return known, text


def _texts(properties: Mapping[str, Any]) -> tuple[str, str]:
    """Write the properties that are not empty, sorted, as JSON, and then all of them; writing is what costs most, so it is done once."""
    known = _SORTED.encode({key: value for key, value in properties.items() if value != ""})
    empty = ", ".join([f'{encode_basestring_ascii(key)}: ""' for key, value in properties.items() if value == ""])
    return known, f"{known[:-1]}{', ' if empty and known != '{}' else ''}{empty}}}"


def _instant(product_id: str, key: str, value: Any) -> tuple[datetime, str]:  # noqa: ANN401
    """Read a time; gives it with how it is written here."""
    try:
        if isinstance(value, str):
            if is_usual(value):
                return parse_instant(value), value
            if value[-1:] != "Z" and _NO_ZONE.fullmatch(value):
                value += "Z"  # times of Sentinel products are UTC, and older clients leave the zone out
        when = parse_instant(value)
    except BadInput as error:
        raise BadSignature(f"product {product_id}: {key}: {error}") from error
    return when, format_instant(when)


def _text(product_id: str, key: str, value: Any) -> str:  # noqa: ANN401
    if not isinstance(value, str):
        raise BadSignature(f"product {product_id}: {key} is {value!r}; send text")
    if "\x00" in value:
        raise BadSignature(f"product {product_id}: {key} is {value!r}, which no database keeps; leave the NUL out")
    return value


def footprint_of(product_id: str, geometry: Any) -> Polygon | MultiPolygon:  # noqa: ANN401 - a stranger's geometry
    """Check a product's footprint; raises `BadSignature`."""
    try:
        if isinstance(geometry, Mapping) and geometry.get("type") == "GeometryCollection":
            parts = [Area.from_conf(part).geometry for part in geometry.get("geometries") or ()]
            return unary_union(parts) if parts else Area.from_conf({"type": "MultiPolygon", "coordinates": []}).geometry
        return Area.from_conf(dict(geometry) if isinstance(geometry, Mapping) else geometry).geometry
    except BadInput as error:
        raise BadSignature(f"product {product_id}: its footprint: {error}") from error
