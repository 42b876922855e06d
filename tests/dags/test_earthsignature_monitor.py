"""`earthsignature_monitor` as Airflow runs it: what is new is signed and stored once, within the budget, and what was lost comes again."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import finished
import pytest
import signed
import sqlalchemy as sa
from airflow_sandbox import ROOT
from earthself.operators import facts, outdated
from earthself.operators.publish import publish
from earthself.signature.client import SignatureClient
from earthself.triggers.memory import Memory
from earthself.triggers.tables import SIGHTING

WHEN = (datetime.now(UTC) - timedelta(days=1)).replace(microsecond=0)
"""When everything was sensed."""


@pytest.fixture(scope="module")
def dag(load):
    made = load(ROOT / "dags/earthsignature_monitor.py")
    assert made.deadline
    made.deadline = None  # Airflow 3.3 looks it up by the id that only a DAG from its database has; tests/system has one
    return made


@pytest.fixture
def products(catalogue, monkeypatch) -> list[dict[str, Any]]:
    """What the provider lists."""
    from earthself.data.query import Found

    listed: list[dict[str, Any]] = []

    def search(_request):
        catalogue.searches += 1
        return Found([json.loads(json.dumps(item)) for item in listed], [], "test", [], len(listed))

    monkeypatch.setattr(catalogue, "search", search)
    return listed


@pytest.fixture
def monitor(dag, home, products, monkeypatch):
    """Set the Variable and run the workflow; gives the run's state and its tasks' states."""

    def go(**settings: Any) -> tuple[str, dict[str, set[str]]]:
        west, south, _, north = signed.product("x")["bbox"]
        east = signed.product("x", column=3)["bbox"][2]
        area = [west + 0.001, south + 0.001, east - 0.001, north - 0.001]
        monkeypatch.setenv(
            "AIRFLOW_VAR_EARTHSELF_MONITOR", json.dumps({"areas": {"fields": {"area": area, "every_minutes": 1}}, **settings})
        )
        with Memory() as memory:
            forget = sa.text("UPDATE watch SET answered = NULL")
            with memory._database.writing() as connection:  # as if the last look had been long ago
                connection.execute(forget)
        made = dag.test()
        states: dict[str, set[str]] = {}
        for instance in made.get_task_instances():
            states.setdefault(instance.task_id, set()).add(str(instance.state))
        return str(made.state), states

    return go


def product(name: str, column: int = 0, **more: Any) -> dict[str, Any]:
    made = signed.product(name, column=column, **more)
    made["properties"]["datetime"] = WHEN.isoformat()
    return made


def sightings() -> dict[str, tuple[str, str]]:
    with Memory() as memory, memory.reading() as connection:
        return {row.product: (row.state, row.reason) for row in connection.execute(sa.select(SIGHTING))}


def stored(running) -> list[str]:
    with SignatureClient(running.target) as client:
        return sorted(str(feature["id"]) for feature in client.find())


@pytest.mark.timeout(300)
def test_new_products_are_signed_and_stored_once_within_the_budget(monitor, products, earthsignature, home) -> None:
    products += [product("P0"), product("P1", 1), product("P2", 2)]
    state, states = monitor(budget={"products_a_run": 2})
    assert state == "success", states
    assert set.union(*states.values()) == {"success"}
    first = stored(earthsignature)
    (left,) = {"P0", "P1", "P2"} - set(first)
    assert sightings()[left] == ("waiting", "the budget of 2 products a run is used up; it waits for the next run")

    assert monitor(budget={"products_a_run": 2})[0] == "success"
    assert stored(earthsignature) == ["P0", "P1", "P2"]
    assert {state for state, _ in sightings().values()} == {"stored"}

    state, states = monitor()
    assert state == "success"
    assert set.union(*states.values()) == {"skipped"}, "nothing waits"
    with Memory() as memory, memory.reading() as connection:
        rows = connection.execute(sa.select(SIGHTING)).all()
    assert len({row.run_id for row in rows}) == 2
    assert all(row.claimed <= row.signed <= row.stored for row in rows)
    assert not list((home / "workspace").glob("runs/*/*/result.json")), "it makes no maps"


def test_what_was_lost_comes_again_and_what_cannot_be_mended_does_not(monitor, products, earthsignature, monkeypatch) -> None:
    products += [product("P0"), product("P1", 1)]
    monkeypatch.setenv("FAKE_BAD", "P1")
    assert monitor()[0] == "success"
    assert stored(earthsignature) == ["P0"]
    assert sightings()["P1"] == ("failed", "lost 1 time, given up; the last reason: its offsets disagree: -1000 and 0")


def test_all_lost_fails_the_run_and_the_next_one_takes_them_again(monitor, products, earthsignature, monkeypatch) -> None:
    from earthself.hooks.earthsignature import EarthSignatureHook

    products += [product("P0")]
    client = EarthSignatureHook.client
    calls: list[int] = []

    def shaky(self, timeout: float = 60):
        """Be away while the run stores, as a server that restarts."""
        calls.append(1)
        made = client(self, timeout)
        if len(calls) == 2:
            made.close()
            return SignatureClient("127.0.0.1:9", timeout=0.5)
        return made

    monkeypatch.setattr(EarthSignatureHook, "client", shaky)
    state, states = monitor()
    assert (state, states["done"]) == ("failed", {"failed"})
    assert sightings()["P0"] == ("waiting", "lost, to be tried again: EarthSignature did not store its signature")
    assert monitor()[0] == "success"
    assert stored(earthsignature) == ["P0"]


def test_a_reprocessed_product_replaces_the_older_one(monitor, products, earthsignature) -> None:
    same = "S2A_33UUP_20170613T101031_R022_X"
    products += [product("OLD", observation=same, baseline="N0400"), product("P1", 1)]
    assert monitor()[0] == "success"
    products.append(product("NEW", observation=same, baseline="N0510"))
    assert monitor()[0] == "success"
    assert stored(earthsignature) == ["NEW", "OLD", "P1"]
    with SignatureClient(earthsignature.target) as client:
        current = sorted(str(feature["id"]) for feature in client.find(current=True))
    assert current == ["NEW", "P1"], "EarthSignature knows that OLD is superseded"
    assert {name: state for name, (state, _) in sightings().items()} == {"OLD": "stored", "NEW": "stored", "P1": "stored"}


def test_a_result_is_flagged_though_earthsignature_holds_the_older_signature_no_more(monitor, products, earthsignature, home) -> None:
    """As after a retention, or where the result reaches beyond the watched area."""
    run = finished.run(home / "workspace")
    publish(facts.gather(run), 0.0, 0.0)
    products.append(product("NEW", observation="S2A_33UUP_20170613T101031_R022_P1", baseline="N0511"))
    assert monitor()[0] == "success"
    ((entry,),) = (told["products"] for told in outdated.listed(run.workspace))
    assert (entry["product"], entry["superseded_by"]) == ("P1", "NEW")


def test_without_areas_it_does_nothing_quietly(dag, home, catalogue) -> None:
    made = dag.test()
    assert str(made.state) == "success"
    assert {str(instance.state) for instance in made.get_task_instances()} == {"skipped"}
    assert catalogue.searches == 0


def test_settings_with_a_slip_fail_the_run_with_the_place(dag, home, catalogue, monkeypatch, capfd) -> None:
    monkeypatch.setenv("AIRFLOW_VAR_EARTHSELF_MONITOR", '{"areas": {"fields": {"aera": [1, 2, 3, 4]}}}')
    made = dag.test()
    assert str(made.state) == "failed"
    assert "the Variable earthself_monitor cannot be used: areas/fields" in "".join(capfd.readouterr())


def test_it_is_shipped_paused_and_watched_by_one_trigger(dag) -> None:
    assert dag.is_paused_upon_creation
    assert dag.max_active_runs == 1
    (watcher,) = dag.timetable.asset_condition.watchers
    assert watcher.trigger.serialize()[1]["settings"] == "earthself_monitor"
