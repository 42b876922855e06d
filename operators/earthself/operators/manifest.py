"""What a step's pod is made of: the cloud's template, the step's own over it, and what no template takes away by itself.

Fit for the "restricted" level of Kubernetes' Pod Security Standards as long as no template says otherwise.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from earthself.operators.base import map_index
from earthself.operators.clouds import WORKSPACE, Cloud
from earthself.operators.errors import BadRequest
from earthself.operators.resources import MemoryShare, StepResources
from earthself.triggers.pods.life import FILES, INPUTS, MANAGED, TASK, belonging, stamped

if TYPE_CHECKING:
    from airflow.sdk import Context

CONTAINER = "step"
SECRETS = Path("/earthself/secrets")
SCRATCH = Path("/earthself/scratch")
_USER = 50_000
"""Whom a pod runs as where the worker itself is root; Airflow's own images have that number."""
_KEYS = ("name", "mountPath", "key", "ip")
"""What tells the entries of a list apart, as in Kubernetes' own merging."""


@dataclass(frozen=True)
class Step:
    """What a pod is to do."""

    image: str
    """Container image."""
    command: Sequence[str]
    """Program; empty for the image's own."""
    arguments: Sequence[str]
    """Its arguments."""
    env: Mapping[str, str]
    """Environment; no secrets."""
    secret_env: Sequence[str]
    """Names of variables that come from the Secret."""
    secret_files: Sequence[str]
    """Files of the Secret below `SECRETS`."""
    resources: StepResources
    """Its share of a node."""
    root: Path
    """The workspace, which the pod sees under the same path."""
    reads: Sequence[Path]
    """Folders of it that the step may read."""
    writes: Sequence[Path]
    """Folders of it that the step may write; they exist."""
    template: Mapping[str, Any]
    """Pod template of the step's own."""
    made_of: str = ""
    """Digest of what it reads, which may change under the same paths."""


def pod_name(files: str, dag_id: str, run_id: str, task_id: str, index: int) -> str:
    """Name the pod of a task: the same one for each try, so that none can be made twice; `files` is the cloud's."""
    digest = hashlib.sha256("\n".join((files, dag_id, run_id, task_id, str(index))).encode()).hexdigest()[:12]
    word = re.sub(r"[^a-z0-9]+", "-", task_id.lower()).strip("-")[:40].strip("-") or "step"
    return f"es-{word}-{digest}"


class StepPodOperator(KubernetesPodOperator):
    """Makes a manifest as Airflow's own operator does: connection, template, labels, the operators' `pod_mutation_hook`.

    What follows is not its `execute`: how a pod is adopted, watched and ended is `earthself.triggers.pods` (docs/decisions/pods.md).
    """

    BASE_CONTAINER_NAME = CONTAINER

    def manifest(self, context: Context) -> dict[str, Any]:
        """Give the pod as the API's JSON."""
        from kubernetes.client import ApiClient

        pod = self.build_pod_request_obj(context, dry_run=True)
        return dict(ApiClient().sanitize_for_serialization(pod))


def manifest(context: Context, cloud: Cloud, step: Step, name: str, secret: str | None) -> dict[str, Any]:
    """Give the manifest of a step's pod, stamped with what it was made from."""
    template = merged(merged(_base(cloud, step, secret), cloud.template), step.template)
    operator = StepPodOperator(
        task_id=context["ti"].task_id,
        kubernetes_conn_id=cloud.conn_id,
        name=name,
        namespace=namespace(cloud, step.template),
        random_name_suffix=False,
        image=step.image,
        cmds=[_literal(word) for word in step.command],
        arguments=[_literal(word) for word in step.arguments],
        pod_template_dict=template,
        labels=MANAGED | {FILES: cloud.files()},
        annotations=belonging(context["ti"].dag_id, context["ti"].run_id, context["ti"].task_id, map_index(context))
        | {INPUTS: step.made_of},
    )
    made = operator.manifest(context)
    if unknown := _missing(template, made):
        raise BadRequest(f"the pod template says {unknown}, which Kubernetes does not know; mend its name")
    made["metadata"]["labels"].pop("kubernetes_pod_operator", None)  # it is nobody's but ours to adopt
    return stamped(_without_empty(made))


def namespace(cloud: Cloud, template: Mapping[str, Any]) -> str:
    """Say where a step's pod is made: what its own template, the cloud's, and the connection say, in that order."""
    said = [(one.get("metadata") or {}).get("namespace") for one in (template, cloud.template)]
    return str(next((name for name in said if name), cloud.namespace))


def secret_object(pod: Mapping[str, Any], name: str, values: Mapping[str, str]) -> dict[str, Any]:
    """Give the Secret of a pod, which says whose it is as the pod does."""
    return {
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque", "immutable": True,
        "metadata": {
            "name": name, "namespace": pod["metadata"]["namespace"], "labels": MANAGED | {FILES: pod["metadata"]["labels"][FILES]},
            "annotations": {TASK: pod["metadata"]["annotations"][TASK]},
        },
        "stringData": dict(values),
    }  # fmt: skip


def memory_share(pod: Mapping[str, Any]) -> MemoryShare:
    """Read from a pod what its step was given of the memory."""
    from kubernetes.utils.quantity import parse_quantity

    spec = pod["spec"]
    step = next(one for one in [*spec.get("initContainers", []), *spec["containers"]] if one["name"] == CONTAINER)
    sizes = [(step.get("resources", {}).get(kind) or {}).get("memory") for kind in ("requests", "limits")]
    request, limit = (None if size is None else int(parse_quantity(size)) for size in sizes)
    return MemoryShare(limit if request is None else request, limit)


