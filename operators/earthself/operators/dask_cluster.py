"""The Dask cluster that a step asks for: processes beside it on one machine, or an object of dask-kubernetes beside its pod."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from earthself.operators.errors import BadRequest
from earthself.operators.resources import StepResources, quantity

PORT = 8786
_MOST_WORKERS = 1000
_SCRIPT = str(Path(__file__).with_name("_dask.py"))


@dataclass(frozen=True)
class DaskCluster:
    """A Dask cluster for one step: there when it begins, gone when it has ended."""

    workers: int = 2
    """How many; on one machine no more than the step has cores."""
    cpu: float = 1.0
    """Cores of each worker, which has a thread for each whole one."""
    memory: str = "2Gi"
    """Memory of each worker; on one machine they share that of the step."""
    scheduler_memory: str = "1Gi"
    """Memory of the scheduler; in a cluster only."""
    image: str | None = None
    """Image of scheduler and workers, with the same versions of dask and distributed as the step's; None: the step's own."""

    def __post_init__(self) -> None:
        if isinstance(self.workers, bool) or not isinstance(self.workers, int) or not 1 <= self.workers <= _MOST_WORKERS:
            raise BadRequest(f"workers={self.workers!r} is not a number of Dask workers; give 1 to {_MOST_WORKERS}")
        StepResources(self.cpu, self.memory)
        quantity(self.scheduler_memory, "scheduler_memory")

    @classmethod
    def from_value(cls, value: DaskCluster | Mapping[str, Any] | None) -> DaskCluster | None:
        """Accept a dict where a DAG file gives one; None stays None."""
        if value is None or isinstance(value, DaskCluster):
            return value
        try:
            return cls(**value)
        except TypeError as error:
            raise BadRequest(f"dask={value!r}: {error}; DaskCluster has workers, cpu, memory, scheduler_memory, image") from error

    @property
    def threads(self) -> int:
        """Threads of each worker."""
        return max(1, int(self.cpu))


@dataclass(frozen=True)
class OnThisMachine:
    """The share of each worker where all of them live on what the step may use."""

    workers: int
    """How many."""
    threads: int
    """Threads of each."""
    memory: int
    """Bytes of each."""

    @classmethod
    def of(cls, dask: DaskCluster, resources: StepResources) -> OnThisMachine:
        """Divide the step's own cores and memory; the step keeps as much memory as a worker has at most."""
        workers = min(dask.workers, resources.threads)
        threads = min(dask.threads, max(1, resources.threads // workers))
        return cls(workers, threads, min(quantity(dask.memory, "memory"), resources.memory_bytes // (workers + 1)))

    def program(self, command: Sequence[str]) -> list[str]:
        """Give the program that starts the cluster and then the step's command."""
        # -P: the folder of the script has modules that are named like others.
        return [sys.executable, "-P", _SCRIPT, str(self.workers), str(self.threads), str(self.memory), *command]


def cluster_name(pod: str) -> str:
    """Name the cluster of a pod, short enough for all that dask-kubernetes makes of it."""
    return f"es-dask-{pod.rpartition('-')[2]}"


def address(pod: str, namespace: str) -> str:
    """Where the scheduler of a pod's cluster will answer: the name that dask-kubernetes gives it."""
    return f"tcp://{cluster_name(pod)}-scheduler.{namespace}.svc.cluster.local:{PORT}"


def dask_object(dask: DaskCluster, pod: Mapping[str, Any], container: str, labels: Mapping[str, str]) -> dict[str, Any]:
    """Give the DaskCluster object of a step's pod, not stamped yet.

    Scheduler and workers are made as the step's pod is (template, folders, security), but for its secrets and graphics processors.
    """
    name, namespace = cluster_name(pod["metadata"]["name"]), pod["metadata"]["namespace"]
    step = next(one for one in pod["spec"]["containers"] if one["name"] == container)
    step = step | {"image": dask.image or step["image"]}
    python = ["python", "-m"]
    scratch = next((m["mountPath"] for m in step.get("volumeMounts", []) if m["name"] == "scratch"), "/tmp")  # noqa: S108
    serve = [*python, "distributed.cli.dask_scheduler", "--port", str(PORT), "--no-dashboard"]
    work = [
        *python, "distributed.cli.dask_worker", "--name", "$(DASK_WORKER_NAME)", "--nthreads", str(dask.threads), "--no-dashboard",
        "--memory-limit", str(quantity(dask.memory, "memory")), "--local-directory", scratch,
    ]  # fmt: skip
    scheduler = _like(pod, step, "scheduler", serve, _share(0.1, dask.scheduler_memory))
    probe = {"tcpSocket": {"port": "tcp-comm"}, "periodSeconds": 1, "failureThreshold": 3}
    scheduler["containers"][0] |= {"ports": [{"name": "tcp-comm", "containerPort": PORT}], "readinessProbe": probe}
    service = {
        "type": "ClusterIP",
        "selector": {"dask.org/cluster-name": name, "dask.org/component": "scheduler"},
        "ports": [{"name": "tcp-comm", "protocol": "TCP", "port": PORT, "targetPort": "tcp-comm"}],
    }
    return {
        "apiVersion": "kubernetes.dask.org/v1",
        "kind": "DaskCluster",
        "metadata": {
            "name": name, "namespace": namespace, "labels": dict(labels), "annotations": dict(pod["metadata"].get("annotations") or {}),
        },
        "spec": {
            "scheduler": {"spec": scheduler, "service": service},
            "worker": {"replicas": dask.workers, "spec": _like(pod, step, "worker", work, _share(dask.cpu, dask.memory))},
        },
    }  # fmt: skip


def _like(pod: Mapping[str, Any], step: Mapping[str, Any], name: str, command: list[str], resources: dict[str, Any]) -> dict[str, Any]:
    """Give a pod's spec like that of the step with one container that does something else."""
    spec = dict(pod["spec"])
    secret = {volume["name"] for volume in spec.get("volumes", []) if "secret" in volume}
    own: dict[str, Any] = {"name": name, "image": step["image"], "command": command, "resources": resources}
    own["env"] = [one for one in step.get("env", []) if "value" in one]
    own["volumeMounts"] = [mount for mount in step.get("volumeMounts", []) if mount["name"] not in secret]
    own |= {key: step[key] for key in ("securityContext", "imagePullPolicy") if key in step}
    volumes = [volume for volume in spec.get("volumes", []) if volume["name"] not in secret]
    left_out = ("initContainers", "activeDeadlineSeconds")
    spec = {key: value for key, value in spec.items() if key not in left_out}
    return spec | {"restartPolicy": "Always", "containers": [own], "volumes": volumes, "terminationGracePeriodSeconds": 5}


def _share(cpu: float, memory: str) -> dict[str, Any]:
    size = str(quantity(memory, "memory"))
    return {"requests": {"cpu": f"{cpu:g}", "memory": size}, "limits": {"memory": size}}
