"""A step in a pod that asks for a Dask cluster: real schedulers and workers on a real cluster, gone whatever happens."""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from airflow.sdk.exceptions import AirflowFailException
from dask_standin import StandIn
from earthself.operators import DaskCluster, ProcessingStepOperator, ReapPodsOperator, StepResources
from earthself.operators.errors import TemporaryFailure
from in_pods import CATALOG, ITEM, Died, connection, died, lines
from structlog.testing import capture_logs
from test_memory_in_pods import through

pytestmark = pytest.mark.timeout(400)
NAME = "es-dask-"

SUM = f"""
import os
from distributed import Client
from pathlib import Path
with Client(timeout=30) as client:
    print("scheduler", client.scheduler.address, flush=True)
    client.wait_for_workers(1, timeout=90)
    print("sum", client.submit(sum, range(10)).result(timeout=60), flush=True)
out = Path(os.environ["EARTHSELF_STEP_OUTPUT"])
(out / "one").mkdir()
(out / "one/one.json").write_text('{ITEM}')
(out / "catalog.json").write_text('{CATALOG}')
"""


@contextmanager
def standin(kube, folder, monkeypatch, **kwargs):
    """The connection leads through a door where DaskCluster objects are."""
    door = StandIn(kube, folder, **kwargs)
    connection(monkeypatch, lambda extra: extra.update(kube_config_path=str(door.config)))
    try:
        yield door
    finally:
        door.close()


@pytest.fixture
def dask_operator(kube, tmp_path, monkeypatch):
    with standin(kube, tmp_path, monkeypatch) as door:
        yield door


@pytest.fixture
def near(kube, task, workspace, monkeypatch):
    """Pods that run this machine's Python, and find each other without the names and addresses that a whole cluster gives."""
    context = task()
    kube.wait(free)
    ti = context["ti"]
    from earthself.operators.clouds import cloud
    from earthself.operators.dask_cluster import cluster_name
    from earthself.operators.manifest import pod_name

    name = cluster_name(pod_name(cloud(None).files(), ti.dag_id, ti.run_id, "t", -1))
    places = [sys.base_prefix, sys.prefix, "/usr", "/lib", "/lib64"]
    mounts = [{"name": f"m{n}", "mountPath": place, "readOnly": True} for n, place in enumerate(places)]
    template = {
        "spec": {
            "hostNetwork": True,
            "hostAliases": [{"ip": "127.0.0.1", "hostnames": [f"{name}-scheduler.{kube.namespace}.svc.cluster.local"]}],
            "volumes": [{"name": f"m{n}", "hostPath": {"path": os.path.realpath(place)}} for n, place in enumerate(places)],
            "securityContext": {"runAsNonRoot": False},
            "containers": [{"name": "step", "volumeMounts": mounts, "env": [{"name": "PATH", "value": f"{sys.prefix}/bin:/bin:/usr/bin"}]}],
        }
    }
    monkeypatch.setattr("earthself.operators.manifest._USER", os.getuid())  # who may read this machine's Python
    connection(monkeypatch, lambda extra: extra["earthself"].update(template=template, patience=60))
    return context


def free() -> bool:
    """Whether a scheduler can listen on this machine."""
    with socket.socket() as place:
        return place.connect_ex(("127.0.0.1", 8786)) != 0


def step(script=SUM, **kwargs) -> ProcessingStepOperator:
    kwargs = {"resources": StepResources(0.1, "512Mi"), "dask": DaskCluster(1, 0.1, "512Mi", "512Mi")} | kwargs
    return ProcessingStepOperator(task_id="t", image="localhost/busybox:1", command=["python", "-c", script], eodag_conn_id=None, **kwargs)


def of_dask(kube) -> list[str]:
    """What of a Dask cluster is there."""
    kinds = "deployments,services,pods"
    found = json.loads(kube.kubectl("get", kinds, "-l", "app.kubernetes.io/managed-by=earthself-dask", "-o", "json"))["items"]
    return [f"{one['kind']}/{one['metadata']['name']}" for one in found]


def nothing_left(kube, door) -> None:
    assert not door.objects
    kube.wait(lambda: not kube.left() and not of_dask(kube), 120)


def test_a_step_has_a_cluster_that_is_gone_when_it_has_ended(dask_operator, kube, near):
    with capture_logs() as logs:
        reference, _ = through(step, near)
    assert reference["count"] == 1
    assert "sum 45" in lines(logs)
    assert any(line.startswith(f"scheduler tcp://{NAME}") for line in lines(logs))
    nothing_left(kube, dask_operator)


def test_a_step_that_fails_leaves_no_cluster_and_the_triggerer_waits_for_it_too(dask_operator, kube, near, monkeypatch):
    connection(monkeypatch, lambda extra: extra["earthself"].update(patience=0))
    with capture_logs() as logs, pytest.raises(AirflowFailException, match="exit code 7"):
        through(lambda: step("raise SystemExit(7)"), near)
    assert any("waits: a Dask cluster is being made" in line for line in lines(logs))
    nothing_left(kube, dask_operator)


