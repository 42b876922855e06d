"""Searching through EODAG: pages, the period, superseded copies, real items, counting, settings."""

from __future__ import annotations

import base64
import json
import logging
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from earthself.data.area import Area
from earthself.data.errors import BadInput, CredentialsRefused, NotThere, TryAgain
from earthself.data.query import SearchRequest, SourceConfig
from earthself.data.radiometry import resolve_offset
from earthself.data.sources import Sources
from provider import Answer, Provider
from searches import Make, add, name, request


def test_products_come_newest_first_in_the_projects_form(provider: Provider, sources: Make) -> None:
    names = [add(provider, day) for day in (3, 13, 8)]
    found = sources().search(request())
    assert [i["id"] for i in found.items] == [names[1], names[2], names[0]]
    assert (found.provider, found.number_matched, found.superseded, found.warnings) == ("hostile", 3, [], [])
    properties = found.items[0]["properties"]
    assert properties["earthself:observation"] == "S2A_33UUP_20170613T101031_R022"
    assert properties["earthself:baseline"] == "N0205"
    assert properties["earthself:provider"] == "hostile"
    assert properties["earthself:collection"] == "S2_MSI_L2A"
    assert properties["earthself:access"] == "open"
    assert properties["eo:cloud_cover"] == 5.0


def test_all_pages_are_read_and_n_products_do_not_cost_n_requests(provider: Provider, sources: Make) -> None:
    tiles = [f"{zone:02d}UUP" for zone in range(1, 61)]
    for tile in tiles:
        for day in range(1, 11):
            add(provider, day, tile=tile)
    found = sources().search(request())
    assert len(found.items) == len({i["id"] for i in found.items}) == 600
    assert found.number_matched == 600
    assert len(provider.requests) == 3


def test_a_server_that_caps_its_pages_is_read_to_the_end(provider: Provider, sources: Make) -> None:
    provider.page_cap = 7
    for day in range(1, 30):
        add(provider, day)
    assert len(sources().search(request()).items) == 29


def test_a_limit_stops_the_paging_and_says_so(provider: Provider, sources: Make) -> None:
    provider.page_cap = 7
    for day in range(1, 30):
        add(provider, day)
    found = sources().search(request(limit=10))
    assert len(found.items) == 10
    assert found.number_matched == 29
    assert any("29 products; only 10 are given" in w for w in found.warnings)
    assert len(provider.requests) <= 4


def test_the_end_of_the_period_is_not_part_of_it(provider: Provider, sources: Make) -> None:
    first, _last = add(provider, 13, "00:00:00"), add(provider, 14, "00:00:00")
    found = sources().search(request(start="2017-06-13", end="2017-06-14"))
    assert [i["id"] for i in found.items] == [first]


def test_clouds_and_places_are_filtered_by_the_provider(provider: Provider, sources: Make) -> None:
    clear = add(provider, 3)
    provider.add_product(name(4), properties={"datetime": "2017-06-04T10:10:31Z", "eo:cloud_cover": 61.0})
    far = {"type": "Polygon", "coordinates": [[[100, 0], [101, 0], [101, 1], [100, 0]]]}
    provider.add_product(name(5), geometry=far, properties={"datetime": "2017-06-05T10:10:31Z"})
    assert [i["id"] for i in sources().search(request()).items] == [clear]
    assert len(sources().search(request(max_cloud_cover=None)).items) == 2
    body = provider.requests[0].body
    assert body["query"] == {"eo:cloud_cover": {"lte": 60.0}}
    assert body["collections"] == ["sentinel-2-l2a"]


@pytest.mark.parametrize("counts", [True, False])
def test_pages_are_followed_past_short_and_empty_ones(provider: Provider, sources: Make, counts: bool) -> None:
    provider.page_cap, provider.counts, provider.gaps = 7, counts, {7, 21}
    for day in range(1, 30):
        add(provider, day)
    found = sources().search(request())
    assert (len(found.items), found.warnings) == (29, [])
    provider.gaps = {0}
    assert len(sources().search(request()).items) == 29


def test_a_provider_that_links_on_after_the_last_product_is_read_to_the_end(provider: Provider, sources: Make) -> None:
    add(provider, 13)
    onward = {"rel": "next", "method": "POST", "href": "x", "body": {"token": "1"}}
    first = provider.find({}, 0) | {"links": [onward]}
    provider.documents = [first, {**first, "features": []}]
    found = sources().search(request())
    assert (len(found.items), found.warnings, len(provider.requests)) == (1, [], 2)


