"""Namespaces of a real cluster: what their owner can do and cannot, where secrets are, and that nothing is left."""

from __future__ import annotations

import json
import secrets
import subprocess
from datetime import date

import pytest
from earthself.provision import BadOrder, Builder, EngineFailed, Journal, Level, NoQuota, Order, Patience, Quota, Stage, Status
from earthself.provision.engines.cluster_api import ClusterApi
from earthself.provision.engines.namespace import NamespaceEngine

from tests.kube import Cluster

pytestmark = pytest.mark.timeout(300)

SECRET = "not-for-anybody-else"
CREDENTIALS = {"eodag": {"cop_dataspace": SECRET}, "earthsignature": {"token": f"ess_{SECRET}"}}
POD = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "mine"}, "spec": {"terminationGracePeriodSeconds": 1, "containers": [
    {"name": "c", "image": "localhost/busybox:1", "command": ["sleep", "1000"], "resources": {"limits": {"cpu": "100m", "memory": "16Mi"}}}
]}}  # fmt: skip


class Died(BaseException):
    """The process is no more."""


@pytest.fixture
def api(cluster_config):
    from kubernetes.config import new_client_from_config

    with new_client_from_config(cluster_config) as client:
        yield ClusterApi(client)


@pytest.fixture
def engine(api, tmp_path):
    return NamespaceEngine(api, tmp_path / "handed", CREDENTIALS)


@pytest.fixture
def journal(tmp_path):
    with Journal(f"sqlite:///{tmp_path / 'journal.db'}") as kept:
        yield kept


@pytest.fixture
def order(cluster_config):
    """An order of its own, of which nothing is left in the end, whatever happens."""
    made = Order(f"t-{secrets.token_hex(4)}", "north", "ada; 'kubectl delete ns --all'", Level.KAAS, date(2099, 1, 1), Quota(1, 1, 5))
    yield made
    Cluster(cluster_config, "default").kubectl("delete", "namespace", f"earthself-{made.request}", "--ignore-not-found", "--wait=false")


@pytest.fixture
def admin(cluster_config, order):
    return Cluster(cluster_config, f"earthself-{order.request}")


def builder(engine, journal):
    return Builder(engine, journal, Patience(seconds=200, pause=0.2))


def owner(engine, order):
    """What its owner gets: a kubeconfig, and no more."""

    def run(*words, code=0, text=None):
        config = engine.handed / f"{order.request}.kubeconfig"
        done = subprocess.run(["kubectl", "--kubeconfig", str(config), *words], input=text, capture_output=True, text=True, check=False)
        assert (done.returncode == 0) == (code == 0), done.stderr
        return done.stdout + done.stderr

    return run


