"""What a run loses or leaves comes again by itself, without an outage that gives it up and without a day in between; old rows go."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa
from earthself.triggers import EODAGNewProductsTrigger
from earthself.triggers.memory import KEPT, Budget, Run
from earthself.triggers.tables import ALERT, DECISION, SIGHTING, WATCH
from watched import AREA


@pytest.fixture
def trigger():
    return EODAGNewProductsTrigger(area=AREA, name="w")


def told(events) -> list[str]:
    return [product for event in events for product in event["products"]]


def rows(memory, table=SIGHTING) -> int:
    with memory.reading() as connection:
        return int(connection.execute(sa.select(sa.func.count()).select_from(table)).scalar() or 0)


def take(world, number: int, budget: Budget | None = None) -> list[str]:
    return [item["id"] for item in world.memory.claim(["w"], Run("d", f"run_{number}"), budget or Budget(), world.clock())]


def test_an_outage_of_a_day_gives_no_product_up_and_each_chance_wakes_a_run(world, trigger) -> None:
    loop, name = world.rounds(), world.publish("2024-05-30")
    woken = []
    for quarter in range(4 * 26):
        events = loop.go([trigger])
        loop.announced(events)
        if told(events):
            woken.append(quarter / 4)
            assert take(world, quarter) == [name]
            if quarter < 4 * 24:
                world.memory.lost(Run("d", f"run_{quarter}"), name, "503", world.clock())
            else:
                world.memory.stored(Run("d", f"run_{quarter}"), name, None, world.clock())
        elif woken:
            assert take(world, 1000 + quarter) == [], "it rests"
        world.clock.advance(minutes=15)
    assert woken == [0, 0.25, 1.25, 7.25], "and then a day later"
    world.clock.advance(hours=6)
    assert told(loop.go([trigger])) == [name]


def test_what_cannot_be_mended_is_given_up_at_once(world, trigger) -> None:
    loop, name = world.rounds(), world.publish("2024-05-30")
    loop.announced(loop.go([trigger]))
    take(world, 0)
    world.memory.lost(Run("d", "run_0"), name, "its offsets disagree", world.clock(), retry=False)
    world.clock.advance(days=5)
    assert loop.go([trigger]) == []


def test_runs_that_die_do_not_use_up_the_chances_of_a_product(world, trigger) -> None:
    name = world.publish("2024-05-30")
    world.rounds().go([trigger])
    for number in range(10):
        assert take(world, number) == [name]
    world.memory.lost(Run("d", "run_9"), name, "503", world.clock())
    assert take(world, 10) == [name]


def test_what_the_budget_of_a_run_leaves_wakes_the_next_run_and_not_tomorrow(world, trigger) -> None:
    loop = world.rounds()
    names = [world.publish(f"2024-05-{day}") for day in (28, 29, 30)]
    budget = Budget(products_a_run=1, products_a_day=2)
    loop.announced(loop.go([trigger]))
    assert take(world, 0, budget) == names[:1]
    world.memory.stored(Run("d", "run_0"), names[0], None, world.clock())
    events = loop.go([trigger])
    assert told(events) == names[1:]
    loop.announced(events)
    assert take(world, 1, budget) == names[1:2]
    world.memory.stored(Run("d", "run_1"), names[1], None, world.clock())
    assert loop.go([trigger]) == [], "the day's budget is used up: the daily run takes the rest"
    world.clock.advance(days=1)
    assert take(world, 2, budget) == names[2:]


def test_a_product_that_no_budget_allows_wakes_nobody(world, trigger) -> None:
    loop = world.rounds()
    world.publish("2024-05-30")
    loop.announced(loop.go([trigger]))
    assert take(world, 0, Budget(bytes_a_run=10)) == []
    assert loop.go([trigger]) == []


def test_old_rows_go_and_nothing_is_seen_anew(world, trigger) -> None:
    loop = world.rounds()
    old = world.publish("2024-05-30")
    loop.announced(loop.go([trigger]))
    take(world, 0)
    world.memory.stored(Run("d", "run_0"), old, None, world.clock())
    with world.memory.changing() as connection:
        long_ago = world.clock() - timedelta(days=9)
        connection.execute(sa.insert(ALERT).values(watch="w", first=long_ago, last=long_ago, ended=long_ago, text="late"))
    world.clock.advance(days=KEPT.days - 20)
    loop.go([trigger])
    assert rows(world.memory) == 1
    world.clock.advance(days=40)
    assert loop.go([trigger]) == []
    assert [rows(world.memory, table) for table in (SIGHTING, DECISION, ALERT)] == [0, 0, 0]
    new = world.publish("2026-08-20")
    world.clock.advance(hours=1)
    assert told(loop.go([trigger])) == [new], "the old one is listed still, and is older than any look"


def test_nothing_is_forgotten_that_the_next_look_meets(world, trigger) -> None:
    loop = world.rounds()
    old = world.publish("2024-05-30")
    loop.announced(loop.go([trigger]))
    world.clock.advance(days=2 * KEPT.days)
    assert world.memory.forget(world.clock()) == 0, "nobody has asked since: the next question reaches back that far"
    assert loop.go([trigger]) == [], f"{old} is known"


def test_a_watch_that_was_given_up_long_ago_is_forgotten_whole(world, trigger) -> None:
    loop = world.rounds()
    world.publish("2024-05-30")
    loop.go([trigger])
    loop.end()
    world.clock.advance(days=KEPT.days - 1)
    world.memory.forget(world.clock())
    assert rows(world.memory, WATCH) == 1
    world.clock.advance(days=2)
    assert world.memory.forget(world.clock()) == 1
    assert rows(world.memory, WATCH) == 0
