"""Pages of other sites, such as the STAC browser, read everything that is served, ranges of rasters, too, in a real browser."""

from __future__ import annotations

from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import httpx
import pytest


def test_they_may_read_and_not_write(site):
    answer = site.get("/search", headers={"Origin": "https://radiantearth.github.io"})
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in answer.headers
    asked = {"Origin": "https://a.example", "Access-Control-Request-Method": "POST"}
    asked["Access-Control-Request-Headers"] = "authorization, content-type"
    assert httpx.options(f"{site.url}/search", headers=asked).status_code == 200
    asked["Access-Control-Request-Method"] = "DELETE"
    assert httpx.options(f"{site.url}/search", headers=asked).status_code == 400


@pytest.fixture(scope="module")
def another_site(browser, tmp_path_factory):
    """A page of another origin than the server's."""
    folder = tmp_path_factory.mktemp("another")
    (folder / "index.html").write_text("<!DOCTYPE html><title>Another site</title>")
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{server.server_port}/")
        yield page
        page.close()
        server.shutdown()
        thread.join()


# Chromium ends all requests when a network interface comes or goes, as those of pods do; what it forbids, it forbids each time.
_FETCH = """async ([address, options]) => {
    for (let left = 3; ; left--) {
        try {
            const answer = await fetch(address, options)
            const body = await answer.arrayBuffer()
            return {status: answer.status, bytes: body.byteLength, headers: Object.fromEntries(answer.headers)}
        } catch (error) {
            if (left === 1) throw error
        }
    }
}"""
_RASTER = "/products/town/assets/segmentation.tif"
_JSON = {"Content-Type": "application/json", "Authorization": "Bearer ess_x"}


@pytest.fixture
def fetch(site, another_site):
    """Asks the server as a script of the other site does; only what the browser lets it read is there."""
    return lambda path, **asked: another_site.evaluate(_FETCH, [site.url + path, asked])


@pytest.mark.parametrize(
    ("path", "asked", "status"),
    [
        ("/", {}, 200),
        ("/search", {"method": "POST", "headers": _JSON, "body": "{}"}, 200),
        ("/search", {"method": "POST", "headers": _JSON, "body": "no"}, 400),
        ("/collections/earthsignature/items?limit=1", {}, 200),
        ("/products/town/segmentation/preview.png", {}, 200),
        ("/products/town/segmentation/tiles/13/4437/2821.png", {"headers": {"If-None-Match": '"x"'}}, 200),
        ("/products/town/WMTSCapabilities.xml", {}, 200),
        ("/products/none/map", {}, 404),
        (_RASTER, {"headers": {"If-Modified-Since": "Thu, 01 Jan 2026 00:00:00 GMT"}}, 200),
    ],
)
def test_a_browser_lets_them_read_each_kind_of_answer(fetch, path, asked, status):
    answer = fetch(path, **asked)
    assert (answer["status"], answer["bytes"] > 0) == (status, True)


def test_a_browser_lets_them_read_ranges_of_a_raster(fetch):
    whole = fetch(_RASTER, method="HEAD")["headers"]
    size = int(whole["content-length"])
    assert whole["accept-ranges"] == "bytes"
    part = fetch(_RASTER, headers={"Range": "bytes=4-9", "If-Range": whole["etag"]})
    assert (part["status"], part["bytes"], part["headers"]["content-range"]) == (206, 6, f"bytes 4-9/{size}")
    changed = fetch(_RASTER, headers={"Range": "bytes=4-9", "If-Range": '"another"'})
    assert (changed["status"], changed["bytes"]) == (200, size)
    beyond = fetch(_RASTER, headers={"Range": f"bytes={size}-"})
    assert (beyond["status"], beyond["headers"]["content-range"]) == (416, f"bytes */{size}")
