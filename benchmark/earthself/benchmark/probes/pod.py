"""How long a Kubernetes cluster takes from being asked for a pod until the pod is ready; it is removed again, whatever happens."""

from __future__ import annotations

import contextlib
import json
import os
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from earthself.benchmark.errors import ProbeFailed, Refused, ToolMissing, TooSlow
from earthself.benchmark.probing import Measure, Probe, Setting, labels_of

_LONGEST = 900
"""Seconds that a pod may take: a cluster that has to grow needs minutes for a machine."""
_ANSWER, _WATCH = 30, 20
"""Seconds that an answer may take, and after which a watch is begun anew: a connection that was cut without a word is found out."""
_REMOVALS, _PAUSE = 5, 0.1
_USER = 50_000
_HOPELESS = ("ErrImageNeverPull", "ImagePullBackOff", "InvalidImageName", "CreateContainerConfigError", "CreateContainerError")
"""Reasons of a container that waits which do not pass by waiting longer."""

Object = dict[str, Any]


def _ready(setting: Setting) -> Mapping[str, float]:
    if not (setting.namespace and setting.image):
        raise ProbeFailed("nobody says where a pod may be made, and of what; name both: --namespace NAME --image IMAGE")
    with _cluster() as cluster:
        pods = _Pods(cluster, setting.namespace)
        body = manifest(setting.image)
        begun = time.perf_counter()
        with pods.made(body) as name:
            return _until_ready(pods.states(name, begun + _LONGEST), begun)


def _until_ready(states: Iterator[Object], begun: float) -> Mapping[str, float]:
    """Give the seconds until each condition; raises `ProbeFailed` for a pod that will not come to it, `TooSlow` for one that has not."""
    found: dict[str, float] = {}
    why = "the cluster says nothing of it"
    for pod in states:
        for name in reached(pod):
            found.setdefault(name, time.perf_counter() - begun)
        if "ready" in found:
            return found
        why = waits_for(pod)
        if pod["status"].get("phase") in ("Succeeded", "Failed") or why.startswith(_HOPELESS):
            raise ProbeFailed(f"the pod will not get ready: {why}")
    raise TooSlow(f"the pod was not ready within {_LONGEST} s: {why}")


def manifest(image: str) -> Object:
    """Give a pod that does nothing, asks for next to nothing, and may run where the Pod Security Standard is `restricted`."""
    share = {"cpu": "10m", "memory": "32Mi"}
    labels = {"app.kubernetes.io/name": "earthself-probe", "app.kubernetes.io/managed-by": "earthself"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"earthself-probe-{uuid.uuid4()}", "labels": labels},
        "spec": {
            "restartPolicy": "Never",
            "activeDeadlineSeconds": _LONGEST + 60,  # whoever made it may have died
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "securityContext": {
                "runAsNonRoot": True, "runAsUser": _USER, "runAsGroup": _USER, "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "probe",
                    "image": image,
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["sleep", str(_LONGEST)],
                    "resources": {"requests": share, "limits": share},
                    "securityContext": {
                        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
                    },
                }
            ],
        },
    }  # fmt: skip


def reached(pod: Object) -> list[str]:
    """Name the conditions that a pod has come to: `scheduled`, `ready`."""
    true = {one["type"] for one in pod["status"].get("conditions") or () if one.get("status") == "True"}
    return ["scheduled", "ready"] if "Ready" in true else ["scheduled"] if "PodScheduled" in true else []


def waits_for(pod: Object) -> str:
    """Say in the cluster's words what keeps a pod, the reason first."""
    status = pod["status"]
    states = [state for one in status.get("containerStatuses") or () for state in (one.get("state") or {}).values() if state]
    unmet = [one for one in status.get("conditions") or () if one.get("status") == "False"]
    said: Object = next((one for one in (*states, *unmet, status) if one.get("reason")), {})
    return f"{said.get('reason') or status.get('phase')} {said.get('message') or ''}".strip()


