"""Where pods run: each cloud is a Kubernetes connection of Airflow, whose extra field `earthself` says what our pods need there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from earthself.operators.errors import BadRequest

DEFAULT_CONN_ID = "kubernetes_default"
WORKSPACE = "workspace"
"""Name of the volume that holds the workspace, in pods and in templates."""
_FIELDS = ("image", "workspace", "template", "patience")


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
    template: Mapping[str, Any] = field(default_factory=dict)
    """Pod template under every step's own."""
    patience: float = 10.0
    """How long a worker stays with a pod that runs, seconds; then the triggerer waits."""


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
    return Cloud(conn_id=name, extras=extra, namespace=str(extra.get("namespace") or Cloud.namespace), **said)
