"""Searching finds what gRPC finds: place, time, ids, order, pages, fields."""

from __future__ import annotations

from urllib.parse import quote, unquote

import httpx
import pytest
from earthself.signature.product import from_feature
from earthself.signature.rows import Stored, rows_of
from earthself.signature.testing import feature
from earthself.signature.web.app import application
from starlette.testclient import TestClient

ALL = ["over180", "odd/id %41?#é", "coarse", "town", "water", "forest", "described"]
HERE = [15.0, 48.7, 15.01, 48.8]


def test_the_newest_come_first_and_place_and_time_narrow(site):
    assert site.search() == ALL
    assert site.search(bbox=HERE, datetime="2017-01-01T00:00:00Z/2018-01-01T00:00:00Z") == ["water", "forest"]
    assert site.search(bbox=HERE, datetime="2017-06-13T10:10:31Z") == ["forest"]
    assert site.search(bbox=[16, 48.7, 17, 48.8]) == []
    assert site.search(datetime="../2016-12-31T00:00:00Z") == ["described"]
    assert site.search(intersects={"type": "Point", "coordinates": [15.004, 48.75]}, ids=["town", "forest", "none"]) == ["town", "forest"]


def test_an_interval_holds_both_its_ends(site):
    assert site.search(datetime="2017-06-13T10:10:31Z/2017-07-01T00:00:00Z") == ["water", "forest"]
    assert site.search(datetime="2017-06-13T10:10:32Z/2017-06-30T23:59:59Z") == []


def test_a_box_over_the_antimeridian_finds_both_sides(site):
    assert site.search(bbox=[179.9, 9, -179.9, 11]) == ["over180"]
    assert site.search(bbox=[-180, 9, -179.99, 11]) == ["over180"]
    assert site.search(bbox=[170, 9, 179.9, 11]) == []
    (item,) = httpx.post(f"{site.url}/search", json={"ids": ["over180"]}).json()["features"]
    west, _, east, _ = item["bbox"]
    assert west > 179 > -179 > east
    assert item["geometry"]["type"] == "MultiPolygon"


def test_a_box_without_width_is_a_line_or_a_point(site):
    assert site.search(bbox=[15.004, 48.75, 15.004, 48.75]) == ["odd/id %41?#é", "coarse", "town", "water", "forest", "described"]
    assert "over180" not in site.search(bbox=[15.004, 40, 15.004, 60])
    assert site.search(bbox=[15.0, 48.7, -100, 15.01, 48.8, 9000], ids=["town"]) == ["town"]


def test_other_collections_have_no_products_and_empty_lists_find_nothing(site):
    assert site.search(collections=["sentinel-2-l2a"]) == []
    assert site.search(collections=["other", "earthsignature"], ids=["town"]) == ["town"]
    assert site.search(collections="earthsignature", ids="town") == ["town"]
    assert site.search(ids=[]) == []


def test_sorting_by_any_column_and_by_several(site):
    def ids(**asked):
        return [item["id"] for item in site.get("/search", params={"limit": 100, **asked}).json()["features"]]

    assert ids(sortby="+datetime") == ALL[::-1]
    assert ids(sortby="-eo:cloud_cover")[:3] == ["over180", "water", "described"]
    assert ids(sortby="product:type,-id") == ["water", "town", "over180", "odd/id %41?#é", "forest", "described", "coarse"]
    assert site.search(sortby=[{"field": "properties.eo:cloud_cover", "direction": "asc"}])[0] == "town"
    assert "cannot be sorted" in site.refused(sortby=[{"field": "earthself:model", "direction": "asc"}])


@pytest.mark.parametrize("order", ["-datetime", "+id", "-eo:cloud_cover", "product:type,+eo:cloud_cover", "earthself:segmented"])
def test_pages_by_get_give_everything_once(site, order):
    whole = [item["id"] for item in site.get("/search", params={"limit": 100, "sortby": order}).json()["features"]]
    assert sorted(whole) == sorted(ALL)
    address, found = f"{site.url}/search?limit=2&sortby={order.replace('+', '%2B')}", []
    while address:
        page = httpx.get(address).json()
        assert page["numberMatched"] == 7
        assert page["numberReturned"] == len(page["features"]) <= 2
        found += [item["id"] for item in page["features"]]
        address = next((link["href"] for link in page["links"] if link["rel"] == "next"), None)
    assert found == whole


