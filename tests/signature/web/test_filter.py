"""CQL2 and the query extension: what the database answers and what is checked product by product come to the same."""

from __future__ import annotations

import json

import cql2
import pytest
from hypothesis import given
from hypothesis import strategies as st

LAND = ["town", "water", "forest"]


def by_get(site, text):
    answer = site.get("/search", params={"filter": text, "limit": 100})
    assert answer.status_code == 200, answer.text
    return [item["id"] for item in answer.json()["features"]]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("id = 'town'", ["town"]),
        ("id IN ('town', 'water', 'x')", ["town", "water"]),
        ("id LIKE '%o_n'", ["town"]),
        ("id LIKE 'T%'", []),
        ("id NOT LIKE '%e%' AND id <> 'town'", ["odd/id %41?#é"]),
        ("eo:cloud_cover >= 60", ["over180", "water"]),
        ("60 <= eo:cloud_cover", ["over180", "water"]),
        ("datetime BETWEEN TIMESTAMP('2017-06-13T10:10:31Z') AND TIMESTAMP('2018-01-05T10:00:00.250Z')", ["town", "water", "forest"]),
        ("eo:cloud_cover BETWEEN 13 AND 60", ["water", "described"]),
        ("NOT (eo:cloud_cover < 60 OR id = 'water')", ["over180"]),
        ("\"properties.product:type\" = 'S2MSI1C'", ["water"]),
        ("datetime > TIMESTAMP('2020-01-01T00:00:00Z')", ["over180", "odd/id %41?#é"]),
        ("datetime >= DATE('2021-06-13')", ["over180"]),
        ("datetime < '2016-06-01T00:00:00+02:00'", ["described"]),
        ("T_INTERSECTS(datetime, INTERVAL('2017-06-13T10:10:31Z', '2017-07-01'))", ["water", "forest"]),
        ("T_INTERSECTS(datetime, INTERVAL('..', '2017-01-01'))", ["described"]),
        ("datetime >= DATE('2017-06-01') AND datetime < DATE('2018-01-05') OR id = 'over180'", ["over180", "water", "forest"]),
        ("S_INTERSECTS(geometry, POINT(15.004 48.75)) AND eo:cloud_cover = 0", ["town"]),
        ("S_INTERSECTS(geometry, BBOX(170, 0, -170, 20))", ["over180"]),
        ("S_INTERSECTS(geometry, POINT(0 0)) OR S_INTERSECTS(geometry, BBOX(170, 0, 180, 20))", ["over180"]),
        ("NOT S_INTERSECTS(geometry, BBOX(14, 40, 16, 50))", ["over180"]),
        ("S_INTERSECTS(geometry, POINT(0 0)) OR eo:cloud_cover = 100", ["over180"]),
        ("S_WITHIN(geometry, POLYGON((14 40, 16 40, 16 50, 14 50, 14 40))) AND height > 5", ["water"]),
        ("a_contains(earthself:classes, (311, 211))", ["forest"]),
        ("a_contains(earthself:classes, (3))", ["coarse", "forest"]),
        ("a_contains(earthself:classes, (31))", ["forest"]),
        ("a_overlaps(earthself:classes, (1, 52))", ["over180", "town"]),
        ("a_overlaps(earthself:classes, (7))", []),
        ("a_contains(earthself:classes, (5)) OR height = 5", ["over180", "water", "forest"]),
        ("earthself:segmented = false", ["described"]),
        ("deprecated = true AND earthself:segmented = true", ["coarse"]),
        ("earthself:model = 'baseline:1.0'", ["forest"]),
        ("earthself:model LIKE 'base%' OR eo:cloud_cover = 0", ["town", "forest"]),
        ("a_contains(tags, ('dry'))", ["forest"]),
        ("height + 1 = 6", ["forest"]),
        ("height > 5 AND earthself:legend = 'clc:3'", ["water"]),
        ("height IS NULL AND eo:cloud_cover > 99", ["over180"]),
        ("NOT (height = 5)", ["water"]),
        ("eo:cloud_cover IS NULL", []),
        ("eo:cloud_cover IS NOT NULL AND id = 'town'", ["town"]),
        ("casei(id) = 'town'", ["town"]),
        ("collection = 'earthsignature' AND id = 'town'", ["town"]),
        ("collection <> 'earthsignature'", []),
    ],
)
def test_filters_in_text_and_in_json_find_the_same(site, text, found):
    assert by_get(site, text) == found
    tree = cql2.Expr(text).to_json()
    assert site.search(filter=tree, **{"filter-lang": "cql2-json"}) == found
    assert by_get(site, f"({text}) AND (id = id OR true)") == found, "checked product by product"


