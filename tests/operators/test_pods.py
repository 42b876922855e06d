"""Steps in pods of a real cluster, by what their user sees: outputs, log lines, errors, and that nothing is left over."""

from __future__ import annotations

import asyncio
import json
import os
import re
import secrets
import shutil
import subprocess
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred
from earthself.operators import ProcessingStepOperator, StepResources
from earthself.operators.errors import TemporaryFailure
from structlog.testing import capture_logs
from tcp_proxy import Proxy

from tests.kube import Cluster

ITEM = '{"type":"Feature","stac_version":"1.1.0","id":"one","geometry":null,"links":[],"assets":{},"properties":{"datetime":null}}'
CATALOG = '{"type":"Catalog","stac_version":"1.1.0","id":"c","description":"c","links":[{"rel":"item","href":"./one/one.json"}]}'
COPY = f"""
for item in $(ls $EARTHSELF_STEP_INPUT); do echo "progress 0.5 $item" >&2; done
cd $EARTHSELF_STEP_OUTPUT
mkdir one
echo '{ITEM}' > one/one.json
echo '{CATALOG}' > catalog.json
"""


@pytest.fixture
def kube(cluster_config, workspace, monkeypatch):
    """A namespace of its own, and the connection that leads there."""
    cluster = Cluster(cluster_config, f"t-{secrets.token_hex(4)}")
    cluster.kubectl("create", "namespace", cluster.namespace)
    extra = {
        "kube_config_path": cluster_config,
        "namespace": cluster.namespace,
        "earthself": {"image": "localhost/busybox:1", "workspace": {"hostPath": {"path": str(workspace)}}},
    }
    monkeypatch.setenv("AIRFLOW_CONN_KUBERNETES_DEFAULT", json.dumps({"conn_type": "kubernetes", "extra": extra}))
    yield cluster
    cluster.kubectl("delete", "namespace", cluster.namespace, "--wait=false")


def connection(monkeypatch, change) -> None:
    """Change what the connection says."""
    said = json.loads(os.environ["AIRFLOW_CONN_KUBERNETES_DEFAULT"])
    change(said["extra"])
    monkeypatch.setenv("AIRFLOW_CONN_KUBERNETES_DEFAULT", json.dumps(said))


def step(script: str = COPY, **kwargs) -> ProcessingStepOperator:
    kwargs = {
        "eodag_conn_id": None,
        "image": "localhost/busybox:1",
        "command": ["sh", "-c", script],
        "resources": StepResources(0.05, "64Mi"),
    } | kwargs
    return ProcessingStepOperator(task_id="t", **kwargs)


def run(operator, context):
    """What Airflow does: execute, let the trigger wait where the task says so, resume."""
    try:
        return operator.execute(context)
    except TaskDeferred as deferred:
        trigger = again(deferred.trigger)

    return operator.resume(context, asyncio.run(fired(trigger)))


async def fired(trigger):
    """What the trigger says in the end, as it comes out of the database."""
    return json.loads(json.dumps((await anext(aiter(trigger.run()))).payload))


def again(trigger):
    """The trigger as the triggerer makes it, from what is in the database."""
    path, kwargs = trigger.serialize()
    assert path == "earthself.triggers.step_pod.StepPodTrigger"
    return type(trigger)(**json.loads(json.dumps(kwargs)))


@pytest.fixture
def task(context):
    def make(index: int = -1):
        made = context(index)
        name = "t" if index < 0 else f"t_{index}"
        states = {made["ti"].run_id: {name: "running"}}
        made["ti"] = SimpleNamespace(**vars(made["ti"]), start_date=datetime.now(UTC), get_task_states=lambda **_: states)
        return made | {"run_id": made["ti"].run_id, "dag": SimpleNamespace()}

    return make


@pytest.fixture
def found(products, workspace):
    """The products' catalogue, as a task before this one leaves it in the run's folder."""
    from earthself.data.reference import Reference

    path = workspace / "runs/a_dag/manual__1/work/found"
    shutil.copytree(Reference.from_dict(products).path().parent, path)
    return Reference.to_file(path / "catalog.json", 2).to_dict()


class Died(BaseException):
    """The worker is no more."""


async def died(*_):
    raise Died


async def nothing(*_):
    return


def lines(logs) -> list[str]:
    return [entry["event"] for entry in logs]


def test_a_step_in_a_pod_reads_its_input_and_leaves_a_catalogue(kube, task, found, workspace):
    with capture_logs() as logs:
        reference = run(step(inputs=found, output="mine"), task())
    assert reference["count"] == 1
    assert (workspace / "runs/a_dag/manual__1/work/mine/one/one.json").is_file()
    assert " 50 % catalog.json" in lines(logs)
    account = json.loads((workspace / "runs/a_dag/manual__1/work/steps/t/run.json").read_text())
    assert re.search(r"busybox:1@sha256:[0-9a-f]{64}$", account["image"])
    kube.wait(lambda: not kube.left())


