"""Steps in pods of a cloud that does not share the workspace: through a real S3 server, with what storages and clusters do meanwhile."""

from __future__ import annotations

import json
import os
import socket
import threading

import pytest
from airflow.sdk.exceptions import AirflowFailException
from earthself.data.errors import NotThere, TryAgain
from earthself.data.folders import staged
from earthself.data.reference import Reference
from earthself.hooks.tally import Tally
from earthself.operators import catalogs
from earthself.operators.errors import TemporaryFailure
from in_pods import INSIDE, connection, lines, run, step
from structlog.testing import capture_logs

from tests.s3_server import Answer, Cut, Proxy

pytestmark = pytest.mark.timeout(300)

BASE = "s3://near@maps/steps/a_dag"
LEAVE = """
[ -f $EARTHSELF_STEP_INPUT/area.geojson ] && echo has-area
ls /earthself/keys 2>/dev/null && echo has-keys; env | grep -i near && echo has-near
cd $EARTHSELF_STEP_OUTPUT && mkdir two && head -c 100000 /dev/zero > two/made.bin
echo '{"type":"Feature","stac_version":"1.1.0","id":"two","geometry":null,"links":[],"assets":{"made":{"href":"./made.bin"}},
       "properties":{"datetime":null}}' > two/two.json
echo '{"type":"Catalog","stac_version":"1.1.0","id":"c","description":"c","links":[{"rel":"item","href":"./two/two.json"}]}' > catalog.json
echo '{"status":"done","outputs":1,"message":"as told","metrics":{"items":1},"warnings":[]}' > $EARTHSELF_STEP_RESULT
"""
MINE = (
    """
cat $EARTHSELF_STEP_INPUT/one/B04.bin $(dirname $EARTHSELF_STEP_INPUT)/../../../../downloads/shared.bin; echo
"""
    + LEAVE
)
KILLED_AND_WENT_ON = "head -c 200m /dev/zero | tail | wc -c;" + MINE


def reachable(kube) -> str:
    """The address by which a pod reaches a server of this machine."""
    cidr = kube.kubectl("get", "nodes", "-o", "jsonpath={.items[0].spec.podCIDR}")
    host = os.environ.get("EARTHSELF_TEST_HOST") or cidr.rpartition(".")[0] + ".1"
    try:
        socket.create_server((host, 0)).close()
    except OSError:
        pytest.skip(f"pods do not reach this machine at {host}; name the address by EARTHSELF_TEST_HOST")
    return host


@pytest.fixture
def storage(kube, s3_empty, stager, monkeypatch, tmp_path):
    """The way to the storage, for the worker and for pods; the cloud names it instead of a volume."""
    with Proxy(s3_empty, host=reachable(kube)) as door:
        profile = {"endpoint": door.url, "credentials": "env:NEAR", "lend_own_keys": True, "timeout": 20, "attempts": 1}
        profiles(monkeypatch, tmp_path, **profile)
        monkeypatch.setenv("NEAR_ACCESS_KEY_ID", "the-key")
        monkeypatch.setenv("NEAR_SECRET_ACCESS_KEY", "the-secret")
        said = {"image": stager, "storage": "s3://near@maps/steps"}
        connection(monkeypatch, lambda extra: extra.update(earthself=said))
        yield door


def profiles(monkeypatch, folder, **profile) -> None:
    (folder / "profiles.json").write_text(json.dumps({"near": profile}))
    monkeypatch.setenv("EARTHSELF_STORAGE", str(folder / "profiles.json"))


@pytest.fixture
def given(workspace):
    """A catalogue with an asset beside its item, one elsewhere in the workspace, and one on the net."""
    shared = workspace / "downloads/shared.bin"
    shared.parent.mkdir(parents=True)
    shared.write_text(" and what is shared")
    area = {"type": "Polygon", "coordinates": [[[14.0, 48.0], [14.1, 48.0], [14.1, 48.1], [14.0, 48.0]]]}
    hrefs = {"B04": "./B04.bin", "shared": str(shared), "far": "https://example.org/B08.tif"}
    item = {"type": "Feature", "stac_version": "1.1.0", "id": "one", "geometry": area, "links": [], "properties": {"datetime": None}}
    item["assets"] = {name: {"href": href} for name, href in hrefs.items()}
    folder = workspace / "runs/a_dag/manual__1/work/found"
    reference = catalogs.write_catalog(folder, "found", [item], area)
    (folder / "one/B04.bin").write_text("pixels")
    return reference.to_dict()


