"""Schemas of the STAC extensions that our items use, so that documents are checked without a network.

Written from the extensions' own pages (projection 2.0, raster 2.0, eo 2.0, processing 1.2, file 2.1, classification 2.0, product 1.0,
timestamps 1.1, version 1.2, web map links 1.2) and stricter than they are: a field with an extension's prefix that the extension does not
know is an error everywhere in the document. The core schemas of STAC 1.1 come with pystac.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pystac
from pystac.validation import JsonSchemaSTACValidator

_NUMBER = {"type": "number"}
_TEXT = {"type": "string", "minLength": 1}
_PERCENT = {"type": "number", "minimum": 0, "maximum": 100}


def _numbers(*lengths: int) -> dict[str, Any]:
    return {"type": "array", "items": _NUMBER, "oneOf": [{"minItems": n, "maxItems": n} for n in lengths]}


_FIELDS: dict[str, tuple[str, dict[str, Any]]] = {
    "proj": (
        "projection/v2.0.0",
        {
            "code": {"type": ["string", "null"], "pattern": r"^[A-Z]+:[^\s]+$"},
            "wkt2": {"type": ["string", "null"]},
            "projjson": {"type": ["object", "null"]},
            "geometry": {"type": "object"},
            "bbox": _numbers(4, 6),
            "centroid": {"type": "object", "required": ["lat", "lon"]},
            "shape": {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2},
            "transform": _numbers(6, 9),
        },
    ),
    "raster": (
        "raster/v2.0.0",
        {
            "sampling": {"enum": ["area", "point"]},
            "bits_per_sample": {"type": "integer"},
            "spatial_resolution": _NUMBER,
            "scale": _NUMBER,
            "offset": _NUMBER,
            "histogram": {"type": "object", "required": ["count", "min", "max", "buckets"]},
        },
    ),
    "eo": (
        "eo/v2.0.0",
        {
            "cloud_cover": _PERCENT,
            "snow_cover": _PERCENT,
            "common_name": {
                "pattern": "^(pan|coastal|blue|green|green05|yellow|red|rededge(07[158])?|nir(08|09)?|cirrus|swir(16|22)|lwir(11|12)?)$"
            },
            "center_wavelength": _NUMBER,
            "full_width_half_max": _NUMBER,
            "solar_illumination": {"type": "number", "minimum": 0},
        },
    ),
    "processing": (
        "processing/v1.2.0",
        {
            "expression": {"type": "object", "required": ["format", "expression"], "properties": {"format": _TEXT}},
            "lineage": _TEXT,
            "level": _TEXT,
            "facility": _TEXT,
            "version": _TEXT,
            "datetime": {"type": "string", "format": "date-time", "pattern": r"(Z|\+00:00)$"},
            "software": {"type": "object", "additionalProperties": _TEXT},
        },
    ),
    "file": (
        "file/v2.1.0",
        {
            "byte_order": {"enum": ["big-endian", "little-endian"]},
            "checksum": {"type": "string", "pattern": "^1220[a-f0-9]{64}$"},  # multihash: SHA2-256, 32 bytes
            "header_size": {"type": "integer", "minimum": 0},
            "size": {"type": "integer", "minimum": 0},
            "local_path": _TEXT,
            "values": {"type": "array", "minItems": 1},
        },
    ),
    "classification": (
        "classification/v2.0.0",
        {
            "classes": {
                "type": "array",
                "uniqueItems": True,
                "minItems": 1,
                "items": {
                    "type": "object",
                    "required": ["value", "name"],
                    "additionalProperties": False,
                    "properties": {
                        "value": {"type": "integer"},
                        "name": {"type": "string", "pattern": "^[0-9A-Za-z_-]+$"},
                        "title": _TEXT,
                        "description": _TEXT,
                        "color_hint": {"type": "string", "pattern": "^[0-9A-F]{6}$"},
                        "nodata": {"type": "boolean"},
                        "percentage": _PERCENT,
                        "count": {"type": "integer"},
                    },
                },
            },
            "bitfields": {"type": "array", "minItems": 1},
        },
    ),
}


_FIELDS["product"] = (
    "product/v1.0.0",
    {
        "type": _TEXT,
        "timeliness": _TEXT,
        "timeliness_category": _TEXT,
        "acquisition_type": {"enum": ["nominal", "calibration", "other"]},
    },
)
_INSTANT = {"type": "string", "format": "date-time", "pattern": r"(Z|\+00:00)$"}
# Extensions whose fields have no prefix: what must be right of the document where it declares them.
_UNPREFIXED: dict[str, dict[str, Any]] = {
    "timestamps/v1.1.0": {
        "properties": {"properties": {"properties": dict.fromkeys(("published", "expires", "unpublished"), _INSTANT)}},
    },
    "version/v1.2.0": {
        "properties": {
            "properties": {"properties": {"version": _TEXT, "deprecated": {"type": "boolean"}, "experimental": {"type": "boolean"}}}
        }
    },
    "web-map-links/v1.2.0": {
        "properties": {
            "links": {
                "contains": {
                    "properties": {"rel": {"enum": ["xyz", "wms", "wmts", "tilejson", "pmtiles", "3d-tiles"]}},
                    "required": ["rel"],
                },
                "items": {
                    "allOf": [
                        {
                            "if": {"properties": {"rel": {"const": "wmts"}}},
                            "then": {
                                "required": ["wmts:layer"],
                                "properties": {"wmts:layer": {"type": ["string", "array"], "minLength": 1}},
                            },
                        },
                        {"if": {"properties": {"rel": {"const": "xyz"}}}, "then": {"properties": {"href": {"pattern": r"\{x\}"}}}},
                    ]
                },
            }
        }
    },
}


def published(url: str) -> dict[str, Any]:
    """Give the schema at an address of STAC, as its site would; raises `KeyError` for one that is not known here."""
    url = url.partition("#")[0]
    folder = Path(pystac.validation.__file__).parent / "jsonschemas"
    if url.startswith("https://schemas.stacspec.org/v1.1.0/"):
        return dict(json.loads((folder / "stac-spec" / "v1.1.0" / url.rsplit("/", 1)[1]).read_bytes()))
    if url.startswith("https://geojson.org/schema/"):
        return dict(json.loads((folder / "geojson" / url.rsplit("/", 1)[1]).read_bytes()))
    extension = url.removeprefix("https://stac-extensions.github.io/").removesuffix("/schema.json")
    if extension in _UNPREFIXED:
        return {"$schema": "http://json-schema.org/draft-07/schema#", "$id": f"{url}#", "type": "object", **_UNPREFIXED[extension]}
    prefix, fields = {path: (prefix, fields) for prefix, (path, fields) in _FIELDS.items()}[extension]
    return _schema(prefix, extension, fields)


def _schema(prefix: str, path: str, fields: dict[str, Any]) -> dict[str, Any]:
    uri = f"https://stac-extensions.github.io/{path}/schema.json"
    known = {
        "type": "object",
        "properties": {f"{prefix}:{name}": rule for name, rule in fields.items()},
        "patternProperties": {f"^(?!{prefix}:)": True},
        "additionalProperties": False,
    }
    part = {
        "allOf": [{"$ref": "#/definitions/known"}, {"properties": {"bands": {"type": "array", "items": {"$ref": "#/definitions/known"}}}}]
    }
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$id": f"{uri}#",
        "type": "object",
        "required": ["type", "stac_extensions"],
        "properties": {
            "type": {"enum": ["Feature", "Collection"]},
            "item_assets": {"type": "object", "additionalProperties": {"$ref": "#/definitions/part"}},
            "stac_extensions": {"type": "array", "contains": {"const": uri}},
            "properties": {"$ref": "#/definitions/part"},
            "assets": {"type": "object", "additionalProperties": {"$ref": "#/definitions/part"}},
        },
        "definitions": {"known": known, "part": part},
    }


def check_item(item: pystac.Item) -> None:
    """Validate an item against STAC 1.1 and its extensions; raises where it is invalid or uses an extension that it does not declare."""
    validator = JsonSchemaSTACValidator()
    for path in [*_UNPREFIXED, *(path for path, _ in _FIELDS.values())]:
        url = f"https://stac-extensions.github.io/{path}/schema.json"
        validator.schema_cache[url] = published(url)
    pystac.validation.validate(item, validator=validator)
    declared = " ".join(item.stac_extensions)
    names = set(item.properties)
    for asset in item.assets.values():
        names.update(asset.extra_fields, *asset.extra_fields.get("bands", ()))
    for prefix, (path, _) in _FIELDS.items():
        assert (path in declared) == any(name.startswith(f"{prefix}:") for name in names), f"{prefix}: and {item.stac_extensions}"
