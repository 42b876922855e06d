"""Offline products in a workflow: ordered by a task, waited for by a trigger, read by whoever comes next."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest
from airflow.sdk.exceptions import TaskDeferred
from earthself.data.broker import LocalBroker
from earthself.operators import StageProductsOperator, catalogs
from earthself.triggers.staging import StagingTrigger

sys.path.insert(1, str(Path(__file__).parents[1] / "data"))
from archive_desk import Desk
from provider import Provider


@pytest.fixture
def desk(monkeypatch, airflow_home, workspace):
    """A provider with an archive, and the connection to it."""
    with Provider() as provider:
        made = Desk()
        made.serve(provider)
        extra = {"providers": "hostile", "provider_config": provider.settings("hostile", made.settings(provider)), "attempts": 1}
        monkeypatch.setenv("AIRFLOW_CONN_EODAG_DEFAULT", json.dumps({"conn_type": "eodag", "extra": extra}))
        yield made


@pytest.fixture
def found(desk, tmp_path):
    """Reference dict of a catalogue of two offline products and one that is online."""
    online = {**desk.item("HERE"), "properties": {**desk.item("HERE")["properties"], "order:status": "succeeded"}}
    return catalogs.write_catalog(tmp_path / "found", "found", [desk.item("P0"), online, desk.item("P1")]).to_dict()


def deferred(operator, context) -> StagingTrigger:
    with pytest.raises(TaskDeferred) as caught:
        operator.execute(context)
    assert caught.value.method_name == "resume"
    path, kwargs = caught.value.trigger.serialize()
    assert path == "earthself.triggers.staging.StagingTrigger"
    return StagingTrigger(**json.loads(json.dumps(kwargs)))  # as another process makes it again


def fired(trigger: StagingTrigger) -> dict:
    async def first() -> dict:
        async for event in trigger.run():
            return event.payload
        raise AssertionError

    return asyncio.run(first())


def statuses(reference: dict) -> dict[str, str]:
    return {item["id"]: item["properties"]["order:status"] for item in catalogs.read_items(Path(reference["href"]))}


def test_offline_products_are_ordered_and_waited_for_without_a_worker(desk, found, context, workspace):
    operator = StageProductsOperator(task_id="stage", products=found, poll=timedelta(seconds=0.05))
    trigger = deferred(operator, context())
    assert sorted(desk.orders) == ["P0", "P1"]
    (status,) = LocalBroker(workspace.parent / "home" / "broker").status()
    assert {order.product for order in status.orders} == {"P0", "P1"}
    assert all(order.expected > time.time() for order in status.orders)

    async def stage_meanwhile() -> dict:
        waiting = asyncio.create_task(anext(trigger.run()))
        asked = desk.provider.requests
        before = len(asked)
        while sum(request.path == "/orders/P1" for request in asked[before:]) < 2:  # noqa: ASYNC110 - it is the server that is waited for
            await asyncio.sleep(0.01)
        assert not waiting.done()
        for name in ("P0", "P1"):
            desk.stage(name, b"archive")
        return (await waiting).payload

    event = asyncio.run(stage_meanwhile())
    assert event == {"left": 0, "given_up": {}}
    reference = operator.resume(context(), event)
    assert statuses(reference) == {"P0": "succeeded", "HERE": "succeeded", "P1": "succeeded"}
    assert sorted(desk.orders) == ["P0", "P1"]


def test_what_is_not_there_in_time_stays_offline_and_is_said(desk, found, context, workspace):
    operator = StageProductsOperator(task_id="stage", products=found, patience=timedelta(0), poll=timedelta(seconds=1))
    trigger = deferred(operator, context())
    desk.stage("P0", b"archive")
    event = fired(trigger)
    assert event == {"left": 1, "given_up": {}}
    assert statuses(operator.resume(context(), event)) == {"P0": "succeeded", "HERE": "succeeded", "P1": "ordered"}
    notes = (workspace / "runs/a_dag/manual__1/work/notes/stage.json").read_text()
    assert "P1 was not staged within 0:00:00; it stays offline" in notes


def test_an_order_that_is_given_up_is_not_waited_for(desk, found, context, workspace):
    operator = StageProductsOperator(task_id="stage", products=found, poll=timedelta(seconds=1))
    trigger = deferred(operator, context())
    desk.stage("P0", b"archive")
    desk.say("P1", "failed", message="tape is broken")
    event = fired(trigger)
    assert event["left"] == 0
    assert "tape is broken" in event["given_up"]["P1"]
    assert statuses(operator.resume(context(), event)) == {"P0": "succeeded", "HERE": "succeeded", "P1": "orderable"}
    assert "P1 cannot be staged" in (workspace / "runs/a_dag/manual__1/work/notes/stage.json").read_text()
    assert sorted(desk.orders) == ["P0", "P1"]


def test_where_all_is_online_nobody_waits(desk, context, tmp_path):
    online = {**desk.item("HERE"), "properties": {**desk.item("HERE")["properties"], "order:status": "succeeded"}}
    found = catalogs.write_catalog(tmp_path / "found", "found", [online]).to_dict()
    assert statuses(StageProductsOperator(task_id="stage", products=found).execute(context())) == {"HERE": "succeeded"}
    assert desk.provider.requests == []