def account(workspace) -> dict:
    return json.loads((workspace / "runs/a_dag/manual__1/work/steps/t/run.json").read_text())


def test_a_step_reads_its_input_and_leaves_its_output_through_the_storage(*, kube, task, given, storage, workspace, monkeypatch):
    connection(monkeypatch, lambda extra: extra["earthself"].update(patience=0.5))
    with capture_logs() as logs:
        reference = run(step(INSIDE + MINE, inputs=given, output="mine"), task())
    said = lines(logs)
    assert "pixels and what is shared" in said
    assert "has-area" in said
    made = workspace / "runs/a_dag/manual__1/work/mine"
    assert Reference.from_dict(reference).path() == made / "catalog.json"
    assert (made / "two/made.bin").stat().st_size == 100_000
    uid = str(os.getuid() or 50_000)
    assert {uid, "CapPrm:\t0000000000000000", "CapEff:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2", "scratch-writable"} <= set(said)
    assert not {"root-writable", "input-writable", "has-token", "has-services", "has-keys", "has-near"} & set(said)
    told = account(workspace)
    assert told["document"]["message"] == "as told"
    assert told["moved"]["crossed"]
    assert told["moved"]["fetched"] == staged(f"{BASE}/manual__1/t/output").size > 100_000 > told["moved"]["sent"] > 0
    assert "busybox:1@sha256:" in told["image"]
    with Tally() as tally:
        counted = {one.labels["direction"]: one.value for one in tally.counted() if one.name == "earthself_staged_bytes"}
    assert counted == {"sent": told["moved"]["sent"], "fetched": told["moved"]["fetched"]}
    with pytest.raises(NotThere):
        staged(f"{BASE}/manual__1/t/input")
    kube.wait(lambda: not kube.left())


@pytest.mark.parametrize(
    ("script", "error", "says"),
    [
        (
            """echo '{"status":"failed","message":"no such band","retry":false}' > $EARTHSELF_STEP_RESULT; exit 65""",
            AirflowFailException,
            "no such band",
        ),
        ("echo 'so busy'; exit 75", TemporaryFailure, "so busy"),
        ("set -o pipefail; head -c 200m /dev/zero | tail | wc -c", AirflowFailException, "killed for memory"),
        (KILLED_AND_WENT_ON, AirflowFailException, "killed for memory"),
        ("mkdir $EARTHSELF_STEP_OUTPUT/half", AirflowFailException, "left no catalog.json"),
    ],
)
def test_a_step_that_failed_is_told_by_its_own_words_and_leaves_nothing(*, kube, task, given, storage, workspace, script, error, says):
    with pytest.raises(error, match=says):
        run(step(script, inputs=given, output="mine"), task())
    if "catalog" not in says and script != KILLED_AND_WENT_ON:
        with pytest.raises(NotThere):
            staged(f"{BASE}/manual__1/t/output")
    assert not (workspace / "runs/a_dag/manual__1/work/mine").exists()
    kube.wait(lambda: not kube.left())


def asked(method: str, name: str, answer):
    """A fault for requests of one object."""
    return lambda request: answer if request.method == method and request.path.endswith(name) else None