def test_what_was_not_asked_for_is_left_out_and_said(provider: Provider, sources: Make) -> None:
    provider.filters = False
    wanted, unsaid = add(provider, 3), add(provider, 6)
    del provider.items[1]["properties"]["eo:cloud_cover"]
    provider.add_product(name(4), properties={"datetime": "2017-06-04T10:10:31Z", "eo:cloud_cover": 95.0})
    far = {"type": "Polygon", "coordinates": [[[100, 0], [101, 0], [101, 1], [100, 0]]]}
    provider.add_product(name(5), geometry=far, properties={"datetime": "2017-06-05T10:10:31Z"})
    found = sources().search(request(max_cloud_cover=20))
    assert [i["id"] for i in found.items] == [unsaid, wanted]
    assert found.warnings == ["hostile gave 2 products outside the area or above the cloud limit; they are left out"]
    assert len(sources().search(request(max_cloud_cover=None)).items) == 3


def test_an_area_over_the_antimeridian_is_asked_for_on_both_sides(provider: Provider, sources: Make) -> None:
    sides = [[[[w, 0], [w + 1, 0], [w + 1, 1], [w, 1], [w, 0]]] for w in (178.5, -179.5)]
    for day, ring in enumerate(sides, 3):
        provider.add_product(
            name(day), geometry={"type": "Polygon", "coordinates": ring}, properties={"datetime": f"2017-06-0{day}T10:10:31Z"}
        )
    found = sources().search(request(area=Area.from_conf([179, 0.2, -179, 0.4])))
    assert len(found.items) == 2


def test_copies_are_set_aside_and_listed(provider: Provider, sources: Make) -> None:
    old, new = add(provider, 13), add(provider, 13, baseline="N0510", made="20230601T000000")
    other = add(provider, 3)
    found = sources().search(request())
    assert [i["id"] for i in found.items] == [new, other]
    assert [i["id"] for i in found.superseded] == [old]
    assert any("1 older copies" in w for w in found.warnings)
    assert any("N0205 (1), N0510 (1)" in w for w in found.warnings)


def test_an_older_copy_stays_for_the_ground_that_the_newer_does_not_show(provider: Provider, sources: Make) -> None:
    old, new = add(provider, 13), add(provider, 13, baseline="N0510", made="20230601T000000")
    provider.items[1]["geometry"]["coordinates"] = [[[16, 48], [16.2, 48], [16.2, 49], [16, 49], [16, 48]]]
    found = sources().search(request())
    assert ({i["id"] for i in found.items}, found.superseded) == ({old, new}, [])
    assert any(
        f"beside a newer processing of the same observation, which does not show all their ground, such as {old};" in w
        for w in found.warnings
    )
    assert any("N0205 (1), N0510 (1)" in w for w in found.warnings)
    within = sources().search(request(area=Area.from_conf([16.05, 48.1, 16.15, 48.3])))
    assert [i["id"] for i in within.items] == [new]


def test_parts_of_a_tile_are_all_found(provider: Provider, sources: Make) -> None:
    for part in ("26_57", "27_55"):
        provider.add_product(f"S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_{part}")
    assert len(sources().search(request()).items) == 2


def test_texts_that_look_like_numbers_stay_texts(provider: Provider, sources: Make) -> None:
    stated = {"earthself:part": "26_57", "processing:version": "05.00", "a:b": "007", "a:c": "1e5", "a:d": {"e": "01.20"}, "a:f": False}
    provider.add_product(name(13), properties=stated)
    properties = sources().search(request()).items[0]["properties"]
    assert {key: properties[key] for key in stated} == stated
    assert properties["earthself:observation"].endswith("_R022_26_57")


def test_products_that_do_not_say_what_they_are_are_left_out_and_counted(provider: Provider, sources: Make) -> None:
    add(provider, 13)
    provider.add_product("mystery", properties={"platform": None})
    found = sources().search(request())
    assert len(found.items) == 1
    assert any("1 products of hostile do not say" in w for w in found.warnings)


def test_products_that_are_not_online_are_named(provider: Provider, sources: Make) -> None:
    add(provider, 13)
    products = "    S2_MSI_L2A:\n      _collection: sentinel-2-l2a\n"
    status = """      metadata_mapping:\n        order:status: '{$.null#replace_str("Not Available","orderable")}'\n"""
    settings = provider.settings("hostile").replace(products, products + status)
    with Sources(SourceConfig(("hostile",), provider_config=settings)) as made:
        found = made.search(request())
        assert any("not online at hostile" in w for w in found.warnings)
        found.items[0]["assets"]["B04"] = {"href": f"{provider.url}/x.tif"}
        with pytest.raises(TryAgain, match="is not online at hostile \\(orderable\\)"):
            made.open_band(found.items[0], "B04")


