"""The loop that many watches share: what it asks, when it stays away from a provider, what it says, what a slip in the settings costs."""

from __future__ import annotations

import json
import logging

import pytest
import sqlalchemy as sa
from earthself.triggers import EODAGNewProductsTrigger
from earthself.triggers.errors import BadWatch
from earthself.triggers.freshness import alerts
from earthself.triggers.looking import MOST_JOINED
from earthself.triggers.rounds import SPACING
from earthself.triggers.settings import parse_settings
from earthself.triggers.tables import ALERT, ASKING, WATCH
from provider import Answer
from watched import AREA


def spans(memory) -> list[tuple[bool, int]]:
    with memory.reading() as connection:
        return [(row.well, row.times) for row in connection.execute(sa.select(ASKING).order_by(ASKING.c.pk))]


def box(number: int) -> list[float]:
    return [16 + number / 100, 48, 16.005 + number / 100, 48.01]


def test_watches_of_one_provider_and_collection_share_a_request(rounds, publish, provider, clock) -> None:
    name = publish("2024-05-30")
    watches = [EODAGNewProductsTrigger(area=box(n), name=f"w{n}") for n in range(5)]
    events = rounds().go(watches)
    assert {event["watch"] for event in events} == {f"w{n}" for n in range(5)}
    assert all(event["products"] == [name] for event in events)
    assert len(provider.asked("/search")) == 1
    assert provider.asked("/search")[0].body["intersects"]["type"] == "MultiPolygon"


def test_more_areas_than_a_request_should_carry_are_asked_in_turn_and_not_at_once(rounds, provider, clock) -> None:
    rounds().go([EODAGNewProductsTrigger(area=box(n), name=f"w{n}") for n in range(MOST_JOINED + 1)])
    assert len(provider.asked("/search")) == 2
    assert clock.slept == [SPACING]


def test_each_watch_is_asked_for_as_often_as_it_wants(rounds, provider, clock) -> None:
    loop = rounds()
    watches = [EODAGNewProductsTrigger(area=AREA, name=f"every {m}", every_minutes=m) for m in (10, 60)]
    for _ in range(12):
        loop.go(watches)
        clock.advance(minutes=10)
    # Once together at the start and after an hour; five times alone in each hour.
    assert len(provider.asked("/search")) == 12
    assert sum(request.body["intersects"]["type"] == "Polygon" for request in provider.asked("/search")) == 12


def test_a_provider_that_is_down_is_left_alone_longer_and_longer_and_asked_for_what_was_missed(world, caplog) -> None:
    rounds, provider, publish, clock, memory = world.rounds, world.provider, world.publish, world.clock, world.memory
    loop, trigger = rounds(), EODAGNewProductsTrigger(area=AREA, name="w")
    provider.search.always = Answer(503)
    with caplog.at_level(logging.INFO, "earthself"):
        for _ in range(4 * 60):
            assert loop.go([trigger]) == []
            clock.advance(minutes=1)
        assert spans(memory) == [(False, 9)], "after 0, 1, 3, 7, 15, 31, 63, 123, 183 minutes"
        name = publish("2024-06-01")
        provider.search.always = None
        clock.advance(hours=1)
        assert [event["products"] for event in loop.go([trigger])] == [[name]]
    assert spans(memory) == [(False, 9), (True, 1)]
    said = caplog.text
    assert "gave no answer for w (9 times in a row), asked again in 1:00:00" in said
    assert "503" in said
    assert "answers again for w" in said


def test_a_quiet_week_is_one_row(rounds, provider, clock, memory) -> None:
    loop, trigger = rounds(), EODAGNewProductsTrigger(area=AREA, name="w", every_minutes=60)
    for _ in range(7 * 24):
        loop.go([trigger])
        clock.advance(hours=1)
    assert spans(memory) == [(True, 7 * 24)]


def test_a_watch_that_is_given_up_is_said_to_have_ended(rounds, clock, memory) -> None:
    loop = rounds()
    one, other = (EODAGNewProductsTrigger(area=AREA, name=name) for name in ("one", "other"))
    loop.go([one, other])
    loop.go([one])
    with memory.reading() as connection:
        assert {row.name: row.ended is not None for row in connection.execute(sa.select(WATCH))} == {"one": False, "other": True}


def test_a_watch_that_changes_is_asked_for_at_once(rounds, publish, provider, clock) -> None:
    name, loop = publish("2024-05-30", cloud=50.0), rounds()
    assert loop.go([EODAGNewProductsTrigger(area=AREA, name="w", max_cloud_cover=20)]) == []
    clock.advance(seconds=5)
    assert loop.go([EODAGNewProductsTrigger(area=AREA, name="w", max_cloud_cover=20)]) == []
    assert len(provider.asked("/search")) == 1
    assert loop.go([EODAGNewProductsTrigger(area=AREA, name="w", max_cloud_cover=60)])[0]["products"] == [name]


