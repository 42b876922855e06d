"""Input and output of a step are STAC catalogs in local folders; this module reads the one and writes the other.

Nothing here follows a link off the machine: what a step reads was staged for it.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from earthself.data.workspace import write_json
from earthself.processing.errors import BadInput, ProcessingError

if TYPE_CHECKING:
    import pystac

CATALOG = "catalog.json"
_STRUCTURE = ("root", "parent", "self", "collection", "child", "item")


def read_items(folder: Path) -> list[pystac.Item]:
    """Items below `folder/catalog.json`, in the order of the links, with absolute asset hrefs; raises `BadInput`."""
    import pystac

    items = []
    for path in _item_files(folder / CATALOG, frozenset()):
        document = _load(path)
        try:
            item = pystac.Item.from_dict(document, href=str(path), preserve_dict=False)
        except (KeyError, TypeError, ValueError, AttributeError, pystac.STACError, pystac.STACTypeError) as error:
            raise BadInput(f"{path} is not a STAC item: {error}") from error
        item.make_asset_hrefs_absolute()
        items.append(item)
    return items


def write_items(folder: Path, items: Iterable[pystac.Item], title: str) -> int:
    """Write `catalog.json` and one `<id>/<id>.json` an item; assets that lie in `folder` get relative hrefs.

    Returns the number of items; raises `ProcessingError` when an asset in the folder is missing or two items share an id.
    """
    links = [{"rel": "root", "href": f"./{CATALOG}", "type": "application/json"}]
    names: set[str] = set()
    for item in items:
        name = safe_name(item.id)
        if name in names:
            raise ProcessingError(f"two items of the output are called {item.id!r}; ids must differ")
        names.add(name)
        (folder / name).mkdir(parents=True, exist_ok=True)
        write_json(folder / name / f"{name}.json", _document(item, folder, name))
        links.append({"rel": "item", "href": f"./{name}/{name}.json", "type": "application/geo+json"})
    catalog = {"type": "Catalog", "stac_version": "1.1.0", "id": title, "description": f"Output of the step {title}", "links": links}
    write_json(folder / CATALOG, catalog)
    return len(names)


def safe_name(text: str) -> str:
    """Make a file name of an id: what a file system or a link could misread becomes an underscore."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", text).lstrip(".")[:200] or "item"


def _item_files(path: Path, above: frozenset[Path]) -> Iterator[Path]:
    if path.resolve() in above:
        raise BadInput(f"{path} links to itself; a catalog must be a tree")
    document = _load(path)
    for link in document.get("links", []):
        if link.get("rel") not in {"item", "child"}:
            continue
        target = _local(path.parent, str(link.get("href")))
        if link["rel"] == "item":
            yield target
        else:
            yield from _item_files(target, above | {path.resolve()})


def _local(folder: Path, href: str) -> Path:
    parts = urlsplit(href)
    if parts.scheme not in {"", "file"}:
        raise BadInput(f"the input catalog links to {href}; a step reads local folders only, so stage the item in first")
    return Path(os.path.normpath(folder / (unquote(parts.path) if parts.scheme else href)))


def _load(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BadInput(f"{path} does not exist; the input folder needs a {CATALOG} whose links lead to items") from error
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(document, dict):
        raise BadInput(f"{path} holds {type(document).__name__}, not a STAC document")
    return document


def _document(item: pystac.Item, folder: Path, name: str) -> dict[str, Any]:
    document = item.to_dict(include_self_link=False, transform_hrefs=False)
    for key, asset in document["assets"].items():
        asset["href"] = _relative(str(asset["href"]), folder, name, f"asset {key!r} of item {item.id!r}")
    document["links"] = [link for link in document["links"] if link["rel"] not in _STRUCTURE] + [
        {"rel": "root", "href": f"../{CATALOG}", "type": "application/json"},
        {"rel": "parent", "href": f"../{CATALOG}", "type": "application/json"},
    ]
    document.pop("collection", None)
    return document


def _relative(href: str, folder: Path, name: str, what: str) -> str:
    if urlsplit(href).scheme:
        return href
    path = folder / href
    try:
        path.relative_to(folder)
    except ValueError:
        return href
    if not path.exists():
        raise ProcessingError(f"{what} is to lie at {path}, where nothing is; write the file before the catalog")
    return os.path.relpath(path, folder / name)
