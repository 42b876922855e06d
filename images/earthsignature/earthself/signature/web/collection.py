"""The STAC collection of all stored products, and what filters may ask of them."""

from __future__ import annotations

from typing import Any

from earthself.data.legends import legend
from earthself.signature.catalog import Overview
from earthself.signature.web import items
from earthself.signature.web.addresses import COLLECTION, Addresses

TITLE = "EarthSignature"
DESCRIPTION = (
    "Land cover of Sentinel-2 products, pixel by pixel: CORINE Land Cover codes made by a model, with its confidence, clouds and flags. "
    "Confidence and flags are there where the product came with them."
)
_PROJECT_LICENCE = "other"


def collection(at: Addresses, known: Overview) -> dict[str, Any]:
    """Describe the collection as the store is now."""
    layers = ("segmentation", "cloud_mask", "confidence", "flags")
    return {
        "type": "Collection",
        "stac_version": "1.1.0",
        "stac_extensions": [items.CLASSIFICATION],
        "id": COLLECTION,
        "title": TITLE,
        "description": DESCRIPTION,
        "keywords": ["land cover", "CORINE", "Sentinel-2", "segmentation"],
        "license": _PROJECT_LICENCE,
        "providers": [
            {
                "name": "European Union/ESA/Copernicus",
                "roles": ["licensor"],
                "url": "https://sentinel.esa.int/web/sentinel/sentinel-data-access",
            }
        ],
        "extent": {"spatial": {"bbox": [known.bounds or (-180, -90, 180, 90)]}, "temporal": {"interval": [[known.first, known.last]]}},
        "summaries": {"earthself:classes": sorted(items.with_ancestors(known.codes))},
        "item_assets": {name: items.described(name) for name in layers},
        "links": [
            {"rel": "self", "type": "application/json", "href": at.collection},
            {"rel": "root", "type": "application/json", "href": at.root},
            {"rel": "parent", "type": "application/json", "href": at.root},
            {"rel": "items", "type": items.GEOJSON, "href": f"{at.collection}/items"},
            {
                "rel": "http://www.opengis.net/def/rel/ogc/1.0/queryables",
                "type": "application/schema+json",
                "href": f"{at.collection}/queryables",
            },
            {
                "rel": "license",
                "href": "https://sentinel.esa.int/documents/247904/690755/Sentinel_Data_Legal_Notice",
                "title": "Legal notice on the use of Copernicus Sentinel data",
            },
        ],
    }


def queryables(at: Addresses, *, of_collection: bool) -> dict[str, Any]:
    """List the properties that filters may ask as a JSON schema; others are possible, but checked product by product."""
    codes = [entry.code for name in ("clc:1", "clc:2", "clc:3") for entry in legend(name).entries]
    text = {"type": "string"}
    properties: dict[str, Any] = {
        "id": {"title": "Id of the product", **text},
        "collection": {"title": "Collection", **text, "enum": [COLLECTION]},
        "geometry": {"title": "Footprint", "$ref": "https://geojson.org/schema/Geometry.json"},
        "datetime": {"title": "Acquisition", **text, "format": "date-time"},
        "published": {"title": "Published by its provider", **text, "format": "date-time"},
        "eo:cloud_cover": {"title": "Clouds in percent", "type": "number", "minimum": 0, "maximum": 100},
        "product:type": {"title": "Type of the product", **text},
        "earthself:classes": {
            "title": "Classes that the product has, with the coarser ones; ask with a_contains or a_overlaps",
            "type": "array",
            "items": {"type": "integer", "enum": codes},
        },
        "earthself:segmented": {"title": "Whether it has a segmentation, or is only described", "type": "boolean"},
        "deprecated": {"title": "Whether a newer product of the same observation is there", "type": "boolean"},
        "earthself:model": {"title": "Model and version", **text},
        "earthself:legend": {"title": "Legend of the codes", **text, "enum": ["clc:1", "clc:2", "clc:3"]},
        "earthself:observation": {"title": "Observation without its processing baseline", **text},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"{at.collection}/queryables" if of_collection else f"{at.root}queryables",
        "type": "object",
        "title": "What filters may ask of EarthSignature",
        "properties": properties,
        "additionalProperties": True,
    }
