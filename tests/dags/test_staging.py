"""A workflow that has offline products staged: run by Airflow, which defers the task and lets the trigger wait."""

from __future__ import annotations

import json
import sys
from datetime import timedelta
from pathlib import Path

import airflow_sandbox
import pytest
import signed

sys.path.insert(1, str(Path(__file__).parents[1] / "data"))
from archive_desk import Desk
from provider import Provider

DAG = """
from datetime import timedelta
from airflow.sdk import DAG
from earthself.operators import EODAGDownloadOperator, StageProductsOperator

with DAG("staged_products", schedule=None, params={"products": {}}, render_template_as_native_obj=True):
    staged = StageProductsOperator(task_id="stage", products="{{ params.products }}", poll=timedelta(seconds=0.2))
    EODAGDownloadOperator(task_id="download", products=staged.output)
"""


@pytest.mark.timeout(300)
def test_a_workflow_waits_for_a_product_and_then_reads_it(load, home, monkeypatch, tmp_path):
    import numpy as np
    from earthself.operators import catalogs
    from provider import safe_zip

    path = airflow_sandbox.HOME / "own" / "staged_products.py"
    path.write_text(DAG)
    with Provider() as provider:
        desk = Desk()
        desk.serve(provider)
        extra = {"providers": "hostile", "provider_config": provider.settings("hostile", desk.settings(provider)), "attempts": 1}
        monkeypatch.setenv("AIRFLOW_CONN_EODAG_DEFAULT", json.dumps({"conn_type": "eodag", "extra": extra}))
        found = catalogs.write_catalog(tmp_path / "found", "found", [desk.item("P")]).to_dict()
        archive = safe_zip("P", {"B04_10m": np.ones((40, 40), np.uint16)})

        def stage_when_asked_twice(path: str, _headers: dict[str, str]) -> None:
            if path == "/orders/P" and len(provider.asked(path)) == 3:
                desk.stage("P", archive)

        provider.guard = stage_when_asked_twice
        run = load(path).test(run_conf={"products": found})
        states = {instance.task_id: str(instance.state) for instance in run.get_task_instances()}
        assert states == {"stage": "success", "download": "success"}
        assert desk.orders == ["P"]
        assert list((home / "workspace/downloads").rglob("B04.jp2"))


NAME = "S2A_MSIL2A_20170613T101031_N0510_R022_T33UUP_20170613T101608"
WHEN = {"start": "2017-06-01", "end": "2017-07-01"}


@pytest.fixture
def map_of(load, home, earthsignature, monkeypatch):
    """Run `land_cover_map` over one product that two providers list; gives the tasks' states, the run's folder and its result."""

    def go(first: Provider, desk: Desk, second: Provider, **conf):
        link = first.url + '/order?{{"id": "{id}"}}'
        lists = f"    metadata_mapping:\n      eodag:order_link: '{link}'\n"
        archive = first.settings("archive", desk.settings(first)).replace("    need_auth: false\n", f"    need_auth: false\n{lists}")
        extra = {"providers": "archive,other", "provider_config": archive + second.settings("other"), "attempts": 1}
        monkeypatch.setenv("AIRFLOW_CONN_EODAG_DEFAULT", json.dumps({"conn_type": "eodag", "extra": extra}))
        west, south, east, north = signed.product("x")["bbox"]
        dag = load(airflow_sandbox.ROOT / "dags" / "land_cover_map.py")
        dag.get_task("plan").poll = timedelta(seconds=0.1)
        run = dag.test(run_conf={"area": [west + 0.001, south + 0.001, east - 0.001, north - 0.001], **WHEN, **conf})
        folder = home / "workspace/runs/land_cover_map" / run.run_id
        result = json.loads((folder / "result.json").read_text()) if (folder / "result.json").is_file() else {}
        return {instance.task_id: str(instance.state) for instance in run.get_task_instances()}, folder, result

    with Provider() as first, Provider() as second:
        desk = Desk()
        desk.serve(first)
        whole = {"properties": {"order:status": "orderable"}, "geometry": signed.footprint()}
        item = first.add_product(NAME, assets={"product": {"href": f"{first.url}/archive/{NAME}.zip", "type": "application/zip"}}, **whole)
        item["bbox"] = signed.product("x")["bbox"]
        yield go, first, desk, second


def planned(folder: Path) -> dict[str, str]:
    from earthself.operators import catalogs

    (batch,) = (folder / "work" / "batches").glob("*/catalog.json")
    return {item["id"]: item["properties"].get("order:status", "") for item in catalogs.read_items(batch)}


@pytest.mark.timeout(300)
def test_a_map_waits_for_a_product_that_is_online_nowhere(map_of):
    go, first, desk, second = map_of
    seen = []

    def stage_when_asked_twice(path: str, _headers: dict[str, str]) -> None:
        seen.append(path)
        if path.startswith("/orders/") and seen.count(path) == 3:
            desk.stage(NAME, b"archive")

    first.guard = stage_when_asked_twice
    states, folder, result = go(first, desk, second)
    assert set(states.values()) == {"success"}
    assert desk.orders == [NAME]
    assert planned(folder) == {NAME: "succeeded"}
    assert result["status"] == "complete"
    assert "plan" in result["took"]


@pytest.mark.timeout(300)
def test_a_map_says_what_was_not_there_in_time(map_of):
    go, first, desk, second = map_of
    _, folder, result = go(first, desk, second, staging_hours=1e-6)
    assert desk.orders == [NAME]
    assert planned(folder) == {NAME: "orderable"}
    assert any(f"{NAME} was not staged within" in warning for warning in result["warnings"])


@pytest.mark.timeout(300)
@pytest.mark.parametrize("why", ["it is online elsewhere", "the user does not want to wait"])
def test_a_map_orders_nothing_in_vain(map_of, why):
    go, first, desk, second = map_of
    if why == "it is online elsewhere":
        second.add_product(NAME, {"B04": b""}, geometry=signed.footprint())
        _, folder, _ = go(first, desk, second)
    else:
        _, folder, _ = go(first, desk, second, staging_hours=0)
    assert desk.orders == []
    assert planned(folder) == {NAME: "orderable"}
