"""The same memory on PostgreSQL: the whole way of a product, and runs that claim at the same moment."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from earthself.data.area import Area
from earthself.operators.why import why
from earthself.signature.testing_postgres import Cluster
from earthself.triggers import EODAGNewProductsTrigger
from earthself.triggers.freshness import check, freshness
from earthself.triggers.memory import Budget, Memory, Run
from watched import AREA


@pytest.fixture(scope="module")
def server(cluster: Cluster) -> str:
    return cluster.new_database().replace("postgresql://", "postgresql+psycopg://")


@pytest.fixture(autouse=True)
def database(server: str, home, monkeypatch) -> None:
    monkeypatch.setenv("EARTHSELF_DATABASE_URL", server)


def test_the_way_of_a_product(rounds, publish, clock) -> None:
    name, trigger, loop = publish("2024-06-01"), EODAGNewProductsTrigger(area=AREA, name="w"), rounds()
    clock.advance(hours=11)
    events = loop.go([trigger])
    assert [event["products"] for event in events] == [[name]]
    loop.announced(events)
    run = Run("d", "r")
    with Memory() as memory:
        assert [item["id"] for item in memory.claim(["w"], run, Budget(), clock())] == [name]
        memory.stored(run, name, clock(), clock.advance(minutes=5))
        day = datetime(2024, 6, 1, tzinfo=UTC)
        (reason,) = why(memory, Area.from_conf(AREA), (day, day + timedelta(days=1)), clock()).reasons
        assert (reason.verdict, reason.acquired) == ("stored", "2024-06-01T10:10:31Z")
        assert freshness(memory, clock(), names=["w"])[0].acquisitions == (), "it was sensed before the watch began"
        assert check(memory, clock(), ["w"]) == []


def test_each_product_is_claimed_by_one_of_many_runs(rounds, publish, clock) -> None:
    names = {publish(f"2024-06-{day:02d}") for day in range(1, 21)}
    clock.advance(days=21)
    rounds().go([EODAGNewProductsTrigger(area=AREA, name="many", lookback_days=40)])

    def claim(number: int) -> list[str]:
        with Memory() as memory:
            return [item["id"] for item in memory.claim(["many"], Run(f"dag_{number}", "r"), Budget(), clock())]

    with ThreadPoolExecutor(8) as pool:
        claimed = [name for found in pool.map(claim, range(8)) for name in found]
    assert sorted(claimed) == sorted(names)


def test_the_triggerer_and_a_run_that_look_at_the_same_moment_see_each_product_once(rounds, publish, clock) -> None:
    clock.advance(days=21)
    loops, trigger = [rounds() for _ in range(4)], EODAGNewProductsTrigger(area=AREA, name="race", lookback_days=40)
    loops[0].go([trigger])
    names = {publish(f"2024-06-{day:02d}") for day in range(1, 21)}
    clock.advance(hours=1)
    with ThreadPoolExecutor(4) as pool:
        found = [event["products"] for events in pool.map(lambda loop: loop.go([trigger]), loops) for event in events]
    assert len(found) == 4, "no loop broke"
    assert {name for products in found for name in products} == names
    with Memory() as memory:
        assert len(memory.claim(["race"], Run("d", "r2"), Budget(), clock())) == 20
