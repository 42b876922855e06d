"""A pod's way to ready: in a real cluster, and at an API on loopback that is as late and as unwilling as it is told."""

from __future__ import annotations

import json
import secrets
import sys
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from earthself.benchmark.probes import pod, probes
from earthself.benchmark.probing import Run, Setting
from earthself.benchmark.samples import FAILED

from tests.kube import Cluster


def state(*true: str, phase: str = "Pending", waiting: dict | None = None, unmet: dict | None = None) -> dict:
    """What a cluster says of a pod."""
    conditions = [{"type": kind, "status": "True"} for kind in true] + ([unmet | {"status": "False"}] if unmet else [])
    containers = [{"name": "probe", "state": {"waiting": waiting}}] if waiting else []
    return {"phase": phase, "conditions": conditions, "containerStatuses": containers}


class Api:
    """The few answers of a Kubernetes API that a pod needs."""

    def __init__(self) -> None:
        self.life: list[tuple[float, dict]] = []
        """States of a pod, each so many seconds after the one before."""
        self.refuses: dict[str, list[int]] = {}
        """Status by method, one for each request."""
        self.cut = False
        """Whether the next watch ends in the middle of a line."""
        self.pods: dict[str, dict] = {}
        self.made: list[dict] = []

    def __enter__(self):
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (_Handler,), {"api": self}))
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def kubeconfig(self) -> str:
        url = f"http://127.0.0.1:{self._server.server_address[1]}"
        return json.dumps({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": url}}], "users": [{"name": "u", "user": {}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        })  # fmt: skip


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    api: Api

    def log_message(self, *_: object) -> None:
        pass

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self.refused():
            self.api.made.append(body)
            self.api.pods[body["metadata"]["name"]] = body
            self.say(201, body)

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for seconds, status in self.api.life:
            time.sleep(seconds)
            for body in self.api.pods.values():
                self.chunk(json.dumps({"type": "MODIFIED", "object": body | {"status": status}}).encode() + b"\n")
        if self.api.cut:
            self.api.cut = False
            self.chunk(b'{"type": "MODI')
        self.chunk(b"")

    def chunk(self, data: bytes) -> None:
        with suppress(OSError):  # who watched has gone
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

    def do_DELETE(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if not self.refused():
            found = self.api.pods.pop(self.path.rpartition("/")[2], None)
            self.say(200 if found else 404, {"message": "gone"})

    def refused(self) -> bool:
        left = self.api.refuses.get(self.command)
        if left:
            self.say(left.pop(0), {"message": "the namespace is not yours"})
        return bool(left) or left == []

    def say(self, status: int, body: dict) -> None:
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


@pytest.fixture
def api():
    with Api() as served:
        yield served


@pytest.fixture
def measure(api, tmp_path, monkeypatch):
    (tmp_path / "kubeconfig").write_text(api.kubeconfig())
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))

    def run(**changes):
        setting = Setting(tmp_path, **({"namespace": "here", "image": "busybox:1"} | changes))
        found = list(Run({}, setting, 1).samples(probes(["ready_pod"])))
        return {one.metric: (one.labels["reason"], one.labels["error"]) if one.metric == FAILED else one.value for one in found}

    return run


def test_a_real_cluster_makes_a_pod_ready(cluster_config, tmp_path, monkeypatch):
    cluster = Cluster(cluster_config, f"t-{secrets.token_hex(4)}")
    cluster.kubectl("create", "namespace", cluster.namespace)
    monkeypatch.setenv("KUBECONFIG", cluster_config)
    try:
        cluster.kubectl("label", "namespace", cluster.namespace, "pod-security.kubernetes.io/enforce=restricted")
        setting = Setting(tmp_path, namespace=cluster.namespace, image="localhost/busybox:1")
        found = {one.metric: one for one in Run({}, setting, 1).samples(probes(["ready_pod"]))}
        assert set(found) == {"scheduled", "ready"}, found[FAILED].labels["error"]
        assert 0 < found["scheduled"].value <= found["ready"].value < 120
        cluster.wait(lambda: not cluster.left())
        absent = Setting(tmp_path, namespace=f"{cluster.namespace}-not", image="localhost/busybox:1")
        (refused,) = Run({}, absent, 1).samples(probes(["ready_pod"]))
        assert f"{cluster.namespace}-not" in refused.labels["error"]
    finally:
        cluster.kubectl("delete", "namespace", cluster.namespace, "--wait=false")


def test_delays_come_out_as_they_were_put_in(measure, api):
    ready = state("PodScheduled", "Ready", phase="Running")
    api.life = [(0, state()), (0.3, state("PodScheduled")), (0.7, ready)]
    found = measure()
    assert 0.3 <= found["scheduled"] <= 0.6
    assert 1.0 <= found["ready"] <= 1.4
    assert not api.pods


def test_a_watch_that_is_cut_is_begun_anew(measure, api):
    api.life, api.cut = [(0.1, state("PodScheduled"))], True
    threading.Timer(0.3, lambda: api.life.append((0, state("PodScheduled", "Ready")))).start()
    found = measure()
    assert found["scheduled"] < 0.3 <= found["ready"]


def test_the_pod_may_run_anywhere_and_ends_by_itself(measure, api):
    api.life = [(0, state("Ready"))]
    measure()
    (made,) = api.made
    spec, (container,) = made["spec"], made["spec"]["containers"]
    assert made["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "earthself"
    assert spec["securityContext"]["runAsNonRoot"]
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert not container["securityContext"]["allowPrivilegeEscalation"]
    assert spec["activeDeadlineSeconds"] > pod._LONGEST
    assert pod.manifest("a")["metadata"]["name"] != pod.manifest("a")["metadata"]["name"]


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (state("PodScheduled", waiting={"reason": "ImagePullBackOff", "message": "no such image"}), "ImagePullBackOff no such image"),
        (state("PodScheduled", phase="Failed"), "Failed"),
    ],
)
def test_a_pod_that_will_not_get_ready_says_why_and_goes(measure, api, status, says):
    api.life = [(0, status)]
    reason, error = measure()[FAILED]
    assert reason == "failed"
    assert says in error
    assert not api.pods


