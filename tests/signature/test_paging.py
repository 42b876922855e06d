"""The client gives more products than one answer may have: each once, newest first, none lost, whatever happens in between."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from itertools import islice

import numpy as np
import pytest
from earthself.signature import services
from earthself.signature.client import SignatureClient, StoreBroken, Unavailable
from earthself.signature.lazy import pixels_of
from earthself.signature.rasters import Grid
from earthself.signature.store import Store
from earthself.signature.testing import feature, layers, running_server
from filled import fill
from public_server import public_server

GRID = Grid("EPSG:32633", (10.0, 0.0, 500000.0, 0.0, -10.0, 5400000.0), 8, 8)
CODES = np.full((8, 8), 311, "uint16")
RASTERS = layers(CODES, grid=GRID)
NUMBER = 1200
HERE = "POLYGON((14.9 48.7,15.1 48.7,15.1 48.8,14.9 48.8,14.9 48.7))"


def name(number):
    return f"S2A_{number:04}"


def said(number):
    """Every third has the date of another one, so that portions part between products of one instant."""
    when = datetime(2017, 1, 1, tzinfo=UTC) + timedelta(hours=number - number % 3)
    return feature(name(number), GRID, creation_date=when.strftime("%Y-%m-%dT%H:%M:%SZ"), model="baseline:1")


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """A server of 1,200 products."""
    home = tmp_path_factory.mktemp("full") / "home"
    fill(home, NUMBER, CODES, GRID, said)
    with running_server(home) as running:
        yield running


@pytest.fixture(scope="module")
def public(full):
    """A server of the public interface alone over the same products; gives its address."""
    store = Store(full.log.parent / "home")
    with public_server(store) as target:
        yield target
    store.close()


@pytest.fixture(params=["our server", "public interface alone"])
def pager(request, full, public):
    with SignatureClient(full.target if request.param == "our server" else public, timeout=30) as client:
        yield client


def test_twelve_hundred_come_once_each_and_newest_first(pager):
    seen = []
    for signature in pager.segmentations():
        seen.append((signature.feature["properties"]["creation_date"], signature.feature["id"]))
        assert signature.layers.keys() == {"segmentation", "cloud_mask"}
    assert len(seen) == NUMBER
    assert {one for _, one in seen} == {name(number) for number in range(NUMBER)}
    assert [when for when, _ in seen] == sorted((when for when, _ in seen), reverse=True)
    assert (pixels_of(signature.layers["segmentation"]) == CODES).all()


def test_filters_limits_and_ids_hold_over_all_portions(pager):
    dated = pager.segmentations(start="2017-01-02", end="2017-02-01", categories=[31], wkt=HERE)
    assert [one.feature["id"] for one in dated] == [name(n) for n in newest_first(range(24, 24 * 31))]
    assert [one.feature["id"] for one in pager.segmentations(limit=701)] == [name(n) for n in newest_first(range(NUMBER))[:701]]
    wanted = range(0, NUMBER, 2)
    found = pager.segmentations(product_ids=[*map(name, wanted), "nobody"])
    assert [one.feature["id"] for one in found] == [name(n) for n in newest_first(wanted)]
    assert list(pager.segmentations(categories=[512])) == []


def newest_first(numbers):
    return sorted(numbers, key=lambda number: (-(number - number % 3), number))


def test_features_are_as_whole_as_the_server_gives_them(full, public):
    with SignatureClient(full.target, timeout=30) as ours, SignatureClient(public, timeout=30) as theirs:
        (one,), (other,) = (list(client.segmentations(product_ids=[name(7)])) for client in (ours, theirs))
        assert one.feature == next(ours.find(product_ids=[name(7)]))
        assert one.feature["properties"]["model"] == "baseline:1"
        assert other.feature["properties"] == {key: value for key, value in one.feature["properties"].items() if key != "model"}


@pytest.fixture
def copied(full, tmp_path):
    """The same products in a store of its own, not served."""
    return shutil.copytree(full.log.parent / "home", tmp_path / "home", ignore=shutil.ignore_patterns("lock", "staging"))


def test_products_that_are_added_meanwhile_make_no_other_come_twice_or_get_lost(copied):
    with running_server(copied) as running, SignatureClient(running.target, timeout=30) as client:
        pages = client.segmentations()
        seen = [next(pages).feature["id"]]
        for number, when in enumerate(("2035-01-01T00:00:00Z", "2017-01-05T00:30:00Z", "2001-01-01T00:00:00Z")):
            client.create(feature(f"later{number}", GRID, creation_date=when), RASTERS)
            seen += [one.feature["id"] for one in islice(pages, 390)]
        seen += [one.feature["id"] for one in pages]
        assert [one for one in seen if one.startswith("S2A")] == [name(n) for n in newest_first(range(NUMBER))]
        assert len(set(seen)) == len(seen)


def test_a_server_that_restarts_in_between_is_asked_for_the_rest(tmp_path):
    fill(tmp_path / "home", 40)
    with running_server(tmp_path / "home") as first, SignatureClient(first.target, timeout=30) as client:
        pages = client.segmentations()
        seen = [one.feature["id"] for one in islice(pages, 5)]
        first.kill()
        client._rpc._sleep = lambda _seconds: None
        with running_server(tmp_path / "home", "--port", first.target.split(":")[1]):
            seen += [one.feature["id"] for one in pages]
        assert seen == [f"P{number:04}" for number in reversed(range(40))]


def test_a_server_that_stays_away_is_told(tmp_path):
    fill(tmp_path / "home", 40)  # of 300 kB each: more than a channel takes ahead
    with running_server(tmp_path / "home") as running, SignatureClient(running.target, timeout=30) as client:
        client._rpc._sleep = lambda _seconds: None
        pages = client.segmentations()
        next(pages)
        running.kill()
        with pytest.raises(Unavailable, match="does not answer"):
            list(pages)


def test_lost_rasters_are_told_after_all_other_products(copied):
    next((copied / "products").glob(f"*/{name(NUMBER - 1)}-*/segmentation.tif")).unlink()
    with running_server(copied) as running, SignatureClient(running.target, timeout=30) as client:
        seen = []
        with pytest.raises(StoreBroken, match="1 products are left out"):
            seen.extend(one.feature["id"] for one in client.segmentations())
        assert len(seen) == NUMBER - 1


class Repeating(services.V2):
    """Lists everything twice, as a catalogue that pages wrongly."""

    def ListProductIds(self, request):  # noqa: N802
        for answer in super().ListProductIds(request):
            yield answer
            yield answer


class Talkative(services.V1):
    """Answers with products that nobody asked for, and with some twice."""

    def ListSegmentation(self, request):  # noqa: N802
        first = None
        for answer in super().ListSegmentation(request):
            first = first or answer
            yield answer
            yield first


def test_a_server_that_repeats_itself_is_heard_once(full):
    store = Store(full.log.parent / "home")
    with public_server(store, Talkative, Repeating) as target, SignatureClient(target, timeout=30) as client:
        assert [one.feature["id"] for one in client.segmentations()] == [name(n) for n in newest_first(range(NUMBER))]
    store.close()
