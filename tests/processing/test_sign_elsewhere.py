"""`sign` where the provider of a product fails while it is read: the same observation from the next one, and what is said of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from earthself.data.area import Area
from earthself.data.manifest import inputs_of
from earthself.data.query import SearchRequest, SourceConfig
from earthself.data.sources import Sources
from earthself.processing.steps.sign import sign
from products import lonlat, pixels_area, run, scene, signatures
from provider import Answer, Change, Provider, Stall, raster_bytes

pytestmark = pytest.mark.usefixtures("brightest")

NAME = "S2A_MSIL2A_20170613T101031_N0205_R022_T33UUP_20170613T101608"
RESOLUTIONS = {"B04": 10, "B11": 20, "B09": 60, "SCL": 20}
DATATAKE = {"s2:datatake_id": "GS2A_20170613T101031_010324_N02.05", "sat:relative_orbit": 22, "grid:code": "MGRS-33UUP"}


@pytest.fixture
def providers():
    with Provider() as first, Provider() as second:
        yield first, second


@pytest.fixture
def found(providers, tmp_path, monkeypatch):
    """The input of `sign`: what a search finds at the first of two providers that hold the same product under two names."""
    first, second = providers
    files = {band: raster_bytes(array, resolution=RESOLUTIONS[band]) for band, array in scene(height=300, width=280).items()}
    footprint = lonlat(300_000, 5_400_000 - 3000, 300_000 + 2800, 5_400_000)
    first.add_product(NAME, files, properties={"s2:processing_baseline": "02.05"}, geometry=footprint)
    stated = {"datetime": "2017-06-13T10:16:08Z", "s2:processing_baseline": "02.05", **DATATAKE}
    second.add_product("S2A_33UUP_20170613_0_L2A", files, properties=stated, geometry=footprint)
    settings = first.settings("first") + second.settings("second")
    config = SourceConfig(("first", "second"), provider_config=settings, timeout=5, attempts=1, broker=str(tmp_path / "broker"))
    path = tmp_path / "sources.json"
    path.touch(mode=0o600)
    path.write_text(config.to_json())
    monkeypatch.setenv("EARTHSELF_SOURCES", str(path))
    area = Area.from_conf(pixels_area(20, 20, 100, 100))
    with Sources(config) as sources:
        items = sources.search(SearchRequest(area, "2017-06-01", "2017-07-01")).items
    folder = tmp_path / "found"
    folder.mkdir()
    (folder / "item.json").write_text(json.dumps(items[0]))
    links = [{"rel": "item", "href": "./item.json"}]
    catalog = {"type": "Catalog", "stac_version": "1.1.0", "id": "found", "description": "-", "links": links}
    (folder / "catalog.json").write_text(json.dumps(catalog))
    (folder / "area.geojson").write_text(json.dumps(area.geojson))
    return folder


def sign_it(folder: Path, out: Path) -> tuple[dict, dict]:
    """The result document, and the signatures by id."""
    code, result = run(sign, folder, out, "--model", "brightest", "--retries", "0")
    assert code == 0
    return result, signatures(out)


@pytest.mark.parametrize(
    ("fault", "why"),
    [(Answer(504), "answers 504"), (Answer(404), "any more"), (Answer(403), "refuses access"), (Change(b"<html>"), "is not a raster")],
    ids=["busy", "gone", "refused", "no raster"],
)
def test_the_next_provider_gives_the_observation_and_all_that_is_said(providers, found, tmp_path, fault, why):
    whole = sign_it(found, tmp_path / "whole")[1][NAME]
    providers[0].files[f"/{NAME}/B11.tif"].always = fault
    result, made = sign_it(found, tmp_path / "out")
    assert list(made) == ["S2A_33UUP_20170613_0_L2A"]
    properties = made["S2A_33UUP_20170613_0_L2A"].properties
    assert (properties["earthself:provider"], properties["earthself:found_as"]) == ("second", NAME)
    assert [each["provider"] for each in properties["earthself:instead_of"]] == ["first"]
    assert why in properties["earthself:instead_of"][0]["error"]
    assert result["warnings"] == ["products were taken from second because first failed; the manifest says which and why"]
    entries = inputs_of([made["S2A_33UUP_20170613_0_L2A"].to_dict()])
    assert {(each.provider, each.instead_of[0]["provider"]) for each in entries} == {("second", "first")}
    hashes = [
        {each["asset"]: each["sha256"] for each in item.properties["earthself:inputs"]} for item in (whole, next(iter(made.values())))
    ]
    assert hashes[0] == hashes[1]
    assert not any((tmp_path / "out").rglob("*.part*"))


def test_where_all_fail_each_ones_reason_is_named(providers, found, tmp_path):
    for provider in providers:
        for file in provider.files.values():
            file.always = Answer(503)
    code, result = run(sign, found, tmp_path / "out", "--model", "brightest", "--retries", "0")
    (failure,) = json.loads((tmp_path / "out" / "failures.json").read_text())
    assert (code, result["status"], failure["id"], failure["retry"]) == (0, "nothing", NAME, True)
    assert "first is busy or broken" in failure["error"]
    assert "(the other providers failed too: second is busy or broken" in failure["error"]


def test_a_provider_that_is_left_alone_costs_no_time(providers, found, tmp_path):
    from earthself.data.broker import Account, LocalBroker
    from earthself.data.broker.breaker import FAILURES

    for _ in range(FAILURES):
        LocalBroker(tmp_path / "broker").answered(Account("first"), 0)
    providers[0].requests.clear()
    for file in providers[0].files.values():
        file.always = Stall()
    _, made = sign_it(found, tmp_path / "out")
    reason = made["S2A_33UUP_20170613_0_L2A"].properties["earthself:instead_of"][0]["error"]
    assert "first is left alone" in reason
    assert providers[0].requests == []
