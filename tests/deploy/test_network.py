"""Who may talk to whom: nothing but what is listed here, evaluated as Kubernetes reads the policies."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest

from tests.deploy.rendered import FILES, component, objects, of_kind, pods, values
from tests.helm import NAMESPACE, RELEASE

STEP = {"app.kubernetes.io/name": "earthself-step", "app.kubernetes.io/instance": RELEASE}
INSIDE = {
    "local": {("scheduler", "api-server", 8080), ("scheduler", "signature", 50051), ("triggerer", "signature", 50051)},
    "everything": {
        ("worker", "api-server", 8080),
        ("worker", "signature", 50051),
        ("triggerer", "signature", 50051),
        ("worker", "broker", 8083),
        ("triggerer", "broker", 8083),
        ("api-server", "broker", 8083),
        ("step", "broker", 8083),
    },
    "kubernetes": {("worker", "api-server", 8080), ("worker", "signature", 50051), ("triggerer", "signature", 50051)},
}
"""From, to, port; between pods of the release."""

AIRFLOW = {"api-server", "scheduler", "dag-processor", "triggerer", "migrate"}
OUTSIDE = {
    "local": {
        "database": AIRFLOW | {"signature", "web"},
        "kubernetes": {"scheduler", "triggerer"},
        "net": {"scheduler", "triggerer", "dag-processor", "api-server", "step"},
        "celery": set(),
    },
    "everything": {
        "database": AIRFLOW | {"worker", "signature", "web", "backup-databases", "backup-signature"},
        "kubernetes": {"worker", "triggerer"},
        "net": {"worker", "triggerer", "dag-processor", "api-server", "step"},
        "celery": {"scheduler", "worker"},
    },
    "kubernetes": {
        "database": AIRFLOW | {"worker", "signature", "web"},
        "kubernetes": {"scheduler", "worker", "triggerer"},
        "net": {"worker", "triggerer", "dag-processor", "api-server", "step"},
        "celery": set(),
    },
}
"""What is outside, and who may go there."""
PORTS = {"database": 5432, "kubernetes": 6443, "net": 443, "celery": 6379}


@cache
def labels(name: str) -> dict[str, dict[str, str]]:
    """Pod -> its labels."""
    return {component(pod): pod["metadata"]["labels"] for pod in pods(name)} | {"step": STEP}


@cache
def home(name: str, pod: str) -> str:
    return values(name).get("steps", {}).get("namespace", NAMESPACE) if pod == "step" else NAMESPACE


def selects(selector: dict[str, Any] | None, said: dict[str, str]) -> bool:
    if selector is None:
        return True
    if any(said.get(key) != value for key, value in selector.get("matchLabels", {}).items()):
        return False
    for one in selector.get("matchExpressions", []):
        assert one["operator"] in ("In", "Exists")
        if one["key"] not in said or (one["operator"] == "In" and said[one["key"]] not in one["values"]):
            return False
    return True


@cache
def policies(name: str, pod: str, way: str) -> list[dict[str, Any]]:
    """The policies that hold for a pod's ingress or egress."""
    return [
        one["spec"]
        for one in of_kind(name, "NetworkPolicy")
        if one["metadata"]["namespace"] == home(name, pod)
        and way in one["spec"]["policyTypes"]
        and selects(one["spec"]["podSelector"], labels(name)[pod])
    ]


def peers(name: str, peer: dict[str, Any], mine: str, other: str) -> bool:
    """Whether a peer of a policy of a pod's namespace is another pod of ours."""
    if "ipBlock" in peer:
        return False
    place = peer.get("namespaceSelector")
    there = {"kubernetes.io/metadata.name": home(name, other)}
    fits = selects(place, there) if place is not None else home(name, mine) == home(name, other)
    return fits and selects(peer.get("podSelector"), labels(name)[other])


def ports(name: str, source: str, target: str) -> set[int]:
    """The ports at which one pod may reach another: out of the one and into the other."""

    def open_(pod: str, other: str, way: str, key: str, side: str) -> set[Any]:
        rules = [rule for policy in policies(name, pod, way) for rule in policy.get(key, [])]
        return {port["port"] for rule in rules for port in rule["ports"] if any(peers(name, peer, pod, other) for peer in rule[side])}

    return open_(source, target, "Egress", "egress", "to") & open_(target, source, "Ingress", "ingress", "from")


def test_steps_reach_the_scheduler_of_a_dask_cluster_and_no_other_port_of_it() -> None:
    dask = {"dask.org/cluster-name": "es-sign-1"}
    rules = [rule for policy in policies("everything", "step", "Egress") for rule in policy.get("egress", [])]
    to = [rule for rule in rules if any("podSelector" in peer and selects(peer["podSelector"], dask) for peer in rule["to"])]
    assert [port["port"] for rule in to for port in rule["ports"]] == [8786]


@pytest.mark.parametrize("name", [name for name in FILES if name != "nothing"])
def test_every_pod_is_denied_what_is_not_allowed_to_it(name: str) -> None:
    for pod in labels(name):
        closed = [one for one in policies(name, pod, "Ingress") if "ingress" not in one and "Egress" in one["policyTypes"]]
        assert closed, pod


@pytest.mark.parametrize("name", INSIDE)
def test_pods_reach_each_other_only_as_listed(name: str) -> None:
    found = labels(name)
    assert {(a, b, port) for a in found for b in found for port in ports(name, a, b)} == INSIDE[name]


@pytest.mark.parametrize("name", OUTSIDE)
def test_pods_leave_the_cluster_only_as_listed(name: str) -> None:
    for place, allowed in OUTSIDE[name].items():
        assert {pod for pod in labels(name) if PORTS[place] in outside(name, pod)} == allowed, place


def outside(name: str, pod: str) -> set[int]:
    rules = [rule for policy in policies(name, pod, "Egress") for rule in policy.get("egress", [])]
    # 443 is the Kubernetes API's, too: what counts as the net leaves private networks out.
    found = [(rule, peer["ipBlock"]) for rule in rules for peer in rule["to"] if "ipBlock" in peer]
    return {
        port["port"]
        for rule, block in found
        for port in rule["ports"]
        if port["port"] != 443 or "169.254.0.0/16" in block.get("except", [])
    }


@pytest.mark.parametrize("name", ["local", "everything"])
def test_people_and_prometheus_come_in_where_they_are_served(name: str) -> None:
    rules = {}
    for pod in labels(name):
        found = [rule for policy in policies(name, pod, "Ingress") for rule in policy.get("ingress", [])]
        rules[pod] = {
            (peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"], port["port"])
            for rule in found
            for peer in rule["from"]
            for port in rule["ports"]
            if "podSelector" not in peer
        }
    expected: dict[str, set[tuple[str, Any]]] = {pod: set() for pod in labels(name)}
    for pod in ("api-server", "web"):
        expected[pod].add(("ingress-nginx", "http"))
    if name == "everything":
        for pod, port in (("api-server", "http"), ("web", "metrics"), ("signature", "metrics")):
            expected[pod].add(("monitoring", port))
    assert rules == expected


def test_the_switch_takes_all_policies_away() -> None:
    assert not [one for one in objects("nothing") if one["kind"] == "NetworkPolicy"]