def test_a_pod_without_a_place_is_waited_for_and_given_up(measure, api, monkeypatch):
    monkeypatch.setattr(pod, "_LONGEST", 1)
    api.life = [(0.4, state(unmet={"type": "PodScheduled", "reason": "Unschedulable", "message": "0/3 nodes are free"}))]
    reason, error = measure()[FAILED]
    assert reason == "timeout"
    assert "not ready within 1 s: Unschedulable 0/3 nodes are free" in error
    assert not api.pods


@pytest.mark.parametrize(("status", "reason"), [(403, "refused"), (401, "refused"), (404, "failed")])
def test_a_cluster_that_lets_nothing_be_made_says_why(measure, api, status, reason):
    api.refuses = {"POST": [status], "DELETE": [403] * 9}
    assert measure()[FAILED] == (reason, "the cluster does not let a pod be made in here: the namespace is not yours")


def test_a_pod_that_cannot_be_removed_is_named(measure, api, monkeypatch):
    monkeypatch.setattr(pod, "_REMOVALS", 1)
    api.life, api.refuses = [(0, state("Ready"))], {"DELETE": [500]}
    _, error = measure()[FAILED]
    (name,) = api.pods
    assert f"kubectl -n here delete pod {name}" in error


def test_without_a_cluster_or_a_client_the_next_step_is_said(measure, tmp_path, monkeypatch):
    assert "--namespace NAME --image IMAGE" in measure(image=None)[FAILED][1]
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "nowhere"))
    assert "name a kubeconfig by KUBECONFIG" in measure()[FAILED][1]
    monkeypatch.setitem(sys.modules, "kubernetes", None)
    assert measure()[FAILED] == ("missing", "there is no Kubernetes client; get it with: pip install kubernetes")