def test_a_killed_task_takes_its_cluster_along(dask_operator, kube, near):
    operator = step("import time; time.sleep(1000)", pod_template={"spec": {"terminationGracePeriodSeconds": 1}})

    def kill():
        kube.wait(lambda: any(p["status"].get("phase") == "Running" and "-dask-" not in p["metadata"]["name"] for p in kube.pods()), 120)
        operator.on_kill()

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(TemporaryFailure, match="interrupted"):
        operator.execute(near)
    killer.join()
    nothing_left(kube, dask_operator)


def test_what_a_dead_airflow_left_goes_with_its_pod(dask_operator, kube, near, monkeypatch):
    monkeypatch.setattr("earthself.operators.in_pod.PodStep._take_away", died)
    with pytest.raises(Died):
        step("pass").execute(near)
    assert of_dask(kube)
    (left,) = dask_operator.objects.values()
    assert [one["kind"] for one in left["metadata"]["ownerReferences"]] == ["Pod"], "Kubernetes takes it away with the pod"
    near["ti"].get_task_states = lambda **_: {near["ti"].run_id: {"t": "failed"}}
    ReapPodsOperator(task_id="reap", older_than=timedelta(0)).execute(near)
    nothing_left(kube, dask_operator)


def test_a_cluster_that_nobody_makes_is_said_and_not_left(kube, near, tmp_path, monkeypatch):
    says = r"was not there within 3 s: no dask-kubernetes operator has taken up es-dask-.*is it running"
    with standin(kube, tmp_path, monkeypatch, operated=False) as door, pytest.raises(TemporaryFailure, match=says):
        through(lambda: step(start_seconds=3), near)
    nothing_left(kube, door)


def test_a_cluster_that_does_not_go_is_said(dask_operator, kube, near, monkeypatch):
    monkeypatch.setattr("earthself.operators.in_pod.PodStep._take_away", died)
    with pytest.raises(Died):
        step("pass").execute(near)
    (left,) = dask_operator.objects.values()
    left["metadata"]["finalizers"] = ["kopf.zalando.org/KopfFinalizerMarker"]
    kube.kubectl("delete", "pods", "-l", "app.kubernetes.io/managed-by=earthself", "--grace-period=1")
    with pytest.raises(TemporaryFailure, match=r"does not go, \d+ s after its deletion; it is held by kopf"):
        through(lambda: step("pass", start_seconds=2), near)
    del left["metadata"]["finalizers"]
    near["ti"].get_task_states = lambda **_: {}
    ReapPodsOperator(task_id="reap", older_than=timedelta(0)).execute(near)
    nothing_left(kube, dask_operator)


def test_a_scheduler_that_cannot_start_is_said_at_once(dask_operator, kube, near):
    never = {"spec": {"containers": [{"name": "step", "imagePullPolicy": "Never"}]}}
    dask = DaskCluster(1, 0.1, "64Mi", "64Mi", image="localhost/nobody:1")
    with pytest.raises(AirflowFailException, match=r"scheduler of the Dask cluster es-dask-.* cannot start: image localhost/nobody:1"):
        through(lambda: step(dask=dask, pod_template=never), near)
    nothing_left(kube, dask_operator)


def test_a_kubernetes_without_the_operator_says_what_to_install(kube, task, tmp_path, monkeypatch):
    with standin(kube, tmp_path, monkeypatch, known=False):
        with pytest.raises(AirflowFailException, match=r"has no dask-kubernetes operator .* install its Helm chart"):
            through(step, task())
        done = ReapPodsOperator(task_id="reap").execute(task())
    assert done == {"removed": [], "kept": 0}
    assert not kube.left()


def test_what_a_pod_of_the_cluster_may_do_is_what_the_step_may(task, workspace):
    from earthself.operators.clouds import Cloud
    from earthself.operators.dask_cluster import dask_object
    from earthself.operators.manifest import Step, manifest

    folder = Path(workspace) / "runs/a_dag/manual__1/work"
    wanted = Step("i", ["x"], [], {"A": "1"}, ["MY_TOKEN"], ["sources.json"], StepResources(gpu=1), Path(workspace), [folder], [], {})
    cloud = Cloud("c", namespace="n", workspace={"emptyDir": {}}, template={"spec": {"tolerations": [{"operator": "Exists"}]}})
    pod = manifest(task(), cloud, wanted, "es-t-0123456789ab", "es-t-0123456789ab")
    made = dask_object(DaskCluster(3, 2, "4Gi"), pod, "step", {"a": "b"})
    assert made["metadata"]["name"] == "es-dask-0123456789ab"
    worker = made["spec"]["worker"]
    assert worker["replicas"] == 3
    assert worker["spec"]["tolerations"] == [{"operator": "Exists"}]
    assert worker["spec"]["securityContext"] == pod["spec"]["securityContext"]
    (container,) = worker["spec"]["containers"]
    assert container["securityContext"] == pod["spec"]["containers"][0]["securityContext"]
    assert container["resources"] == {"requests": {"cpu": "2", "memory": str(4 * 2**30)}, "limits": {"memory": str(4 * 2**30)}}
    assert "MY_TOKEN" not in json.dumps(made)
    assert "es-t-0123456789ab" not in json.dumps(made["spec"]), "no Secret of the step"
    assert "nvidia" not in json.dumps(made)