def test_pages_by_post_repeat_the_body(site):
    body, found = {"limit": 2, "query": {"eo:cloud_cover": {"lte": 60}}, "fields": {"include": ["properties.datetime"]}}, []
    while body:
        page = httpx.post(f"{site.url}/search", json=body).json()
        found += [item["id"] for item in page["features"]]
        assert all("assets" not in item for item in page["features"])
        follow = next((link for link in page["links"] if link["rel"] == "next"), None)
        assert follow is None or (follow["method"], follow["href"]) == ("POST", f"{site.url}/search")
        body = follow and follow["body"]
    assert found == [name for name in ALL if name != "over180"]


def test_pages_of_the_collection_and_of_a_filter_that_is_checked_product_by_product(site):
    for path in ("/collections/earthsignature/items", "/search"):
        address, found = f"{site.url}{path}?limit=1&filter=height > 1 OR eo:cloud_cover > 99", []
        while address:
            page = httpx.get(address).json()
            found += [item["id"] for item in page["features"]]
            address = next((link["href"] for link in page["links"] if link["rel"] == "next"), None)
        assert found == ["over180", "water", "forest"]


def test_fields_in_and_out(site):
    def keys(**body):
        (item,) = httpx.post(f"{site.url}/search", json={"ids": ["forest"], **body}).json()["features"]
        return item

    always = {"type", "stac_version", "id", "collection"}
    assert set(keys(fields={"include": ["geometry"]})) == {*always, "geometry"}
    assert set(keys(fields={})["properties"]) == {"datetime"}
    some = keys(fields={"include": ["properties.tags", "assets.flags.href"]})
    assert some["properties"] == {"tags": ["harvest", "dry"]}
    assert list(some["assets"]) == ["flags"]
    less = keys(fields={"exclude": ["properties.tags", "assets"]})
    assert "assets" not in less
    assert "tags" not in less["properties"]
    assert "height" in less["properties"]
    assert "tags" in keys()["properties"], "one answer must not change the next"
    got = site.get("/search?ids=forest&fields=-geometry,properties").json()["features"][0]
    assert set(got) == {*always, "properties"}
    assert "null" in site.refused(fields=None)


def test_an_item_says_what_is_known(site):
    item = site.get("/collections/earthsignature/items/forest").json()
    said = item["properties"]
    assert said["datetime"] == "2017-06-13T10:10:31Z"
    assert said["published"] == "2017-06-14T02:00:00Z"
    assert (said["eo:cloud_cover"], said["product:type"]) == (12.5, "S2MSI2A")
    assert said["processing:software"] == {"baseline": "1.0"}
    assert said["earthself:classes"] == [2, 3, 21, 31, 211, 311]
    assert said["earthself:shares"] == {"211": 0.5, "311": 0.5}
    assert said["earthself:hectares"]["311"] == pytest.approx(15, rel=0.01)
    assert (said["proj:code"], said["proj:shape"]) == ("EPSG:32633", [50, 60])
    assert set(item["assets"]) == {"segmentation", "cloud_mask", "confidence", "flags", "thumbnail"}
    segmentation = item["assets"]["segmentation"]
    assert (segmentation["data_type"], segmentation["nodata"]) == ("uint16", 0)
    names = {entry["value"]: (entry["title"], entry.get("color_hint")) for entry in segmentation["classification:classes"]}
    assert names[311] == ("Broad-leaved forest", "80FF00")
    assert 3 not in names, "the product says that its codes are of level 3"
    bits = {field["name"]: field["offset"] for field in item["assets"]["flags"]["classification:bitfields"]}
    assert bits == {"nodata": 0, "cloud": 1, "shadow": 2, "snow": 3, "novel": 4, "no_class": 5, "water": 6}
    links = {link["rel"]: link for link in item["links"]}
    assert [link["href"] for link in item["links"] if link["rel"] in ("via", "enclosure")] == [
        "https://example.org/browse",
        "https://example.org/download",
    ]
    assert links["wmts"]["wmts:layer"] == ["segmentation"]


