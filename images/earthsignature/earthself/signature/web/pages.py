"""Pages for people and map programs, made from templates that escape all they are given; nothing in them comes from another server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
from earthself.signature.catalog import Overview
from earthself.signature.rows import Stored
from earthself.signature.web import drawing, legend
from earthself.signature.web.addresses import Addresses, slug
from earthself.signature.web.shown import Shown

_TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("earthself.signature.web"), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
)


def capabilities(shown: Shown, at: Addresses) -> str:
    """Describe all layers of a product or result as a WMTS, with the zoom levels that each of them has."""
    layers = []
    for picture in shown.pictures.values():
        lies = drawing.place(picture)
        matrices = [drawing.TMS.matrix(z) for z in range(lies.minzoom, lies.maxzoom + 1)]
        layers.append({"picture": picture, "place": lies, "matrices": matrices})
    below = f"{at.root}{shown.kind}/{slug(shown.name)}"
    return _TEMPLATES.get_template("WMTSCapabilities.xml.j2").render(shown=shown, layers=layers, grid=drawing.TMS, at=at, below=below)


def home(known: Overview, newest: Sequence[Stored], at: Addresses) -> str:
    """The first page: what is there, and the newest products."""
    products = [
        {
            "name": stored.product.product_id,
            "acquired": f"{stored.product.creation_date:%Y-%m-%d %H:%M}",
            "clouds": stored.product.cloud_cover,
            "map": f"{at.product(stored.product.product_id)}/map",
            "preview": f"{at.product(stored.product.product_id)}/segmentation/preview.png?size=144" if stored.layers else None,
        }
        for stored in newest
    ]
    return _TEMPLATES.get_template("home.html.j2").render(known=known, products=products, at=at)


def api(openapi: Mapping[str, Any], at: Addresses) -> str:
    """All addresses with their parameters, from the description that programs get."""
    routes = [
        {"method": method.upper(), "path": path, "parameters": [p["name"] for p in known.get("parameters", ()) if p["in"] == "query"]}
        for path, methods in openapi["paths"].items()
        for method, known in methods.items()
        if method != "head" and not path.startswith("/_mgmt")
    ]
    return _TEMPLATES.get_template("api.html.j2").render(routes=routes, at=at)


def viewer(shown: Shown, at: Addresses) -> str:
    """A map of a product or result, with its legend and facts."""
    below = f"{at.root}{shown.kind}/{slug(shown.name)}"
    layers = [
        {
            "name": picture.name,
            "title": picture.title,
            "bounds": lies.bounds,
            "minzoom": lies.minzoom,
            "maxzoom": lies.maxzoom,
            "legend": legend.document(picture.look)["entries"],
        }
        for picture in shown.pictures.values()
        for lies in [drawing.place(picture)]
    ]
    return _TEMPLATES.get_template("map.html.j2").render(shown=shown, layers=layers, below=below, at=at)


def results(listed: Sequence[dict[str, Any]], at: Addresses) -> str:
    """A list of all published results."""
    return _TEMPLATES.get_template("results.html.j2").render(results=results_document(listed, at)["results"], at=at)


def results_document(listed: Sequence[dict[str, Any]], at: Addresses) -> dict[str, Any]:
    """List all published results for programs."""
    return {
        "results": [
            {
                "id": item["id"],
                "title": item["properties"].get("title") or item["id"],
                "created": item["properties"].get("created"),
                "start": item["properties"].get("start_datetime"),
                "end": item["properties"].get("end_datetime"),
                "status": item["properties"].get("earthself:status"),
                "bbox": item.get("bbox"),
                "map": f"{at.result(item['id'])}/map",
                "preview": f"{at.result(item['id'])}/land_cover/preview.png?size=144",
                "tilejson": f"{at.result(item['id'])}/land_cover/tilejson.json",
                "wmts": f"{at.result(item['id'])}/WMTSCapabilities.xml",
                "raster": f"{at.result(item['id'])}/assets/land_cover.tif",
            }
            for item in listed
        ]
    }