def test_a_filter_goes_along_with_the_other_parameters(site):
    tree = {"op": "s_intersects", "args": [{"property": "geometry"}, {"type": "Point", "coordinates": [15.004, 48.75]}]}
    assert site.search(filter=tree, bbox=[15, 48.7, 15.1, 48.8], datetime="2017-01-01T00:00:00Z/2018-12-31T00:00:00Z") == LAND
    assert site.search(filter=tree, bbox=[179, 9, 180, 11]) == []
    assert site.search(filter=tree, query={"eo:cloud_cover": {"gt": 50}}) == ["water"]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"eo:cloud_cover": {"lt": 13, "gt": 0}}, ["odd/id %41?#é", "coarse", "forest"]),
        ({"eo:cloud_cover": {"eq": "60"}}, ["water"]),
        ({"properties.product:type": {"startsWith": "S2", "endsWith": "1C"}}, ["water"]),
        ({"id": {"contains": "%41?"}}, ["odd/id %41?#é"]),
        ({"id": {"contains": "_"}}, []),
        ({"id": {"in": ["town", "x"]}}, ["town"]),
        ({"tags": {"in": ["dry", "x"]}}, ["forest"]),
        ({"earthself:classes": {"in": [11, 52]}}, ["over180", "town"]),
        ({"earthself:classes": {"contains": 512}, "eo:cloud_cover": {"neq": 0}}, ["water"]),
        ({"datetime": {"gte": "2021-01-01T00:00:00Z"}}, ["over180"]),
    ],
)
def test_the_query_extension(site, query, found):
    assert site.search(query=query) == found
    assert [item["id"] for item in site.get("/search", params={"query": json.dumps(query)}).json()["features"]] == found


def test_queryables_name_what_can_be_asked(site):
    for path in ("/queryables", "/collections/earthsignature/queryables"):
        answer = site.get(path)
        assert answer.headers["content-type"] == "application/schema+json"
        assert {"id", "datetime", "geometry", "eo:cloud_cover", "earthself:classes", "deprecated"} <= set(answer.json()["properties"])
        assert answer.json()["$id"] == site.url + path


_LEAVES = st.sampled_from(
    [
        "eo:cloud_cover < 20",
        "eo:cloud_cover >= 60",
        "id = 'town'",
        "id LIKE '%o%'",
        "height > 5",
        "height IS NULL",
        "datetime >= TIMESTAMP('2018-01-01T00:00:00Z')",
        "datetime <= TIMESTAMP('2018-01-05T10:00:00.250Z')",
        "a_contains(earthself:classes, (3))",
        "S_INTERSECTS(geometry, BBOX(14, 40, 16, 50))",
        "S_INTERSECTS(geometry, BBOX(170, 0, 180, 20))",
        "earthself:segmented = true",
        "product:type = 'S2MSI1C'",
    ]
)
_FILTERS = st.recursive(
    _LEAVES,
    lambda inner: st.one_of(
        inner.map("NOT ({})".format), st.tuples(inner, st.sampled_from(("AND", "OR")), inner).map(lambda t: f"({t[0]}) {t[1]} ({t[2]})")
    ),
    max_leaves=6,
)


def test_any_filter_finds_what_it_finds_product_by_product(site):
    items = site.get("/search?limit=100").json()["features"]

    @given(_FILTERS)
    def agrees(text):
        expression = cql2.Expr(text)

        def matching(item):
            try:
                return expression.matches(item)
            except Exception:  # noqa: BLE001 - what cannot be decided does not match
                return False

        assert by_get(site, text) == [item["id"] for item in items if matching(item)]

    agrees()


def test_a_filter_that_would_look_at_too_many_products_is_refused(open_store, tmp_path):
    from earthself.signature.errors import BadSignature
    from earthself.signature.product import from_feature
    from earthself.signature.rows import Stored, rows_of
    from earthself.signature.testing import feature
    from earthself.signature.web import requests, search
    from earthself.signature.web.search import Products

    store = open_store(tmp_path / "many")
    products = [from_feature(feature(f"p{n}", rank=n)) for n in range(40)]
    store.catalog.insert_new(rows_of([Stored(p, (), None, p.digest(), None) for p in products], products[0].creation_date))
    asked = Products(store)
    with pytest.MonkeyPatch.context() as few:
        few.setattr(search, "MOST_SCANNED", 30)
        few.setattr(search, "_CHUNK", 10)
        with pytest.raises(BadSignature, match=r"rank of more than 30 products.*narrow it by bbox, datetime"):
            asked.search(requests.wanted({"filter": "rank > 100", "filter-lang": "cql2-text"}))
        found = asked.search(requests.wanted({"filter": "rank > 100 AND id LIKE 'p1%'", "filter-lang": "cql2-text"}))
        assert (found.found, found.token, found.matched) == ([], None, 0)
        page = asked.search(requests.wanted({"filter": "rank >= 0", "filter-lang": "cql2-text", "limit": 15, "sortby": ["id"]}))
        assert (len(page.found), page.matched) == (15, None)
        after = asked.search(
            requests.wanted({"filter": "rank >= 0", "filter-lang": "cql2-text", "limit": 15, "sortby": ["id"], "token": page.token})
        )
        names = [stored.product.product_id for stored in (*page.found, *after.found)]
        assert names == sorted(f"p{n}" for n in range(40))[:30]