def test_an_input_that_a_pod_cannot_see_is_refused_before_anything_is_made(kube, task, products):
    with pytest.raises(AirflowFailException, match="outside of the workspace"):
        run(step(inputs=products), task())
    assert not kube.left()


INSIDE = """
id -u; grep -E '^(CapEff|CapPrm|NoNewPrivs|Seccomp):' /proc/self/status
touch /here 2>/dev/null && echo root-writable; touch $EARTHSELF_STEP_INPUT/here 2>/dev/null && echo input-writable
touch $EARTHSELF_STEP_SCRATCH/x /tmp/x && echo scratch-writable
ls /var/run/secrets/kubernetes.io 2>/dev/null && echo has-token
env | grep -E 'SERVICE_HOST' | grep -v ^KUBERNETES_ && echo has-services
"""


def test_a_pod_has_no_rights_that_it_does_not_need(kube, task, found):
    with capture_logs() as logs:
        run(step(INSIDE + COPY, inputs=found), task())
    said = lines(logs)
    uid = str(os.getuid() or 50_000)
    assert uid in said
    assert {"CapPrm:\t0000000000000000", "CapEff:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"} <= set(said)
    assert "scratch-writable" in said
    assert not {"root-writable", "input-writable", "has-token", "has-services"} & set(said)


@pytest.mark.parametrize(
    ("script", "error", "says"),
    [
        ("echo 'no such band'; exit 65", AirflowFailException, "no such band"),
        ("exit 75", TemporaryFailure, "asks to be tried again"),
        ("exit 3", AirflowFailException, "exit code 3"),
        ("exit 139", TemporaryFailure, "signal 11"),
        ("exit 0", AirflowFailException, "left no catalog.json"),
        (COPY + "echo nonsense > /dev/termination-log", AirflowFailException, "not JSON"),
        (COPY + "echo nonsense > $EARTHSELF_STEP_RESULT", AirflowFailException, "not JSON"),
        (COPY + "yes 12345678 | head -c 5000 > $EARTHSELF_STEP_RESULT", AirflowFailException, "result document"),
        (
            COPY + """echo '{"status":"failed","message":"it says no"}' > $EARTHSELF_STEP_RESULT""",
            AirflowFailException,
            "'failed', not 'done'",
        ),
        ("""echo '{"status":"done","message":"it says yes"}' > $EARTHSELF_STEP_RESULT; exit 4""", AirflowFailException, "exit code 4"),
        ("head -c 200m /dev/zero | tail | wc -c", AirflowFailException, "killed for memory"),
    ],
)
def test_how_a_step_ends_says_whether_to_try_again_and_leaves_nothing(kube, task, script, error, says):
    workspace = Path(os.environ["EARTHSELF_WORKSPACE"])
    with pytest.raises(error, match=says):
        run(step(script, output="mine"), task())
    kube.wait(lambda: not kube.left())
    assert not (workspace / "runs/a_dag/manual__1/work/mine").exists()
    assert not (workspace / "runs/a_dag/manual__1/work/steps/t/staging").exists()


def template(**container):
    return {"spec": {"containers": [{"name": "step", **container}]}}


@pytest.mark.parametrize(
    ("kwargs", "error", "says"),
    [
        (
            {"image": "localhost/nobody:1", "pod_template": template(imagePullPolicy="Never")},
            AirflowFailException,
            "image localhost/nobody:1 cannot be had",
        ),
        ({"image": "Nonsense:::"}, AirflowFailException, "cannot be had|refuses"),
        ({"command": ["/no/such/program"]}, AirflowFailException, "cannot be started|cannot be made"),
        ({"command": None, "step": "indices"}, AirflowFailException, r"cannot be (started|made) .*\"python\""),
        (
            {"pod_template": {"spec": {"nodeSelector": {"moon": "full"}}}, "start_seconds": 3},
            TemporaryFailure,
            "did not start within 3 s: .*node",
        ),
        ({"pod_template": {"spec": {"containers": [{"name": "mine"}]}}}, AirflowFailException, r"containers\[1\].image: Required"),
        ({"pod_template": {"spec": {"nonsense": 1}}}, AirflowFailException, "nonsense"),
    ],
)
def test_a_pod_that_cannot_start_says_why_and_leaves_nothing(kube, task, kwargs, error, says):
    with pytest.raises(error, match=says):
        run(step(**kwargs), task())
    kube.wait(lambda: not kube.left())


