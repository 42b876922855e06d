"""Catalogues and orders of a provider on loopback that is as late and as bad as it is told, asked by EODAG."""

from __future__ import annotations

import itertools
import sys
import time
from pathlib import Path

import pytest
from earthself.benchmark.probes import catalogue, probes
from earthself.benchmark.probing import Probe, Run, Setting
from earthself.benchmark.samples import FAILED
from earthself.data.query import SourceConfig

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
from archive_desk import Desk
from provider import Answer, Provider

JUNE = "2017-06-01/2017-07-01"


@pytest.fixture
def provider():
    with Provider() as served:
        for day in range(1, 31):
            name = f"S2A_MSIL2A_201706{day:02d}T101031_N0205_R022_T33UUP_201706{day:02d}T101608"
            served.add_product(name, properties={"datetime": f"2017-06-{day:02d}T10:10:31Z"})
        yield served


@pytest.fixture
def desk(provider):
    made = Desk()
    made.serve(provider)
    return made


@pytest.fixture
def measure(provider, desk, tmp_path, monkeypatch):
    sources = tmp_path / "sources.json"
    sources.touch(mode=0o600)
    sources.write_text(SourceConfig(("near",), provider_config=provider.settings("near", desk.settings(provider)), timeout=5).to_json())
    monkeypatch.setenv("EARTHSELF_SOURCES", str(sources))

    def run(probe: str | Probe, **changes) -> dict[str, float | str]:
        setting = Setting(tmp_path, **({"provider": "near", "area": "16.1,48.1,16.3,48.3", "period": JUNE} | changes))
        found = list(Run({}, setting, 1).samples(probes([probe]) if isinstance(probe, str) else [probe]))
        return {sample.metric: sample.labels["error"] if sample.metric == FAILED else sample.value for sample in found}

    return run


def late(provider, seconds: float, each: int = 1):
    """Let each so many-th search wait."""
    count = itertools.count(1)

    def guard(_path, _headers):
        time.sleep(seconds if next(count) % each == 0 else 0)

    provider.guard = guard


def test_delay_comes_out_as_it_was_put_in(measure, provider):
    without = measure("catalogue_search")
    assert set(without) == {"p50", "p95", "found", "failed_searches"}
    assert 4 <= without["found"] <= 7, "a fifth of thirty days"
    assert without["failed_searches"] == 0
    late(provider, 0.3)
    found = measure("catalogue_search")
    assert 300 <= found["p50"] <= 300 + without["p50"] + 250
    assert 300 <= found["p95"] <= 300 + without["p95"] + 500


def test_searches_that_are_late_now_and_then_are_seen_at_the_end_only(measure, provider):
    late(provider, 0.8, each=10)
    found = measure("catalogue_search")
    assert found["p50"] < 800 <= found["p95"] <= 800 + 2 * found["p50"] + 500


def test_each_search_asks_for_another_part_of_the_period(measure, provider):
    measure("catalogue_search")
    asked = [request.body["datetime"] for request in provider.requests if request.path == "/search"]
    assert len(set(asked)) == len(asked) == 20
    assert all("2017-06-01" <= part[:10] <= "2017-06-25" for part in asked)


def test_failures_come_out_as_they_were_put_in(measure, provider):
    provider.search.faults = [None, None, None, Answer(503)] * 5
    found = measure("catalogue_search")
    assert found["failed_searches"] == 25
    assert found["p50"] > 0


