"""The Dask cluster beside a step's pod: made by a DaskCluster object, waited for until its scheduler answers, gone with the pod.

What is made of the object (scheduler, workers, service) is the work of the dask-kubernetes operator in the cluster.
"""

from __future__ import annotations

import time
from datetime import datetime

from earthself.data.errors import EarthSelfError
from earthself.hooks.cluster import Cluster, Exists, NotFound, Object
from earthself.triggers.pods.look import look

KIND = "daskclusters"
MANAGED = {"app.kubernetes.io/managed-by": "earthself-dask"}
"""Label of the object, and so of all that is made of it; not that of steps' pods, which are looked after one by one."""
_INSTALL = "install its Helm chart (docs/pods.md), or leave dask=… out"


class NoDask(EarthSelfError):
    """There is no Dask cluster for the step, and waiting does not help (exit 1)."""


class DaskLate(NoDask):
    """The Dask cluster was not there in time (exit 75)."""

    exit_code = 75
    retry = True


async def waits_for(cluster: Cluster, wanted: Object, spec: str, seconds: float) -> str | None:
    """Make the cluster where it is not there yet; says what it waits for, None when its scheduler answers.

    `spec` is the annotation that tells one cluster from another. Raises `NoDask`, and `DaskLate` where it takes longer than `seconds`.
    """
    name, namespace = wanted["metadata"]["name"], wanted["metadata"]["namespace"]
    there = await cluster.get(KIND, namespace, name)
    if there is None:
        try:
            await cluster.create(KIND, namespace, wanted)
        except NotFound as error:
            raise NoDask(f"the cluster has no dask-kubernetes operator ({error}); {_INSTALL}") from error
        except Exists:
            pass
        return "a Dask cluster is being made"
    metadata = there["metadata"]
    same = metadata["annotations"].get(spec) == wanted["metadata"]["annotations"][spec]
    if (told := metadata.get("deletionTimestamp")) and _ago(told) > seconds:
        holds = ", ".join(metadata.get("finalizers") or ["nothing that it says"])
        raise DaskLate(
            f"the Dask cluster {name} of an earlier attempt does not go, {_ago(told):.0f} s after its deletion; it is held by {holds}"
        )
    if not same or told or metadata.get("ownerReferences"):  # one with an owner goes with a pod that was
        await cluster.delete(KIND, namespace, name, uid=metadata["uid"])
        return "the Dask cluster of an earlier attempt goes"
    why = await _scheduler(cluster, there)
    if why and _ago(metadata["creationTimestamp"]) > seconds:
        raise DaskLate(f"the Dask cluster {name} was not there within {seconds:g} s: {why}")
    return why


async def own(cluster: Cluster, wanted: Object, owner: Object) -> None:
    """Let the cluster go with a pod."""
    name, namespace = wanted["metadata"]["name"], wanted["metadata"]["namespace"]
    await cluster.patch(KIND, namespace, name, {"metadata": {"ownerReferences": [owner]}})


def _ago(moment: str) -> float:
    return time.time() - datetime.fromisoformat(moment).timestamp()


async def _scheduler(cluster: Cluster, there: Object) -> str | None:
    """Say why the scheduler does not answer yet, None where it does."""
    name, namespace = there["metadata"]["name"], there["metadata"]["namespace"]
    if not (there.get("status") or {}).get("phase"):
        return f"no dask-kubernetes operator has taken up {name}; is it running?"
    pods = await cluster.find("pods", namespace, f"dask.org/cluster-name={name},dask.org/component=scheduler")
    if not pods:
        return "there is no pod of its scheduler yet"
    conditions = [one for pod in pods for one in (pod.get("status") or {}).get("conditions") or []]
    if any(one["type"] == "Ready" and one["status"] == "True" for one in conditions):
        return None
    seen = look(pods[0], "scheduler")
    if seen.stage == "hopeless":
        raise NoDask(f"the scheduler of the Dask cluster {name} cannot start: {seen.why}")
    return f"its scheduler is {seen.stage} {seen.why}".rstrip()