def test_a_sidecar_that_never_ends_does_not_hold_the_step(kube, task):
    sidecar = {"name": "mesh", "image": "localhost/busybox:1", "command": ["sleep", "1000"]}
    reference = run(step(pod_template={"spec": {"containers": [{"name": "step"}, sidecar]}}), task())
    assert reference["count"] == 1
    kube.wait(lambda: not kube.left())


def test_secrets_reach_a_pod_as_a_secret_that_goes_with_it(kube, task, monkeypatch):
    monkeypatch.setenv(
        "AIRFLOW_CONN_EODAG_DEFAULT",
        json.dumps({"conn_type": "eodag", "extra": {"credentials": {"cop_dataspace": {"username": "me", "password": "hunter2"}}}}),
    )
    script = "cat $EARTHSELF_SOURCES | wc -c; ls -ln $EARTHSELF_SOURCES; echo token $MY_TOKEN | md5sum; sleep 3;" + COPY
    seen = {}

    def watch():
        kube.wait(kube.pods)
        seen["pod"] = kube.pods()[0]
        seen["secrets"] = json.loads(kube.kubectl("get", "secrets", "-l", "app.kubernetes.io/managed-by=earthself", "-o", "json"))["items"]

    watcher = threading.Thread(target=watch)
    watcher.start()
    with capture_logs() as logs:
        run(step(script, eodag_conn_id="eodag_default", env={"MY_TOKEN": "hunter3", "PLAIN": "x"}), task())
    watcher.join()
    said = " ".join(lines(logs))
    assert "hunter" not in json.dumps(seen["pod"]), "no secret stands in the manifest"
    assert [one["metadata"]["ownerReferences"][0]["uid"] for one in seen["secrets"]] == [seen["pod"]["metadata"]["uid"]]
    assert subprocess.run(["md5sum"], input=b"token hunter3\n", capture_output=True, check=True).stdout.decode().strip() in said
    assert "hunter" not in said
    kube.wait(lambda: not kube.left())


def test_a_pod_that_is_deleted_from_outside_is_no_success(kube, task):
    script = "trap 'exit 0' TERM; echo begun;" + COPY + "sleep 1000 & wait"
    deleter = threading.Thread(
        target=lambda: (
            kube.wait(lambda: any(p["status"].get("phase") == "Running" for p in kube.pods())),
            kube.kubectl("delete", "pods", "--all", "--wait=false"),
        )
    )
    deleter.start()
    with pytest.raises(TemporaryFailure, match="interrupted"):
        run(step(script), task())
    deleter.join()
    kube.wait(lambda: not kube.left())


def test_what_takes_long_is_waited_for_without_a_worker(kube, task, monkeypatch):
    connection(monkeypatch, lambda extra: extra["earthself"].update(patience=1.0))
    operator = step("for i in $(seq 40); do echo line $i; sleep 0.1; done;" + COPY)
    with capture_logs() as logs, pytest.raises(TaskDeferred) as deferred:
        operator.execute(task())
    trigger = again(deferred.value.trigger)
    operator = step("for i in $(seq 40); do echo line $i; sleep 0.1; done;" + COPY)

    with capture_logs() as later:
        event = asyncio.run(fired(trigger))
    assert operator.resume(task(), event)["count"] == 1
    said = lines(logs) + lines(later)
    assert [line for line in said if line.startswith("line ")] == [f"line {i}" for i in range(1, 41)], (
        "each line once, wherever it was read"
    )
    kube.wait(lambda: not kube.left())


def test_a_full_namespace_is_waited_for(kube, task):
    kube.kubectl("create", "quota", "one", "--hard=pods=1")
    kube.kubectl("run", "other", "--image=localhost/busybox:1", "--restart=Never", "--", "sleep", "1000")
    with pytest.raises(TaskDeferred) as deferred:
        step().execute(task())
    assert [pod["metadata"]["name"] for pod in kube.pods()] == ["other"]
    trigger = again(deferred.value.trigger)

    async def fire():
        asyncio.get_running_loop().call_later(3, lambda: kube.kubectl("delete", "pod", "other", "--grace-period=0", "--force"))
        return await fired(trigger)

    assert step().resume(task(), asyncio.run(fire()))["count"] == 1


def test_the_time_of_a_task_runs_while_it_waits_for_room(kube, task):
    kube.kubectl("create", "quota", "none", "--hard=pods=0")
    operator = step(execution_timeout=timedelta(seconds=5), env={"MY_TOKEN": "x"})
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(task())
    event = asyncio.run(fired(again(deferred.value.trigger)))
    with pytest.raises(TemporaryFailure, match=r"its time is over .*exceeded quota"):
        operator.resume(task(), event)
    kube.wait(lambda: not kube.left())