def test_nothing_found_is_an_answer(sources: Make) -> None:
    found = sources().search(request())
    assert (found.items, found.number_matched, found.provider) == ([], 0, "hostile")


def test_the_bundled_providers_offer_sentinel_2_without_credentials() -> None:
    from earthself.data.catalogue import Catalogue

    catalogue = Catalogue(SourceConfig())
    assert all(catalogue.offers(each, "S2_MSI_L2A") for each in (*SourceConfig().providers, "cop_dataspace"))
    assert not catalogue.needs_login("earth_search", ["https://sentinel-cogs.s3.us-west-2.amazonaws.com/a/B04.tif"])
    assert catalogue.needs_login("planetary_computer", ["https://sentinel2l2a01.blob.core.windows.net/a/B04.tif"])


def moved_here(provider: Provider, name: str) -> SourceConfig:
    """A bundled provider whose catalogue is served by ours."""
    return SourceConfig((name,), f"{name}:\n  search:\n    api_endpoint: {provider.url}/search\n")


def test_a_real_item_of_earth_search_is_read_in_the_open_over_https(provider: Provider, shared: Path) -> None:
    document = json.loads((shared / "stac_items" / "S2A_28QCH_20200714_0_L2A.json").read_text())
    provider.items = [document]
    wanted = SearchRequest(Area.from_conf([-16.9, 20.1, -16.8, 20.2]), "2020-07-14", "2020-07-15")
    with Sources(moved_here(provider, "earth_search")) as made:
        found = made.search(wanted)
        assert found.provider == "earth_search"
        item = found.items[0]
        assert item["properties"]["earthself:observation"] == "S2A_28QCH_20200714T115221_R123"
        assert item["properties"]["earthself:baseline"] == "N0214"
        assert item["properties"]["earthself:access"] == "open"
        assert item["assets"]["B8A"]["href"] == document["assets"]["B8A"]["href"]
        assert [a for a in item["assets"] if a in ("B02", "B03", "B04", "B08", "SCL")] == ["B02", "B03", "B04", "B08", "SCL"]
        assert provider.requests[0].body["collections"] == ["sentinel-2-l2a"]
        assert resolve_offset(item).value == 0


def test_the_pages_of_earth_search_are_counted(provider: Provider) -> None:
    for tile in range(1, 61):
        for day in range(1, 11):
            add(provider, day, tile=f"{tile:02d}UUP")
    with Sources(moved_here(provider, "earth_search")) as made:
        assert len(made.search(request()).items) == 600
    assert [r.body.get("page") for r in provider.requests] == ["1", "2", "3"]


def test_a_real_item_of_the_planetary_computer_needs_its_token(provider: Provider, shared: Path) -> None:
    name = "S2B_MSIL2A_20190629T212529_R043_T06VVN_20201006T080531"
    provider.items = [json.loads((shared / "stac_items" / f"{name}_raster_ext.json").read_text())]
    provider.counts = False
    wanted = SearchRequest(Area.from_conf([-148.5, 60.5, -148, 61]), "2019-06-29", "2019-06-30")
    with Sources(moved_here(provider, "planetary_computer")) as made:
        found = made.search(wanted)
        item = found.items[0]
        assert (item["id"], found.number_matched) == (name, None)
        assert item["properties"]["earthself:access"] == "login"
        assert item["properties"]["s2:processing_baseline"] == "02.12"
        assert item["assets"]["SCL"]["href"].endswith("_SCL_20m.tif")
        assert made.count(wanted).products == 1


def test_counting_asks_once_and_estimates_the_areas_share(provider: Provider, sources: Make) -> None:
    for day in range(1, 31):
        item = provider.add_product(name(day), properties={"datetime": f"2017-06-{day:02d}T10:10:31Z"})
        item["assets"] = {band: {"href": f"{provider.url}/{band}.tif", "file:size": 50_000_000} for band in ("B02", "B04")}
    counted = sources().count(request(area=Area.from_conf([16, 48, 16.5, 48.5])))
    assert counted.products == 30
    assert counted.estimated_bytes == pytest.approx(30 * 2 * 50_000_000 / 4, rel=0.01)
    quarter = Area.from_conf([16, 48, 16.5, 48.5]).geodesic_m2
    assert quarter < counted.window_m2 < 1.2 * quarter, "with half a block of 512 pixels on the sides where the product goes on"
    assert len(provider.requests) == 1
    provider.counts = False
    assert sources().count(request()).products == 30


