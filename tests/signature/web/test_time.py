"""A question that would keep the database busy for minutes is ended and said to be too slow; the server goes on."""

from __future__ import annotations

import itertools

import pytest
import sqlalchemy as sa
from earthself.signature.errors import OverTime
from earthself.signature.filters import Query
from earthself.signature.product import from_feature
from earthself.signature.rows import Stored, rows_of
from earthself.signature.scan import Search
from earthself.signature.testing import feature
from earthself.signature.web import requests
from earthself.signature.web.app import application
from earthself.signature.web.search import Products
from starlette.testclient import TestClient

ENDLESS = sa.text("(WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000000) SELECT count(*) FROM n) > 0")


@pytest.fixture
def store(open_store, tmp_path):
    made = open_store(tmp_path / "few")
    products = [from_feature(feature(f"p{n}", rank=n)) for n in range(3)]
    made.catalog.insert_new(rows_of([Stored(p, (), None, p.digest(), None) for p in products], products[0].creation_date))
    return made


def test_a_statement_ends_when_its_time_is_over_and_the_connection_goes_on(store):
    for _ in range(3):
        with pytest.raises(OverTime, match="narrow it by place, time or ids"):
            store.catalog.search(Search(Query(), 10, conditions=(ENDLESS,), seconds=0.1))
    assert len(store.catalog.search(Search(Query(), 10, seconds=60)).found) == 3
    assert len(store.catalog.search(Search(Query(), 10)).found) == 3


def test_checking_product_by_product_ends_when_its_time_is_over(store):
    asked = requests.wanted({"filter": "rank >= 0", "filter-lang": "cql2-text"})
    assert len(Products(store).search(asked).found) == 3
    with pytest.raises(OverTime, match="product by product"):
        Products(store, itertools.count(0, 15).__next__).search(asked)


def test_clients_are_told_so_with_504(store, monkeypatch):
    from earthself.signature.web import search

    monkeypatch.setattr(search, "_SECONDS", -1.0)
    with TestClient(application(store)) as client:
        answer = client.get("/search", params={"filter": "rank >= 0"})
        assert (answer.status_code, answer.json()["code"]) == (504, "OverTime")
        assert "retry-after" not in answer.headers
        assert client.get("/conformance").status_code == 200
