"""The programs that people have find and fetch what is stored: pystac-client and EODAG."""

from __future__ import annotations

import hashlib
from pathlib import Path

import httpx
import pytest
import rasterio


def test_pystac_client_searches_filters_sorts_and_pages(site):
    from pystac_client import Client

    catalog = Client.open(site.url)
    assert [collection.id for collection in catalog.get_collections()] == ["earthsignature"]
    search = catalog.search(
        bbox=[14, 48, 16, 49],
        datetime="2017-01-01/2020-12-31",
        filter="eo:cloud_cover < 50",
        sortby="+properties.datetime",
        limit=1,
    )
    assert search.matched() == 4
    assert [item.id for item in search.items()] == ["forest", "town", "coarse", "odd/id %41?#é"]
    assert [item.id for item in catalog.search(query=["eo:cloud_cover>=60"], method="GET", limit=1).items()] == ["over180", "water"]
    (item,) = catalog.search(ids=["forest"], fields=["properties.datetime", "assets"]).items_as_dicts()
    assert "eo:cloud_cover" not in item["properties"]
    assert catalog.get_collection("earthsignature").get_item("forest").assets["flags"].roles == ["data", "data-mask"]


def test_items_say_of_each_raster_what_its_file_is(site):
    """Programs that load pixels, such as odc-stac, choose type, nodata and grid from the item before they open a file."""
    from pystac_client import Client

    said, found = {}, {}
    for item in Client.open(site.url).search(limit=100).items():
        for name, asset in item.assets.items():
            if name == "thumbnail":
                continue
            given = asset.extra_fields
            grid = (asset.ext.proj.code, tuple(asset.ext.proj.shape), tuple(asset.ext.proj.transform), given["raster:spatial_resolution"])
            said[item.id, name] = (given["data_type"], given.get("nodata"), *grid)
            with rasterio.open(f"/vsicurl/{asset.href}") as file:
                grid = (f"EPSG:{file.crs.to_epsg()}", file.shape, tuple(file.transform)[:6], file.res[0])
                found[item.id, name] = (*file.dtypes, file.nodata, *grid)
    assert said == found
    assert {name: said["forest", name][:2] for name in ("segmentation", "flags")} == {
        "segmentation": ("uint16", 0),
        "flags": ("uint8", None),
    }


@pytest.fixture
def dag(site, tmp_path, monkeypatch):
    monkeypatch.setenv("EODAG_STRICT_COLLECTIONS", "true")
    monkeypatch.setenv("EODAG_CFG_DIR", str(tmp_path / "eodag"))
    from eodag import EODataAccessGateway

    gateway = EODataAccessGateway()
    nothing = {"fetch_url": None}
    gateway.add_provider(
        "earthsignature",
        f"{site.url}/search",
        search={
            "type": "StacSearch",
            "discover_collections": nothing,
            "discover_queryables": {**nothing, "collection_fetch_url": None},
        },
        products={"CLMS_CORINE": {"_collection": "earthsignature"}},
        download={"type": "HTTPDownload", "output_dir": str(tmp_path / "downloads"), "extract": False},
    )
    return gateway


def test_eodag_searches_pages_and_downloads(site, dag):
    found = dag.search(
        provider="earthsignature",
        collection="CLMS_CORINE",
        start="2017-01-01",
        end="2020-01-01",
        geom={"lonmin": 14, "latmin": 48, "lonmax": 16, "latmax": 49},
        limit=2,
        count=True,
        raise_errors=True,
        **{"eo:cloud_cover": 30},
    )
    assert found.number_matched == 3
    names = [product.properties["id"] for product in found]
    names += [product.properties["id"] for page in found.next_page() for product in page]
    assert names == ["coarse", "town", "forest"]
    (product,) = dag.search(provider="earthsignature", collection="CLMS_CORINE", id="forest", raise_errors=True)
    folder = Path(product.download(asset=r"(segmentation|cloud_mask).*").removeprefix("file://"))
    fetched = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    served = site.get("/collections/earthsignature/items/forest").json()["assets"]
    for name in ("segmentation", "cloud_mask"):
        assert hashlib.sha256(httpx.get(served[name]["href"]).content).hexdigest() in fetched.values()
    assert len(fetched) == 2
