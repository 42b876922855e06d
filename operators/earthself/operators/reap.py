"""Takes away what nobody waits for any more: pods and Secrets of tasks that ended while no process of Airflow looked after them.

A task takes its own pod along. What is left for this are the moments in which nobody can: a worker that died for good, a person who
ended a task in the second between its worker and its trigger, a run that was deleted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from earthself.operators.base import EarthSelfOperator
from earthself.operators.clouds import DEFAULT_CONN_ID, Cloud, cloud_if_known
from earthself.triggers.task_states import state_of

if TYPE_CHECKING:
    from airflow.sdk import Context
    from earthself.hooks.cluster import Cluster

_ALIVE = {"running", "queued", "scheduled", "deferred", "up_for_retry", "up_for_reschedule", "restarting", "awaiting_input"}
"""States of a task that comes back to its pod, or whose next try does."""


class ReapPodsOperator(EarthSelfOperator):
    """Remove pods and Secrets of steps whose task is over; returns {removed: [names], kept: number}.

    :param clouds: Kubernetes connections, or a template that gives them; one that is not there has no pods.
    :param older_than: how old an object must be, so that none is taken that is just being made.
    """

    template_fields: Sequence[str] = ("clouds",)

    def __init__(
        self,
        *,
        clouds: Sequence[str] | str = (DEFAULT_CONN_ID,),
        older_than: timedelta = timedelta(minutes=5),
        **kwargs: Any,  # noqa: ANN401 - Airflow's own arguments
    ) -> None:
        super().__init__(**kwargs)
        self.clouds = clouds
        self.older_than = older_than

    def work(self, context: Context) -> dict[str, Any]:
        """Look at every pod of ours once."""
        removed: list[str] = []
        kept = 0
        for name in self.clouds:
            where = cloud_if_known(name)
            if where is None:
                self.log.info(f"there is no connection {name}: nothing to look after")
                continue
            gone, left = asyncio.run(self._reap(context, where))
            removed += gone
            kept += left
        self.log.info(f"{len(removed)} objects removed, {kept} pods belong to somebody")
        return {"removed": removed, "kept": kept}

    async def _reap(self, context: Context, where: Cloud) -> tuple[list[str], int]:
        from earthself.hooks.cluster import Cluster
        from earthself.triggers.pods import dask
        from earthself.triggers.pods.life import FILES, MANAGED, task_of

        before = datetime.now(UTC) - self.older_than
        removed: list[str] = []
        kept: set[str] = set()
        async with Cluster(where.conn_id, where.extras) as cluster:
            for kind, labels in (("pods", MANAGED), ("secrets", MANAGED), (dask.KIND, dask.MANAGED)):
                for found in await _all(cluster, kind, where.namespace, labels):
                    if found["metadata"]["labels"].get(FILES) != where.files():
                        continue  # it belongs to another platform
                    name = str(found["metadata"]["name"])
                    if datetime.fromisoformat(found["metadata"]["creationTimestamp"]) > before:
                        kept.add(name)
                        continue
                    task = task_of(found)
                    state = (
                        state_of(context["ti"].get_task_states, task["dag_id"], task["run_id"], task["task_id"], task["map_index"])
                        if task
                        else "not there"
                    )
                    if state in _ALIVE or name in kept:
                        kept.add(name)
                        continue
                    self.log.warning(f"{kind[:-1]} {name} of {task} was left behind ({state}): it is removed")
                    await cluster.delete(kind, where.namespace, name, uid=found["metadata"]["uid"])
                    removed.append(f"{kind}/{name}")
        return removed, len(kept)


async def _all(cluster: Cluster, kind: str, namespace: str, labels: Mapping[str, str]) -> list[dict[str, Any]]:
    """List our objects of a kind; a cluster that does not know the kind has none."""
    from earthself.hooks.cluster import NotFound

    try:
        return await cluster.find(kind, namespace, ",".join(f"{name}={value}" for name, value in labels.items()))
    except NotFound:
        return []