def test_its_owner_works_in_it_and_nowhere_else(engine, journal, order, admin):
    builder(engine, journal).apply(engine.plan(order))
    assert {seen.status for seen in builder(engine, journal).look(order.request).values()} == {Status.READY}
    kubectl = owner(engine, order)
    kubectl("apply", "-f", "-", text=json.dumps(POD))
    admin.begin()
    assert "mine" in kubectl("get", "pods")
    assert json.loads(kubectl("get", "secret", "eodag", "-o", "json"))["data"]
    for words in (
        ("get", "pods", "-n", "default"),
        ("get", "namespaces"),
        ("get", "nodes"),
        ("delete", "networkpolicy", "closed"),
        ("delete", "resourcequota", "environment"),
        ("create", "role", "more", "--verb=*", "--resource=*"),
        ("create", "serviceaccount", "other"),
        ("annotate", "namespace", admin.namespace, "earthself.io/until=2100-01-01"),
    ):
        assert "forbidden" in kubectl(*words, code=1).lower(), words
    big = json.loads(json.dumps(POD).replace("100m", "5").replace("mine", "big"))
    assert "exceeded quota" in kubectl("apply", "-f", "-", text=json.dumps(big), code=1)
    namespace = json.loads(admin.kubectl("get", "namespace", admin.namespace, "-o", "json"))["metadata"]
    assert namespace["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert namespace["annotations"]["earthself.io/owner"] == order.owner
    assert builder(engine, journal).remove(order.request) == []


def test_nothing_is_left_and_its_kubeconfig_opens_nothing_any_more(engine, journal, order, admin):
    builder(engine, journal).apply(engine.plan(order))
    config = (engine.handed / f"{order.request}.kubeconfig").read_text()
    assert (engine.handed / f"{order.request}.kubeconfig").stat().st_mode & 0o777 == 0o600
    admin.kubectl("apply", "-f", "-", text=json.dumps(POD))
    assert len(engine.left(order.request)) == 11
    assert builder(engine, journal).remove(order.request) == []
    assert engine.left(order.request) == []
    assert {one.stage for one in journal.resources(order.request)} == {Stage.GONE}
    (engine.handed / f"{order.request}.kubeconfig").write_text(config)
    assert "Unauthorized" in owner(engine, order)("get", "pods", code=1) or "must be logged in" in owner(engine, order)(
        "get", "pods", code=1
    )


def test_secrets_are_in_the_cluster_and_nowhere_of_ours(engine, journal, order, tmp_path):
    plan = engine.plan(order)
    builder(engine, journal).apply(plan)
    token = json.loads((engine.handed / f"{order.request}.kubeconfig").read_text())["users"][0]["user"]["token"]
    assert SECRET not in repr(plan)
    assert SECRET not in repr(engine)
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert SECRET.encode() not in path.read_bytes(), path
            assert (token.encode() in path.read_bytes()) == (path.suffix == ".kubeconfig"), path
    builder(engine, journal).remove(order.request)


def test_the_same_again_changes_nothing(engine, journal, order, admin):
    def versions():
        found = json.loads(admin.kubectl("get", "role,rolebinding,networkpolicy,limitrange", "-o", "json"))
        return {(one["kind"], one["metadata"]["name"]): one["metadata"]["resourceVersion"] for one in found["items"]}

    plan = engine.plan(order)
    builder(engine, journal).apply(plan)
    before = versions()
    for resource in plan.resources:
        engine.create(order, resource)
    assert versions() == before
    builder(engine, journal).remove(order.request)


def test_what_was_made_for_somebody_else_is_neither_changed_nor_removed(engine, journal, order, admin):
    admin.kubectl("create", "namespace", admin.namespace)
    with pytest.raises(EngineFailed, match="was made for somebody else; it stays as it is"):
        builder(engine, journal).apply(engine.plan(order))
    found = json.loads(admin.kubectl("get", "namespace", admin.namespace, "-o", "json"))
    assert "earthself.io/request" not in found["metadata"].get("labels", {})
    assert found["status"]["phase"] == "Active"


def test_what_bounds_a_tenant_goes_with_the_namespace_only(engine, journal, order, admin):
    plan = engine.plan(order)
    builder(engine, journal).apply(plan)
    engine.destroy(order, plan.resource("NetworkPolicy/closed"))
    found = admin.kubectl("get", "namespace", admin.namespace, "--ignore-not-found", "-o", "json")
    assert not found or json.loads(found)["metadata"]["deletionTimestamp"]
    assert builder(engine, journal).remove(order.request) == []


def test_a_cluster_that_is_full_is_said_in_numbers(api, engine, journal, order, tmp_path):
    builder(engine, journal).apply(engine.plan(order))
    given = sum(
        float(one["spec"]["hard"]["requests.cpu"].removesuffix("m")) / (1000 if one["spec"]["hard"]["requests.cpu"].endswith("m") else 1)
        for one in api.find("ResourceQuota", "app.kubernetes.io/managed-by=earthself")
    )
    small = NamespaceEngine(api, tmp_path, capacity=Quota(given + 2, 1e4, 1e5))
    another = Order("t-other", "north", "ada", Level.KAAS, date(2099, 1, 1), Quota(2.5, 1, 1))
    with pytest.raises(NoQuota, match=rf"cpus: 2.5 are wanted, and 2 of {given + 2:g} are left"):
        small.plan(another)
    assert any(
        note.startswith("cpus: ") for note in small.plan(Order("t-other", "", "ada", Level.KAAS, date(2099, 1, 1), Quota(1, 1, 1))).notes
    )
    builder(engine, journal).remove(order.request)


def test_what_cannot_be_made_is_taken_away_again(engine, journal, order):
    late = Order(order.request, "north", "ada", Level.KAAS, date(2020, 1, 1), Quota(1, 1, 1))
    with pytest.raises(BadOrder, match="2020-01-01 is over"):
        builder(engine, journal).apply(engine.plan(late))
    assert engine.left(order.request) == []
    with pytest.raises(BadOrder, match="makes no waas"):
        engine.plan(Order(order.request, "north", "ada", Level.WAAS, date(2099, 1, 1)))


def test_whoever_dies_after_whichever_object_the_next_goes_on(engine, journal, order, admin):
    plan = engine.plan(order)

    class Dying(NamespaceEngine):
        def create(self, order, resource):
            super().create(order, resource)
            raise Died

    for _ in plan.resources:
        with pytest.raises(Died):
            builder(Dying(engine.api, engine.handed, CREDENTIALS), journal).apply(plan)
        begun = [one for one in journal.resources(order.request) if one.stage is Stage.BEGUN]
        builder(engine, journal).make(order, begun[0])
    builder(engine, journal).apply(plan)
    assert {one.stage for one in journal.resources(order.request)} == {Stage.MADE}
    owner(engine, order)("get", "pods")
    assert builder(engine, journal).remove(order.request) == []
    assert engine.left(order.request) == []