@pytest.mark.parametrize(
    ("fault", "error", "says"),
    [
        (asked("GET", "/input/runs/a_dag/manual__1/work/found/one/B04.bin", Cut(3)), TemporaryFailure, "input could not be staged in"),
        (asked("GET", "/B04.bin", Answer(403, "AccessDenied")), AirflowFailException, "input could not be staged in"),
        (asked("PUT", "/output/two/made.bin", Answer(503, "SlowDown")), TemporaryFailure, "output could not be staged out"),
        (asked("GET", "/output/two/made.bin", Cut(50_000)), TemporaryFailure, "try again later"),
    ],
)
def test_staging_that_breaks_halfway_is_no_output_and_the_next_try_works(*, kube, task, given, storage, workspace, fault, error, says):
    storage.fault = fault
    ran = "echo it ran;" + MINE
    with capture_logs() as logs, pytest.raises(error, match=says):
        run(step(ran, inputs=given, output="mine"), task())
    assert ("it ran" in lines(logs)) == ("input" not in says)
    assert not (workspace / "runs/a_dag/manual__1/work/mine").exists()
    if "output could" in says:
        with pytest.raises(TryAgain):
            staged(f"{BASE}/manual__1/t/output")
    stays = says == "try again later"  # all is made, and only has to be fetched
    kube.wait(lambda: stays or not kube.left())
    before = [pod["metadata"]["uid"] for pod in kube.pods()]
    assert len(before) == stays

    storage.reset()
    with capture_logs() as logs:
        assert run(step(ran, inputs=given, output="mine"), task())["count"] == 1
    again = "is taken on" if stays else "0 bytes (0 bytes) sent"
    assert any(again in line for line in lines(logs)), "what was done is not done again, what arrived is not sent again"
    assert (workspace / "runs/a_dag/manual__1/work/mine/two/made.bin").stat().st_size == 100_000
    kube.wait(lambda: not kube.left())


def test_the_last_try_leaves_nothing_though_its_output_cannot_be_fetched(*, kube, task, given, storage):
    storage.fault = asked("GET", "/output/two/made.bin", Cut(50_000))
    last = task()
    last["ti"].try_number = last["ti"].max_tries + 1
    with pytest.raises(TemporaryFailure, match="try again later"):
        run(step(MINE, inputs=given), last)
    kube.wait(lambda: not kube.left())