def owner() -> tuple[int, int]:
    """Whom a pod runs as: the worker's own user, so that both can use the workspace's files; never root."""
    return (os.getuid(), os.getgid()) if os.getuid() else (_USER, _USER)


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Lay one manifest over another: objects field by field, lists of named things by name, other lists one after the other."""
    made = dict(base)
    for name, value in over.items():
        there = made.get(name)
        if isinstance(there, Mapping) and isinstance(value, Mapping):
            made[name] = merged(there, value)
        elif isinstance(there, list) and isinstance(value, Sequence) and not isinstance(value, str):
            made[name] = _together(there, value)
        else:
            made[name] = value
    return made


def _together(base: Sequence[Any], over: Sequence[Any]) -> list[Any]:
    made = list(base)
    for value in over:
        key = next((key for key in _KEYS if isinstance(value, Mapping) and key in value), None)
        at = next((n for n, one in enumerate(made) if key and isinstance(one, Mapping) and one.get(key) == value[key]), None)
        if key == "name" and isinstance(value, Mapping) and "mountPath" in value:
            at = next((n for n, one in enumerate(made) if one.get("mountPath") == value["mountPath"]), None)
        if at is None:
            made.append(value)
        else:
            made[at] = merged(made[at], value)
    return made


def _base(cloud: Cloud, step: Step, secret: str | None) -> dict[str, Any]:
    user, group = owner()
    named = {volume.get("name") for one in (cloud.template, step.template) for volume in (one.get("spec") or {}).get("volumes") or []}
    volumes: list[dict[str, Any]] = [
        {"name": "scratch", "emptyDir": {"sizeLimit": step.resources.scratch}},
        {"name": "tmp", "emptyDir": {}},
    ]
    if cloud.workspace:
        volumes.append({"name": WORKSPACE, **cloud.workspace})
    elif WORKSPACE not in named:
        raise BadRequest(
            f"connection {cloud.conn_id} names no volume for the workspace; give its field earthself "
            '{"workspace": {"persistentVolumeClaim": {"claimName": "…"}}}'
        )
    mounts: list[dict[str, Any]] = [{"name": "scratch", "mountPath": str(SCRATCH)}, {"name": "tmp", "mountPath": "/tmp"}]  # noqa: S108 - the pod's own
    for folder in sorted({*step.reads, *step.writes}):
        inside = {"subPath": str(folder.relative_to(step.root)), "readOnly": folder not in step.writes}
        mounts.append({"name": WORKSPACE, "mountPath": str(folder), **inside})
    if step.secret_files:
        items = [{"key": name, "path": name} for name in step.secret_files]
        volumes.append({"name": "secrets", "secret": {"secretName": secret, "items": items, "defaultMode": 0o400}})
        mounts.append({"name": "secrets", "mountPath": str(SECRETS), "readOnly": True})
    env: list[dict[str, Any]] = [{"name": name, "value": _literal(value)} for name, value in step.env.items()]
    env += [{"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": name}}} for name in step.secret_env]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": 30,
            "securityContext": {
                "runAsNonRoot": True, "runAsUser": user, "runAsGroup": group, "fsGroup": group,
                "fsGroupChangePolicy": "OnRootMismatch", "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": CONTAINER,
                    "env": env,
                    "volumeMounts": mounts,
                    "resources": _share(step.resources),
                    "securityContext": {
                        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
                    },
                }
            ],
            "volumes": volumes,
        },
    }  # fmt: skip


def _literal(text: str) -> str:
    """Keep Kubernetes from putting variables into a text: what a user typed is data."""
    return text.replace("$", "$$")


def _missing(wanted: Mapping[str, Any], made: Mapping[str, Any], path: str = "") -> str:
    """Name the first field of a template that did not come through: the client leaves out what it does not know."""
    for name, value in wanted.items():
        there = made.get(name)
        if there is None and value not in (None, [], {}):
            return path + name
        if isinstance(value, Mapping) and isinstance(there, Mapping) and (found := _missing(value, there, f"{path}{name}.")):
            return found
        if isinstance(value, list) and isinstance(there, list):
            pairs = [
                (one, next((o for o in there if o.get("name") == one["name"]), None))
                for one in value
                if isinstance(one, Mapping) and "name" in one and "mountPath" not in one
            ]
            for one, other in pairs:
                if other is not None and (found := _missing(one, other, f"{path}{name}.")):
                    return found
    return ""


def _share(resources: StepResources) -> dict[str, Any]:
    memory = str(resources.memory_bytes)
    share: dict[str, Any] = {"requests": {"cpu": f"{resources.cpu:g}", "memory": memory}, "limits": {"memory": memory}}
    if resources.gpu:
        share["limits"]["nvidia.com/gpu"] = str(resources.gpu)
    return share


def _without_empty(value: Any) -> Any:  # noqa: ANN401
    """Leave out what Airflow's operator fills in empty: a list of no tolerations is nobody's wish."""
    if isinstance(value, dict):
        return {k: _without_empty(v) for k, v in value.items() if v not in (None, [], {}) or k == "emptyDir"}
    return [_without_empty(one) for one in value] if isinstance(value, list) else value
