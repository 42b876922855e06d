"""The sample provider as programs see it: STAC API answers, paging, ranges, refusals - and EODAG itself over a real socket."""

from __future__ import annotations

import httpx
import pytest
import rasterio
from earthself.local.home import Home
from earthself.local.sample import COLLECTION, DATA
from earthself.local.settings import Settings
from earthself.local.sources import eodag_connection

SALZACH = [12.85, 47.96, 12.88, 47.98]


def ids(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [feature["id"][-5:] for feature in answer.json()["features"]]


def test_a_search_without_conditions_gives_all_five(provider: httpx.Client) -> None:
    assert ids(provider.get("/search")) == ids(provider.post("/search", json={})) == ["P2655", "P3369", "P3787", "P3858", "P7040"]


def test_bbox_and_intersects_look_at_the_true_footprint(provider: httpx.Client) -> None:
    empty_corner = [12.733, 48.12, 12.745, 48.136]  # inside the box of P2655, where no patch is
    assert ids(provider.post("/search", json={"bbox": empty_corner})) == []
    assert ids(provider.post("/search", json={"bbox": SALZACH})) == ["P3369"]
    point = {"type": "Point", "coordinates": [12.76, 48.10]}
    assert ids(provider.post("/search", json={"intersects": point})) == ["P2655"]
    west, south, east, north = SALZACH
    assert ids(provider.get("/search", params={"bbox": f"{west},{south},{east},{north}"})) == ["P3369"]


def test_a_box_over_the_antimeridian_is_two_boxes(provider: httpx.Client) -> None:
    assert ids(provider.post("/search", json={"bbox": [170, 40, -170, 50]})) == []
    assert len(ids(provider.post("/search", json={"bbox": [10, 40, -170, 50]}))) == 5


@pytest.mark.parametrize(
    ("interval", "found"),
    [
        ("2017-06-13T00:00:00Z/2017-06-14T00:00:00Z", 5),
        ("2017-06-13T10:10:31Z", 5),
        ("../2017-06-13T10:10:30Z", 0),
        ("2017-06-13T10:10:32Z/..", 0),
        ("2017-06-13/2017-06-14", 5),
    ],
)
def test_datetime_is_an_instant_or_an_interval_open_at_either_end(provider: httpx.Client, interval: str, found: int) -> None:
    assert len(ids(provider.post("/search", json={"datetime": interval}))) == found


def test_the_query_extension_compares_properties(provider: httpx.Client) -> None:
    def search(**query: dict) -> list[str]:
        return ids(provider.post("/search", json={"query": query}))

    assert search(**{"eo:cloud_cover": {"lte": 60}}) == ["P2655", "P3369", "P3787"]
    assert search(**{"eo:cloud_cover": {"gt": 0, "lt": 100}}) == ["P3787"]
    assert search(**{"earthself:part": {"in": ["P3858", "P7040"]}}) == ["P3858", "P7040"]
    assert search(**{"no:such": {"eq": 1}}) == []
    assert search(platform={"lte": 5}) == [], "a text and a number have no order"


def test_pages_join_up_without_gaps_or_repeats_by_get_and_post(provider: httpx.Client) -> None:
    answer = provider.post("/search", json={"limit": 2}).json()
    seen = [feature["id"] for feature in answer["features"]]
    assert (answer["numberMatched"], answer["numberReturned"]) == (5, 2)
    while following := [link for link in answer["links"] if link["rel"] == "next"]:
        answer = provider.post(following[0]["href"], json=following[0]["body"]).json()
        seen += [feature["id"] for feature in answer["features"]]
    assert len(seen) == len(set(seen)) == 5

    answer = provider.get("/search", params={"limit": 3}).json()
    (following,) = [link for link in answer["links"] if link["rel"] == "next"]
    assert [f["id"] for f in answer["features"] + provider.get(following["href"]).json()["features"]] == seen


@pytest.mark.parametrize(
    "body",
    [
        {"limit": 0},
        {"limit": 100000},
        {"limit": "many"},
        {"token": "-1"},
        {"bbox": [1, 2, 3]},
        {"bbox": [1, 2, 3, 4], "intersects": {"type": "Point", "coordinates": [0, 0]}},
        {"intersects": {"type": "Nonsense"}},
        {"datetime": "yesterday"},
        {"query": {"eo:cloud_cover": {"about": 5}}},
        {"query": [1]},
        {"query": {"eo:cloud_cover": 5}},
    ],
)
def test_a_search_that_makes_no_sense_is_refused_with_the_reason(provider: httpx.Client, body: dict) -> None:
    answer = provider.post("/search", json=body)
    assert answer.status_code == 400
    assert answer.json()["description"]


def test_unknown_things_are_404_and_nothing_outside_the_sample_is_served(provider: httpx.Client) -> None:
    for path in (
        "/collections/nothing",
        f"/collections/{COLLECTION}/items/nothing",
        "/assets/nothing.tif",
        "/assets/..%2f__init__.py",
        "/assets/%2fetc/passwd",
    ):
        assert provider.get(path).status_code == 404, path
    assert provider.post("/search", content=b"{").status_code == 400


def test_links_lead_to_the_same_items_and_to_rasters_with_ranges(provider: httpx.Client) -> None:
    item = provider.get(f"/collections/{COLLECTION}/items", params={"limit": 1}).json()["features"][0]
    (itself,) = [link["href"] for link in item["links"] if link["rel"] == "self"]
    assert provider.get(itself).json() == item
    whole = provider.get(item["assets"]["B02"]["href"])
    part = provider.get(item["assets"]["B02"]["href"], headers={"Range": "bytes=100-199"})
    assert part.status_code == 206
    assert part.headers["content-range"] == f"bytes 100-199/{item['assets']['B02']['file:size']}"
    assert part.content == whole.content[100:200]
    assert provider.get("/collections").json()["collections"][0]["id"] == COLLECTION
    assert "item-search" in " ".join(provider.get("/").json()["conformsTo"])


def test_eodag_searches_and_downloads_it_like_any_provider(served: str, tmp_path, monkeypatch) -> None:
    for name in ("HOME", "EODAG_CFG_DIR"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv("EODAG_STRICT_COLLECTIONS", "true")
    from eodag import EODataAccessGateway

    port = int(served.rsplit(":", 1)[1])
    connection = eodag_connection(Settings(tmp_path, sample_port=port), Home(tmp_path))
    gateway = EODataAccessGateway()
    gateway.update_providers_config(connection["extra"]["provider_config"])
    where = {"lonmin": 12.7, "latmin": 47.9, "lonmax": 12.9, "latmax": 48.2}
    found = gateway.search(
        provider="sample",
        collection="S2_MSI_L2A",
        geom=where,
        start="2017-06-13",
        end="2017-06-14",
        count=True,
        raise_errors=True,
        **{"eo:cloud_cover": 60},
    )
    assert [product.properties["id"][-5:] for product in found] == ["P2655", "P3369"]
    assert found.number_matched == 2
    product = found[1]
    assert product.properties["earthself:part"] == "P3369"
    folder = product.download(output_dir=str(tmp_path / "out"), asset=r"B0[23]")
    downloaded = sorted((tmp_path / "out").rglob("*.tif"))
    assert [path.name for path in downloaded] == ["B02.tif", "B03.tif"], folder
    assert downloaded[0].read_bytes() == (DATA / product.properties["id"] / "B02.tif").read_bytes()
    with rasterio.open(downloaded[1]) as raster:
        assert raster.shape == (360, 360)