def test_the_next_try_takes_on_the_pod_of_a_worker_that_died(kube, task):
    script = "echo begun; sleep 5;" + COPY
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("earthself.triggers.pods.life.Life.follow", died)
        with pytest.raises(Died):
            step(script).execute(task())
    first = [pod["metadata"]["uid"] for pod in kube.pods()]
    with capture_logs() as logs:
        assert run(step(script), task())["count"] == 1
    assert len(first) == 1
    assert lines(logs).count("begun") == 1
    assert any("taken on" in line for line in lines(logs))


@pytest.fixture
def proxy(kube, tmp_path, monkeypatch):
    """The way to the API server leads through a door that the test can slam."""
    config = Path(kube.config).read_text()
    found = re.search(r"https://([^:/]+):(\d+)", config)
    assert found
    door = Proxy(found[1], int(found[2]))
    (tmp_path / "through.kubeconfig").write_text(config.replace(found[0], f"https://127.0.0.1:{door.port}"))
    connection(monkeypatch, lambda extra: extra.update(kube_config_path=str(tmp_path / "through.kubeconfig")))
    yield door
    door.close()


def test_each_line_is_said_once_when_the_stream_is_cut_in_the_middle(kube, task, proxy):
    script = "i=0; while [ $i -lt 3000 ]; do i=$((i+1)); echo line $i; [ $((i % 100)) = 0 ] && sleep 0.2; done; printf 'no newline';" + COPY
    done = threading.Event()

    def slam():
        while not done.wait(0.45):
            proxy.cut()

    slammer = threading.Thread(target=slam)
    slammer.start()
    try:
        with capture_logs() as logs:
            run(step(script), task())
    finally:
        done.set()
        slammer.join()
    said = lines(logs)
    assert proxy.cuts > 3
    assert [line for line in said if line.startswith("line ")] == [f"line {i}" for i in range(1, 3001)]
    assert said.count("no newline") == 1


def test_a_run_goes_on_while_the_api_server_is_away(kube, task, proxy):
    def away():
        kube.wait(lambda: any(pod["status"].get("phase") == "Running" for pod in kube.pods()))
        proxy.shut = True
        proxy.cut()
        time.sleep(10)
        proxy.shut = False

    worker = threading.Thread(target=away)
    worker.start()
    with capture_logs() as logs:
        assert run(step("for i in $(seq 8); do echo line $i; sleep 0.5; done;" + COPY), task())["count"] == 1
    worker.join()
    assert [line for line in lines(logs) if line.startswith("line ")] == [f"line {i}" for i in range(1, 9)]
    kube.wait(lambda: not kube.left())


def test_a_killed_task_takes_its_pod_along_even_if_the_step_does_not_listen(kube, task):
    operator = step("trap '' TERM; echo begun; sleep 1000 & wait; sleep 1000", pod_template={"spec": {"terminationGracePeriodSeconds": 2}})

    def kill():
        kube.wait(lambda: any(pod["status"].get("phase") == "Running" for pod in kube.pods()))
        operator.on_kill()

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(TemporaryFailure, match="interrupted"):
        run(operator, task())
    killer.join()
    kube.wait(lambda: not kube.left())


def test_what_nobody_waits_for_is_reaped_and_nothing_else(kube, task, monkeypatch):
    from earthself.operators import ReapPodsOperator

    monkeypatch.setattr("earthself.operators.in_pod.PodStep._take_away", died)
    monkeypatch.setattr("earthself.triggers.pods.life.Life._own", nothing)
    for index in (1, 2):
        with pytest.raises(Died):
            run(step("true", env={"MY_TOKEN": "x"}), task(index))
    assert len(kube.left()) == 4
    context = task(1)
    states = {context["ti"].run_id: {"t_1": "failed", "t_2": "up_for_retry"}}
    context["ti"].get_task_states = lambda **_: states
    young = ReapPodsOperator(task_id="reap").execute(context)
    assert young == {"removed": [], "kept": 2}, "what is just being made is left alone"
    with capture_logs() as logs:
        done = ReapPodsOperator(task_id="reap", older_than=timedelta(0)).execute(context)
    gone = set(done["removed"])
    assert {name.partition("/")[0] for name in gone} == {"pods", "secrets"}
    assert len(gone) == 2
    assert any("was left behind (failed)" in line for line in lines(logs))
    kube.wait(lambda: len(kube.left()) == 2)
    assert ReapPodsOperator(task_id="reap", clouds=["nowhere"]).execute(context) == {"removed": [], "kept": 0}
