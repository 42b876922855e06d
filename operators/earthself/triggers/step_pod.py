"""The trigger that waits for a step's pod, so that no worker does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent
from earthself.data.errors import EarthSelfError

_FIRST_PAUSE, _LONGEST_PAUSE = 2.0, 15.0


class StepPodTrigger(BaseTrigger):
    """Makes the pod when there is room for it, follows it, and fires with how it ended.

    :param plan: `earthself.triggers.pods.life.Plan` as a dict.
    :param conn_id: Kubernetes connection.
    :param place: how far the log was read, as a dict.
    :param tail: the last lines that the worker read.
    """

    def __init__(self, *, plan: dict[str, Any], conn_id: str, place: dict[str, Any], tail: list[str] | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.plan = plan
        self.conn_id = conn_id
        self.place = place
        self.tail = tail or []

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Give what Airflow needs to make it again in the triggerer."""
        return f"{type(self).__module__}.{type(self).__qualname__}", {
            "plan": self.plan,
            "conn_id": self.conn_id,
            "place": self.place,
            "tail": self.tail,
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait for the end."""
        from earthself.hooks.cluster import Cluster
        from earthself.triggers.pods.life import Life, Plan
        from earthself.triggers.pods.lines import Place
        from earthself.triggers.pods.spoken import Spoken

        spoken = Spoken(self.log.info, self.tail)
        try:
            async with Cluster(self.conn_id) as cluster:
                life = Life(cluster, Plan(**self.plan), say=spoken, note=self.log.info, place=Place(**self.place))
                pause = _FIRST_PAUSE
                end = None
                while end is None and life.plan.uid is None and not await life.make():
                    await asyncio.sleep(pause)
                    pause, end = min(1.5 * pause, _LONGEST_PAUSE), life.late()
                end = end or await life.follow()
                event: dict[str, Any] = {
                    "end": asdict(end) if end else None, "plan": life.plan.to_dict(), "place": asdict(life.place), "tail": spoken.tail,
                }  # fmt: skip
        except EarthSelfError as error:
            event = {"error": str(error), "retry": error.retry, "exit_code": error.exit_code}
        except Exception as error:
            # Airflow would fail the task without a word to its operator; so the next try takes on the pod.
            self.log.exception("the wait for a step's pod failed")
            event = {"error": f"{type(error).__name__}: {error}", "retry": True, "exit_code": 75}
        yield TriggerEvent(event)  # type: ignore[no-untyped-call]

    async def on_kill(self) -> None:
        """Take the pod away when a person ends the task."""
        from earthself.hooks.cluster import Cluster
        from earthself.triggers.pods.life import Life, Plan

        async with Cluster(self.conn_id) as cluster:
            await Life(cluster, Plan(**self.plan), say=self.log.info, note=self.log.info).remove()
