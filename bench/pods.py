"""What a step in a pod costs over the pod itself, and over Airflow's own operator: latency, throughput, memory of those that wait.

Needs a cluster (KUBECONFIG) with the image localhost/busybox:1; without one it says so and measures nothing.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from bench.stack import seconds_of, stack

ROUNDS = 9
WARM_UP = 2
MAPPED = 100
WAITING = 50
_IMAGE = "localhost/busybox:1"
_LEAVE = (
    """cd $EARTHSELF_STEP_OUTPUT; echo '{"type":"Catalog","stac_version":"1.1.0","id":"c","description":"c","links":[]}' > catalog.json"""
)

_OURS = """
from airflow.sdk import DAG
from earthself.operators import ProcessingStepOperator, StepResources
ARGS = dict(image={image!r}, command=["sh", "-c", {leave!r}], eodag_conn_id=None, resources=StepResources(0.01, "16Mi"))
with DAG("ours_one", schedule=None):
    ProcessingStepOperator(task_id="one", **ARGS)
with DAG("ours_many", schedule=None, max_active_tasks=200):
    ProcessingStepOperator.partial(task_id="many", **ARGS).expand(env=[{{"N": str(n)}} for n in range({mapped})])
"""
_PLAIN = """
from airflow.sdk import DAG
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
ARGS = dict(image={image!r}, cmds=["true"], kubernetes_conn_id="kubernetes_default", name="plain", startup_timeout_seconds=600)
with DAG("plain_one", schedule=None):
    KubernetesPodOperator(task_id="one", **ARGS)
with DAG("plain_many", schedule=None, max_active_tasks=200):
    KubernetesPodOperator.partial(task_id="many", **ARGS).expand(arguments=[[str(n)] for n in range({mapped})])
"""


def run() -> list[dict[str, Any]]:
    """Measure on a stack of its own and the cluster that KUBECONFIG names."""
    config = os.environ.get("KUBECONFIG")
    if not config:
        print("no Kubernetes cluster: name one by KUBECONFIG, with the image localhost/busybox:1")
        return []
    words = {"image": _IMAGE, "leave": _LEAVE, "mapped": MAPPED}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        dags = {"ours_one": _OURS.format(**words), "plain_one": _PLAIN.format(**words)}
        with stack(folder, dags) as client:
            extra = {
                "kube_config_path": config,
                "namespace": "default",
                "earthself": {"workspace": {"hostPath": {"path": str(folder / "home" / "workspace")}}},
            }
            body = {"connection_id": "kubernetes_default", "conn_type": "kubernetes", "extra": json.dumps(extra)}
            client.post("/api/v2/connections", json=body).raise_for_status()
            taken: dict[str, list[float]] = {"bare": [], "ours_one": [], "plain_one": []}
            for number in range(WARM_UP + ROUNDS):
                for what, seconds in taken.items():
                    passed = asyncio.run(_bare(config, number)) if what == "bare" else seconds_of(client, what)
                    if number >= WARM_UP:
                        seconds.append(passed)
            bare, ours, plain = (statistics.median(seconds) for seconds in taken.values())
            many = {what: min(seconds_of(client, what) for _ in range(2)) for what in ("ours_many", "plain_many")}
    waiting = asyncio.run(_waiting(config))
    peer = "plain KubernetesPodOperator"
    return [
        {
            "name": "a step in a pod over the bare pod",
            "value": round(ours - bare, 2),
            "unit": "s more, median",
            "peer": peer,
            "peer_value": round(plain - bare, 2),
            "ratio": round((ours - bare) / (plain - bare), 3),
            "goal": 1.0,
        },
        {
            "name": f"{MAPPED} mapped steps in pods",
            "value": round(MAPPED / many["ours_many"], 2),
            "unit": "a second",
            "peer": peer,
            "peer_value": round(MAPPED / many["plain_many"], 2),
            "ratio": round(many["plain_many"] / many["ours_many"], 3),
            "goal": 0.9,
        },
        {"name": "memory of a step that waits, deferred", "value": round(waiting, 3), "unit": "MiB", "goal": 1.0},
    ]


def _pod(name: str, command: list[str]) -> dict[str, Any]:
    container = {"name": "step", "image": _IMAGE, "command": command, "resources": {"requests": {"cpu": "1m"}}}
    metadata = {"name": name, "namespace": "default", "annotations": {"earthself.io/spec": name}}
    spec = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "containers": [container]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


async def _bare(config: str, number: int) -> float:
    """Seconds from making a pod to its end, by a watch."""
    from earthself.hooks.cluster import Cluster

    async with Cluster("kubernetes_default", {"kube_config_path": config}) as cluster:
        began = time.perf_counter()
        await cluster.create("pods", "default", _pod(f"bare-{number}", ["true"]))
        async for pod in cluster.states("default", f"bare-{number}"):
            if pod["status"].get("phase") in ("Succeeded", "Failed"):
                break
        passed = time.perf_counter() - began
        await cluster.delete("pods", "default", f"bare-{number}", grace=0)
    return passed


async def _waiting(config: str) -> float:
    """MiB that each further trigger adds to the process that waits for its pod."""
    from earthself.hooks.cluster import Cluster
    from earthself.triggers.step_pod import StepPodTrigger

    os.environ["AIRFLOW_CONN_KUBERNETES_DEFAULT"] = json.dumps({"conn_type": "kubernetes", "extra": {"kube_config_path": config}})
    names = [f"waits-{number}" for number in range(WAITING)]

    async def wait(name: str) -> None:
        plan = {"pod": _pod(name, ["sleep", "1000"]), "container": "step"}
        async for _ in StepPodTrigger(plan=plan, conn_id="kubernetes_default", place={}).run():
            return

    def used() -> float:
        gc.collect()
        return float(psutil.Process().memory_info().rss) / 2**20

    async with Cluster("kubernetes_default", {"kube_config_path": config}) as cluster:
        tasks = [asyncio.create_task(wait(names[0]))]
        await asyncio.sleep(10)
        before = used()
        tasks += [asyncio.create_task(wait(name)) for name in names[1:]]
        for name in names:
            async for pod in cluster.states("default", name):
                if pod["status"].get("phase") == "Running":
                    break
        await asyncio.sleep(5)
        more = used() - before
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for name in names:
            await cluster.delete("pods", "default", name, grace=0)
    return more / (WAITING - 1)
