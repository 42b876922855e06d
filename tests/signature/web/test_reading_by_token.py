"""Where reading needs a token, nothing is given without one: the tokens of gRPC, for STAC clients, map programs and browsers."""

from __future__ import annotations

import httpx
import pytest
import rasterio
from earthself.signature.access import TokenFile
from earthself.signature.testing import running_web
from pystac_client import Client

TILE = "/products/town/segmentation/tiles/0/0/0.png"
EVERYTHING = (
    "/",
    "/conformance",
    "/api",
    "/api.html",
    "/collections/earthsignature/items/town",
    "/search",
    "/results",
    "/results/land_cover_map-manual__1/assets/report.html",
    "/products/town/assets/segmentation.tif",
    "/products/town/map",
    TILE,
    "/static/map.js",
    "/nowhere",
)


@pytest.fixture(scope="module")
def tokens(tmp_path_factory):
    return TokenFile(tmp_path_factory.mktemp("tokens") / "tokens.json")


@pytest.fixture(scope="module")
def token(tokens):
    return tokens.add("reader", "read")


@pytest.fixture(scope="module")
def url(site, tokens, token):
    with running_web(
        site.home, "--database-url", site.store, "--workspace", str(site.home.parent / "workspace"), "--read", "token",
        "--tokens", str(tokens.path),
    ) as address:  # fmt: skip
        yield address


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


@pytest.mark.parametrize("path", EVERYTHING)
def test_nothing_is_given_without_a_token(url, path):
    for method in ("GET", "HEAD", "POST"):
        answer = httpx.request(method, url + path)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Bearer ")
        assert answer.headers["cache-control"] == "no-store"
    assert httpx.get(url + path).json()["description"] == "a token is needed to read here; send it as `authorization: Bearer TOKEN`"


@pytest.mark.parametrize("said", ["Bearer x", "Bearer", "Basic eDp5", "Basic é", "Basic ==", "Digest x", "x" * 5000])
def test_what_is_no_token_is_refused_in_words(url, said):
    answer = httpx.get(f"{url}/search", headers={"Authorization": said.encode()})
    assert answer.status_code == 401
    assert "the token is not one of EarthSignature's" in answer.json()["description"]


def test_a_token_opens_all_of_it_and_nobody_between_keeps_what_it_opened(url, token):
    for path in EVERYTHING[:-1]:
        answer = httpx.get(url + path, headers=bearer(token))
        assert answer.status_code == 200, path
        assert "public" not in answer.headers["cache-control"]
        assert "authorization" in answer.headers["vary"].lower()
    assert httpx.get(url + TILE, headers=bearer(token)).headers["cache-control"] == "private, max-age=86400"


def test_browsers_and_map_programs_send_it_as_a_password(url, token):
    assert httpx.get(url + TILE, auth=("anybody", token)).status_code == 200
    assert 'Basic realm="EarthSignature' in httpx.get(url + TILE).headers["www-authenticate"]


def test_a_map_in_a_browser_asks_once_for_the_password(browser, url, token):
    context = browser.new_context(http_credentials={"username": "anybody", "password": token})
    page = context.new_page()
    page.goto(f"{url}/products/town/map")
    page.wait_for_load_state("networkidle")
    drawn = """() => [...document.querySelectorAll("#tiles img")].filter((i) => i.complete && i.naturalWidth === 256).length"""
    assert page.evaluate(drawn) > 0
    context.close()


def test_stac_clients_and_gdal_read_with_it(url, token):
    catalog = Client.open(url, headers=bearer(token))
    item = next(catalog.search(ids=["town"]).items())
    settings = {"GDAL_HTTP_HEADERS": f"Authorization: Bearer {token}", "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR"}
    with rasterio.Env(**settings), rasterio.open(item.assets["segmentation"].href) as raster:
        assert raster.read(1).max() == 111


def test_a_token_that_is_removed_opens_nothing_from_then_on(url, tokens):
    other = tokens.add("other", "write")
    assert httpx.get(f"{url}/search", headers=bearer(other)).status_code == 200
    tokens.remove("other")
    answer = httpx.get(f"{url}/search", headers=bearer(other))
    assert answer.status_code == 401
    assert "removed" in answer.json()["description"]


def test_pages_of_other_sites_may_ask_and_watchers_need_no_token(url):
    asked = {"Origin": "https://a.example", "Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "authorization"}
    assert httpx.options(f"{url}/search", headers=asked).status_code == 200
    assert httpx.get(f"{url}/search", headers={"Origin": "https://a.example"}).headers["access-control-allow-origin"] == "*"
    assert httpx.get(f"{url}/_mgmt/ping").status_code == 200


def test_an_open_server_takes_no_notice_of_what_a_proxy_asked_for(site):
    assert site.get("/conformance", headers={"Authorization": "Basic eDp5"}).status_code == 200
