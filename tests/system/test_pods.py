"""Steps in pods on a real stack and a real cluster: what dies, is killed or has no room, and that nothing stays."""

from __future__ import annotations

import json
import os
import re
import secrets
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import psutil
import pytest
from earthself.benchmark.tables import Samples, Wanted

from tests.images import Images
from tests.kube import Cluster
from tests.system.running import Started, stack_in, until

DAGS = """
from datetime import timedelta
from airflow.sdk import DAG
from earthself.operators import ProcessingStepOperator, StepResources

QUICK = {"spec": {"terminationGracePeriodSeconds": 2}}
LEAVE = '''cd $EARTHSELF_STEP_OUTPUT
echo '{"type":"Catalog","stac_version":"1.1.0","id":"c","description":"c","links":[]}' > catalog.json;'''

def step(script, **kwargs):
    return dict(
        task_id="step", image="localhost/busybox:1", command=["sh", "-c", script + LEAVE], eodag_conn_id=None,
        resources=StepResources(0.01, "16Mi"), retry_delay=timedelta(seconds=1), **kwargs,
    )

with DAG("pod_short", schedule=None):
    ProcessingStepOperator(**step("for i in $(seq 80); do echo line $i; sleep 0.1; done;"))
with DAG("pod_long", schedule=None):
    ProcessingStepOperator(**step("trap '' TERM; echo begun; sleep 1000;", pod_template=QUICK))
with DAG("pod_late", schedule=None):
    ProcessingStepOperator(**step("sleep 1000;", retries=0, execution_timeout=timedelta(seconds=14), pod_template=QUICK))
with DAG("pod_many", schedule=None):
    ProcessingStepOperator.partial(**step("sleep 1;")).expand(env=[{"N": str(n)} for n in range(50)])
"""


MACHINE = {
    *("cpu_one", "cpu_all", "cpu_encryption", "numpy_one", "numpy_all", "memory"),
    *("disk_sequential", "disk_random", "step_sign", "step_composite"),
}
"""Probes that need nothing but the machine."""
pytestmark = pytest.mark.timeout(400)


@dataclass
class Pods:
    """A stack whose steps run in a namespace of a cluster."""

    started: Started
    kube: Cluster
    http: httpx.Client
    config: str

    def connect(self, patience: float) -> None:
        """Let tasks that begin from now on wait so many seconds before the triggerer goes on for them."""
        workspace = self.started.stack.home.path / "workspace"
        extra = {
            "kube_config_path": self.config,
            "namespace": self.kube.namespace,
            "earthself": {"workspace": {"hostPath": {"path": str(workspace)}}, "patience": patience},
        }
        body = {"connection_id": "kubernetes_default", "conn_type": "kubernetes", "extra": json.dumps(extra)}
        self.http.delete("/api/v2/connections/kubernetes_default")
        self.http.post("/api/v2/connections", json=body).raise_for_status()

    def told_to_go(self) -> bool:
        """Whether all of them were deleted; when they are gone is the kubelet's affair."""
        return all("deletionTimestamp" in pod["metadata"] for pod in self.kube.pods())

    def trigger(self, dag: str) -> Run:
        until(lambda: self.http.get(f"/api/v2/dags/{dag}").is_success, f"{dag} is there", 120)
        run = self.http.post(f"/api/v2/dags/{dag}/dagRuns", json={"logical_date": None}).raise_for_status().json()["dag_run_id"]
        return Run(self, dag, run)


@dataclass
class Run:
    """One run of one of the workflows."""

    pods: Pods
    dag: str
    id: str

    @property
    def place(self) -> str:
        return f"/api/v2/dags/{self.dag}/dagRuns/{self.id}"

    def tasks(self) -> list[dict[str, Any]]:
        return self.pods.http.get(f"{self.place}/taskInstances?limit=100").raise_for_status().json()["task_instances"]

    def state(self) -> str:
        return str(self.tasks()[0]["state"])

    def over(self) -> bool:
        return self.pods.http.get(self.place).raise_for_status().json()["state"] in ("success", "failed")

    def ended(self, seconds: float = 120) -> str:
        until(self.over, f"{self.dag} has ended", seconds)
        return str(self.pods.http.get(self.place).json()["state"])

    def log(self, attempt: int, index: int = -1) -> list[str]:
        address = f"{self.place}/taskInstances/step/logs/{attempt}?map_index={index}"
        found = self.pods.http.get(address).raise_for_status().json()["content"]
        return [str(line["event"]) if isinstance(line, dict) else str(line) for line in found]

    def runs(self) -> bool:
        return any(pod["status"].get("phase") == "Running" for pod in self.pods.kube.pods())


@pytest.fixture(scope="module")
def stack(cluster_config: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Started, httpx.Client]]:
    folder = tmp_path_factory.mktemp("pods")
    with stack_in(folder) as started:
        (folder / "dags" / "pods.py").write_text(DAGS)
        with started.rest() as http:
            # At its first trigger a triggerer of Airflow 3.3 builds an API for itself, and hears nothing meanwhile: 40 s on a busy machine.
            with namespace((started, http), cluster_config, patience=0) as pods:
                assert pods.trigger("pod_short").ended() == "success"
            yield started, http


@contextmanager
def namespace(stack: tuple[Started, httpx.Client], config: str, patience: float) -> Iterator[Pods]:
    started, http = stack
    kube = Cluster(config, f"t-{secrets.token_hex(4)}")
    kube.kubectl("create", "namespace", kube.namespace)
    made = Pods(started, kube, http, config)
    made.connect(patience)
    yield made
    kube.kubectl("delete", "namespace", kube.namespace, "--wait=false")


