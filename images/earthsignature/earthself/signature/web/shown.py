"""What can be drawn: the layers of stored products and of published results, found by their ids and never by a path."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from earthself.data.dates import format_instant
from earthself.data.errors import BadInput, NotThere
from earthself.data.workspace import read_json
from earthself.signature.errors import NotFound
from earthself.signature.web import items, looks
from earthself.signature.web.addresses import candidates, slug
from earthself.signature.web.looks import Look
from earthself.signature.web.search import Products


@dataclass(frozen=True)
class Picture:
    """One band of a file with its colours."""

    name: str
    """Of the layer, in addresses."""
    title: str
    """For people."""
    path: Path
    """A GeoTIFF of this server."""
    band: int
    """From 1."""
    look: Look
    """Its colours and legend."""
    state: str
    """Changes when the pixels or the colours do."""


@dataclass(frozen=True)
class Shown:
    """A product or result with all its layers."""

    kind: str
    """`products` or `results`: the first part of its addresses."""
    name: str
    """Its id."""
    title: str
    """For people."""
    facts: tuple[tuple[str, str], ...]
    """What to say beside its map."""
    pictures: Mapping[str, Picture]
    """Its layers, the first being the one to begin with."""
    lasting: bool
    """Whether its pixels stay as they are: a result may be published again."""
    files: Mapping[str, tuple[Path, str]]
    """What of it can be fetched: file name to path and media type."""
    links: tuple[tuple[str, str], ...]
    """Addresses beside the map: text and address, from the server's root or whole."""

    def picture(self, layer: str) -> Picture:
        """Find a layer; raises `NotFound`."""
        if layer not in self.pictures:
            raise NotFound(f"{self.name} has no layer {layer[:40]!r}; it has {', '.join(self.pictures) or 'none'}")
        return self.pictures[layer]


class Source(Protocol):
    """Where shown things come from."""

    def shown(self, part: str) -> Shown:
        """Find one by its id as a path has it; raises `NotFound`."""


_STYLE = "1"  # raise it when colours change, so that browsers do not keep the old ones


@dataclass(frozen=True)
class ShownProducts:
    """Stored products."""

    products: Products
    """The store."""

    def shown(self, part: str) -> Shown:
        """Find a product by its id."""
        stored = self.products.get(part)
        product, legend_id = stored.product, items.used_legend(stored)
        pictures, files = {}, {}
        for name in items.TITLES:
            layer = next((layer for layer in stored.layers if layer.name == name), None)
            if layer is None:
                continue
            path = self.products.store.path(stored, name)
            files[f"{name}.tif"] = (path, items.COG)
            look = looks.of_layer(name, legend_id)
            pictures[name] = Picture(name, items.TITLES[name][0], path, 1, look, f"{_STYLE}-{layer.sha256[:24]}")
        facts = [("acquired", format_instant(product.creation_date)), ("clouds", f"{product.cloud_cover:.1f} %")]
        facts += [(key, str(value)) for key, value in (("type", product.product_type), ("legend", legend_id)) if value]
        facts += [("model", str(product.properties[key])) for key in ("earthself:model", "model") if product.properties.get(key)][:1]
        links = (("STAC item", f"collections/earthsignature/items/{slug(product.product_id)}"),)
        return Shown("products", product.product_id, product.product_id, tuple(facts), pictures, True, files, links)


_RESULT_BANDS = {"code": ("land_cover", "Land cover"), "confidence": ("confidence", "Confidence")}
_RESULT_BANDS |= {"observations": ("observations", "Clear observations"), "agreement": ("agreement", "Agreement")}
_RESULT_FILES = ("land_cover", "statistics", "statistics_csv", "quicklook", "report", "manifest")


@dataclass(frozen=True)
class Results:
    """Published results, as the catalogue of a workspace lists them."""

    catalog: Path
    """`catalog.json` of all results; it need not exist."""

    def listed(self) -> list[dict[str, Any]]:
        """Give the items of all results, newest first; one that cannot be read is left out while it is being published anew."""
        found = []
        for path in self._paths():
            try:
                found.append(read_json(path))
            except (BadInput, NotThere):
                continue
        return sorted(found, key=lambda item: str(item["properties"].get("created", "")), reverse=True)

    def shown(self, part: str) -> Shown:
        """Find a result by the id of its item."""
        for path in self._paths():
            try:
                item = read_json(path)
            except (BadInput, NotThere):
                continue
            if item.get("id") in candidates(part):
                return self._shown(path, item)
        raise NotFound(f"result {part[:255]!r} is not published; /results lists what there is")

    def _paths(self) -> list[Path]:
        """Item files below the workspace; links that lead out of it are no results."""
        try:
            links = read_json(self.catalog)["links"]
        except (BadInput, NotThere, KeyError):
            return []
        root = self.catalog.parent.parent.resolve()
        paths = [(self.catalog.parent / str(link["href"])).resolve() for link in links if link.get("rel") == "item"]
        return [path for path in paths if path.is_relative_to(root / "runs")]

    def _shown(self, path: Path, item: Mapping[str, Any]) -> Shown:
        folder, said, assets = path.parent, item["properties"], item["assets"]
        files = {}
        for name in _RESULT_FILES:
            href = str(assets.get(name, {}).get("href", ""))
            file = (folder / href).resolve()
            if href and file.parent == folder and file.is_file():
                files[file.name] = (file, str(assets[name].get("type", "application/octet-stream")))
        pictures = {}
        raster = files.get("land_cover.tif")
        for number, band in enumerate(assets.get("land_cover", {}).get("bands", ()), 1):
            if raster is not None and band.get("name") in _RESULT_BANDS:
                name, title = _RESULT_BANDS[band["name"]]
                look = looks.of_layer(name, said.get("earthself:legend"))
                pictures[name] = Picture(name, title, raster[0], number, look, _file_state(raster[0]))
        facts = [("from", str(said.get("start_datetime", ""))), ("to", str(said.get("end_datetime", "")))]
        facts += [("model", ", ".join(said.get("earthself:models", ()))), ("legend", str(said.get("earthself:legend", "")))]
        if "earthself:observed_fraction" in said:
            facts.append(("observed", f"{100 * float(said['earthself:observed_fraction']):.1f} %"))
        facts += [("beware", str(warning)) for warning in said.get("earthself:warnings", ())]
        links = [(text, name) for text, name in (("Report", "report.html"), ("Statistics", "statistics.csv")) if name in files]
        name = str(item["id"])
        own = tuple((text, f"results/{slug(name)}/assets/{file}") for text, file in links)
        return Shown("results", name, str(said.get("title") or name), tuple(facts), pictures, False, files, own)


def _file_state(path: Path) -> str:
    known = path.stat()
    return f"{_STYLE}-" + hashlib.sha256(f"{known.st_ino}-{known.st_size}-{known.st_mtime_ns}".encode()).hexdigest()[:24]
