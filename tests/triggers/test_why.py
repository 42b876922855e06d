"""Why was I not triggered? Each answer from what really happened between the loop, the provider and the runs."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from earthself.data.area import Area
from earthself.operators.why import Why, why
from earthself.triggers import EODAGNewProductsTrigger
from earthself.triggers.memory import Budget, Run
from provider import Answer
from watched import AREA

RUN = Run("earthsignature_monitor", "run_1")
DAY = (datetime(2024, 5, 30, tzinfo=UTC), datetime(2024, 5, 31, tzinfo=UTC))


@pytest.fixture
def trigger():
    return EODAGNewProductsTrigger(area=AREA, name="w")


@pytest.fixture
def ask(memory, clock):
    def asked(area=AREA, period=DAY) -> Why:
        return why(memory, Area.from_conf(area), period, clock())

    return asked


def only(answer: Why):
    (reason,) = answer.reasons
    return reason


def test_nobody_watches(rounds, trigger, ask) -> None:
    assert only(ask()).verdict == "no watch"
    rounds().go([trigger])
    reason = only(ask([30, 10, 31, 11]))
    assert reason.verdict == "no watch"
    assert "watched is w" in reason.text


def test_part_of_the_area_is_not_watched(rounds, trigger, ask, publish) -> None:
    publish("2024-05-30")
    rounds().go([trigger])
    answer = ask([16.5, 48, 17.5, 49])
    assert answer.watched_fraction == pytest.approx(0.5, abs=0.001)
    assert [reason.verdict for reason in answer.reasons] == ["waiting", "no watch"]


def test_not_published_yet(rounds, trigger, ask) -> None:
    rounds().go([trigger])
    reason = only(ask())
    assert reason.verdict == "not published"
    assert "loop answered last 2024-06-01 00:00 UTC and lists no product of that time" in reason.text


def test_over_the_cloud_limit(rounds, trigger, ask, publish) -> None:
    name = publish("2024-05-30", cloud=71.5)
    rounds().go([trigger])
    reason = only(ask())
    assert (reason.verdict, reason.product) == ("cloudy", name)
    assert "71.5 % clouds, over the limit of 60 %" in reason.text


def test_seen_already_by_a_run(world, trigger, ask) -> None:
    rounds, publish, memory, clock = world.rounds, world.publish, world.memory, world.clock
    name = publish("2024-05-30")
    loop = rounds()
    loop.announced(loop.go([trigger]))
    assert only(ask()).verdict == "waiting"
    assert "an event was given to Airflow 2024-06-01 00:00 UTC" in only(ask()).text
    memory.claim(["w"], RUN, Budget(), clock.advance(minutes=5))
    assert only(ask()).verdict == "claimed"
    memory.stored(RUN, name, None, clock.advance(minutes=5))
    reason = only(ask())
    assert (reason.verdict, reason.run_id) == ("stored", "run_1")
    assert (
        "seen already: seen 2024-06-01 00:00 UTC, taken by the run run_1 2024-06-01 00:05 UTC, stored 2024-06-01 00:10 UTC" in reason.text
    )


def test_lost_and_given_up(world, trigger, ask) -> None:
    rounds, publish, memory, clock = world.rounds, world.publish, world.memory, world.clock
    name = publish("2024-05-30")
    rounds().go([trigger])
    for attempt in range(6):
        assert [item["id"] for item in memory.claim(["w"], Run("d", f"run_{attempt}"), Budget(), clock())] == [name]
        memory.lost(Run("d", f"run_{attempt}"), name, "B04 is damaged", clock())
        clock.advance(days=2)
    assert memory.claim(["w"], RUN, Budget(), clock()) == []
    assert only(ask()).verdict == "failed"
    assert "lost 6 times, given up; the last reason: B04 is damaged" in only(ask()).text


def test_lost_and_resting(world, trigger, ask) -> None:
    name = world.publish("2024-05-30")
    world.rounds().go([trigger])
    for attempt in range(2):
        run = Run("d", f"run_{attempt}")
        world.memory.claim(["w"], run, Budget(), world.clock())
        world.memory.lost(run, name, "B04 is damaged", world.clock())
    assert only(ask()).verdict == "waiting"
    assert "lost, to be tried again from 2024-06-01 01:00 UTC on: B04 is damaged" in only(ask()).text


def test_superseded(rounds, trigger, ask, publish) -> None:
    old, new = publish("2024-05-30", baseline="0400"), publish("2024-05-30", baseline="0510", made="20240601T000000")
    rounds().go([trigger])
    found = {reason.product: reason for reason in ask().reasons}
    assert found[old].verdict == "superseded"
    assert f"superseded by {new} (N0510 instead of N0400)" in found[old].text
    assert found[new].verdict == "waiting"


def test_the_provider_was_down(rounds, trigger, ask, provider, clock) -> None:
    loop = rounds()
    provider.search.always = Answer(503)
    for _ in range(3):
        loop.go([trigger])
        clock.advance(minutes=10)
    reason = only(ask())
    assert reason.verdict == "provider down"
    assert "loop gave no answer from 2024-06-01 00:00 UTC and has not answered since (asked 3 times" in reason.text
    provider.search.always = None
    loop.go([trigger])
    assert [reason.verdict for reason in ask().reasons] == ["provider down", "not published"]
    assert "from 2024-06-01 00:00 UTC until 2024-06-01 00:30 UTC" in ask().reasons[0].text


def test_outside_the_area_that_was_asked_about(rounds, trigger, ask, publish) -> None:
    corner = {"type": "Polygon", "coordinates": [[[16, 48], [16.1, 48], [16.1, 48.1], [16, 48.1], [16, 48]]]}
    publish("2024-05-30", geometry=corner)
    rounds().go([trigger])
    verdicts = {reason.verdict: reason.text for reason in ask([16.8, 48.8, 16.9, 48.9]).reasons}
    assert "1 products of that time touch the watched area, but not the one asked about" in verdicts["outside"]


def test_the_budget_was_used_up(world, trigger, ask) -> None:
    rounds, publish, memory, clock = world.rounds, world.publish, world.memory, world.clock
    first, second = publish("2024-05-29"), publish("2024-05-30")
    rounds().go([trigger])
    assert [item["id"] for item in memory.claim(["w"], RUN, Budget(products_a_run=1), clock())] == [first]
    reason = only(ask())
    assert (reason.verdict, reason.product) == ("budget", second)
    assert "the budget of 1 products a run is used up; it waits for the next run" in reason.text


def test_before_the_watch_looked_back_to_and_after_today(rounds, trigger, ask) -> None:
    rounds().go([trigger])
    assert only(ask(period=(datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 2, tzinfo=UTC)))).verdict == "not watched then"
    assert "still to come" in only(ask(period=(datetime(2025, 1, 1, tzinfo=UTC), datetime(2025, 1, 2, tzinfo=UTC)))).text


def test_a_watch_that_is_not_kept_any_more(rounds, trigger, ask, clock) -> None:
    loop = rounds()
    loop.go([trigger])
    clock.advance(days=2)
    day = (datetime(2024, 6, 2, tzinfo=UTC), datetime(2024, 6, 3, tzinfo=UTC))
    assert "does Airflow's triggerer run" in only(ask(period=day)).text
    loop.end()
    assert any("is its workflow paused" in reason.text for reason in ask(period=(day[0], datetime(2024, 6, 5, tzinfo=UTC))).reasons)


def test_more_products_than_an_answer_has_room_for_are_said(rounds, trigger, ask, publish, monkeypatch) -> None:
    monkeypatch.setattr("earthself.operators.why._MOST_SIGHTINGS", 2)
    for day in range(24, 29):
        publish(f"2024-05-{day}")
    rounds().go([trigger])
    answer = ask(period=(datetime(2024, 5, 1, tzinfo=UTC), datetime(2024, 6, 1, tzinfo=UTC)))
    assert [reason.verdict for reason in answer.reasons] == ["waiting", "waiting", "too many"]
    assert answer.reasons[-1].text.startswith(
        "3 later products of that time are not shown; ask about a shorter time, from 2024-05-26 10:10"
    )