def test_a_product_that_is_only_described_and_one_that_is_superseded_say_so(site):
    described = site.get("/collections/earthsignature/items/described").json()
    assert (described["assets"], described["properties"]["earthself:segmented"]) == ({}, False)
    older = site.get("/collections/earthsignature/items/coarse").json()
    assert older["properties"]["deprecated"] is True
    newer = next(link["href"] for link in older["links"] if link["rel"] == "successor-version")
    assert httpx.get(newer).json()["id"] == "town"


def test_an_odd_id_has_addresses_that_lead_back_to_it(site):
    (item,) = httpx.post(f"{site.url}/search", json={"ids": ["odd/id %41?#é"]}).json()["features"]
    links = {link["rel"]: link["href"] for link in item["links"]}
    assert httpx.get(links["self"]).json()["id"] == "odd/id %41?#é"
    assert httpx.get(item["assets"]["segmentation"]["href"]).status_code == 200
    assert httpx.get(links["tilejson"]).status_code == 200
    twice = quote(quote("odd/id %41?#é", safe=""), safe="")
    assert site.get(f"/collections/earthsignature/items/{twice}").json()["id"] == "odd/id %41?#é"


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/collections/none", "the only one is earthsignature"),
        ("/collections/none/items", "the only one is earthsignature"),
        ("/collections/earthsignature/items/none", "is not stored"),
        ("/nowhere", "Not Found"),
    ],
)
def test_what_is_not_there_is_said_in_json(site, path, said):
    answer = site.get(path)
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/json")
    assert said in answer.json()["description"]


def test_a_store_that_is_not_made_yet_is_asked_for_again(tmp_path):
    from earthself.signature.testing import running_web

    with running_web(tmp_path / "none") as url:
        answer = httpx.get(f"{url}/search")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
        assert "earthsignature serve" in answer.json()["description"]
        assert httpx.get(url).status_code == 200


@pytest.mark.parametrize(
    "path",
    ["/", "/conformance", "/collections", "/collections/earthsignature/items/town", "/search?ids=town", "/queryables", "/products/town/map",
     "/products/town/assets/segmentation.tif", "/results"],
)  # fmt: skip
def test_head_says_what_get_would_without_it(site, path):
    head, got = (httpx.request(method, site.url + path, headers={"Accept-Encoding": "identity"}) for method in ("HEAD", "GET"))
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"] == got.headers["content-type"]
    assert head.headers["content-length"] == str(len(got.content))


def test_the_landing_page_is_json_unless_a_browser_asks(site):
    assert site.get("/").json()["id"] == "earthself"
    browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
    for path in ("/", "/results"):
        assert site.get(path, headers={"Accept": browser}).headers["content-type"].startswith("text/html")
        for accept in ("application/json, text/html;q=0.5", "*/*", "", "application/geo+json", "text/html;q=0", "text/html;q=x;;,"):
            assert site.get(path, headers={"Accept": accept}).headers["content-type"] == "application/json", accept


@pytest.mark.parametrize("name", [".", "..", "é" * 200, "\U0001f332" * 255, "%2e%2e", "a\\b", "a{z}b", "odd/id %41?#é", "~2F", "a~"])
def test_whatever_an_id_is_its_addresses_lead_to_it(open_store, tmp_path, name):
    store = open_store(tmp_path / "one")
    product = from_feature(feature(name))
    store.catalog.insert_new(rows_of([Stored(product, (), None, product.digest(), None)], product.creation_date))
    with TestClient(application(store)) as client:
        item = client.get("/search").json()["features"][0]
        own = next(link["href"] for link in item["links"] if link["rel"] == "self")
        for _ in range(3):  # programs such as QGIS decode an address more often than once
            assert client.get(own).json()["id"] == name
            own = unquote(own)
        shown = str(own).replace("collections/earthsignature/items", "products")
        assert client.get(f"{shown}/map").status_code == 200
