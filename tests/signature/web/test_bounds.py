"""Text that a stranger sends is data: bounded in length, nesting and number, and refused with what to send instead."""

from __future__ import annotations

import base64
import json

import httpx
import pytest

POINT = {"type": "Point", "coordinates": [15, 48]}


def nested(depth):
    tree = {"op": "=", "args": [{"property": "id"}, "a"]}
    for _ in range(depth):
        tree = {"op": "not", "args": [tree]}
    return tree


DEEP = {
    "brackets": "(" * 5000 + "id = 'a'" + ")" * 5000,
    "brackets in numbers": "id IN " + "(1, " * 5000 + "'a'" + ")" * 5000,
    "nots": "NOT " * 5000 + "id = 'a'",
    "signs": "eo:cloud_cover = " + "-" * 5000 + "1",
    "sum": "eo:cloud_cover" + " + 1" * 5000 + " > 3",
    "functions": "casei(" * 5000 + "id" + ")" * 5000 + " = 'a'",
    "ands": " AND ".join(["id = 'a'"] * 600),
    "a few brackets that stay open": "(" * 40 + "x",
    "a few brackets around what is wrong": "(" * 40 + "x =" + ")" * 40,
    "closed in other quotes": '"\'" = ' + '("))" = ' * 40 + '"\'"',
    "brackets below the length": "(" * 1990,
    "brackets and signs": "(" * 299 + "-" * 1600 + "1",
    "closed in quotes": "('" + ")" * 900 + "' = " + "(" * 900,
    "lower case": "not(not " * 300 + "id = 'a'",
    "powers": "eo:cloud_cover = " + "2 ^ " * 5000 + "2",
}


@pytest.mark.parametrize("text", DEEP.values(), ids=DEEP)
def test_text_that_nests_without_end_is_refused_and_the_server_lives_on(site, text):
    answer = site.get("/search", params={"filter": text})
    assert answer.status_code in (400, 414), answer.text
    assert site.get("/conformance").status_code == 200


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"filter": nested(30)}, "at most 24 levels"),
        ({"filter": {"op": "and", "args": [{"op": "=", "args": [{"property": "id"}, str(n)]} for n in range(600)]}}, "500 terms"),
        ({"filter": {"op": "like", "args": [{"property": "id"}, "%a" * 400]}}, "at most 512"),
        ({"filter": {"op": "=", "args": [{"property": "eo:cloud_cover"}, "much"]}}, "is a number, 'much' is none"),
        ({"filter": {"op": "=", "args": [{"property": "datetime"}, "today"]}}, "datetime: 'today' is not a date"),
        (
            {"filter": {"op": "s_intersects", "args": [{"property": "geometry"}, {"type": "Polygon", "coordinates": []}]}},
            "filter: wkt 'POLYGON EMPTY' is empty",
        ),
        ({"filter": {"op": "s_intersects", "args": [{"property": "geometry"}, {"bbox": [1, 2]}]}}, "no box"),
        ({"filter": {"op": "s_intersects", "args": [{"property": "geometry"}, {"type": "Point", "coordinates": [15, 480]}]}}, "latitudes"),
        ({"filter": {"foo": 1}}, "no CQL2"),
        ({"filter": nested(1), "filter-crs": "EPSG:3857"}, "longitude, latitude"),
        ({"query": {"eo:cloud_cover": {"regex": ".*"}}}, "operator 'regex' is not known"),
        ({"query": {"eo:cloud_cover": 3}}, "query"),
        ({"ids": [str(n) for n in range(1001)]}, "at most 1000"),
        ({"bbox": [0, 0, 1]}, "bbox"),
        ({"bbox": [0, 2, 1, 1]}, "bbox"),
        ({"bbox": [0, 0, 1, 100]}, "bbox"),
        ({"bbox": [0, 0, 1, 1], "intersects": POINT}, "mutually exclusive"),
        ({"intersects": {"type": "Polygon", "coordinates": [[[0, 0], [1, 1], [0, 1], [1, 0], [0, 0]]]}}, "crosses itself"),
        ({"intersects": {"type": "LineString", "coordinates": [[n / 1000, n % 7] for n in range(10_001)]}}, "at most 10000"),
        ({"datetime": "2017"}, "datetime"),
        ({"datetime": "2018-01-01T00:00:00Z/2017-01-01T00:00:00Z"}, "datetime"),
        ({"limit": 0}, "limit"),
        ({"limit": -1}, "limit"),
        ({"limit": "many"}, "limit"),
        ({"sortby": [{"field": "a); DROP TABLE product", "direction": "asc"}]}, "cannot be sorted"),
        ({"fields": {"include": [str(n) for n in range(101)]}}, "at most 100"),
        ({"token": "x"}, "follow the link"),
        ({"token": base64.urlsafe_b64encode(b'["2017", "a"]').decode()}, "follow the link"),
        ({"token": base64.urlsafe_b64encode(b"[1e400, 1]").decode()}, "follow the link"),
        ({"token": base64.urlsafe_b64encode(json.dumps([2**70, "a"]).encode()).decode()}, "follow the link"),
        ({"token": base64.urlsafe_b64encode(b"[" * 1500).decode()}, "follow the link"),
        ({"token": "A" * 5000}, "follow the link"),
    ],
)
def test_a_wrong_search_says_what_to_send_instead(site, body, said):
    assert said in site.refused(**body)