def test_a_catalogue_that_never_answers_or_lets_nobody_in_leaves_why(measure, provider):
    provider.search.always = Answer(503)
    assert "503" in measure("catalogue_search")[FAILED]
    provider.requests.clear()
    provider.search.always = Answer(403)
    assert "refuses the login" in measure("catalogue_search")[FAILED]
    assert len(provider.requests) == 1, "no other one would be let in either"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"area": None}, "--provider NAME --area WEST,SOUTH,EAST,NORTH --period FIRST/LAST"),
        ({"area": "here"}, "'here' is not west,south,east,north"),
        ({"area": "48,16,500,17"}, "500"),
        ({"period": "2017-06-01"}, "is not a date"),
        ({"period": "2016-06-01/2016-07-01"}, "name a"),
        ({"provider": "nobody"}, "nobody"),
        ({"collection": "S1_SAR_GRD"}, "near does not offer S1_SAR_GRD"),
    ],
)
@pytest.mark.parametrize("name", ["catalogue_search", "products_online"])
def test_what_cannot_be_searched_says_why(measure, name, change, says):
    assert says in measure(name, **change)[FAILED]


def offline(provider, *numbers: int) -> list[str]:
    """Let products be offline, which the archive's desk takes orders for."""
    names = []
    for number in numbers:
        item = provider.items[number]
        name = item["id"]
        item["properties"] |= {"order:status": "orderable", "earthself:order_link": f'{provider.url}/order?{{"id": "{name}"}}'}
        item["assets"] = {"product": {"href": f"{provider.url}/archive/{name}.zip", "type": "application/zip"}}
        names.append(name)
    return names


def test_what_is_online_is_counted(measure, provider):
    offline(provider, *range(12))
    provider.items[12]["properties"]["order:status"] = "succeeded"
    assert measure("products_online") == {"online": 60, "products": 30}


class Time:
    """A clock that goes on when somebody waits, and does what was to be done by then."""

    def __init__(self) -> None:
        self.now = 0.0
        self.later: list[tuple[float, object]] = []

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        for due in [one for one in self.later if one[0] <= self.now]:
            self.later.remove(due)
            due[1]()


@pytest.fixture
def clock():
    return Time()


@pytest.fixture
def staging(clock):
    (probe,) = probes(["staging"])
    return Probe(probe.name, probe.about, probe.measures, catalogue.Orders(lambda: clock.now, clock.sleep).once)


@pytest.mark.parametrize("seconds", [0.5, 90, 4000])
def test_a_staging_delay_comes_out_as_it_was_put_in(measure, desk, staging, clock, seconds):
    *_, newest = offline(desk.provider, 3, 7)
    clock.later.append((seconds, lambda: desk.stage(newest, b"")))
    assert seconds <= measure(staging, order_minutes=120)["delay"] <= max(1, 1.06 * seconds)
    assert desk.orders == [newest]


def test_each_repeat_orders_another_product(measure, provider, desk, staging, clock):
    older, newer = offline(provider, 3, 7)
    for name in (newer, older):
        clock.later.append((clock.now + 30, lambda name=name: desk.stage(name, b"")))
        assert 30 <= measure(staging, order_minutes=10)["delay"] <= 32
    assert desk.orders == [newer, older]
    assert "none of 30 products of near is offline and not ordered yet" in measure(staging, order_minutes=10)[FAILED]


def test_an_order_that_takes_too_long_is_given_up(measure, provider, staging, clock):
    offline(provider, 3)
    assert "was not online 5 minutes after it was ordered" in measure(staging, order_minutes=5)[FAILED]
    assert clock.now == 300


def test_a_question_that_fails_says_nothing_of_the_order(measure, provider, desk, staging, clock):
    (name,) = offline(provider, 3)
    clock.later.append((10, lambda: provider.files[f"/orders/{name}"].faults.append(Answer(503))))
    clock.later.append((20, lambda: desk.stage(name, b"")))
    assert 20 <= measure(staging, order_minutes=5)["delay"] <= 21


def test_nothing_is_ordered_unless_it_is_asked_for(measure, provider, desk, staging):
    offline(provider, 3)
    assert "nothing is ordered unless it is asked for" in measure(staging)[FAILED]
    (probe,) = probes(["staging"])
    assert not probe.fits(Setting(Path(), provider="near", area="1,2,3,4", period=JUNE))
    assert desk.orders == []
