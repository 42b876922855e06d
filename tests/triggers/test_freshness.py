"""How fresh an area is, and whose fault it is where it is not; each case as it comes about in the loop and the runs."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime, timedelta

import pytest
from earthself.triggers import EODAGNewProductsTrigger
from earthself.triggers.freshness import alerts, check, freshness
from earthself.triggers.memory import Budget, Run
from earthself.triggers.watch import Goal, Watch
from provider import Answer
from watched import AREA

RUN = Run("earthsignature_monitor", "run_1")


class Promised(EODAGNewProductsTrigger):
    """A watch with a goal of 24 h, as settings give it."""

    def watches(self) -> list[Watch]:
        from dataclasses import replace

        return [replace(watch, goal=Goal(24, 0.95)) for watch in super().watches()]


@pytest.fixture
def trigger():
    return Promised(area=AREA, name="w", every_minutes=60)


@pytest.fixture
def day(world, trigger):
    """Let the loop go round, four times a day, until a time of a day of June."""
    loop = world.rounds()
    loop.go([trigger])

    def until(day: int, hour: int = 0) -> None:
        goal = datetime(2024, 6, day, hour, tzinfo=UTC)
        while world.clock.now < goal:
            world.clock.now = min(goal, world.clock.now + timedelta(hours=6))
            loop.go([trigger])

    return until


def take(world, stored: bool = True, budget: Budget | None = None) -> None:
    for item in world.memory.claim(["w"], RUN, budget or Budget(), world.clock()):
        if stored:
            world.memory.stored(RUN, item["id"], world.clock(), world.clock())


def only(world):
    (area,) = freshness(world.memory, world.clock())
    return area


def test_in_time_with_the_hours_of_each_phase(world, day) -> None:
    day(2, 12)
    world.publish("2024-06-02", properties={"published": "2024-06-02T12:10:31Z"})
    day(2, 13)
    assert only(world).pending == 1
    assert only(world).share is None
    world.clock.advance(hours=2)
    take(world)
    area = only(world)
    assert (area.share, area.met, area.causes) == (1.0, True, {})
    told = area.to_dict()
    assert told["phases"] == {"publish": 2.0, "see": 0.82, "sign": 2.0, "store": 0.0}
    assert told["median_hours"] == pytest.approx(4.825, abs=0.01)


def test_what_was_sensed_before_the_watch_began_does_not_count(world, trigger) -> None:
    world.publish("2024-05-25")
    world.rounds().go([trigger])
    assert only(world).acquisitions == ()


def test_a_late_provider(world, day) -> None:
    day(5)
    world.publish("2024-06-02", properties={"published": "2024-06-05T00:10:00Z"})
    day(5, 2)
    take(world)
    area = only(world)
    assert (area.met, area.causes) == (False, {"provider late": 1})
    assert area.sentence == "w: 0% of 1 acquisitions in time (95% within 24 h); late: provider late 1"


def test_a_provider_that_was_down(world, day) -> None:
    day(2, 11)
    world.provider.search.always = Answer(503)
    world.publish("2024-06-02", properties={"published": "2024-06-02T12:00:00Z"})
    day(4)
    world.provider.search.always = None
    day(4, 3)
    take(world)
    assert only(world).causes == {"provider down": 1}


def test_nobody_looked(world, trigger, day) -> None:
    day(2, 11)
    world.publish("2024-06-02", properties={"published": "2024-06-02T12:00:00Z"})
    world.clock.advance(days=2)
    world.rounds().go([trigger])
    take(world)
    assert only(world).causes == {"not seen in time": 1}


def test_the_budget(world, day) -> None:
    world.publish("2024-06-02")
    world.publish("2024-06-02", tile="33UUQ")
    day(2, 12)
    take(world, budget=Budget(products_a_run=1))
    day(4)
    assert only(world).causes == {"budget": 1}
    assert only(world).share == 0.5


def test_processing_that_fails_and_that_takes_too_long(world, day) -> None:
    lost = world.publish("2024-06-02", tile="33UUQ")
    slow = world.publish("2024-06-02")
    day(2, 12)
    take(world, stored=False)
    world.memory.lost(RUN, lost, "B04 is damaged", world.clock())
    day(4)
    world.memory.stored(RUN, slow, None, world.clock())
    assert {each.product: each.cause for each in only(world).acquisitions} == {lost: "processing failed", slow: "processing slow"}


def test_no_run_took_it(world, day) -> None:
    world.publish("2024-06-02")
    day(4)
    assert only(world).causes == {"no run took it in time": 1}


def test_a_reprocessing_does_not_make_an_acquisition_late_again(world, day) -> None:
    world.publish("2024-06-02", baseline="0400")
    day(2, 12)
    take(world)
    day(9)
    world.publish("2024-06-02", baseline="0510", made="20240609T000000")
    day(9, 2)
    world.memory.claim(["w"], Run("d", "r2"), Budget(), world.clock())
    day(12)
    assert only(world).share == 1.0


def test_a_broken_promise_is_said_once_and_so_is_its_end(world, day, caplog) -> None:
    world.publish("2024-06-02")
    with caplog.at_level(logging.WARNING, "earthself"):
        day(5)
    assert caplog.text.count("not as fresh as promised: w: 0% of 1 acquisitions") == 1
    (alert,) = alerts(world.memory)
    assert (alert["ended"], "no run took it in time" in alert["text"]) == (None, True)
    with caplog.at_level(logging.WARNING, "earthself"):
        for number in range(5, 28):
            world.publish(f"2024-06-{number:02d}")
            day(number, 12)
            take(world)
        day(29)
    (alert,) = alerts(world.memory)
    assert alert["ended"] is not None, only(world).sentence
    assert caplog.text.count("as fresh as promised again: w: 95% of 20") == 1
    assert caplog.text.count("not as fresh as promised") == 1


def test_a_watch_that_is_given_up_takes_its_promise_back(world, trigger) -> None:
    loop = world.rounds()
    loop.go([trigger])
    world.publish("2024-06-01")
    world.clock.advance(days=2)
    loop.go([trigger])
    assert [alert["ended"] for alert in alerts(world.memory)] == [None]
    loop.go([])
    assert [alert["ended"] is not None for alert in alerts(world.memory)] == [True]
    world.clock.advance(days=31)
    assert freshness(world.memory, world.clock()) == []


def test_a_run_that_misses_its_deadline_is_kept_with_the_areas_that_suffer(world, day, caplog, monkeypatch) -> None:
    from earthself.triggers import alerts as callbacks

    world.publish("2024-06-02")
    day(4)

    class Frozen(datetime):
        @classmethod
        def now(cls, tz=None):
            return world.clock()

    monkeypatch.setattr(callbacks, "datetime", Frozen)
    context = {"dag_run": {"dag_run_id": "scheduled__1", "dag_id": "earthsignature_monitor"}, "deadline": {}}
    said = asyncio.run(callbacks.run_is_late(context=context))
    assert said.startswith("the run scheduled__1 of earthsignature_monitor is not done by its deadline; w: 0% of 1")


def test_without_a_goal_nothing_is_promised_and_nothing_alerted(world) -> None:
    loop, trigger = world.rounds(), EODAGNewProductsTrigger(area=AREA, name="w")
    loop.go([trigger])
    world.publish("2024-06-01")
    world.clock.advance(days=3)
    loop.go([trigger])
    assert only(world).met is None
    assert check(world.memory, world.clock(), ["w"]) == []


def kept_until_the_second(world, day) -> None:
    world.publish("2024-06-02")
    day(2, 12)
    take(world)
    assert only(world).met is True


def test_a_provider_that_is_down_for_longer_than_the_goal_breaks_the_promise_until_it_answers(world, day, caplog) -> None:
    kept_until_the_second(world, day)
    world.provider.search.always = Answer(503)
    with caplog.at_level(logging.WARNING, "earthself"):
        day(5)
        area = only(world)
        assert (area.share, area.met, area.blind.cause) == (1.0, False, "provider down")
        assert area.sentence.startswith("w: nothing is known since 2024-06-02 12:00 UTC (provider down); 100% of 1 acquisitions")
        assert area.to_dict()["blind"] == {"since": "2024-06-02T12:00:00+00:00", "cause": "provider down"}
    world.clock.advance(days=45)
    assert (only(world).met, only(world).share) == (False, None), "though no acquisition of the last days is known at all"
    assert [alert["ended"] for alert in alerts(world.memory)] == [None]
    assert caplog.text.count("not as fresh as promised") == 1
    world.provider.search.always = None
    with caplog.at_level(logging.WARNING, "earthself"):
        world.rounds().go([Promised(area=AREA, name="w", every_minutes=60)])
    assert (only(world).blind, only(world).met) == (None, None)
    assert "no promise is broken any more: w: no acquisition is due" in caplog.text


def test_a_triggerer_that_is_dead_breaks_the_promise_and_a_pause_does_not(world, trigger, day) -> None:
    kept_until_the_second(world, day)
    world.clock.advance(hours=23)
    assert only(world).met is True
    world.clock.advance(hours=2)
    assert (only(world).met, only(world).blind.cause) == (False, "nobody asked")
    world.memory.end(["w"], world.clock())
    assert (only(world).met, only(world).blind) == (True, None)
