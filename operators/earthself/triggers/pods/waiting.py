"""How many pods wait for room, told to the platform's database by the process that waits: only it knows, since a pod may not exist yet."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta

PODS_WAITING = "earthself_pods_waiting"
SPOKEN_WITHIN = timedelta(minutes=2)
"""A process that has said nothing for so long waits for nothing any more."""
_LOG = logging.getLogger(__name__)
_LOOK_SECONDS = 2.0
_AGAIN_SECONDS = 30.0


class Waiting:
    """The pods that one process follows; what is said of them is written when it changes, and every half minute."""

    def __init__(
        self,
        tell: Callable[[Mapping[str, float]], None],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`tell` takes the number of waiting pods by cloud; it may block."""
        self._tell, self._sleep, self._clock = tell, sleep, clock
        self._pods: dict[object, tuple[str, Callable[[], bool]]] = {}
        self._telling: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def counted(self, cloud: str, waits: Callable[[], bool]) -> AsyncIterator[None]:
        """Count a pod of a cloud within the block for as long as `waits` says so."""
        key = object()
        self._pods[key] = (cloud, waits)
        if self._telling is None or self._telling.done() or self._telling.get_loop() is not asyncio.get_running_loop():
            self._telling = asyncio.create_task(self._go_on())
        try:
            yield
        finally:
            del self._pods[key]

    async def _go_on(self) -> None:
        said: dict[str, float] = {}
        at = self._clock()
        while True:
            now: dict[str, float] = dict(Counter(cloud for cloud, waits in self._pods.values() if waits()))
            if now != said or (now and self._clock() - at >= _AGAIN_SECONDS):
                await asyncio.to_thread(self._tell, now)
                said, at = now, self._clock()
            if not self._pods:
                return
            await self._sleep(_LOOK_SECONDS)


def _told(values: Mapping[str, float]) -> None:
    from earthself.hooks.tally import Tally, TallyBroken

    try:
        with Tally() as tally:
            tally.tell(PODS_WAITING, values, "cloud", f"{socket.gethostname()}:{os.getpid()}")
    except TallyBroken as error:
        _LOG.warning("not told for the platform's metrics: %s", error)


WAITING = Waiting(_told)
"""Of this process."""
