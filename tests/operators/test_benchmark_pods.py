"""The pod in which a target of `benchmark_clouds` is measured, as it is handed to the cluster."""

from __future__ import annotations

import json
import time
from datetime import timedelta

import pytest
from airflow.sdk.exceptions import AirflowSkipException
from earthself.operators import MeasureTargetOperator
from earthself.operators import benchmark_account as account

IMAGE = "registry.example.org/earthself-probes@sha256:0123"


@pytest.fixture
def pod(workspace, task, monkeypatch):
    """Give the manifest that an operator would make its pod of."""
    from earthself.operators.clouds import cloud
    from earthself.operators.in_pod import PodStep, Wanted

    extra = {"earthself": {"image": "registry.example.org/steps:1", "workspace": {"hostPath": {"path": str(workspace)}}}}
    monkeypatch.setenv("AIRFLOW_CONN_NORTH", json.dumps({"conn_type": "kubernetes", "extra": extra}))

    def make(**kwargs):
        operator = MeasureTargetOperator(task_id="measure", cloud="north", image=IMAGE, runtime="pod", **kwargs)
        context = task(0)
        run = operator._laid_out(context)
        wanted = Wanted(IMAGE, operator.env, None, operator.pod_template, None, 600.0)
        plan, secret = PodStep(cloud("north"), run, operator.log)._plan(context, wanted)
        assert secret is None, "the probes are given no credentials"
        return plan.pod["spec"]

    return make


def test_the_probes_run_by_the_image_s_own_python_and_know_their_image(pod):
    spec = pod(parameters={"cloud": "north", "offer": "s-2", "minutes": 7.5}, pod_template={"spec": {"nodeSelector": {"pool": "small"}}})
    (step,) = spec["containers"]
    assert step["image"] == IMAGE
    assert step["command"] == ["python", "-m", "earthself.benchmark.step"]
    assert step["args"] == ["--cloud", "north", "--offer", "s-2", "--minutes", "7.5"]
    assert {"name": "EARTHSELF_IMAGE", "value": IMAGE} in step["env"]
    assert spec["nodeSelector"] == {"pool": "small"}


def test_what_the_workers_run_from_is_not_taken_for_it(pod, monkeypatch):
    monkeypatch.setenv("EARTHSELF_IMAGE", "registry.example.org/airflow:1")
    (step,) = pod(env={"EARTHSELF_IMAGE": "mine"})["containers"]
    assert [each["value"] for each in step["env"] if each["name"] == "EARTHSELF_IMAGE"] == [IMAGE]


def test_probes_here_find_the_storage_that_the_worker_knows_and_pods_what_their_template_gives(monkeypatch):
    from earthself.benchmark.planning import Target
    from earthself.operators.benchmark import _arguments
    from earthself.operators.benchmark_order import Spot, ordered

    monkeypatch.setenv("EARTHSELF_STORAGE", "/profiles.json")
    order = ordered({"probes": ["object_store", "network"]}, "")
    there = {"storage": "s3://near@bucket/probe"}
    here = _arguments(Spot(Target(), settings=there), order, 10.0)
    assert (here["env"], here["runtime"], here["parameters"]["storage"]) == (
        {"EARTHSELF_STORAGE": "/profiles.json"}, "local", "s3://near@bucket/probe",
    )  # fmt: skip
    assert _arguments(Spot(Target()), order, 10.0)["env"] == {}
    pod = _arguments(Spot(Target("north", "n"), image=IMAGE, settings=there), order, 10.0)
    assert (pod["env"], pod["runtime"], pod["image"], pod["cloud"]) == ({}, "pod", IMAGE, "north")
    assert pod["parameters"]["minutes"] == 7.0, "three minutes of the ten are for the pod to start"
    assert pod["parameters"]["probes"] == "object_store,network"


@pytest.fixture
def measured(workspace, task, monkeypatch):
    """Let a target be measured by nobody: gives how long it may take, and its parameters."""
    from earthself.data.workspace import Workspace, write_json
    from earthself.operators.step import ProcessingStepOperator

    seen = []
    monkeypatch.setattr(ProcessingStepOperator, "work", lambda self, _context: seen.append((self.execution_timeout, self.parameters)))
    context = task(0)
    run = Workspace.from_env().run("a_dag", context["run_id"])
    target = {"minutes": 5.0, "limit": 10.0, "euros_per_hour": 60.0}

    def go(minutes=60.0, euros=100.0, **kwargs):
        write_json(run.work / "plan.json", {"budget": {"minutes": minutes, "euros": euros}, "run": [target]})
        kwargs = {"cloud": "north", "image": IMAGE, "runtime": "pod", "parameters": {"minutes": 7.0}, **kwargs}
        MeasureTargetOperator(task_id="measure", **kwargs).work(context)
        return seen.pop()

    go.run = run
    return go


def test_a_pod_has_until_its_share_of_the_budget_is_used_up(measured):
    assert measured() == (timedelta(minutes=13), {"minutes": 7.0})
    account.end(measured.run, 0, account.begun(measured.run, 0))
    assert measured(minutes=11.0) == (timedelta(minutes=11), {"minutes": 7.0}), "the next try knows the pod again by its arguments"


def test_the_pod_of_a_worker_that_died_goes_on_in_the_time_that_it_had(measured):
    account.begin(measured.run, 0, time.time() - 480)
    timeout, parameters = measured(minutes=12.0)
    assert timeout == pytest.approx(timedelta(minutes=4), abs=timedelta(seconds=5))
    assert parameters == {"minutes": 7.0}
    account.end(measured.run, 0, time.time())
    assert account.spent(measured.run, 0, {"limit": 10.0, "euros_per_hour": 60.0}).euros == pytest.approx(8, abs=0.1)


def test_a_process_that_died_is_begun_again_where_the_budget_has_room_for_that(measured):
    here = {"cloud": None, "image": None, "runtime": "local", "parameters": {}}
    account.begin(measured.run, 0, time.time() - 480)
    assert measured(**here)[1] == {"minutes": 10.0}
    account.end(measured.run, 0, time.time())
    with pytest.raises(AirflowSkipException, match=r"about 5 minutes, and 4 of the budget are left"):
        measured(minutes=12.0, **here)
    with pytest.raises(AirflowSkipException, match=r"about 5\.00 EUR, and 1\.\d\d of the budget are left"):
        measured(euros=9.99, **here)
    assert "budget" in account.skipped(measured.run, 0)
