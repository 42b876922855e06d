"""Waiting for an archive on the real stack: the triggerer waits, is killed, and another goes on; the product is ordered once."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from earthself.data.broker import LocalBroker
from earthself.local.supervision import Control

from tests.system.running import Started, until

sys.path.insert(1, str(Path(__file__).parents[1] / "data"))
from archive_desk import Desk
from provider import Provider

STAGING = """
from datetime import timedelta
from airflow.sdk import DAG
from earthself.operators import StageProductsOperator

with DAG("has_staged", schedule=None, params={"products": {}}, render_template_as_native_obj=True):
    StageProductsOperator(task_id="stage", products="{{ params.products }}", poll=timedelta(seconds=1), eodag_conn_id="archive")
"""


@pytest.fixture
def admin(started: Started) -> Iterator[httpx.Client]:
    with started.rest() as http:
        yield http


def triggerer(started: Started) -> int:
    return next(program.pid for program in Control(Path(started.running.socket)).programs() if program.name == "triggerer")


def test_the_triggerer_waits_for_an_archive_though_it_is_killed(started: Started, admin: httpx.Client, tmp_path: Path) -> None:
    from earthself.operators import catalogs

    (started.output.parent / "dags" / "has_staged.py").write_text(STAGING)
    with Provider() as provider:
        desk = Desk()
        desk.serve(provider)
        settings = {"providers": "hostile", "provider_config": provider.settings("hostile", desk.settings(provider)), "attempts": 1}
        connection = {"connection_id": "archive", "conn_type": "eodag", "extra": json.dumps(settings)}
        admin.post("/api/v2/connections", json=connection).raise_for_status()
        until(lambda: admin.get("/api/v2/dags/has_staged").is_success, "the workflow is there", 120)
        found = catalogs.write_catalog(tmp_path / "found", "found", [desk.item("P")]).to_dict()
        body = {"logical_date": None, "conf": {"products": found}}
        run = admin.post("/api/v2/dags/has_staged/dagRuns", json=body).raise_for_status().json()["dag_run_id"]
        place = f"/api/v2/dags/has_staged/dagRuns/{run}"

        def state() -> str:
            return str(admin.get(f"{place}/taskInstances/stage").raise_for_status().json()["state"])

        def asked() -> int:
            return len(provider.asked("/orders/P"))

        until(lambda: state() == "deferred" and asked() >= 3, "the triggerer asks for the order", 120)
        (order,) = [each for status in LocalBroker(started.stack.home.path / "broker").status() for each in status.orders]
        assert order.product == "P"
        before = triggerer(started)
        os.kill(before, signal.SIGKILL)
        until(lambda: triggerer(started) not in (0, before), "the triggerer is started again")
        killed = asked()
        until(lambda: asked() > killed + 1, "another triggerer goes on", 120)
        desk.stage("P", b"archive")
        until(lambda: admin.get(place).json()["state"] in ("success", "failed"), "the run has ended", 120)
        assert state() == "success", admin.get(f"{place}/taskInstances/stage/logs/1").text
        assert desk.orders == ["P"]
    (item,) = catalogs.read_items(started.stack.home.path / "workspace" / "runs" / "has_staged" / run / "work" / "staged" / "catalog.json")
    assert item["properties"]["order:status"] == "succeeded"