def test_counting_without_sizes_takes_a_typical_product(provider: Provider, sources: Make) -> None:
    add(provider, 13)
    counted = sources().count(request(area=Area.from_conf([16, 48, 17, 49])))
    assert 100_000_000 < counted.estimated_bytes < 1_500_000_000
    assert sources().count(request(start="2016-01-01", end="2016-01-02")).estimated_bytes == 0


def test_eodag_keeps_out_of_the_users_home(provider: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("EODAG_CFG_DIR", raising=False)
    add(provider, 13)
    config = SourceConfig(("hostile",), provider.settings("hostile"))
    with Sources(config) as made:
        assert len(made.search(request()).items) == 1
    assert not (tmp_path / "home").exists()
    monkeypatch.setenv("EODAG_CFG_DIR", str(tmp_path / "own"))
    with Sources(config) as made:
        assert len(made.search(request()).items) == 1
    assert (tmp_path / "own" / "eodag.yml").exists()


def test_credentials_are_sent_and_never_said(
    provider: Provider, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    add(provider, 13)
    settings = provider.settings("hostile", "  search_auth:\n    type: GenericAuth\n").replace("need_auth: false", "need_auth: true")
    config = SourceConfig(("hostile",), settings, {"hostile": {"username": "someone", "password": "pa55word-of-someone"}}, attempts=1)
    with Sources(config) as made:
        assert len(made.search(request()).items) == 1
        sent = provider.requests[-1].headers["Authorization"]
        assert sent == f"Basic {base64.b64encode(b'someone:pa55word-of-someone').decode()}"
        provider.search.always = Answer(403)
        with pytest.raises(CredentialsRefused) as caught:
            made.search(request())
    said = str(caught.value) + repr(config) + caplog.text + "".join(capfd.readouterr())
    assert "pa55word" not in said
    assert sent.removeprefix("Basic ") not in said
    assert "pa55word" in config.to_json()


def test_settings_travel_in_a_file_that_only_the_owner_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = SourceConfig(("a", "b"), "a: {}", {"a": {"apikey": "k"}}, timeout=5, attempts=2)
    assert SourceConfig.from_json(config.to_json()) == config
    path = tmp_path / "sources.json"
    path.write_text(config.to_json())
    monkeypatch.setenv("EARTHSELF_SOURCES", str(path))
    path.chmod(0o644)
    with pytest.raises(BadInput, match="chmod 600"):
        SourceConfig.from_env()
    path.chmod(0o600)
    assert SourceConfig.from_env() == config
    path.unlink()
    with pytest.raises(NotThere, match="unset it"):
        SourceConfig.from_env()
    monkeypatch.delenv("EARTHSELF_SOURCES")
    assert SourceConfig.from_env() == SourceConfig()
    for broken in ("{", "[]", '{"providers": "earth_search"}', '{"credentials": {"a": "secret"}}'):
        with pytest.raises(BadInput) as caught:
            SourceConfig.from_json(broken)
        assert "secret" not in str(caught.value)


def test_a_request_is_checked_where_it_is_made() -> None:
    made = SearchRequest.from_conf({"area": [16, 48, 17, 49], "start": "2017-06-13", "end": "2017-06-14T12:00:00+02:00"})
    assert made.start == datetime(2017, 6, 13, tzinfo=UTC)
    assert made.end == datetime(2017, 6, 14, 10, tzinfo=UTC)
    assert (made.collection, made.provider, made.max_cloud_cover) == ("S2_MSI_L2A", None, 60)
    good = {"area": [16, 48, 17, 49], "start": "2017-06-13", "end": "2017-06-14"}
    for change, said in (
        ({"area": None}, "lacks area"),
        ({"end": "2017-06-13"}, "is empty"),
        ({"max_cloud_cover": 101}, "not a percentage"),
        ({"max_cloud_cover": "60"}, "not a percentage"),
        ({"max_cloud_cover": float("nan")}, "not a percentage"),
    ):
        with pytest.raises(BadInput, match=said):
            SearchRequest.from_conf({**good, **change})
    with pytest.raises(BadInput, match="at least 1"):
        SearchRequest.from_conf(good, limit=0)


def test_nothing_heavy_is_loaded_before_it_is_needed() -> None:
    import subprocess
    import sys

    heavy = ("eodag", "rasterio", "httpx", "requests", "xarray")
    code = f"import sys, earthself.data.sources, earthself.data.workspace; print([m for m in {heavy} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ))
    assert out.stdout.strip() == "[]"
