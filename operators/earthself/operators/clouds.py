"""Where pods run: each cloud is a Kubernetes connection of Airflow, whose extra field `earthself` says what our pods need there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from earthself.operators.errors import BadRequest

if TYPE_CHECKING:
    from earthself.data.broker import Place

DEFAULT_CONN_ID = "kubernetes_default"
WORKSPACE = "workspace"
"""Name of the volume that holds the workspace, in pods and in templates."""
_FIELDS = ("image", "workspace", "storage", "max_crossing", "provider", "region", "template", "patience", "broker")
_BROKER_FIELDS = ("address", "connection", "authorities")


@dataclass(frozen=True)
class Cloud:
    """What a connection says about its cluster."""

    conn_id: str
    """The Airflow connection."""
    extras: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """All extra fields of the connection, which may hold secrets: read once, since a worker that is being ended cannot ask for them."""
    namespace: str = "default"
    """Where pods are made."""
    image: str | None = None
    """Image with the installed steps (`step=…`)."""
    workspace: Mapping[str, Any] = field(default_factory=dict)
    """The workspace's volume as Kubernetes writes it, such as {"persistentVolumeClaim": {"claimName": "earthself"}}."""
    storage: str | None = None
    """Where pods have no such volume: `s3://PROFILE@bucket/prefix`, through which their inputs and outputs travel."""
    max_crossing: str = "50Gi"
    """How many bytes of a step's input and output together may travel between the workers and this cloud."""
    provider: str = ""
    """Whose cloud it is, such as `aws`, in the words of the table of providers (docs/pods.md)."""
    region: str = ""
    """Its region in that cloud, such as `us-west-2`."""
    template: Mapping[str, Any] = field(default_factory=dict)
    """Pod template under every step's own."""
    patience: float = 10.0
    """How long a worker stays with a pod that runs, seconds; then the triggerer waits."""
    broker: Mapping[str, str] = field(default_factory=dict)
    """The download broker of the cluster's pods: its `address`, the `connection` whose password is its token, its `authorities` (PEM)."""

    def files(self) -> str:
        """Tell by a short digest where the pods' files are: whose pods they are where several platforms share a namespace."""
        return hashlib.sha256(json.dumps([self.storage, self.workspace], sort_keys=True).encode()).hexdigest()[:12]

    def shared(self) -> Place | None:
        """The broker by which pods here share provider accounts, None for none; raises `BadRequest` where its token is not there."""
        from airflow.sdk import BaseHook
        from airflow.sdk.exceptions import AirflowNotFoundException
        from airflow.sdk.log import mask_secret
        from earthself.data.broker import Place

        if not self.broker:
            return None
        token = ""
        if name := self.broker.get("connection"):
            try:
                token = str(BaseHook.get_connection(name).password or "")
            except AirflowNotFoundException:
                raise BadRequest(
                    f"the broker of connection {self.conn_id} names connection {name!r} for its token, which is not there; make it, with "
                    "the token as its password"
                ) from None
            mask_secret(token)
        return Place(self.broker["address"], token, self.broker.get("authorities", ""))


def cloud(conn_id: str | None) -> Cloud:
    """Read a connection; raises `BadRequest` for one that is not there or says something else."""
    found = cloud_if_known(name := conn_id or DEFAULT_CONN_ID)
    if found is None:
        raise BadRequest(
            f"there is no connection {name!r}; make one of type Kubernetes, its extra field `earthself` is described in docs/pods.md"
        )
    return found


def cloud_if_known(name: str) -> Cloud | None:
    """Read a connection, None where there is none of that name; raises `BadRequest` for one that says something else."""
    from airflow.sdk import BaseHook
    from airflow.sdk.exceptions import AirflowNotFoundException

    try:
        extra = dict(BaseHook.get_connection(name).extra_dejson)
    except AirflowNotFoundException:
        return None
    said = extra.get("earthself") or {}
    try:
        said = json.loads(said) if isinstance(said, str) else said
    except ValueError as error:
        raise BadRequest(f"the field earthself of connection {name} is no JSON ({error})") from error
    unknown = sorted(set(said) - set(_FIELDS)) if isinstance(said, Mapping) else [said]
    if unknown:
        raise BadRequest(f"connection {name} says {unknown[0]!r} in its field earthself; known are {', '.join(_FIELDS)}")
    _check_broker(name, said.get("broker", {}))
    if said.get("storage") and said.get("workspace"):
        raise BadRequest(f"connection {name} says both workspace and storage in its field earthself; keep one of them")
    return Cloud(conn_id=name, extras=extra, namespace=str(extra.get("namespace") or Cloud.namespace), **said)


def _check_broker(name: str, said: Any) -> None:  # noqa: ANN401 - whatever somebody wrote
    known = isinstance(said, Mapping) and not set(said) - set(_BROKER_FIELDS) and all(isinstance(each, str) for each in said.values())
    if said and not (known and said.get("address", "").startswith(("http://", "https://"))):
        raise BadRequest(
            f"the broker of connection {name} is not {{{', '.join(_BROKER_FIELDS)}}} with an address like https://broker.earthself:8083"
        )
