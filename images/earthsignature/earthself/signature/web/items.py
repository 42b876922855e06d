"""A stored product as a STAC 1.1 item. Made as plain dictionaries, since a search makes hundreds of them an answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from earthself.data import flags
from earthself.data.area import Area
from earthself.data.dates import format_instant
from earthself.data.errors import BadInput
from earthself.data.legends import Legend, legend
from earthself.signature.rasters import LAYERS, Layer
from earthself.signature.rows import Stored
from earthself.signature.web.addresses import COLLECTION, Addresses
from shapely.geometry import mapping

_EXTENSION = "https://stac-extensions.github.io/{}/schema.json"
_ALWAYS = tuple(map(_EXTENSION.format, ("eo/v2.0.0", "product/v1.0.0", "timestamps/v1.1.0", "version/v1.2.0")))
_PROCESSED = (_EXTENSION.format("processing/v1.2.0"),)
CLASSIFICATION = _EXTENSION.format("classification/v2.0.0")
"""What values mean, in the collection as in each product."""
_LAYERED = (CLASSIFICATION, *map(_EXTENSION.format, ("file/v2.1.0", "projection/v2.0.0", "raster/v2.0.0", "web-map-links/v1.2.0")))
COG = "image/tiff; application=geotiff; profile=cloud-optimized"
GEOJSON = "application/geo+json"
_OWN = {"creation_date", "publication_date", "product_type", "cloud_cover", "quicklook", "browse_url", "download_url", "model", "legend"}
"""Properties of the interface that have a name in STAC."""
TITLES = {
    "segmentation": ("Land cover", "CORINE Land Cover code of each pixel, 0 where there is none", ["data", "classification"]),
    "cloud_mask": ("Clouds", "1 where there is a cloud", ["data", "cloud"]),
    "confidence": ("Confidence", "how sure the model is of the class, 0 to 100", ["data"]),
    "flags": ("Flags", "what was seen of each pixel, and what became of its class", ["data", "data-mask"]),
}
"""Title, description and roles of each layer."""
_CLOUDS = [
    {"value": 0, "name": "clear", "title": "No cloud", "color_hint": "FFFFFF"},
    {"value": 1, "name": "cloud", "title": "Cloud", "color_hint": "9AA5B1"},
]


def item(stored: Stored, at: Addresses) -> dict[str, Any]:
    """Make the STAC item of a product, with links and assets of this server."""
    name = stored.product.product_id
    below = at.product(name)
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": _extensions(stored),
        "id": name,
        "collection": COLLECTION,
        **place(stored),
        "properties": properties(stored),
        "links": _links(stored, at, below),
        "assets": _assets(stored, below),
    }


def _extensions(stored: Stored) -> tuple[str, ...]:
    processed = _PROCESSED if _model(stored.product.properties) else ()
    return (*_ALWAYS, *processed, *_LAYERED) if stored.layers else (*_ALWAYS, *processed)


def place(stored: Stored) -> dict[str, Any]:
    """The footprint as `geometry`, and its `bbox` (west > east over the antimeridian)."""
    area = Area(stored.product.footprint)
    return {"geometry": mapping(area.geometry), "bbox": area.bounds}


def properties(stored: Stored) -> dict[str, Any]:
    """Say all that is known of a product in STAC's terms."""
    product = stored.product
    given = product.properties
    model, legend_id = _model(given), _legend_id(given)
    said: dict[str, Any] = {
        "datetime": format_instant(product.creation_date),
        "published": format_instant(product.publication_date),
        "eo:cloud_cover": product.cloud_cover,
        "product:type": product.product_type,
        **{key: value for key, value in given.items() if key not in _OWN},
    }
    if model:
        software, _, version = model.partition(":")
        said["earthself:model"] = model
        said["processing:software"] = {software: version or "unknown"}
    if legend_id:
        said["earthself:legend"] = legend_id
    said["earthself:segmented"] = stored.folder is not None
    said["deprecated"] = stored.superseded_by is not None
    said["earthself:classes"] = with_ancestors(code.code for code in stored.codes)
    if stored.codes:
        said["earthself:shares"] = {str(code.code): round(code.share, 6) for code in stored.codes}
        said["earthself:hectares"] = {str(code.code): round(code.hectares, 4) for code in stored.codes if code.hectares is not None}
    if stored.layers:
        said |= _projection(stored.layers[0])
    return said


