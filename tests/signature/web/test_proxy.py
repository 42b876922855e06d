"""Behind a proxy links are the proxy's; and a server that is busy drawing goes on answering."""

from __future__ import annotations

import asyncio
import threading

import httpx
from earthself.signature.store import Store
from earthself.signature.testing import running_web
from earthself.signature.web import drawing
from earthself.signature.web.app import application


def test_links_are_those_of_the_proxy(site):
    shown = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "data.example.org"}
    item = site.get("/collections/earthsignature/items/forest", headers=shown).json()
    assert item["assets"]["segmentation"]["href"] == "https://data.example.org/products/forest/assets/segmentation.tif"
    assert all(link["href"].startswith("https://") for link in item["links"])


def test_links_begin_with_the_path_at_which_a_proxy_shows_the_server(site):
    with running_web(site.home, "--database-url", site.store, "--root-path", "/data/") as url:
        # A proxy takes the path away before it hands the request on.
        item = httpx.get(f"{url}/collections/earthsignature/items/forest").json()
        assert item["assets"]["segmentation"]["href"] == f"{url}/data/products/forest/assets/segmentation.tif"
        landing = httpx.get(f"{url}/").json()
        assert {link["href"] for link in landing["links"] if link["rel"] == "search"} == {f"{url}/data/search"}
        assert f'{url}/data/static/map.js"' in httpx.get(f"{url}/products/forest/map").text
        assert httpx.get(f"{url}/static/map.js").status_code == 200
        raster = httpx.get(f"{url}/products/forest/assets/segmentation.tif", headers={"Accept-Encoding": "br"})
        assert "content-encoding" not in raster.headers


def test_searches_are_answered_while_all_that_draws_is_busy(site, monkeypatch):
    go_on, begun = threading.Event(), threading.Semaphore(0)

    def slow(*_):
        begun.release()
        assert go_on.wait(60)
        return b"drawn"

    monkeypatch.setattr(drawing, "tile", slow)
    store = Store(site.home, site.store)

    async def ask() -> list[httpx.Response]:
        transport = httpx.ASGITransport(application(store))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            tiles = [asyncio.ensure_future(client.get(f"/products/forest/segmentation/tiles/3/{x % 8}/0.png")) for x in range(30)]
            try:
                await asyncio.to_thread(begun.acquire, timeout=60)
                found = await client.get("/search?ids=forest")
                assert not any(tile.done() for tile in tiles)
            finally:
                go_on.set()
            return [found, *await asyncio.gather(*tiles)]

    found, *tiles = asyncio.run(ask())
    store.close()
    assert [item["id"] for item in found.json()["features"]] == ["forest"]
    assert {tile.content for tile in tiles} == {b"drawn"}