def comb(teeth, swapped):
    """A polygon with that many teeth over 10 by 10 degrees; with its x and y swapped it crosses itself at every tooth."""
    wide = 10 / teeth
    edge = [xy for n in range(teeth) for xy in ((n * wide, 0), (n * wide, 10), ((n + 0.5) * wide, 10), ((n + 0.5) * wide, 0))]
    ring = [*edge, (10, 0), (10, -1), (0, -1), (0, 0)]
    return {"type": "Polygon", "coordinates": [[(y, x) if swapped else (x, y) for x, y in ring]]}


def meets(area):
    return {"op": "s_intersects", "args": [{"property": "geometry"}, area]}


def test_areas_whose_union_would_take_minutes_and_gigabytes_are_refused(site):
    one, other = meets(comb(600, False)), meets(comb(600, True))
    assert "cross each other" in site.refused(filter={"op": "or", "args": [one, other]})
    deeper = {"op": "or", "args": [{"op": "and", "args": [one, {"op": ">", "args": [{"property": "eo:cloud_cover"}, 0]}]}, other]}
    assert "cross each other" in site.refused(filter=deeper)


def test_an_area_of_too_many_parts_is_refused_however_it_is_sent(site):
    area = {"type": "MultiPoint", "coordinates": [[n % 180, n // 180] for n in range(1500)]}
    for asked in ({"intersects": area}, {"filter": meets(area)}):
        assert "at most 1000: fewer polygons" in site.refused(**asked)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"filter": "id = "}, "no CQL2 text"),
        ({"filter": "id = 'a'; DROP TABLE product"}, "no CQL2 text"),
        ({"filter": "{", "filter-lang": "cql2-json"}, "no JSON"),
        ({"filter": "[" * 3000, "filter-lang": "cql2-json"}, "no JSON"),
        ({"filter": "id = 'a'", "filter-lang": "sql"}, "filter-lang"),
        ({"query": "{"}, "no JSON"),
        ({"query": "[]"}, "query"),
        ({"intersects": "POINT(1 2)"}, "no JSON"),
        ({"bbox": "a,b,c,d"}, "bbox"),
        ({"datetime": "yesterday"}, "date"),
        ({"limit": "0"}, "limit"),
    ],
)
def test_a_wrong_address_says_what_to_send_instead(site, asked, said):
    answer = site.get("/search", params=asked)
    assert answer.status_code == 400, answer.text
    assert said in answer.json()["description"]


