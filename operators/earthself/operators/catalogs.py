"""STAC catalogues as the tasks between the steps handle them: plain JSON, since no task needs a pixel or a class for it."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from earthself.data.reference import Reference
from earthself.data.workspace import read_json, write_json
from earthself.operators.errors import BadRequest

CATALOG = "catalog.json"
AREA = "area.geojson"


def safe_name(text: str) -> str:
    """Make a file name of an id that somebody else chose: itself where it is harmless, else cleaned and made unique by a digest."""
    if re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}", text, re.ASCII):
        return text
    return f"{re.sub(r'[^A-Za-z0-9_-]+', '_', text)[:150]}_{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def result_id(dag_id: str, run_id: str) -> str:
    """The id of the item that a run publishes."""
    return safe_name(f"{dag_id}-{run_id}")


def write_catalog(folder: Path, title: str, items: Iterable[Mapping[str, Any]], area: Mapping[str, Any] | None = None) -> Reference:
    """Write items below `folder` and then its `catalog.json`, with `area.geojson` beside it; absolute asset hrefs stay as they are."""
    links = []
    for item in items:
        name = safe_name(str(item["id"]))
        path = folder / name / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(item, allow_nan=False), encoding="utf-8")  # nobody looks for it before the catalogue lists it
        links.append(f"./{name}/{name}.json")
    return _write(folder, title, links, area)


def link_catalog(folder: Path, title: str, items: Iterable[Path], area: Mapping[str, Any] | None = None) -> Reference:
    """Write a catalogue that lists item files where they lie."""
    return _write(folder, title, [os.path.relpath(path, folder) for path in items], area)


def join_catalogs(catalogs: Sequence[Path], target: Path, title: str) -> None:
    """Write one catalogue that links to what several link to, whose files were put together in its folder.

    Raises `BadRequest` for a Collection, whose extent and summaries tell of its own items only.
    """
    read = [dict(read_json(path)) for path in catalogs]
    if any(one.get("type") == "Collection" for one in read):
        raise BadRequest(f"{title} leaves a Collection, which tells of a part of its work only; leave a Catalog, or leave splittable out")
    links = [
        link for number, one in enumerate(read) for link in one.get("links", []) if number == 0 or link.get("rel") in ("item", "child")
    ]
    write_json(target, read[0] | {"links": links})


def item_paths(catalog: Path, above: frozenset[Path] = frozenset()) -> list[Path]:
    """List the item files of a local catalogue and its children, in their order.

    Raises `BadRequest` for a link that leaves the machine, or for a catalogue that holds itself.
    """
    if catalog in above:
        raise BadRequest(f"{catalog} links to itself; a catalogue must be a tree")
    found: list[Path] = []
    for link in read_json(catalog).get("links", []):
        if link.get("rel") not in ("item", "child"):
            continue
        href = str(link["href"])
        if "://" in href:
            raise BadRequest(f"{catalog} links to {href}; a run's catalogues list local files only")
        path = Path(os.path.normpath(catalog.parent / href))
        found += [path] if link["rel"] == "item" else item_paths(path, above | {catalog})
    return found


def read_items(catalog: Path) -> Iterator[dict[str, Any]]:
    """Read the items that a local catalogue lists."""
    for path in item_paths(catalog):
        yield read_json(path)


def area_beside(catalog: Path) -> dict[str, Any] | None:
    """Read the area of interest that travels with a catalogue, as GeoJSON."""
    path = catalog.parent / AREA
    return dict(read_json(path)) if path.is_file() else None


def asset_path(item_file: Path, href: str) -> Path:
    """Give the local path of an asset of an item in a file."""
    return Path(os.path.normpath(item_file.parent / href))


def empty_folder(folder: Path) -> Path:
    """Make a folder without what an earlier attempt left in it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _write(folder: Path, title: str, hrefs: list[str], area: Mapping[str, Any] | None) -> Reference:
    links = [{"rel": "root", "href": f"./{CATALOG}", "type": "application/json"}]
    links += [{"rel": "item", "href": href, "type": "application/geo+json"} for href in hrefs]
    if area is not None:
        write_json(folder / AREA, area)
    catalog = {"type": "Catalog", "stac_version": "1.1.0", "id": safe_name(title), "description": title, "links": links}
    return Reference.to_file(write_json(folder / CATALOG, catalog), len(hrefs))
