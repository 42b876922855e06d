"""The trigger as Airflow runs it: made from what it serialized, in a real event loop, on the triggerer's own shared streams."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
import structlog
from airflow.models.trigger import Trigger
from airflow.sdk import Asset, AssetWatcher
from airflow.serialization.encoders import encode_trigger
from airflow.triggers.base import BaseEventTrigger
from airflow.triggers.shared_stream import SharedStreamManager
from earthself.data.sources import SourceConfig, Sources
from earthself.hooks.eodag import EodagHook
from earthself.triggers import EODAGNewProductsTrigger
from earthself.triggers.errors import BadWatch
from watched import AREA


@pytest.fixture(autouse=True)
def connection(provider, monkeypatch) -> None:
    extra = {"providers": ["loop"], "provider_config": provider.settings("loop"), "timeout": 2, "attempts": 1}
    monkeypatch.setenv("AIRFLOW_CONN_EODAG_DEFAULT", json.dumps({"conn_type": "eodag", "extra": extra}))


def through_the_database(trigger: EODAGNewProductsTrigger) -> EODAGNewProductsTrigger:
    """Make a trigger from what Airflow keeps of it."""
    kept = Trigger.from_object(trigger)
    module, _, name = kept.classpath.rpartition(".")
    assert (module, name) == ("earthself.triggers.new_products", "EODAGNewProductsTrigger")
    return EODAGNewProductsTrigger(**kept.kwargs)


class Triggerer:
    """The part of Airflow's triggerer that runs watchers: their streams, and the word that events are in its database."""

    def __init__(self) -> None:
        self.streams = SharedStreamManager(log=structlog.get_logger(), max_subscriber_queue=100, ack_timeout=60, cohort_grace_period=0)
        self.events: list[dict[str, Any]] = []
        self.keeps = True

    async def run(self, triggers: list[EODAGNewProductsTrigger], until: Callable[[], bool]) -> None:
        tasks = [asyncio.create_task(self._one(number, trigger)) for number, trigger in enumerate(triggers)]
        for _ in range(2000):
            await asyncio.sleep(0.01)
            if until() or any(task.done() for task in tasks):
                break
        for task in tasks:
            if task.done():
                task.result()
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.streams.stop_all()
        assert until()

    async def _one(self, number: int, trigger: EODAGNewProductsTrigger) -> None:
        key = trigger.shared_stream_key()
        stream = self.streams.subscribe(trigger_id=number, trigger=trigger, key=key)
        try:
            async for event in trigger.filter_shared_stream(stream):
                seq = self.streams.bind_pending_event(trigger_id=number, key=key)
                self.events.append(event.payload)
                if self.keeps and seq is not None:
                    self.streams.confirm_persisted([seq])
        finally:
            await self.streams.unsubscribe(number, key)


def announced(memory) -> int:
    import sqlalchemy as sa
    from earthself.triggers.tables import SIGHTING

    with memory.reading() as connection:
        return int(connection.execute(sa.select(sa.func.count()).where(SIGHTING.c.announced.is_not(None))).scalar() or 0)


def test_two_watches_on_one_loop_each_get_their_own_event_once(publish, provider, memory, clock, monkeypatch) -> None:
    monkeypatch.setattr("earthself.triggers.new_products.now", clock)
    name = publish("2024-05-30")
    elsewhere = {"type": "Polygon", "coordinates": [[[20, 48], [21, 48], [21, 49], [20, 49], [20, 48]]]}
    other = publish("2024-05-30", tile="34UDV", geometry=elsewhere)
    made = [EODAGNewProductsTrigger(area=AREA, name="one"), EODAGNewProductsTrigger(area=[20, 48, 21, 49], name="two")]
    triggers = [through_the_database(trigger) for trigger in made]
    runner = Triggerer()
    asyncio.run(runner.run(triggers, lambda: announced(memory) == 2))
    assert sorted((event["watch"], tuple(event["products"])) for event in runner.events) == [("one", (name,)), ("two", (other,))]
    assert len(provider.asked("/search")) == 1
    assert EODAGNewProductsTrigger.watching == {("earthself.new_products", "eodag_default"): {}}

    restarted = Triggerer()
    third = publish("2024-05-31")
    clock.advance(minutes=16)
    asyncio.run(restarted.run([through_the_database(trigger) for trigger in made], lambda: announced(memory) == 3))
    assert [event["products"] for event in restarted.events] == [[third]]


