"""Steps in pods of a real cluster, by what their user sees: outputs, log lines, errors, and that nothing is left over."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred
from earthself.hooks.tally import Tally
from earthself.operators import StepResources, catalogs
from earthself.operators.errors import TemporaryFailure
from earthself.triggers.pods.waiting import WAITING
from in_pods import COPY, INSIDE, Died, again, connection, died, fired, lines, resumed, run, step, template
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs

QUICK = {"spec": {"terminationGracePeriodSeconds": 1}}


async def nothing(*_):
    return


def test_a_step_in_a_pod_reads_its_input_and_leaves_a_catalogue(kube, task, found, workspace):
    said = {"status": "done", "outputs": 1, "message": "", "metrics": {"cpu_seconds": 1.5, "peak_memory_bytes": 2048}, "warnings": []}
    with capture_logs() as logs:
        reference = run(step(f"{COPY} echo '{json.dumps(said)}' > $EARTHSELF_STEP_RESULT", inputs=found, output="mine"), task())
    assert reference["count"] == 1
    assert (workspace / "runs/a_dag/manual__1/work/mine/one/one.json").is_file()
    assert " 50 % catalog.json" in lines(logs)
    account = json.loads((workspace / "runs/a_dag/manual__1/work/steps/t/run.json").read_text())
    assert re.search(r"busybox:1@sha256:[0-9a-f]{64}$", account["image"])
    assert (account["cpu_seconds"], account["peak_memory"]) == (1.5, 2048), "what a pod used is known by its step only"
    kube.wait(lambda: not kube.left())


def test_an_input_that_a_pod_cannot_see_is_refused_before_anything_is_made(kube, task, products):
    with pytest.raises(AirflowFailException, match="outside of the workspace"):
        run(step(inputs=products), task())
    assert not kube.left()


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
            kube.begin(),
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
        step(start_seconds=2.5).execute(task())
    assert [pod["metadata"]["name"] for pod in kube.pods()] == ["other"]
    trigger = again(deferred.value.trigger)

    async def fire():
        asyncio.get_running_loop().call_later(3, lambda: kube.kubectl("delete", "pod", "other", "--grace-period=0", "--force"))
        return await fired(trigger)

    assert step().resume(task(), asyncio.run(fire()))["count"] == 1


def test_a_namespace_without_room_for_secrets_is_waited_for(kube, task):
    used = len(json.loads(kube.kubectl("get", "secrets", "-o", "json"))["items"])
    kube.kubectl("create", "quota", "few", f"--hard=count/secrets={used}")
    kube.wait(lambda: kube.kubectl("get", "quota", "few", "-o", "jsonpath={.status.used}") != "")
    operator = step(f"test ${{#MY_TOKEN}} = 6 && {COPY}", env={"MY_TOKEN": "hidden"})
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(task())
    assert not kube.left()
    assert "hidden" not in json.dumps(deferred.value.trigger.serialize())
    trigger = again(deferred.value.trigger)

    async def fire():
        asyncio.get_running_loop().call_later(3, lambda: kube.kubectl("delete", "quota", "few"))
        return await fired(trigger)

    with capture_logs() as logs:
        event = asyncio.run(fire())
    assert any("exceeded quota" in entry["event"] for entry in logs)
    assert event["room"], "the worker that has the secret makes it"
    assert not kube.left()
    assert resumed(step(f"test ${{#MY_TOKEN}} = 6 && {COPY}", env={"MY_TOKEN": "hidden"}), task(), event)["count"] == 1
    kube.wait(lambda: not kube.left())


def test_the_time_of_a_task_runs_while_it_waits_for_room(kube, task):
    kube.kubectl("create", "quota", "none", "--hard=pods=0")
    operator = step(execution_timeout=timedelta(seconds=5), env={"MY_TOKEN": "x"})
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(task())
    event = asyncio.run(fired(again(deferred.value.trigger)))
    with pytest.raises(TemporaryFailure, match=r"its time is over .*exceeded quota"):
        operator.resume(task(), event)
    kube.wait(lambda: not kube.left())


def test_what_pods_do_is_counted_and_how_many_wait_is_told(kube, task):
    with pytest.raises(AirflowFailException, match="killed for memory"):
        run(step("x=a; while true; do x=$x$x; done", resources=StepResources(0.05, "16Mi")), task())
    kube.kubectl("create", "quota", "none", "--hard=pods=0")
    kube.wait(lambda: kube.kubectl("get", "quota", "none", "-o", "jsonpath={.status.hard.pods}") == "0")
    begun = datetime.now(UTC)

    def waiting():
        with Tally() as tally:
            return {(each.labels["cloud"], each.value) for each in tally.told(begun)}

    with pytest.raises(TaskDeferred) as deferred:
        step().execute(task())
    events: list[dict] = []

    async def triggerer():
        events.append(await fired(again(deferred.value.trigger)))
        await WAITING._telling  # a triggerer lives on

    waits = threading.Thread(target=lambda: asyncio.run(triggerer()))
    with capture_logs(processors=[merge_contextvars]) as logs:
        waits.start()
        kube.wait(lambda: waiting() == {("kubernetes_default", 1)})
        kube.kubectl("delete", "quota", "none")
        waits.join(60)
    assert [entry["step"] for entry in logs if "50 %" in entry["event"]] == ["t"], "a line of the step that the triggerer says"
    step().resume(task(), events[0])
    kube.wait(lambda: waiting() == set())
    with Tally() as tally:
        counted = tally.counted()
    found = {(each.name, each.labels.get("result")): each.value for each in counted}
    assert found["earthself_steps_started", None] == 2, "one that was deferred began once"
    assert (found["earthself_steps_ended", "memory"], found["earthself_steps_ended", "done"]) == (1, 1)
    assert sum(each.value for each in counted if each.name == "earthself_step_seconds") == 2


def test_a_pod_carries_the_ids_of_its_run_for_who_collects_logs(kube, task):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("earthself.triggers.pods.life.Life.follow", died)
        with pytest.raises(Died):
            step("sleep 30").execute(task(3))
    (pod,) = kube.pods()
    labels = {name: pod["metadata"]["labels"].get(name) for name in ("dag_id", "run_id", "task_id", "map_index", "try_number")}
    assert labels == {"dag_id": "a_dag", "run_id": "manual__1", "task_id": "t", "map_index": "3", "try_number": "1"}
    whole = json.loads(pod["metadata"]["annotations"]["earthself.io/task"])
    assert whole == {"dag_id": "a_dag", "run_id": "manual__1", "task_id": "t", "map_index": 3}


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


def test_a_pod_that_worked_on_something_else_under_the_same_path_is_not_taken_on(kube, task, workspace):
    items = [{"type": "Feature", "id": f"P{n}", "links": [], "assets": {}, "properties": {}} for n in range(2)]
    given = workspace / "runs/a_dag/manual__1/work/given"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("earthself.triggers.pods.life.Life.follow", died)
        with pytest.raises(Died):
            step("ls $EARTHSELF_INPUT;" + COPY, inputs=catalogs.write_catalog(given, "given", items[:1]).to_dict()).execute(task())
    (before,) = kube.pods()
    kube.begin()
    with capture_logs() as logs:
        run(step("ls $EARTHSELF_INPUT;" + COPY, inputs=catalogs.write_catalog(given, "given", items).to_dict()), task())
    assert not any("taken on" in line for line in lines(logs))
    assert before["metadata"]["name"] not in {pod["metadata"]["name"] for pod in kube.pods()}


def test_a_pod_that_is_refused_leaves_no_secret(kube, task):
    small = {"kind": "LimitRange", "spec": {"limits": [{"type": "Container", "max": {"memory": "16Mi"}}]}}
    kube.kubectl("apply", "-f", "-", text=json.dumps({"apiVersion": "v1", "metadata": {"name": "small"}} | small))
    with pytest.raises(AirflowFailException, match="maximum memory"):
        step(env={"MY_TOKEN": "x"}).execute(task())
    assert not kube.left()


def test_a_wait_that_fails_for_good_takes_the_pod_along(kube, task, monkeypatch):
    connection(monkeypatch, lambda extra: extra["earthself"].update(patience=0))
    with pytest.raises(TaskDeferred) as deferred:
        step("sleep 1000", env={"MY_TOKEN": "x"}, pod_template=QUICK).execute(task())
    kube.begin()
    event = {"error": "the right is gone", "retry": False, "exit_code": 1, "plan": deferred.value.trigger.plan}
    with pytest.raises(AirflowFailException, match="the right is gone"):
        step("sleep 1000", pod_template=QUICK).resume(task(), event)
    kube.wait(lambda: not kube.left())


@pytest.mark.parametrize(("answer", "stays"), [("failed", False), ("deferred", True), (ConnectionError("away"), False)])
def test_a_wait_that_is_ended_takes_the_pod_along_unless_another_waits_on(kube, task, monkeypatch, answer, stays):
    connection(monkeypatch, lambda extra: extra["earthself"].update(patience=0))
    context = task()
    with pytest.raises(TaskDeferred) as deferred:
        step("sleep 1000", env={"MY_TOKEN": "x"}, pod_template=QUICK).execute(context)
    kube.begin()

    def ask(**_):
        if isinstance(answer, Exception):
            raise answer
        return {context["ti"].run_id: {"t": answer}}

    monkeypatch.setattr("airflow.sdk.execution_time.task_runner.RuntimeTaskInstance.get_task_states", ask)
    asyncio.run(deferred.value.trigger.on_kill())
    if stays:
        assert [pod["metadata"].get("deletionTimestamp") for pod in kube.pods()] == [None]
    else:
        kube.wait(lambda: not kube.left())


def test_a_wait_that_is_ended_again_each_moment_takes_the_pod_along(kube, task, monkeypatch):
    connection(monkeypatch, lambda extra: extra["earthself"].update(patience=0))
    context = task()
    with pytest.raises(TaskDeferred) as deferred:
        step("sleep 1000", env={"MY_TOKEN": "x"}, pod_template=QUICK).execute(context)
    kube.begin()
    asked = threading.Event()

    def ask(**_):
        asked.set()
        time.sleep(1)
        return {context["ti"].run_id: {"t": "failed"}}

    async def triggerer():
        ending = asyncio.create_task(deferred.value.trigger.on_kill())
        await asyncio.to_thread(asked.wait)
        while not ending.done():
            ending.cancel()
            await asyncio.sleep(0.1)
        assert ending.cancelled()
        await asyncio.gather(*(one for one in asyncio.all_tasks() if one is not asyncio.current_task()))

    monkeypatch.setattr("airflow.sdk.execution_time.task_runner.RuntimeTaskInstance.get_task_states", ask)
    asyncio.run(triggerer())
    kube.wait(lambda: not kube.left())


def test_a_task_that_is_ended_while_its_input_is_prepared_makes_nothing(kube, task, monkeypatch):
    operator = step(env={"MY_TOKEN": "x"})
    stage = operator._stage

    def killed(run):
        stage(run)
        operator.on_kill()  # Python goes on after the signal

    monkeypatch.setattr(operator, "_stage", killed)
    with pytest.raises(TemporaryFailure, match="stopped before it began"):
        operator.execute(task())
    assert not kube.left()


def test_each_line_is_said_once_when_the_stream_is_cut_in_the_middle(kube, task, door):
    script = "i=0; while [ $i -lt 3000 ]; do i=$((i+1)); echo line $i; [ $((i % 100)) = 0 ] && sleep 0.2; done; printf 'no newline';" + COPY
    done = threading.Event()

    def slam():
        while not done.wait(0.45):
            door.cut()

    slammer = threading.Thread(target=slam)
    slammer.start()
    try:
        with capture_logs() as logs:
            run(step(script), task())
    finally:
        done.set()
        slammer.join()
    said = lines(logs)
    assert door.cuts > 3
    assert [line for line in said if line.startswith("line ")] == [f"line {i}" for i in range(1, 3001)]
    assert said.count("no newline") == 1


def test_a_line_that_is_too_long_to_keep_is_cut_and_the_rest_of_the_log_goes_on(kube, task):
    with capture_logs() as logs:
        run(step("head -c 6000000 /dev/zero | tr '\\0' x; echo; echo after;" + COPY), task())
    said = lines(logs)
    assert {len(line) for line in said if line.startswith("xxx")} <= set(range(1_000_000, 2 << 20))
    assert said.count("after") == 1


def test_a_killed_task_takes_its_pod_along_even_if_the_step_does_not_listen(kube, task):
    operator = step("trap '' TERM; echo begun; sleep 1000 & wait; sleep 1000", pod_template={"spec": {"terminationGracePeriodSeconds": 2}})

    def kill():
        kube.begin()
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


def test_pods_of_another_platform_in_the_same_namespace_are_its_own(kube, task, monkeypatch):
    from earthself.operators import ReapPodsOperator

    monkeypatch.setattr("earthself.operators.in_pod.PodStep._take_away", died)
    with pytest.raises(Died):
        run(step("true"), task())
    connection(monkeypatch, lambda extra: extra["earthself"]["workspace"]["hostPath"].update(type="Directory"))
    context = task()
    context["ti"].get_task_states = lambda **_: {}
    assert ReapPodsOperator(task_id="reap", older_than=timedelta(0)).execute(context) == {"removed": [], "kept": 0}
    with pytest.raises(Died):
        run(step("true"), task())
    assert len(kube.pods()) == 2, "the same task of the same run there has its own"
