"""The trigger that waits for a step's pod, so that no worker does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import asdict
from functools import partial
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent
from earthself.data.errors import EarthSelfError
from earthself.triggers.task_states import state_of
from structlog.contextvars import bind_contextvars

_FIRST_PAUSE, _LONGEST_PAUSE = 2.0, 15.0
_REMOVING: set[asyncio.Task[None]] = set()
"""Removals under way in this triggerer; asyncio itself holds tasks weakly."""


class StepPodTrigger(BaseTrigger):
    """Makes the pod when there is room for it, follows it, and fires with how it ended; or when there is room for what a worker must make.

    :param plan: `earthself.triggers.pods.life.Plan` as a dict.
    :param conn_id: Kubernetes connection.
    :param place: how far the log was read, as a dict.
    :param tail: the last lines that the worker read.
    :param step: the step's name, for its lines in the log.
    """

    def __init__(self, *, plan: dict[str, Any], conn_id: str, place: dict[str, Any], tail: list[str] | None = None, step: str = "") -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.plan = plan
        self.conn_id = conn_id
        self.place = place
        self.tail = tail or []
        self.step = step

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Give what Airflow needs to make it again in the triggerer."""
        return f"{type(self).__module__}.{type(self).__qualname__}", {
            "plan": self.plan,
            "conn_id": self.conn_id,
            "place": self.place,
            "tail": self.tail,
            "step": self.step,
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait for the end."""
        from earthself.hooks.cluster import Cluster
        from earthself.triggers.pods.life import Life, Plan
        from earthself.triggers.pods.lines import Place
        from earthself.triggers.pods.spoken import Spoken
        from earthself.triggers.pods.waiting import WAITING

        bind_contextvars(step=self.step)
        spoken = Spoken(self.log.info, self.tail)
        now = self.plan
        try:
            async with Cluster(self.conn_id) as cluster:
                life = Life(cluster, Plan(**self.plan), say=spoken, note=self.log.info, place=Place(**self.place))
                pause = _FIRST_PAUSE
                end = None
                async with WAITING.counted(self.conn_id, lambda: life.seen.patient):
                    ready = life.has_room if life.plan.lacks_secret else life.make
                    while end is None and life.plan.uid is None and not await ready():
                        await asyncio.sleep(pause)
                        pause, end = min(1.5 * pause, _LONGEST_PAUSE), life.late()
                    now = life.plan.to_dict()
                    room = end is None and life.plan.lacks_secret
                    end = end if end or room else await life.follow()
                event: dict[str, Any] = {
                    "end": asdict(end) if end else None, "plan": life.plan.to_dict(), "place": asdict(life.place), "tail": spoken.tail,
                }  # fmt: skip
                event |= {"room": True} if room else {}
        except EarthSelfError as error:
            event = {"error": str(error), "retry": error.retry, "exit_code": error.exit_code, "plan": now}
        except Exception as error:
            # Airflow would fail the task without a word to its operator; so the next try takes on the pod.
            self.log.exception("the wait for a step's pod failed")
            event = {"error": f"{type(error).__name__}: {error}", "retry": True, "exit_code": 75, "plan": now}
        yield TriggerEvent(event | {"conn_id": self.conn_id})  # type: ignore[no-untyped-call]

    async def on_kill(self) -> None:
        """Take the pod away when a person ends the task, but not when another triggerer has taken the wait over.

        Airflow cancels the trigger anew each second until it is over, this method with it; the removal goes on through that.
        """
        removal = asyncio.create_task(self._remove())
        _REMOVING.add(removal)
        removal.add_done_callback(_REMOVING.discard)
        await asyncio.shield(removal)

    async def _remove(self) -> None:
        from earthself.hooks.cluster import Cluster
        from earthself.triggers.pods.life import Life, Plan, task_of
        from earthself.triggers.pods.look import Look

        plan = Plan(**self.plan)
        if await self._state(task_of(plan.pod)) == "deferred":
            return
        async with Cluster(self.conn_id) as cluster:
            life = Life(cluster, plan, say=self.log.info, note=self.log.info)
            life.seen = Look("running")  # it may: then it gets its grace
            await life.remove()

    async def _state(self, task: dict[str, Any]) -> str:
        """Ask Airflow for the state of the task; where it does not answer, what the triggerer says has to be enough."""
        from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance
        from asgiref.sync import sync_to_async

        ask = sync_to_async(partial(state_of, RuntimeTaskInstance.get_task_states))
        try:
            return await ask(task["dag_id"], task["run_id"], task["task_id"], task["map_index"])
        except Exception as error:  # noqa: BLE001 - whatever keeps Airflow from answering
            self.log.warning("Airflow does not say how the task stands (%s: %s); its pod is removed", type(error).__name__, error)
            return ""