def test_an_event_that_airflow_did_not_keep_is_given_again_after_a_restart(publish, memory, clock, monkeypatch) -> None:
    monkeypatch.setattr("earthself.triggers.new_products.now", clock)
    name = publish("2024-05-30")
    trigger = EODAGNewProductsTrigger(area=AREA, name="one")
    dying = Triggerer()
    dying.keeps = False
    asyncio.run(dying.run([through_the_database(trigger)], lambda: bool(dying.events)))
    assert announced(memory) == 0
    restarted = Triggerer()
    asyncio.run(restarted.run([through_the_database(trigger)], lambda: announced(memory) == 1))
    assert [event["products"] for event in restarted.events] == [[name]]


def test_it_also_runs_where_no_loop_is_shared(publish, clock, monkeypatch) -> None:
    monkeypatch.setattr("earthself.triggers.new_products.now", clock)
    name = publish("2024-05-30")

    async def first() -> Any:
        async for event in EODAGNewProductsTrigger(area=AREA, name="one").run():
            return event.payload
        return None

    assert asyncio.run(first()) == {"watch": "one", "products": [name], "count": 1}


def test_airflow_takes_it_for_a_watcher_and_tells_two_of_them_apart() -> None:
    one, same, other = (EODAGNewProductsTrigger(area=area) for area in (AREA, list(AREA), [16, 48, 17, 48.5]))
    Asset("an asset", watchers=[AssetWatcher(name="w", trigger=one)])
    hashes = [BaseEventTrigger.hash(**{k: encode_trigger(t)[k] for k in ("classpath", "kwargs")}) for t in (one, same, other)]
    assert hashes[0] == hashes[1] != hashes[2]
    assert one.watch_name == same.watch_name != other.watch_name


def test_it_wants_an_area_or_settings_and_not_both() -> None:
    for wrong in ({}, {"area": AREA, "settings": "x"}):
        with pytest.raises(BadWatch, match="either area"):
            EODAGNewProductsTrigger(**wrong)


@pytest.mark.parametrize(
    "wrong",
    [{"every_minutes": 0}, {"every_minutes": float("nan")}, {"lookback_days": -1}, {"max_cloud_cover": 101}, {"reprocessed_days": 5000}],
)
def test_a_number_beside_its_limits_is_refused_where_the_workflow_is_written(wrong) -> None:
    ((name, _),) = wrong.items()
    with pytest.raises(BadWatch, match=f"{name} is .*; give a number from"):
        EODAGNewProductsTrigger(area=AREA, **wrong)


def test_a_wrong_area_is_said_and_does_not_end_the_loop(clock, caplog) -> None:
    from earthself.triggers.rounds import Rounds

    loop = Rounds("eodag_default", clock, lambda: Sources(SourceConfig()), clock.sleep)
    assert loop.go([EODAGNewProductsTrigger(area=[95, 48, 16, 200], name="one")]) == []
    assert loop.go([EODAGNewProductsTrigger(area="not json", name="one")]) == []
    assert caplog.text.count("the area of the watch one cannot be used") == 2
    assert "latitude 200" in caplog.text


def test_a_connection_that_cannot_be_read_is_an_outage_that_is_said(clock, memory, monkeypatch, caplog) -> None:
    import sqlalchemy as sa
    from earthself.triggers.rounds import Rounds
    from earthself.triggers.tables import ASKING

    monkeypatch.setenv("AIRFLOW_CONN_EODAG_DEFAULT", json.dumps({"conn_type": "eodag", "extra": {"credentials": "{"}}))
    loop = Rounds("eodag_default", clock)
    loop.go([EODAGNewProductsTrigger(area=AREA, name="one")])
    with memory.reading() as connection:
        assert "not JSON" in connection.execute(sa.select(ASKING.c.said)).scalar()
    assert EodagHook.default_conn_name == "eodag_default"
    assert "gave no answer for one" in caplog.text
