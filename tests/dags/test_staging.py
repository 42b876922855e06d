"""A workflow that has offline products staged: run by Airflow, which defers the task and lets the trigger wait."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import airflow_sandbox
import pytest

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