def with_ancestors(codes: Iterable[int]) -> list[int]:
    """The codes and the coarser classes that they belong to: a product with 311 has forest (31), too."""
    return sorted({code // by for code in codes for by in (1, 10, 100) if code >= by and code > 0})


def used_legend(stored: Stored) -> str | None:
    """The id of the legend that the product's codes are of; None where it does not say."""
    return _legend_id(stored.product.properties)


def _model(given: Mapping[str, Any]) -> str:
    return str(given.get("earthself:model") or given.get("model") or "")


def _legend_id(given: Mapping[str, Any]) -> str | None:
    for key in ("legend", "earthself:legend"):
        if given.get(key):
            return str(given[key])
    return None


def _projection(layer: Layer) -> dict[str, Any]:
    grid = layer.grid
    code = grid.crs if grid.crs.startswith("EPSG:") else None
    wkt = {} if code else {"proj:wkt2": grid.crs}
    return {"proj:code": code, **wkt, "proj:shape": [grid.height, grid.width], "proj:transform": grid.transform}


def _links(stored: Stored, at: Addresses, below: str) -> list[dict[str, Any]]:
    collection = {"type": "application/json", "href": at.collection}
    links: list[dict[str, Any]] = [
        {"rel": "self", "type": GEOJSON, "href": at.item(stored.product.product_id)},
        {"rel": "root", "type": "application/json", "href": at.root},
        {"rel": "parent", **collection},
        {"rel": "collection", **collection},
    ]
    if stored.layers:
        tiles = f"{below}/segmentation"
        links += [
            {"rel": "preview", "type": "text/html", "href": f"{below}/map", "title": "Map"},
            {"rel": "xyz", "type": "image/png", "href": f"{tiles}/tiles/{{z}}/{{x}}/{{y}}.png", "title": "Land cover"},
            {"rel": "tilejson", "type": "application/json", "href": f"{tiles}/tilejson.json", "title": "Land cover"},
            {
                "rel": "wmts",
                "type": "application/xml",
                "href": f"{below}/WMTSCapabilities.xml",
                "title": "Land cover",
                "wmts:layer": ["segmentation"],
            },
        ]
    if stored.superseded_by is not None:
        newer = {"href": at.item(stored.superseded_by), "title": "Newer product of the same observation"}
        links.append({"rel": "successor-version", "type": GEOJSON, **newer})
    # What the product was made from, where its provider gave an address.
    for rel, key, title in (("via", "browse_url", "At its provider"), ("derived_from", "download_url", "Product")):
        if stored.product.properties.get(key):
            links.append({"rel": rel, "href": stored.product.properties[key], "title": title})
    return links


def _assets(stored: Stored, below: str) -> dict[str, Any]:
    names = {layer.name: layer for layer in stored.layers}
    assets = {name: _asset(names[name], below, used_legend(stored)) for name in TITLES if name in names}
    if names:
        assets["thumbnail"] = {
            "href": f"{below}/segmentation/preview.png",
            "type": "image/png",
            "title": "Picture of the land cover",
            "roles": ["thumbnail"],
        }
    return assets


def described(layer: str, legend_id: str | None = None) -> dict[str, Any]:
    """Say what a layer is in every product, as an asset without its address; without a legend with the classes of all levels."""
    title, description, roles = TITLES[layer]
    data_type = LAYERS[layer].stored
    return {"type": COG, "title": title, "description": description, "roles": roles, "data_type": data_type, **meaning(layer, legend_id)}


def _asset(layer: Layer, below: str, legend_id: str | None) -> dict[str, Any]:
    return {
        "href": f"{below}/assets/{layer.name}.tif",
        **described(layer.name, legend_id),
        "raster:spatial_resolution": layer.grid.transform[0],
        "file:size": layer.size,
        **_projection(layer),
    }


@lru_cache(maxsize=64)
def meaning(layer: str, legend_id: str | None) -> Mapping[str, Any]:
    """What the values of a layer say; shared by all items, not to be changed."""
    if layer == "segmentation":
        return {"nodata": 0, "classification:classes": classes(legend_id)}
    if layer == "cloud_mask":
        return {"classification:classes": _CLOUDS}
    if layer == "flags":
        return {"classification:bitfields": flags.bitfields()}
    return {"unit": "%"}


def classes(legend_id: str | None) -> list[dict[str, Any]]:
    """The classes of a legend; those of all levels where the legend is not known."""
    known = [_known(legend_id)] if legend_id else []
    legends = [found for found in known if found] or [legend(name) for name in ("clc:1", "clc:2", "clc:3")]
    merged = {entry["value"]: entry for found in legends for entry in found.classification()}
    named: dict[str, int] = {}
    for entry in merged.values():
        named[entry["name"]] = named.get(entry["name"], 0) + 1
    # Some names stand in two levels (pastures), and names of classes must differ within one asset.
    unique = {value: f"{entry['name']}_{value}" if named[entry["name"]] > 1 else entry["name"] for value, entry in merged.items()}
    # The title says what a class is; with descriptions a page of items would be half as long again.
    return [{key: text for key, text in entry.items() if key != "description"} | {"name": unique[value]} for value, entry in merged.items()]


def _known(legend_id: str) -> Legend | None:
    try:
        return legend(legend_id)
    except BadInput:
        return None