def test_quotes_and_wildcards_in_values_are_values(site):
    for value in ("' OR 1=1 --", "town' OR 'a'='a", "%", "_own", "\\"):
        tree = {"op": "=", "args": [{"property": "id"}, value]}
        assert site.search(filter=tree) == []
    assert site.search(ids=["' OR 1=1 --"]) == []


def test_pages_are_bounded_whatever_is_asked(site):
    assert len(site.get("/search?limit=10000").json()["features"]) == 7
    from earthself.signature.web import requests

    assert requests.wanted({"limit": 10_000}).limit == 500


def test_a_body_that_is_too_large_is_refused_unread(site):
    answer = httpx.post(
        f"{site.url}/search", content=b'{"ids": ["' + b"a" * 1_100_000 + b'"]}', headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 413
    assert "1048576" in answer.json()["description"]


def test_a_body_that_is_nested_without_end_is_refused(site):
    for content in (b"[" * 100_000, b'{"filter":' * 5000 + b"1" + b"}" * 5000):
        answer = httpx.post(f"{site.url}/search", content=content, headers={"Content-Type": "application/json"})
        assert answer.status_code == 400, answer.text
    assert site.get("/conformance").status_code == 200


@pytest.mark.parametrize(
    "content", [b"", b"[]", b'"x"', b"3", b"null", b"{", b"\xff\xfe", b'{"ids": ["\\ud800"]}', b'{"fields": {"include": ["\\udfff"]}}']
)
def test_a_body_that_is_no_object_is_refused_in_words(site, content):
    answer = httpx.post(f"{site.url}/search", content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400, answer.text
    assert "the body is" in answer.json()["description"]


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", None])
def test_a_body_is_read_as_json_whatever_it_is_called(site, kind):
    headers = {} if kind is None else {"Content-Type": kind}
    answer = httpx.post(f"{site.url}/search", content=b'{"ids": ["town"]}', headers=headers)
    assert [item["id"] for item in answer.json()["features"]] == ["town"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("earthself:classes = 311", "a_contains(earthself:classes, (311))"),
        ("earthself:classes IN (311, 312)", "a_overlaps"),
        ("NOT (311 = earthself:classes) AND id = 'town'", "a_contains"),
        ("upper(id) = 'TOWN'", "no operation or function 'upper'"),
        ("id = 'town' OR nearby(geometry, POINT(1 2))", "no operation or function 'nearby'"),
    ],
)
def test_a_filter_that_could_never_find_anything_is_refused(site, text, said):
    answer = site.get("/search", params={"filter": text})
    assert (answer.status_code, said in answer.json()["description"]) == (400, True), answer.text


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
def test_nothing_can_be_written(site, method):
    for path in ("/collections/earthsignature/items/town", "/collections/earthsignature", "/products/town/assets/segmentation.tif"):
        assert httpx.request(method, site.url + path, json={}).status_code == 405
    assert httpx.post(f"{site.url}/collections/earthsignature/items", json={}).status_code == 405


def test_it_listens_on_loopback_and_refuses_a_port_in_use(site, tmp_path):
    from earthself.signature.errors import Unavailable
    from earthself.signature.testing import running_web

    host, port = site.url.removeprefix("http://").split(":")
    assert host == "127.0.0.1"
    with pytest.raises(Unavailable, match=rf"cannot listen on 127\.0\.0\.1:{port} .*--port"), running_web(tmp_path / "x", "--port", port):
        pass


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--host", "0.0.0.0"), r"0\.0\.0\.0 can be reached from other machines.*--insecure"),  # noqa: S104 - that is the point
        (("--read", "token"), "reading by token needs a list of tokens"),
        (("--read", "token", "--tokens", "/nowhere/tokens.json"), "/nowhere/tokens.json cannot be read"),
    ],
)
def test_it_does_not_open_to_others_what_is_not_meant_for_them(tmp_path, options, said):
    from earthself.signature.errors import Unavailable
    from earthself.signature.testing import running_web

    with pytest.raises(Unavailable, match=said), running_web(tmp_path / "x", *options):
        pass