def test_a_database_that_is_away_for_a_while_ends_nothing_and_loses_nothing(world, home, caplog, monkeypatch) -> None:
    rounds, publish, clock = world.rounds, world.publish, world.clock
    monkeypatch.setattr("earthself.data.database.BUSY_SECONDS", 0.01)
    name, loop, trigger = publish("2024-05-30"), rounds(), EODAGNewProductsTrigger(area=AREA, name="w")
    events = loop.go([trigger])
    database = home / "earthself.db"
    away = database.rename(home / "away.db")
    (home / "earthself.db").mkdir()
    loop.announced(events)
    for _ in range(3):
        assert loop.go([trigger]) == []
    assert caplog.text.count("EARTHSELF_DATABASE_URL") == 1, "that is said once"
    (home / "earthself.db").rmdir()
    away.rename(database)
    clock.advance(minutes=6)
    assert [event["products"] for event in loop.go([trigger])] == [[name]], "Airflow may have it, but that was not kept"


def test_two_watches_of_one_name_are_said(rounds, caplog) -> None:
    watches = [EODAGNewProductsTrigger(area=box(n), name="w") for n in range(2)]
    loop = rounds()
    loop.go(watches)
    loop.go(watches)
    assert caplog.text.count("two different watches are called w") == 1


def test_two_open_alerts_of_an_area_are_one_and_stop_no_event(world) -> None:
    loop, trigger = world.rounds(), EODAGNewProductsTrigger(area=AREA, name="w")
    loop.go([trigger])
    with world.memory.changing() as connection:
        for _ in range(2):
            connection.execute(sa.insert(ALERT).values(watch="w", first=world.clock(), last=world.clock(), text="late"))
    name = world.publish("2024-05-30")
    world.clock.advance(hours=1)
    assert [event["products"] for event in loop.go([trigger])] == [[name]]
    world.clock.advance(hours=1)
    loop.go([trigger])
    assert [alert["ended"] is not None for alert in alerts(world.memory)] == [True, True]


SETTINGS = {"areas": {"lowland": {"area": AREA, "max_cloud_cover": 30, "goal": {"hours": 12}}}}


def test_areas_of_the_settings_are_watched_and_a_slip_in_them_costs_no_product(rounds, publish, clock, monkeypatch, caplog) -> None:
    trigger, loop = EODAGNewProductsTrigger(settings="earthself_monitor"), rounds()
    assert loop.go([trigger]) == [], "no Variable, nothing to do"
    monkeypatch.setenv("AIRFLOW_VAR_EARTHSELF_MONITOR", json.dumps(SETTINGS))
    first = publish("2024-05-30")
    assert loop.go([trigger]) == [{"watch": "earthself_monitor:lowland", "products": [first], "count": 1}]
    monkeypatch.setenv("AIRFLOW_VAR_EARTHSELF_MONITOR", '{"areas": {"lowland": {"area": [1, 2]}}}')
    second = publish("2024-05-31")
    clock.advance(minutes=16)
    for _ in range(3):
        events = loop.go([trigger])
        clock.advance(seconds=5)
    assert caplog.text.count("areas/lowland: [1, 2] has 2 numbers") == 1
    clock.advance(minutes=16)
    events = loop.go([trigger])
    assert second in events[0]["products"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "the document: .* is not of type 'object'"),
        ('{"area": []}', "Additional properties"),
        ('{"areas": {"a b": {"area": [1, 2, 3, 4]}}}', "does not match"),
        ('{"areas": {"a": {}}}', "areas/a: 'area' is a required property"),
        ('{"areas": {"a": {"area": [1, 2, 3, 4], "max_cloud_cover": 101}}}', "areas/a/max_cloud_cover: 101"),
        ('{"areas": {"a": {"area": [1, 95, 3, 96]}}}', "areas/a: .*swapped"),
        ('{"areas": {"a": {"area": [1, 2, 3, 4], "goal": {"share": 95}}}}', "areas/a/goal/share: 95"),
        ('{"budget": {"products_a_run": 0}}', "budget/products_a_run: 0"),
        ('{"areas": {"a": {"area": [1, 2, 3, 4], "every_minutes": NaN}}}', "not JSON .NaN is no number"),
        ('{"budget": {"gigabytes_a_run": Infinity}}', "not JSON .Infinity is no number"),
        ('{"areas": {"a": {"area": [1, 2, 3, 4]}, "a": {"area": [5, 6, 7, 8]}}}', "'a' is given twice"),
    ],
)
def test_a_slip_in_the_settings_is_named(text: str, message: str) -> None:
    with pytest.raises(BadWatch, match=message) as caught:
        parse_settings(text, "earthself_monitor")
    assert "earthself_monitor" in str(caught.value)
    assert "docs/monitoring.md" in str(caught.value) or "areas/" in str(caught.value)


def test_the_settings_mean_what_they_say() -> None:
    found = parse_settings(json.dumps({**SETTINGS, "budget": {"gigabytes_a_day": 1.5, "products_a_day": 7}, "mask": "scl"}), "v")
    (watch,) = found.watches
    assert (watch.name, watch.max_cloud_cover, watch.goal.hours, watch.goal.share) == ("v:lowland", 30, 12, 0.95)
    assert (found.budget.bytes_a_day, found.budget.products_a_day, found.budget.products_a_run) == (1_500_000_000, 7, 200)
    assert (found.model, found.mask) == ("baseline", "scl")