class _Pods:
    """The pods of a namespace."""

    def __init__(self, cluster: Any, namespace: str) -> None:  # noqa: ANN401 - the client's CoreV1Api
        self._core, self._namespace = cluster, namespace

    @contextlib.contextmanager
    def made(self, body: Object) -> Iterator[str]:
        """Make a pod; it is gone afterwards, or the error says how to remove it."""
        from kubernetes.client import ApiException

        name = str(body["metadata"]["name"])
        with self._answers():
            try:
                self._core.create_namespaced_pod(self._namespace, body, _request_timeout=_ANSWER)
            except BaseException as error:
                if not (isinstance(error, ApiException) and error.status in range(400, 500)):  # else it said no: there is none
                    self._remove(name)
                raise
            try:
                yield name
            finally:
                self._remove(name)

    def states(self, name: str, until: float) -> Iterator[Object]:
        """Give a pod as it is, and each time that it changes."""
        while time.perf_counter() < until:
            answer = self._core.list_namespaced_pod(
                self._namespace, field_selector=f"metadata.name={name}", watch=True, timeout_seconds=_WATCH,
                _request_timeout=_ANSWER, _preload_content=False,
            )  # fmt: skip
            with contextlib.closing(answer):
                for event in _events(answer):
                    if event["type"] == "DELETED":
                        raise ProbeFailed(f"somebody removed the pod {name} before it was ready")
                    if event["type"] in ("ADDED", "MODIFIED"):  # else a watch that has ended
                        yield event["object"]
            time.sleep(_PAUSE)

    def _remove(self, name: str) -> None:
        from kubernetes.client import ApiException
        from urllib3.exceptions import HTTPError

        for left in reversed(range(_REMOVALS)):
            try:
                self._core.delete_namespaced_pod(name, self._namespace, _request_timeout=_ANSWER)
            except (ApiException, HTTPError) as error:
                if getattr(error, "status", None) == 404:
                    return
                if not left:
                    raise ProbeFailed(
                        f"the pod {name} may still be there ({_said(error)}); remove it: kubectl -n {self._namespace} delete pod {name}"
                    ) from error
                time.sleep(1)
            else:
                return

    @contextlib.contextmanager
    def _answers(self) -> Iterator[None]:
        """Say what the cluster answers as a probe does."""
        from kubernetes.client import ApiException
        from urllib3.exceptions import HTTPError

        try:
            yield
        except ApiException as error:
            kind = Refused if error.status in (401, 403) else ProbeFailed
            raise kind(f"the cluster does not let a pod be made in {self._namespace}: {_said(error)}") from error
        except HTTPError as error:
            raise ProbeFailed(f"the cluster does not answer ({_said(error)}); check the kubeconfig") from error


def _events(lines: Iterable[bytes]) -> Iterator[Object]:
    for line in lines:
        try:
            yield json.loads(line)
        except ValueError:  # it was cut
            return


def _said(error: Exception) -> str:
    """The message of an answer, or of what happened instead."""
    try:
        return str(json.loads(getattr(error, "body", ""))["message"])
    except (ValueError, LookupError, TypeError):
        return str(getattr(error, "reason", None) or error)


@contextlib.contextmanager
def _cluster() -> Iterator[Any]:
    """Give the API of the cluster that the kubeconfig names, else of the one that this process runs in."""
    try:
        from kubernetes import client, config
    except ImportError as error:
        raise ToolMissing("there is no Kubernetes client; get it with: pip install kubernetes") from error
    settings = client.Configuration()
    file = os.environ.get("KUBECONFIG")
    try:
        if file or Path("~/.kube/config").expanduser().is_file():
            config.load_kube_config(file or None, client_configuration=settings)
        else:
            config.load_incluster_config(client_configuration=settings)
    except config.ConfigException as error:
        raise ProbeFailed(f"no cluster is known ({error}); name a kubeconfig by KUBECONFIG") from error
    with client.ApiClient(settings) as api:
        yield client.CoreV1Api(api)


PROBES = [
    Probe(
        "ready_pod",
        "a pod of a Kubernetes cluster, until it has a place and until it is ready",
        [Measure("scheduled", "s", "lower"), Measure("ready", "s", "lower")],
        _ready,
        labels_of("namespace", "image"),
        asks=["namespace", "image"],
    )
]