def test_a_storage_that_is_gone_is_told_before_any_pod_is_made(*, kube, task, given, storage, monkeypatch, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    own = {"credentials": "env:NEAR", "lend_own_keys": True, "timeout": 5, "attempts": 1}
    profiles(monkeypatch, tmp_path, endpoint=f"http://127.0.0.1:{port}", **own)
    with pytest.raises(TemporaryFailure, match="cannot be reached"):
        run(step(MINE, inputs=given), task())
    assert not kube.pods()
    assert not kube.left()


def test_a_step_that_is_ended_after_its_input_came_leaves_nothing_and_sends_nothing_twice(kube, task, given, storage):
    operator = step("echo begun; sleep 1000", inputs=given)

    def end():
        kube.wait(lambda: any(state(pod, "step", "running") for pod in kube.pods()), 120)
        operator.on_kill()

    killer = threading.Thread(target=end)
    killer.start()
    with pytest.raises(TemporaryFailure, match="interrupted"):
        run(operator, task())
    killer.join()
    kube.wait(lambda: not kube.left())
    with capture_logs() as logs:
        assert run(step(MINE, inputs=given), task())["count"] == 1
    assert any(line.startswith("0 bytes (0 bytes) sent") for line in lines(logs))


def state(pod: dict, name: str, word: str) -> bool:
    states = pod["status"].get("initContainerStatuses", []) + pod["status"].get("containerStatuses", [])
    return any(one["name"] == name and word in one["state"] for one in states)


def another(task, name: str) -> dict:
    """The context of another task of the run."""
    context = task()
    context["ti"].task_id = name
    context["ti"].get_task_states = lambda **_: {context["ti"].run_id: {name: "running"}}
    return context


def test_what_the_next_step_reads_in_the_same_cloud_is_not_sent_again(kube, task, given, storage, s3_empty):
    first = run(step(MINE, inputs=given, output="mine"), task())
    read = "wc -c < $EARTHSELF_STEP_INPUT/two/made.bin" + LEAVE
    with capture_logs() as logs:
        run(step(read, inputs=first, output="second", task_id="second"), another(task, "second"))
    said = lines(logs)
    assert "100000" in said
    assert "has-area" in said
    assert f"runs/a_dag/manual__1/work/mine lies there already, at {BASE}/manual__1/t/output" in said
    sent = [int(line.split("(")[1].split()[0]) for line in said if " sent " in line]
    assert sent[0] < 1000, "the area alone, which the worker put beside the output"

    s3_empty.client.delete_object(Bucket="maps", Key="steps/a_dag/manual__1/t/output/.staged.json")
    with capture_logs() as logs:
        run(step(read, inputs=first, output="third", task_id="third"), another(task, "third"))
    sent = [int(line.split("(")[1].split()[0]) for line in lines(logs) if " sent " in line]
    assert sent[0] > 100_000, "a copy that is not whole is not relied on"


def test_more_than_may_cross_is_refused_before_anything_is_sent(*, kube, task, given, storage, s3_empty, monkeypatch):
    connection(monkeypatch, lambda extra: extra["earthself"].update(max_crossing="100"))
    with pytest.raises(AirflowFailException, match=r"input of t: \d+ bytes .* at most 100 .*raise max_crossing"):
        run(step(MINE, inputs=given), task())
    assert s3_empty.keys("maps") == []
    assert not kube.pods()
    connection(monkeypatch, lambda extra: extra["earthself"].update(max_crossing="20Ki"))
    with pytest.raises(AirflowFailException, match=r"input and output together of t: 10\d+ bytes"):
        run(step(MINE, inputs=given, output="mine"), task())
    assert not any(request.method == "GET" and request.path.endswith("made.bin") for request in storage.seen)
    connection(monkeypatch, lambda extra: extra["earthself"].update(max_crossing="100", provider="aws", region="us-west-2"))
    monkeypatch.setenv("EARTHSELF_REGION", "aws/us-west-2")
    assert run(step(MINE, inputs=given, output="mine"), task())["count"] == 1, "nothing crosses within a region"
    kube.wait(lambda: not kube.left())


def test_a_pod_has_keys_of_its_own_that_end(*, kube, task, given, storage, monkeypatch, tmp_path):
    own = {"credentials": "env:NEAR", "session_hours": 1, "role_arn": "arn:aws:iam::123456789012:role/steps", "timeout": 20}
    profiles(monkeypatch, tmp_path, endpoint=storage.url, **own)
    with capture_logs() as logs:
        run(step("sleep 3;" + MINE, inputs=given), task())
    assert any("the pod's keys to the storage end at" in line for line in lines(logs))
    from_pod = {request.key_id for request in storage.seen if request.method == "GET" and request.path.endswith("B04.bin")}
    asked_for = [request.form() for request in storage.seen if request.method == "POST" and request.path == "/"]
    assert from_pod
    assert "the-key" not in from_pod
    policy = json.loads(next(form["Policy"] for form in asked_for if "Policy" in form))
    writes = next(one for one in policy["Statement"] if "s3:PutObject" in one["Action"])
    assert writes["Resource"] == ["arn:aws:s3:::maps/steps/a_dag/manual__1/t/output", "arn:aws:s3:::maps/steps/a_dag/manual__1/t/output/*"]


def test_keys_that_do_not_end_are_not_lent(*, kube, task, given, storage, monkeypatch, tmp_path):
    profiles(monkeypatch, tmp_path, endpoint=storage.url, credentials="env:NEAR")
    with pytest.raises(AirflowFailException, match="gives steps no keys"):
        run(step(MINE, inputs=given), task())
    assert not kube.left()


def test_what_cannot_be_sent_is_refused_by_its_name(*, kube, task, given, storage, workspace, tmp_path):
    item = workspace / "runs/a_dag/manual__1/work/found/one/one.json"
    said = json.loads(item.read_text())
    said["assets"]["mine"] = {"href": str(tmp_path / "mine.bin")}
    item.write_text(json.dumps(said))
    with pytest.raises(AirflowFailException, match=r"mine.bin, which is not in the workspace"):
        run(step(MINE, inputs=given), task())
    assert not kube.pods()
