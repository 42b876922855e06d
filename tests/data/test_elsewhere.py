"""The same observation from another provider: the very same, with all its ground, and with the reasons why."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
from earthself.data.query import SourceConfig
from earthself.data.retries import RetryPolicy
from earthself.data.sources import Left, Sources
from provider import Answer, Provider
from searches import name, request

DATATAKE = {"s2:datatake_id": "GS2A_20170613T101031_010324_N02.05", "sat:relative_orbit": 22, "grid:code": "MGRS-33UUP"}


@pytest.fixture
def other() -> Iterator[Provider]:
    with Provider() as served:
        yield served


@pytest.fixture
def both(provider: Provider, other: Provider) -> Iterator[Sources]:
    settings = provider.settings("first") + other.settings("second")
    config = SourceConfig(("first", "second"), provider_config=settings, attempts=1)
    with Sources(config, retries=RetryPolicy(1)) as made:
        yield made


def found(first: Provider, both: Sources, **changed: Any) -> dict[str, Any]:
    first.add_product(name(13), {"B04": b"-"})
    return both.search(request(**changed)).items[0]


def elsewhere(both: Sources, item: dict[str, Any]) -> tuple[list[dict[str, Any]], list[Left]]:
    left = [Left("first", "first is busy")]
    return list(both.elsewhere(item, left)), left


def test_the_observation_is_found_under_the_other_providers_name_for_it(provider: Provider, other: Provider, both: Sources) -> None:
    other.add_product("S2A_33UUP_20170613_0_L2A", {"B04": b"-"}, properties={"datetime": "2017-06-13T10:16:08Z", **DATATAKE})
    other.add_product("S2A_33UUP_20170613_1_L2A", {"B04": b"-"}, properties={"datetime": "2017-06-13T10:16:08Z"})
    other.add_product(name(13, tile="33UVP"), {"B04": b"-"})
    item = found(provider, both)
    (made,), _ = elsewhere(both, item)
    assert made["id"] == "S2A_33UUP_20170613_0_L2A"
    properties = made["properties"]
    assert properties["earthself:provider"] == "second"
    assert properties["earthself:observation"] == item["properties"]["earthself:observation"]
    assert properties["earthself:found_as"] == item["id"]
    assert properties["earthself:instead_of"] == [{"provider": "first", "error": "first is busy"}]
    assert made["assets"]["B04"]["href"].startswith(other.url)


def test_the_same_baseline_comes_before_a_newer_one(provider: Provider, other: Provider, both: Sources) -> None:
    for baseline in ("N0500", "N0205"):
        other.add_product(name(13, baseline=baseline), {"B04": b"-"})
    item = found(provider, both)
    (made,), _ = elsewhere(both, item)
    assert made["properties"]["earthself:baseline"] == "N0205"
    other.items = other.items[:1]
    (made,), _ = elsewhere(both, item)
    assert made["properties"]["earthself:baseline"] == "N0500"


def test_a_part_of_the_observation_is_not_taken_for_all_of_it(provider: Provider, other: Provider, both: Sources) -> None:
    item = found(provider, both)
    half = copy.deepcopy(item["geometry"])
    half["coordinates"][0][1][0] = half["coordinates"][0][2][0] = 16.5
    other.add_product(name(13), {"B04": b"-"}, geometry=half)
    made, left = elsewhere(both, item)
    assert made == []
    assert left[1] == Left("second", "second does not have the observation, or only a part of it")


def test_what_is_not_online_there_or_fails_there_is_said(provider: Provider, other: Provider, both: Sources) -> None:
    item = found(provider, both)
    other.add_product(name(13), {"B04": b"-"}, properties={"order:status": "orderable"})
    assert elsewhere(both, item)[0] == []
    other.search.always = Answer(504)
    made, left = elsewhere(both, item)
    assert made == []
    assert "second is busy or broken (504)" in left[1].error


def test_a_provider_that_was_asked_for_by_name_is_the_only_one(provider: Provider, other: Provider, both: Sources) -> None:
    other.add_product(name(13), {"B04": b"-"})
    assert elsewhere(both, found(provider, both, provider="first"))[0] == []
    assert other.requests == []


def test_what_was_not_found_at_a_configured_provider_is_not_looked_for(other: Provider, both: Sources) -> None:
    properties = {"earthself:provider": "sample", "datetime": "2017-06-13T10:10:31Z"}
    assert elsewhere(both, {"id": "P", "geometry": None, "properties": properties, "assets": {}})[0] == []
    assert other.requests == []
