"""Waiting for products that a provider stages, without a worker: hours may pass, and all that is done is to ask now and then."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

if TYPE_CHECKING:
    from earthself.data.sources import SourceConfig, Sources


class StagingTrigger(BaseTrigger):
    """Fires when no product of a list is being staged any more, or when the time is over.

    :param pending: path of a JSON list of the offline items.
    :param eodag_conn_id: connection with the provider settings; no credential is kept with the trigger.
    :param until: when to stop waiting, Unix seconds.
    :param poll: seconds between two looks.
    """

    def __init__(self, pending: str, eodag_conn_id: str, until: float, poll: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.pending, self.eodag_conn_id, self.until, self.poll = pending, eodag_conn_id, until, poll

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """What makes the trigger again in another triggerer."""
        kwargs = {"pending": self.pending, "eodag_conn_id": self.eodag_conn_id, "until": self.until, "poll": self.poll}
        return f"{type(self).__module__}.{type(self).__qualname__}", kwargs

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look, wait, look again; the event says how many products are still being staged, and why others never will be."""
        from earthself.data.sources import Sources
        from earthself.data.workspace import read_json
        from earthself.hooks.eodag import EodagHook

        config: SourceConfig = await EodagHook(self.eodag_conn_id).aconfig()
        pending: list[dict[str, Any]] = await asyncio.to_thread(read_json, Path(self.pending))
        given_up: dict[str, str] = {}
        with await asyncio.to_thread(Sources, config) as sources:
            while True:
                pending = await asyncio.to_thread(self._left, sources, pending, given_up)
                if not pending or time.time() + self.poll >= self.until:
                    break
                await asyncio.sleep(self.poll)
        yield TriggerEvent({"left": len(pending), "given_up": given_up})  # type: ignore[no-untyped-call]

    def _left(self, sources: Sources, pending: list[dict[str, Any]], given_up: dict[str, str]) -> list[dict[str, Any]]:
        """Which products are not there yet; what can never be is not asked for again, and goes to `given_up` with the reason."""
        from earthself.data.errors import EarthSelfError

        left = []
        for item in pending:
            try:
                order = sources.stage(item).order
            except EarthSelfError as error:
                self.log.info("%s: %s", item["id"], error)
                if error.retry:
                    left.append(item)
                else:
                    given_up[str(item["id"])] = str(error)
                continue
            if order is not None:
                left.append(item)
                expected = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(order.expected))
                self.log.info("%s is being staged, expected %s%s", item["id"], expected, " (a guess)" if order.guessed else "")
        return left
