"""What the operator of the platform lets people have: the Airflow Variable `earthself_provision`, and the engines that it names."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from earthself.operators.errors import BadRequest

if TYPE_CHECKING:
    from earthself.helpdesk import Need, Request
    from earthself.provision import Order, Provisioner

VARIABLE = "earthself_provision"
_LOCAL = "local"
_NEXT = "docs/environments.md has an example"
_AMOUNTS = {
    "type": "object",
    "additionalProperties": False,
    "properties": {name: {"type": "number", "exclusiveMinimum": 0} for name in ("cpus", "memory_gib", "storage_gb")},
}
_KUBERNETES = {
    "type": "object",
    "additionalProperties": False,
    "required": ["connection"],
    "properties": {
        "connection": {"type": "string", "minLength": 1},
        "secrets": {"type": "object", "propertyNames": {"pattern": "^[a-z0-9-]{1,60}$"}, "additionalProperties": {"type": "string"}},
        "capacity": {**_AMOUNTS, "required": ["cpus", "memory_gib", "storage_gb"]},
    },
}
_SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "clusters": {"type": "object", "additionalProperties": _KUBERNETES},
        "approvers": {"type": "array", "items": {"type": "string", "minLength": 1}, "uniqueItems": True},
        "approval_hours": {"type": "number", "exclusiveMinimum": 0, "maximum": 2160},
        "without_approval": {
            **_AMOUNTS,
            "properties": {**_AMOUNTS["properties"], "euros": {"type": "number", "minimum": 0}},  # type: ignore[dict-item]
            "required": ["euros", "cpus", "memory_gib", "storage_gb"],
        },
        "quota": _AMOUNTS,
    },
}


@dataclass(frozen=True)
class Rules:
    """What the Variable says."""

    clusters: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Kubernetes clusters by the id of their cloud: `connection`, `secrets` (name: Airflow connection), `capacity`."""
    approvers: tuple[str, ...] = ("admin",)
    """User names; empty: whoever may answer for the workflow."""
    approval_hours: float = 72.0
    """After which a request that nobody has decided about is refused."""
    without_approval: Mapping[str, float] | None = None
    """What needs no person: at most so many euros a month and so much of each amount; None: everything needs one."""
    quota: Mapping[str, float] = field(default_factory=dict)
    """What an environment may use whose need does not say."""


def rules() -> Rules:
    """Read the Variable; raises `BadRequest` for one that cannot be used."""
    import jsonschema
    from airflow.sdk import Variable

    text = Variable.get(VARIABLE, default=None)
    if not text:
        return Rules()
    try:
        said = json.loads(text)
        jsonschema.validate(said, _SCHEMA)
    except ValueError as error:
        raise BadRequest(f"the Variable {VARIABLE} is no JSON: {error}; {_NEXT}") from error
    except jsonschema.ValidationError as error:
        place = ".".join(str(part) for part in error.absolute_path)
        raise BadRequest(f"the Variable {VARIABLE} cannot be used: {place or 'it'}: {error.message}; {_NEXT}") from error
    if "approvers" in said:
        said["approvers"] = tuple(said["approvers"])
    return Rules(**said)


def ordered(request: Request, need: Need, repository: str, given: Rules, today: datetime) -> Order:
    """Make an order of an approved request: what its need asks of machines and storage is its quota."""
    from earthself.benchmark.suggestion.need import Need as Read
    from earthself.provision import BadOrder, Level, Order, Quota

    asked = Read.from_document(need.document)
    try:
        level = Level(need.level)
    except ValueError:
        raise BadOrder(f"{need.level} is made by people on request; open a ticket, or ask for waas or kaas") from None
    amounts: dict[str, float] = {**vars(Quota()), **given.quota}
    if asked.machine.vcpus:
        amounts["cpus"] = asked.machine.vcpus * asked.machines
    if asked.machine.memory_gib:
        amounts["memory_gib"] = asked.machine.memory_gib * asked.machines
    if asked.storage_gb:
        amounts["storage_gb"] = asked.storage_gb
    until = (today.astimezone(UTC) + timedelta(days=request.wish.days)).date()
    return Order(request.id, request.team, request.by, level, until, Quota(**amounts), repository)


@contextmanager
def engine_for(order: Order, cloud: str, given: Rules) -> Iterator[Provisioner]:
    """Give the engine that makes an order; raises `BadOrder` where none does."""
    from earthself.provision import BadOrder, Level

    if order.level is Level.WAAS:
        if cloud not in ("", _LOCAL):
            raise BadOrder(f"cloud: workflows run on the platform itself, not on {cloud!r}; leave the cloud out, or ask for kaas")
        yield _local()
        return
    if not given.clusters:
        raise BadOrder(
            f"there is no cluster for a {order.level} environment; the operator of the platform names them in the Variable {VARIABLE}"
        )
    name = cloud or next(iter(given.clusters))
    if name not in given.clusters:
        raise BadOrder(f"cloud: the platform has no cluster at {name!r}; there are {', '.join(sorted(given.clusters))}")
    with _cluster(given.clusters[name]) as made:
        yield made


def handed_over() -> Path:
    """Name the folder in which what is handed over lies, mode 700."""
    return _home() / "handed"


def _home() -> Path:
    from earthself.data.workspace import Workspace

    return Workspace.from_env().root.parent


def _local() -> Provisioner:
    import os

    from earthself.provision.engines.local import LocalEngine

    tokens = Path(os.environ.get("EARTHSELF_SIGNATURE_TOKENS") or _home() / "signature-tokens.json")
    services = {"signature": os.environ.get("EARTHSELF_SIGNATURE", ""), "data": os.environ.get("EARTHSELF_DATA_URL", "")}
    return LocalEngine(_home() / "environments", tokens, {name: value for name, value in services.items() if value})


@contextmanager
def _cluster(said: Mapping[str, Any]) -> Iterator[Provisioner]:
    from airflow.providers.cncf.kubernetes.hooks.kubernetes import KubernetesHook
    from earthself.provision import Quota
    from earthself.provision.engines.cluster_api import ClusterApi
    from earthself.provision.engines.namespace import NamespaceEngine

    credentials = {name: _credentials(connection) for name, connection in said.get("secrets", {}).items()}
    capacity = Quota(**said["capacity"]) if "capacity" in said else None
    with KubernetesHook(conn_id=said["connection"]).get_conn() as client:
        yield NamespaceEngine(ClusterApi(client), handed_over(), credentials, capacity)


def _credentials(conn_id: str) -> dict[str, str]:
    """Give the fields of a connection, which go into a Secret and nowhere else."""
    from airflow.sdk import BaseHook
    from airflow.sdk.exceptions import AirflowNotFoundException
    from airflow.sdk.log import mask_secret

    try:
        found = BaseHook.get_connection(conn_id)
    except AirflowNotFoundException:
        raise BadRequest(f"the Variable {VARIABLE} names connection {conn_id!r}, which is not there; make it, or leave it out") from None
    fields = {"host": found.host, "port": found.port, "login": found.login, "password": found.password, "extra": found.extra}
    given = {name: str(value) for name, value in fields.items() if value not in (None, "")}
    mask_secret({name: given[name] for name in ("password", "extra") if name in given})
    return given