@pytest.fixture
def pods(stack: tuple[Started, httpx.Client], cluster_config: str) -> Iterator[Pods]:
    with namespace(stack, cluster_config, patience=4) as made:
        yield made


def test_a_killed_workers_pod_is_taken_on_and_each_line_is_in_the_log_of_the_next_try(pods: Pods) -> None:
    pods.connect(patience=60)  # it must not be deferred before it is killed, however slow this machine is
    run = pods.trigger("pod_short")
    until(run.runs, "the pod runs", 120)
    (before,) = pods.kube.pods()
    ti = run.tasks()[0]["id"]
    worker = next(p for p in psutil.process_iter(["cmdline"]) if f"airflow worker -- {ti}" in " ".join(p.info["cmdline"] or []))
    os.kill(worker.pid, signal.SIGKILL)
    pods.connect(patience=4)
    assert run.ended() == "success"
    assert [task["try_number"] for task in run.tasks()] == [2]
    said = run.log(2)
    assert any(f"pod {before['metadata']['name']} is there already" in line for line in said)
    # What the triggerer read after the worker of the second try is in the same log.
    assert sorted(line for line in said if line.startswith("line ")) == sorted(f"line {i}" for i in range(1, 81))
    pods.kube.wait(lambda: not pods.kube.left())


@pytest.mark.parametrize("state", ["running", "deferred"])
def test_a_task_marked_failed_takes_its_pod_along(pods: Pods, state: str) -> None:
    run = pods.trigger("pod_long")
    until(lambda: run.runs() and run.state() == state, f"the pod runs and the task is {state}", 120)
    # In the second between worker and trigger nobody is there to take the pod along; the workflow reap_pods does.
    until(lambda: state == "running" or any(line.startswith("trigger ") for line in run.log(1)), "the triggerer waits", 120)
    pods.http.patch(f"{run.place}/taskInstances/step", json={"new_state": "failed"}).raise_for_status()
    pods.kube.wait(pods.told_to_go, 20)
    pods.kube.wait(lambda: not pods.kube.left())
    assert run.ended() == "failed"


def test_a_cleared_task_has_a_new_pod_and_no_second_one(pods: Pods) -> None:
    run = pods.trigger("pod_long")
    until(lambda: run.runs() and run.state() == "deferred", "the task waits", 120)
    until(lambda: any(line.startswith("trigger ") for line in run.log(1)), "the triggerer waits", 120)
    (before,) = pods.kube.pods()
    body = {"dry_run": False, "dag_run_id": run.id, "task_ids": ["step"], "only_failed": False, "reset_dag_runs": True}
    pods.http.post(f"/api/v2/dags/{run.dag}/clearTaskInstances", json=body).raise_for_status()
    until(
        lambda: run.runs() and before["metadata"]["uid"] not in [pod["metadata"]["uid"] for pod in pods.kube.pods()],
        "another pod runs",
        120,
    )
    assert len(pods.kube.pods()) == 1
    pods.http.patch(f"{run.place}/taskInstances/step", json={"new_state": "failed"}).raise_for_status()
    pods.kube.wait(pods.told_to_go, 20)
    pods.kube.wait(lambda: not pods.kube.left())


def test_a_task_whose_time_is_over_while_it_waits_takes_its_pod_along(pods: Pods) -> None:
    run = pods.trigger("pod_late")
    assert run.ended() == "failed"
    assert any("its time is over (execution_timeout)" in line for line in run.log(1))
    pods.kube.wait(lambda: not pods.kube.left(), 60)


def test_many_steps_at_once_under_a_quota_wait_and_none_is_lost_or_doubled(pods: Pods) -> None:
    pods.kube.kubectl("create", "quota", "few", "--hard=pods=8")
    run = pods.trigger("pod_many")
    most = 0
    while not run.over():
        most = max(most, sum(pod["status"].get("phase") in ("Pending", "Running") for pod in pods.kube.pods()))
    found = run.tasks()
    assert Counter(task["state"] for task in found) == {"success": 50}
    again = [task["map_index"] for task in found if task["try_number"] != 1]
    assert not again, f"waiting is no failure; {run.log(1, again[0])}"
    assert 2 <= most <= 8
    pods.kube.wait(lambda: not pods.kube.left())


@pytest.mark.timeout(900)
def test_a_machine_is_measured_in_a_pod_of_our_own_image(pods: Pods, images: Images) -> None:
    image = images("probes")
    target = {"connection": "kubernetes_default", "cloud": "north", "region": "here", "offer": "node", "memory": "3Gi"}
    said = {"image": image.reference, "targets": [target], "repeats": 1, "seconds": 1}
    pods.http.post("/api/v2/variables", json={"key": "earthself_benchmark", "value": json.dumps(said)}).raise_for_status()
    pods.http.patch("/api/v2/dags/benchmark_clouds", json={"is_paused": False}).raise_for_status()
    run = pods.trigger("benchmark_clouds")
    assert run.ended(600) == "success"

    home = pods.started.stack.home.path
    folder = home / "workspace" / "runs" / run.dag / run.id
    (measured,) = json.loads((folder / "result.json").read_text())["targets"]
    assert (measured["status"], measured["failed"]) == ("measured", []), "every tool is in the image"
    with Samples(f"sqlite:///{home / 'earthself.db'}") as kept:
        samples = list(kept.find(Wanted(cloud="north", region="here", offer="node")))
    assert {one.test for one in samples} == MACHINE
    assert all(re.fullmatch(rf"{image.reference}@sha256:[0-9a-f]{{64}}", one.labels["image"]) for one in samples)
    assert all(one.value > 0 for one in samples)
    pods.kube.wait(lambda: not pods.kube.left())
