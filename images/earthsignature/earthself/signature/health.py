"""Says whether the server can do its work: asks the store again and again, and tells who checks or watches by gRPC's health service.

The servicer is our own, since that of grpcio-health-checking waits for each watcher to take its message before others learn anything.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Any

import grpc
from earthself.signature.filters import Query
from earthself.signature.store import Store
from grpc_health.v1 import health_pb2, health_pb2_grpc

_LOG = logging.getLogger(__name__)
_EVERY = 2.0
_LONGEST = 5.0
_Answer = health_pb2.HealthCheckResponse


class Health(health_pb2_grpc.HealthServicer):  # type: ignore[misc]  # grpc_health has no types
    """The health of a server and of each of its services, which all stand and fall with the store."""

    def __init__(self, store: Store, services: Iterable[str], every: float = _EVERY) -> None:
        self._store, self._services, self._every = store, frozenset(services), every
        self._why: str | None = "the store was not asked yet"
        self._changed = asyncio.Event()
        self._asked: Future[str | None] | None = None
        self._asking: asyncio.Task[None] | None = None
        self._ended = False

    def add_to(self, server: grpc.aio.Server) -> None:
        """Answer the health service there."""
        health_pb2_grpc.add_HealthServicer_to_server(self, server)

    async def Check(self, request: Any, context: Any) -> Any:  # noqa: ANN401, N802 - the name on the wire
        """Tell how a service is now."""
        if request.service not in self._services:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"there is no service {request.service[:200]!r} here")
        return _Answer(status=self._status())

    async def Watch(self, request: Any, context: Any) -> None:  # noqa: ANN401, N802
        """Tell how a service is, now and after every change, until the server goes."""
        while True:
            changed = self._changed
            known = request.service in self._services
            await context.write(_Answer(status=self._status() if known else _Answer.SERVICE_UNKNOWN))
            if self._ended:
                return
            await changed.wait()

    async def start(self) -> None:
        """Ask the store once, then again and again."""
        await self._ask()
        self._asking = asyncio.create_task(self._keep_asking())

    def end(self) -> None:
        """Say that the server goes."""
        if self._asking is not None:
            self._asking.cancel()
        self._why, self._ended = "the server stops", True
        self._changed.set()

    async def _keep_asking(self) -> None:
        while True:
            await asyncio.sleep(self._every)
            await self._ask()

    async def _ask(self) -> None:
        if self._asked is None or self._asked.done():
            self._asked = _in_thread(lambda: _why_not(self._store))
        asked = asyncio.wrap_future(self._asked)
        await asyncio.wait([asked], timeout=_LONGEST)
        why = asked.result() if asked.done() else f"no answer within {_LONGEST:g} s"
        if why is None and self._why is not None:
            _LOG.info("the store can be read: serving")
        elif why is not None and self._why is None:
            _LOG.error("not serving, since the store cannot be read: %s", why)
        self._tell(why)

    def _tell(self, why: str | None) -> None:
        self._why, before = why, self._why
        if (why is None) != (before is None):
            self._changed.set()
            self._changed = asyncio.Event()

    def _status(self) -> int:
        return int(_Answer.SERVING if self._why is None else _Answer.NOT_SERVING)


def _in_thread(function: Callable[[], str | None]) -> Future[str | None]:
    """Run it in a thread that holds nobody up at the end, as those of pools do: a disk that is away may never answer."""
    future: Future[str | None] = Future()
    threading.Thread(target=lambda: future.set_result(function()), daemon=True, name="earthsignature-health").start()
    return future


def _why_not(store: Store) -> str | None:
    """Read the least that shows that database and rasters are there; gives what is wrong, None if nothing is."""
    try:
        if not store.catalog.exists():
            return "the database is gone"
        next(iter(store.find(Query(limit=1), details=False)), None)
        next((store.home / "products").iterdir(), None)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is why nothing can be read
        return str(error)
    return None
