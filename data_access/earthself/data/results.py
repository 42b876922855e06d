"""The catalogue of all published results, changed by one process at a time."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from earthself.data.errors import BadInput, DataError
from earthself.data.workspace import RunFolder, read_json, write_json


@contextmanager
def changing_catalog(path: Path) -> Iterator[list[dict[str, Any]]]:
    """Give the links of the catalogue of all results to be changed in place, while nobody else changes it; written at the end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with (path.parent / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        root = {"rel": "root", "href": f"./{path.name}", "type": "application/json"}
        links: list[dict[str, Any]] = read_json(path)["links"] if path.is_file() else [root]
        yield links
        catalog = {
            "type": "Catalog",
            "stac_version": "1.1.0",
            "id": "earthself",
            "title": "EarthSelf",
            "description": "All published results",
        }
        write_json(path, {**catalog, "links": links})


def href(run: RunFolder) -> str:
    """How the catalogue of all results points at a run's item."""
    return os.path.relpath(run.item, run.workspace.catalog.parent)


def listed(path: Path) -> set[str]:
    """The hrefs that a catalogue lists, none where it does not exist; raises `BadInput` for what is no catalogue."""
    if not path.is_file():
        return set()
    try:
        return {str(link["href"]) for link in read_json(path)["links"]}
    except (KeyError, TypeError):
        raise BadInput(f"{path} is no catalogue with links; restore it before anything else") from None


def is_result(run: RunFolder, published: set[str]) -> bool:
    """Whether a run has published a map: the catalogue lists it, or its own result document names its item."""
    if href(run) in published:
        return True
    try:
        return run.result.is_file() and "item" in read_json(run.result)["outputs"]
    except (DataError, KeyError, TypeError):
        return True  # a result that cannot be read is not taken for none
