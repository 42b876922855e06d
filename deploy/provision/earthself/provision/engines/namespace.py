"""An environment in a Kubernetes cluster: a namespace of its own, in bounds, and a kubeconfig that ends with it.

Quota and limits, a network that is closed by default, rights for its owner alone, and the platform's credentials for data as Secrets.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, time
from pathlib import Path
from typing import Any

from earthself.provision.engines.cluster_api import ClusterApi, Object
from earthself.provision.engines.files import write_secret
from earthself.provision.errors import BadOrder, EngineBusy, EngineFailed, NoQuota
from earthself.provision.model import Level, Observed, Order, Plan, Quota, Resource, Status

REQUEST = "earthself.io/request"
"""Label: the request that an object was made for; what has another one, or none, is not ours."""
_MANAGED = {"app.kubernetes.io/managed-by": "earthself"}
_OWNER = "owner"
_KUBECONFIG = "kubeconfig"
_LEAST_SECONDS = 600
_PRIVATE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "100.64.0.0/10")
"""Not part of the internet: other tenants, nodes, and the addresses at which clouds give away credentials."""
_RIGHTS = (
    ("", ("pods", "pods/log", "pods/exec", "pods/portforward", "services", "configmaps", "secrets", "persistentvolumeclaims")),
    ("apps", ("deployments", "statefulsets", "daemonsets", "replicasets")),
    ("batch", ("jobs", "cronjobs")),
    ("networking.k8s.io", ("ingresses",)),
)
_LOOKS = (("", ("events", "resourcequotas", "limitranges", "serviceaccounts")), ("networking.k8s.io", ("networkpolicies",)))
_ALL = ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection")
_INSIDE = ("NetworkPolicy", "ResourceQuota", "LimitRange")
"""What keeps a tenant in its bounds goes with the namespace and not before, so that no pod is freed by its own end."""


@dataclass(frozen=True)
class NamespaceEngine:
    """Makes namespaces in one cluster."""

    api: ClusterApi
    handed: Path
    """Folder of the platform for what is handed over: kubeconfigs, mode 600."""
    credentials: Mapping[str, Mapping[str, str]] = field(default_factory=dict, repr=False)
    """What its owner needs to reach data, by the name of the Secret: never in a plan, nor in the journal."""
    capacity: Quota | None = None
    """What all environments of the cluster may ask for together; None: as much as they like."""
    name: str = "kubernetes"

    def plan(self, order: Order) -> Plan:
        """Say what would be made; raises `BadOrder` for another level than KaaS, `NoQuota` where the cluster has no room for it."""
        if order.level is not Level.KAAS:
            raise BadOrder(f"the engine kubernetes makes no {order.level}; ask for kaas")
        notes = self._room(order)
        space = f"Namespace/{self._space(order)}"
        bounds = [Resource(body["kind"], body["metadata"]["name"], {"body": body}, (space,)) for body in self._bounds(order)]
        inner = (space, *(one.key for one in bounds))
        rights = [Resource(body["kind"], body["metadata"]["name"], {"body": body}, inner) for body in self._rights(order)]
        secrets = [Resource("Secret", name, {"keys": sorted(self.credentials[name])}, inner) for name in sorted(self.credentials)]
        needs = (space, *(one.key for one in rights))
        kubeconfig = Resource(_KUBECONFIG, order.request, {"until": order.until.isoformat()}, needs)
        named = Resource("Namespace", self._space(order), {"body": self._namespace(order)})
        return Plan(self.name, order, [named, *bounds, *rights, *secrets, kubeconfig], notes)

    def create(self, order: Order, resource: Resource) -> str:
        """Apply an object; refuses to touch one of the same name that was made for somebody else."""
        if resource.kind == _KUBECONFIG:
            return self._hand_over(order)
        there = self._there(order, resource)
        if there is not None and there["metadata"].get("deletionTimestamp"):
            raise EngineBusy(f"{resource.key} is still being deleted; try again when it is gone")
        body = self._secret(order, resource) if resource.kind == "Secret" else dict(resource.settings["body"])
        return str(self.api.apply(body)["metadata"]["uid"])

    def observe(self, order: Order, resource: Resource) -> Observed:
        """Look at an object."""
        if resource.kind == _KUBECONFIG:
            return Observed(Status.READY if self._file(order).is_file() else Status.ABSENT)
        found = self.api.get(resource.kind, self._within(order, resource), resource.name)
        if found is None:
            return Observed(Status.ABSENT)
        uid = str(found["metadata"]["uid"])
        if not _ours(found, order.request):
            return Observed(Status.BROKEN, uid, "an object of this name was made for somebody else")
        leaving = bool(found["metadata"].get("deletionTimestamp")) or (found.get("status") or {}).get("phase") == "Terminating"
        return Observed(Status.MAKING if leaving else Status.READY, uid, "it is being deleted" if leaving else "")

    def destroy(self, order: Order, resource: Resource) -> None:
        """Delete an object; with what bounds a tenant the whole namespace goes."""
        if resource.kind == _KUBECONFIG:
            self._file(order).unlink(missing_ok=True)
            return
        space = self._space(order)
        kind, within, name = (
            ("Namespace", "", space) if resource.kind in _INSIDE else (resource.kind, self._within(order, resource), resource.name)
        )
        found = self.api.get(kind, within, name)
        if found is None:
            return
        if not _ours(found, order.request):
            raise EngineFailed(f"{kind} {name} was made for somebody else; it stays")
        self.api.delete(kind, within, found)

    def left(self, request: str) -> Sequence[str]:
        """List what has the request's label, in all namespaces, and the kubeconfig."""
        kinds = ("Namespace", "Secret", "ServiceAccount", "Role", "RoleBinding", "NetworkPolicy", "ResourceQuota", "LimitRange", "Pod")
        found = [(kind, one["metadata"]) for kind in kinds for one in self.api.find(kind, f"{REQUEST}={request}")]
        named = [f"{kind} {'/'.join(filter(None, (one.get('namespace'), one['name'])))}" for kind, one in found]
        return named + [f"file {path.name}" for path in [self.handed / f"{request}.kubeconfig"] if path.exists()]

    def _room(self, order: Order) -> list[str]:
        """Hold what is ordered against what others were given."""
        if self.capacity is None:
            return []
        given = [one["spec"]["hard"] for one in self.api.find("ResourceQuota", "app.kubernetes.io/managed-by=earthself")]
        notes = []
        for what, name, most, wanted in (
            ("cpus", "requests.cpu", self.capacity.cpus, order.quota.cpus),
            ("memory_gib", "requests.memory", self.capacity.memory_gib, order.quota.memory_gib),
            ("storage_gb", "requests.storage", self.capacity.storage_gb, order.quota.storage_gb),
        ):
            used = sum(_number(hard.get(name, "0"), what) for hard in given)
            if used + wanted > most:
                raise NoQuota(
                    f"{what}: {wanted:g} are wanted, and {max(0.0, most - used):g} of {most:g} are left; ask for less, or release something"
                )
            notes.append(f"{what}: {used + wanted:g} of {most:g} with this one")
        return notes

    def _space(self, order: Order) -> str:
        return f"earthself-{order.request}"

    def _within(self, order: Order, resource: Resource) -> str:
        return "" if resource.kind == "Namespace" else self._space(order)

    def _there(self, order: Order, resource: Resource) -> Object | None:
        found = self.api.get(resource.kind, self._within(order, resource), resource.name)
        if found is not None and not _ours(found, order.request):
            raise EngineFailed(f"{resource.kind} {resource.name} is there already and was made for somebody else; it stays as it is")
        return found

    def _labels(self, order: Order) -> dict[str, str]:
        return {**_MANAGED, REQUEST: order.request}

    def _object(self, order: Order, version: str, kind: str, name: str, **rest: Any) -> Object:  # noqa: ANN401 - whatever the kind has
        metadata = {"name": name, "namespace": self._space(order), "labels": self._labels(order)}
        return {"apiVersion": version, "kind": kind, "metadata": metadata, **rest}

    def _namespace(self, order: Order) -> Object:
        level = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "audit", "warn")}
        annotations = {"earthself.io/owner": order.owner, "earthself.io/team": order.team, "earthself.io/until": order.until.isoformat()}
        metadata = {"name": self._space(order), "labels": self._labels(order) | level, "annotations": annotations}
        return {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}

    def _bounds(self, order: Order) -> list[Object]:
        quota = order.quota
        memory = f"{round(quota.memory_gib * 1024)}Mi"
        hard = {
            "requests.cpu": f"{round(quota.cpus * 1000)}m", "limits.cpu": f"{round(quota.cpus * 2000)}m",
            "requests.memory": memory, "limits.memory": memory,
            "requests.storage": f"{round(quota.storage_gb * 1000)}M",
            "pods": "100", "count/secrets": "100", "count/configmaps": "100", "services.loadbalancers": "0", "services.nodeports": "0",
        }  # fmt: skip
        default = {"cpu": "500m", "memory": "512Mi"}
        limits = [{"type": "Container", "default": default, "defaultRequest": {"cpu": "100m", "memory": "256Mi"}}]
        inside: list[Object] = [{"podSelector": {}}]
        names = [{"protocol": protocol, "port": 53} for protocol in ("UDP", "TCP")]
        internet = [{"ipBlock": {"cidr": "0.0.0.0/0", "except": list(_PRIVATE)}}]
        web = [{"protocol": "TCP", "port": 443}]
        network = "networking.k8s.io/v1"
        closed = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
        egress = [{"ports": names}, {"to": inside}, {"to": internet, "ports": web}]
        opened = {**closed, "ingress": [{"from": inside}], "egress": egress}
        return [
            self._object(order, network, "NetworkPolicy", "closed", spec=closed),
            self._object(order, network, "NetworkPolicy", "names-inside-and-web", spec=opened),
            self._object(order, "v1", "ResourceQuota", "environment", spec={"hard": hard}),
            self._object(order, "v1", "LimitRange", "environment", spec={"limits": limits}),
        ]

    def _rights(self, order: Order) -> list[Object]:
        rules = [{"apiGroups": [group], "resources": list(names), "verbs": list(_ALL)} for group, names in _RIGHTS]
        rules += [{"apiGroups": [group], "resources": list(names), "verbs": ["get", "list", "watch"]} for group, names in _LOOKS]
        rbac = "rbac.authorization.k8s.io"
        account = {"kind": "ServiceAccount", "name": _OWNER, "namespace": self._space(order)}
        return [
            self._object(order, "v1", "ServiceAccount", _OWNER, automountServiceAccountToken=False),
            self._object(order, f"{rbac}/v1", "Role", _OWNER, rules=rules),
            self._object(
                order, f"{rbac}/v1", "RoleBinding", _OWNER, roleRef={"apiGroup": rbac, "kind": "Role", "name": _OWNER}, subjects=[account]
            ),
        ]

    def _secret(self, order: Order, resource: Resource) -> Object:
        if resource.name not in self.credentials:
            raise EngineFailed(f"{resource.key}: the platform has no such credentials any more; see its connections")
        encoded = {key: base64.b64encode(value.encode()).decode() for key, value in self.credentials[resource.name].items()}
        return self._object(order, "v1", "Secret", resource.name, type="Opaque", data=encoded)

    def _file(self, order: Order) -> Path:
        return self.handed / f"{order.request}.kubeconfig"

    def _hand_over(self, order: Order) -> str:
        """Write a kubeconfig whose token ends with the last day, or when the cluster lets none live longer."""
        space = self._space(order)
        end = datetime.combine(order.until, time.max, UTC)
        seconds = int((end - datetime.now(UTC)).total_seconds())
        if seconds < _LEAST_SECONDS:
            raise BadOrder(f"{order.until} is over in {max(0, seconds)} s; ask for a later day")
        status = self.api.token(space, _OWNER, seconds)
        server: dict[str, str] = {"server": self.api.address}
        if self.api.authorities:
            server["certificate-authority-data"] = base64.b64encode(Path(self.api.authorities).read_bytes()).decode()
        config = {
            "apiVersion": "v1", "kind": "Config", "current-context": space,
            "clusters": [{"name": "earthself", "cluster": server}],
            "users": [{"name": _OWNER, "user": {"token": status["token"]}}],
            "contexts": [{"name": space, "context": {"cluster": "earthself", "user": _OWNER, "namespace": space}}],
        }  # fmt: skip
        self.handed.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_secret(self._file(order), json.dumps(config, indent=1))
        return f"until {status['expirationTimestamp']}"


def _ours(found: Object, request: str) -> bool:
    return bool((found["metadata"].get("labels") or {}).get(REQUEST) == request)


def _number(quantity: str, what: str) -> float:
    """Read what the quotas of environments hold, in the unit of `Quota`."""
    scales = {"cpus": {"m": 1e-3, "": 1.0}, "memory_gib": {"Mi": 2**-10, "Gi": 1.0}, "storage_gb": {"M": 1e-3, "G": 1.0, "T": 1e3}}[what]
    for suffix in sorted(scales, key=len, reverse=True):
        if quantity.endswith(suffix) and (number := quantity.removesuffix(suffix)).replace(".", "", 1).isdigit():
            return float(number) * scales[suffix]
    if quantity.isdigit():  # bytes
        return float(quantity) / (2**30 if what == "memory_gib" else 1e9)
    raise EngineFailed(
        f"a ResourceQuota of the platform holds {quantity!r} for {what}, which is no amount that it writes; see who changed it"
    )
