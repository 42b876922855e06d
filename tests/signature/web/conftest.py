"""A store with products of every kind behind a real web server, on SQLite and on PostgreSQL; and a published result beside it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from earthself.signature.client import SignatureClient
from earthself.signature.store import Store
from earthself.signature.testing import GRID, geotiff, layers, running_server, running_web

sys.path.insert(0, str(Path(__file__).parent))
from web_site import DESCRIBED, OVER_180, PRODUCTS, Site, publish


@pytest.fixture(scope="session")
def site(new_database, tmp_path_factory):
    folder = tmp_path_factory.mktemp("web")
    home, database = folder / "earthsignature", new_database()
    with running_server(home, "--database-url", database) as server, SignatureClient(server.target, timeout=30) as client:
        for name, (said, pixels) in PRODUCTS.items():
            grid = OVER_180 if name == "over180" else GRID
            rasters = layers(pixels, pixels == 211, grid)
            if name == "forest":
                rasters["confidence"] = geotiff(np.full(pixels.shape, 77, "uint8"))
                rasters["flags"] = geotiff(np.where(pixels == 211, 2, 64).astype("uint8"))
            client.create(said, rasters)
    _describe(home, database)
    publish(folder / "workspace")
    with running_web(home, "--database-url", database, "--workspace", str(folder / "workspace")) as url:
        yield Site(url, database, home)


def _describe(home: Path, database: str) -> None:
    """A product without rasters, and a newer one of an observation."""
    from earthself.signature.bulk import describe

    path = home.parent / "described.geojson"
    path.write_text(json.dumps(DESCRIBED))
    store = Store(home, database)
    assert describe(store.catalog, [path], lambda _: None).created == 1
    store.supersede("coarse", "town")
    store.close()
