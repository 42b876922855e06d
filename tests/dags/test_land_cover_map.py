"""`land_cover_map` as Airflow runs it: states of the tasks, the result folder, and what a second run does again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import signed
from airflow_sandbox import ROOT
from earthself.data.manifest import changed_outputs, read_manifest
from earthself.operators import StepResources
from earthself.operators.history import RUN, History
from earthself.operators.publish import check_result

WHEN = {"start": "2017-06-01", "end": "2017-07-01"}


@pytest.fixture(scope="module")
def dag(load):
    return load(ROOT / "dags/land_cover_map.py")


@pytest.fixture
def run(dag, home, catalogue):
    """Run the workflow over products side by side; gives the run's state, its tasks' states, its folder and its result."""

    def go(*names: str, **conf: Any) -> tuple[str, dict[str, set[str]], Path, dict[str, Any]]:
        catalogue.names = list(names)
        west, south, _, north = signed.product("x")["bbox"]
        east = signed.product("x", column=max(0, len(names) - 1))["bbox"][2]
        made = dag.test(run_conf={"area": [west + 0.001, south + 0.001, east - 0.001, north - 0.001], **WHEN, **conf})
        states: dict[str, set[str]] = {}
        for instance in made.get_task_instances():
            states.setdefault(instance.task_id, set()).add(str(instance.state))
        folder = home / "workspace/runs/land_cover_map" / made.run_id
        result = json.loads((folder / "result.json").read_text()) if (folder / "result.json").is_file() else {}
        return str(made.state), states, folder, result

    return go


@pytest.mark.timeout(300)
def test_one_bad_product_costs_itself_and_a_second_run_does_only_the_hole(run, earthsignature, monkeypatch):
    monkeypatch.setenv("FAKE_BAD", "P1")
    state, states, folder, result = run("P0", "P1", "P2", title="Three fields")
    assert state == "success"
    assert set.union(*states.values()) == {"success"}
    check_result(result)
    assert result["status"] == "partial"
    assert result["products"]["processed"] == 2
    assert result["products"]["failed"] == [{"id": "P1", "error": "its offsets disagree: -1000 and 0", "retry": False}]
    assert 0.5 < result["observed_fraction"] < 0.75
    assert changed_outputs(read_manifest(folder / "manifest.json"), folder) == []
    assert "Three fields" in (folder / "report.html").read_text()
    assert {"estimate", "search", "known", "plan", "sign", "ingest", "mosaic", "zonal_statistics", "quicklook"} <= set(result["took"])

    monkeypatch.setenv("FAKE_BAD", "")
    state, states, folder, result = run("P0", "P1", "P2")
    assert state == "success"
    assert result["status"] == "complete"
    assert (result["products"]["reused"], result["products"]["processed"]) == (2, 1)
    assert result["observed_fraction"] > 0.99
    from pandas import read_parquet

    hectares = dict(read_parquet(folder / "statistics.parquet")[["code", "hectares"]].itertuples(index=False))
    assert sum(hectares.values()) == pytest.approx(100 * result["area_km2"], rel=1e-4)
    assert hectares[2] > hectares[3] > 0, "two of the three products are fields"
    with History() as history:
        runs = history.recent(RUN)
    assert [run.products for run in runs] == [1, 2]
    assert all(run.guessed_pixels and run.area_pixels and run.cpu_seconds for run in runs), "estimates learn from both"


def test_a_batch_killed_for_memory_costs_only_its_products(run, dag, earthsignature, monkeypatch):
    monkeypatch.setenv("FAKE_HUNGRY", "P1")
    monkeypatch.setitem(dag.get_task("sign").partial_kwargs, "step_resources", {"memory": "700Mi"})
    state, states, _, result = run("P0", "P1")
    assert state == "success"
    assert states["sign"] == {"success"}, "a product that fits in no memory is lost alone"
    assert result["status"] == "partial"
    (failure,) = result["products"]["failed"]
    assert failure["id"] == "P1"
    assert "killed for memory: request 700.0 MiB, limit 700.0 MiB, peak " in failure["error"]


def test_nothing_found_is_a_success_that_says_so(run, earthsignature):
    state, states, folder, result = run()
    assert state == "success"
    assert {name for name, found in states.items() if found == {"success"}} == {"estimate", "search", "publish"}
    assert {name for name, found in states.items() if found == {"skipped"}} == {
        "known",
        "plan",
        "sign",
        "ingest",
        "mosaic",
        "zonal_statistics",
        "quicklook",
    }
    assert result["status"] == "empty"
    assert "No product matches" in (folder / "report.html").read_text()


def test_all_lost_is_a_failure_with_the_reason(run, earthsignature, monkeypatch, capfd):
    monkeypatch.setenv("FAKE_BAD", "P0 P1")
    state, states, _, result = run("P0", "P1")
    assert state == "failed"
    assert states["ingest"] == {"failed"}
    assert states["publish"] == {"upstream_failed"}
    assert result == {}
    assert "all 2 products were lost; the first, P0: its offsets disagree: -1000 and 0" in capfd.readouterr().out


def test_too_many_products_are_refused_before_any_search(run, catalogue, capfd):
    state, states, _, result = run("P0", "P1", "P2", max_products=2)
    assert state == "failed"
    assert states["estimate"] == {"failed"}
    assert "success" not in set.union(*states.values())
    assert catalogue.searches == 0
    assert result == {}
    assert "3 products match, more than max_products=2" in capfd.readouterr().out


def test_the_form_and_the_triggers_are_checked_by_airflow(dag):
    from airflow.sdk.exceptions import ParamValidationError

    schema = dag.params.get_param("mask").schema
    assert schema["enum"] == ["auto", "scl", "csmask", "none"]
    assert all(dag.params.get_param(name).schema["title"] and dag.params.get_param(name).description for name in dag.params)
    with pytest.raises(ParamValidationError):
        dag.params.get_param("max_products").resolve(0)


def test_airflow_can_store_the_workflow_and_read_it_again(dag, airflow_home):
    from airflow.sdk import DAG
    from airflow.serialization.serialized_objects import DagSerialization
    from earthself.operators import ProcessingStepOperator

    read = DagSerialization.deserialize_dag(DagSerialization.serialize_dag(dag))
    assert read.task_dict["sign"].retries == 3
    assert read.task_dict["publish"].operator_extra_link_dict.keys() == {"Report", "Picture", "STAC item", "Map"}
    with DAG("mapped", schedule=None) as other:
        ProcessingStepOperator.partial(task_id="a", step="sign", resources=StepResources(memory="4Gi")).expand(inputs=[{}, {}])
    read = DagSerialization.deserialize_dag(DagSerialization.serialize_dag(other))
    assert read.task_dict["a"].partial_kwargs["step_resources"]["memory"] == "4Gi"
