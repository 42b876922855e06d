"""What becomes of a product that a provider lists: new, too cloudy, superseded, a copy, late - and each only once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from earthself.data.sources import SourceConfig, Sources
from earthself.triggers import EODAGNewProductsTrigger
from earthself.triggers.memory import Budget, Run
from earthself.triggers.tables import DECISION, SIGHTING
from watched import AREA

RUN = Run("a_dag", "run_1")


@pytest.fixture
def trigger():
    return EODAGNewProductsTrigger(area=AREA, name="w")


def states(memory) -> dict[str, str]:
    with memory.reading() as connection:
        return {row.product: row.state for row in connection.execute(sa.select(SIGHTING))}


def decisions(memory, product: str) -> list[str]:
    with memory.reading() as connection:
        query = sa.select(DECISION).where(DECISION.c.product == product).order_by(DECISION.c.pk)
        return [row.what for row in connection.execute(query)]


def news(events: list[dict[str, Any]]) -> list[str]:
    return [product for event in events for product in event["products"]]


def test_a_new_product_is_told_once(rounds, trigger, publish, clock, memory) -> None:
    loop = rounds()
    first = publish("2024-05-30")
    events = loop.go([trigger])
    assert events == [{"watch": "w", "products": [first], "count": 1}]
    loop.announced(events)
    second = publish("2024-05-31")
    clock.advance(minutes=16)
    assert news(loop.go([trigger])) == [second]
    assert states(memory) == {first: "waiting", second: "waiting"}
    assert decisions(memory, first) == ["waiting", "announced"]


def test_what_airflow_did_not_confirm_is_told_again_and_after_a_restart(rounds, trigger, publish, clock) -> None:
    loop = rounds()
    name = publish("2024-05-30")
    assert news(loop.go([trigger])) == [name]
    assert loop.go([trigger]) == [], "it is on its way"
    clock.advance(minutes=6)
    assert news(loop.go([trigger])) == [name]
    again = rounds()
    events = again.go([trigger])
    assert news(events) == [name], "the process died before Airflow kept the event"
    again.announced(events)
    assert rounds().go([trigger]) == [], "and now it is kept"


def test_a_product_published_days_after_its_acquisition_is_new(rounds, trigger, publish, clock) -> None:
    loop = rounds()
    loop.announced(loop.go([trigger]))
    clock.advance(days=3)
    publish("2024-06-03")
    loop.announced(loop.go([trigger]))
    late = publish("2024-05-22")
    clock.advance(hours=1)
    assert news(loop.go([trigger])) == [late]


def test_a_long_outage_of_our_own_loses_nothing(rounds, trigger, publish, clock) -> None:
    rounds().go([trigger])
    name = publish("2024-06-02")
    clock.advance(days=40)
    assert news(rounds().go([trigger])) == [name], "though it is older than the lookback by now"


def test_a_cloudy_product_is_kept_in_mind_and_taken_when_the_limit_rises(rounds, publish, clock, memory) -> None:
    name = publish("2024-05-30", cloud=80.0)
    loop = rounds()
    assert loop.go([EODAGNewProductsTrigger(area=AREA, name="w")]) == []
    assert states(memory) == {name: "cloudy"}
    clock.advance(minutes=16)
    assert news(loop.go([EODAGNewProductsTrigger(area=AREA, name="w", max_cloud_cover=90)])) == [name]


def test_only_the_newest_processing_of_an_observation_waits(rounds, trigger, publish, memory) -> None:
    old, new = publish("2024-05-30", baseline="0400"), publish("2024-05-30", baseline="0510", made="20240601T000000")
    assert news(rounds().go([trigger])) == [new]
    assert states(memory) == {old: "superseded", new: "waiting"}


def test_a_reprocessing_is_new_and_what_is_stored_is_known_to_be_superseded(world, trigger) -> None:
    rounds, publish, clock, memory, provider = world.rounds, world.publish, world.clock, world.memory, world.provider
    loop = rounds()
    old = publish("2024-05-30", baseline="0400")
    loop.announced(loop.go([trigger]))
    assert [item["id"] for item in memory.claim(["w"], RUN, Budget(), clock())] == [old]
    memory.stored(RUN, old, None, clock())
    provider.items.clear()  # some providers take the older one away
    new = publish("2024-05-30", baseline="0510", made="20240605T000000")
    clock.advance(minutes=16)
    assert news(loop.go([trigger])) == [new]
    assert states(memory) == {old: "stored", new: "waiting"}
    with memory.reading() as connection:
        assert connection.execute(sa.select(SIGHTING.c.superseded_by).where(SIGHTING.c.product == old)).scalar() == new
    assert decisions(memory, old) == ["waiting", "announced", "claimed", "stored", "superseded"]


def test_a_waiting_product_that_is_reprocessed_is_not_taken_any_more(rounds, trigger, publish, clock, memory) -> None:
    loop = rounds()
    old = publish("2024-05-30", baseline="0400")
    loop.go([trigger])
    new = publish("2024-05-30", baseline="0510", made="20240605T000000")
    clock.advance(minutes=16)
    loop.go([trigger])
    assert [item["id"] for item in memory.claim(["w"], RUN, Budget(), clock())] == [new]
    assert states(memory)[old] == "superseded"


def test_another_copy_of_the_same_processing_is_no_news(rounds, trigger, publish, clock, memory) -> None:
    loop = rounds()
    publish("2024-05-30")
    loop.announced(loop.go([trigger]))
    copy = publish("2024-05-30", made="20240606T000000")
    clock.advance(minutes=16)
    assert loop.go([trigger]) == []
    assert states(memory)[copy] == "copy"
    clock.advance(minutes=16)
    assert loop.go([trigger]) == []
    assert decisions(memory, copy) == ["copy"], "and that is decided once"


def test_a_product_beside_the_area_is_not_seen(rounds, publish, memory, provider) -> None:
    publish("2024-05-30")
    provider.filters = False
    assert rounds().go([EODAGNewProductsTrigger(area=[20, 48, 21, 49], name="w")]) == []
    assert states(memory) == {}


def test_the_tables_are_those_that_the_migrations_make(home) -> None:
    from pathlib import Path

    from alembic.config import Config
    from alembic.script import ScriptDirectory
    from earthself.triggers import tables
    from earthself.triggers.memory import Memory
    from sqlalchemy.dialects import sqlite

    def kind(column) -> tuple[str, str, bool]:
        return column.name, column.type.compile(sqlite.dialect()), column.nullable

    with Memory():
        pass
    made = sa.MetaData()
    made.reflect(sa.create_engine(f"sqlite:///{home}/earthself.db"))
    for name, wanted in tables.METADATA.tables.items():
        assert {kind(column) for column in made.tables[name].c} == {kind(column) for column in wanted.c}
        assert {index.name for index in made.tables[name].indexes} == {index.name for index in wanted.indexes}
    config = Config()
    config.set_main_option("script_location", str(Path(tables.__file__).parent / "migrations"))
    assert ScriptDirectory.from_config(config).get_current_head() == tables.HEAD


def test_real_sources_take_the_joined_request(provider, publish, clock, memory) -> None:
    """The shape of what is asked: one request, all clouds, the whole lookback."""
    from earthself.triggers.looking import look

    publish("2024-05-30")
    watches = EODAGNewProductsTrigger(area=AREA, name="w").watches()
    with Sources(SourceConfig(("loop",), provider_config=provider.settings("loop"), timeout=2, attempts=1)) as sources:
        assert look(watches, sources, memory, datetime(2024, 6, 1, tzinfo=UTC)).news == 1
    (request,) = provider.asked("/search")
    assert request.body["datetime"].startswith("2024-05-18T00:00:00")
    assert "query" not in request.body


@pytest.mark.parametrize("cover", [float("nan"), "lots", "5.5", True, [5], 10**400])
def test_a_product_that_is_described_badly_costs_no_other_its_turn(world, trigger, cover) -> None:
    world.provider.filters = False
    odd = world.publish("2024-05-29", cloud=cover, properties={"note": "a\0b", "quality": float("inf")})
    good = world.publish("2024-05-30")
    assert set(news(world.rounds().go([trigger]))) == {odd, good}, "clouds that nobody can read do not exclude a product"


def test_clouds_that_are_written_as_text_count(world, trigger) -> None:
    world.provider.filters = False
    name = world.publish("2024-05-30", cloud="71.5")
    assert world.rounds().go([trigger]) == []
    assert states(world.memory) == {name: "cloudy"}


def test_an_id_that_no_table_takes_is_left_out_and_said(world, trigger, caplog) -> None:
    world.publish("2024-05-29", made="20240529T143000_" + "x" * 300)
    world.publish("2024-05-28", made="20240528T143000_a\0b")
    good = world.publish("2024-05-30")
    assert news(world.rounds().go([trigger])) == [good]
    assert "products have ids that cannot be used" in caplog.text


def test_a_reprocessing_long_after_the_lookback_is_found_and_nothing_else_of_that_time(world, trigger) -> None:
    loop, clock, memory = world.rounds(), world.clock, world.memory
    old = world.publish("2024-05-30", baseline="0400")
    loop.announced(loop.go([trigger]))
    memory.claim(["w"], RUN, Budget(), clock())
    memory.stored(RUN, old, None, clock())
    clock.advance(days=300)
    loop.go([trigger])
    new = world.publish("2024-05-30", baseline="0510", made="20250301T000000")
    world.publish("2024-05-29")
    found = []
    for _ in range(4 * 4):
        clock.advance(hours=6)
        events = loop.go([trigger])
        loop.announced(events)
        found += news(events)
    assert found == [new], "what nobody took then is not new now"
    assert states(memory) == {old: "stored", new: "waiting"}
    with memory.reading() as connection:
        assert connection.execute(sa.select(SIGHTING.c.superseded_by).where(SIGHTING.c.product == old)).scalar() == new
    back = [r for r in world.provider.asked("/search") if r.body["datetime"] < "2024-07"]
    assert 1 < len(back) < 5, "and only the part of the past in which something is stored is asked for"


def test_every_day_of_the_past_has_its_turn(trigger) -> None:
    from earthself.triggers.looking import BACK_EVERY, past

    (watch,) = trigger.watches()
    begin = datetime(2024, 6, 1, tzinfo=UTC)
    periods = [past(watch, begin + number * BACK_EVERY) for number in range(13)]
    days = [begin - timedelta(days=number) for number in range(15, 396)]
    assert all(any(start <= day < end for start, end in periods) for day in days)
    assert past(EODAGNewProductsTrigger(area=AREA, reprocessed_days=0).watches()[0], begin) is None
