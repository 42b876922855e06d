"""The gRPC server: paths, threads, status codes, reflection, health, start and stop.

Calls are held by asyncio and worked on by a few threads: many slow readers cost memory for one message each, never a thread, and
health is answered while all threads are busy.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import logging
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import sqlalchemy as sa
from earthself.data.errors import BadInput
from earthself.signature import errors, services
from earthself.signature.store import Store
from earthself.signature.wire import POOL
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection, reflection_pb2

_LOG = logging.getLogger(__name__)
_LARGEST_MESSAGE = 1 << 30
_END = object()
_POLITE = 0.8  # of the grace calls go on undisturbed, in the rest they are cancelled and clean up
_FULL = "the store's disk is full; nothing was stored, try again when there is room"
_STATUS = (
    ((errors.BadSignature, BadInput), grpc.StatusCode.INVALID_ARGUMENT),
    ((errors.AlreadyExists,), grpc.StatusCode.ALREADY_EXISTS),
    ((errors.NotFound,), grpc.StatusCode.NOT_FOUND),
    ((errors.StoreBroken,), grpc.StatusCode.DATA_LOSS),
    ((errors.StoreFull,), grpc.StatusCode.RESOURCE_EXHAUSTED),
)
_OURS = (grpc.StatusCode.INTERNAL, grpc.StatusCode.DATA_LOSS, grpc.StatusCode.RESOURCE_EXHAUSTED)
"""What the operator of the server has to look after."""
V1_PATHS = ("snapearth.api.v1.DatabaseProductService", "snapearth.api.v1.database.DatabaseProductService")
"""Services that take the messages of v1."""
V2_PATHS = ("snapearth.api.v2.DatabaseProductService", "snapearth.api.v2.database.DatabaseProductService")
"""Services that take the messages of v2."""
OWN_PATH = "earthself.signature.v1.SignatureService"
"""Our own service."""


@dataclass(frozen=True)
class ServerSettings:
    """How to serve."""

    home: Path
    """Folder of the store."""
    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = 50051
    """TCP port, 0 for a free one."""
    database_url: str | None = None
    """SQLAlchemy URL; None: a file in the folder."""
    sieve_ha: float = 0.5
    """Smallest patch of v2 in hectares."""
    threads: int = 6
    """Calls that are worked on at a time."""
    grace: float = 10.0
    """Seconds that running calls get at the end."""


class _Workers:
    """The threads that calls are worked on."""

    def __init__(self, threads: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="earthsignature")
        self._working: set[Future[Any]] = set()

    async def run(self, function: Callable[..., Any], *arguments: Any) -> Any:  # noqa: ANN401 - any messages
        """Do it in a thread."""
        future = self._pool.submit(function, *arguments)
        self._working.add(future)
        future.add_done_callback(self._working.discard)
        return await asyncio.wrap_future(future)

    async def close(self, seconds: float) -> bool:
        """Begin nothing new, and wait so long for what is at work; tells whether all of it ended."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        working = [asyncio.wrap_future(future) for future in list(self._working)]
        ended = asyncio.gather(*working, return_exceptions=True)
        return not working or bool((await asyncio.wait([ended], timeout=seconds))[0])


async def serve(settings: ServerSettings, ready: Callable[[int], None]) -> None:
    """Serve until SIGTERM or SIGINT; calls `ready` with the port once it answers. Raises `SignatureError` when it cannot start.

    A thread cannot be ended: where one is still at work after the grace, the process ends here (a product is whole or not at all).
    """
    store = await asyncio.to_thread(Store.open, settings.home, settings.database_url)
    workers = _Workers(settings.threads)
    left = settings.grace
    try:
        server, health, port = await _server(store, workers, settings)
        await server.start()
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        ready(port)
        await stop.wait()
        end = time.monotonic() + settings.grace
        await health.enter_graceful_shutdown()
        await asyncio.wait([asyncio.ensure_future(server.stop(settings.grace * _POLITE))], timeout=settings.grace)
        left = end - time.monotonic()
    finally:
        if not await workers.close(left):
            _LOG.warning("ended in the middle of calls, which did not come to an end in %g s", settings.grace)
            logging.shutdown()
            os._exit(0)
        store.close()


async def _server(store: Store, workers: _Workers, settings: ServerSettings) -> tuple[grpc.aio.Server, HealthServicer, int]:
    options = [
        ("grpc.max_receive_message_length", _LARGEST_MESSAGE),
        ("grpc.max_send_message_length", _LARGEST_MESSAGE),
        ("grpc.so_reuseport", 0),  # a port in use is an error, not a second server beside the first
    ]
    server = grpc.aio.server(options=options)
    answers: dict[str, object] = dict.fromkeys(V1_PATHS, services.V1(store))
    answers |= dict.fromkeys(V2_PATHS, services.V2(store, settings.sieve_ha))
    answers[OWN_PATH] = services.Own(store)
    server.add_generic_rpc_handlers(tuple(_handlers(path, answer, workers) for path, answer in answers.items()))
    health = HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    standard = [health_pb2.DESCRIPTOR, reflection_pb2.DESCRIPTOR]
    for file in standard:
        POOL.AddSerializedFile(file.serialized_pb)
    names = [*answers, *(service.full_name for file in standard for service in file.services_by_name.values())]
    reflection.enable_server_reflection(names, server, POOL)
    for name in ("", *answers):
        await health.set(name, health_pb2.HealthCheckResponse.SERVING)
    try:
        port = server.add_insecure_port(f"{settings.host}:{settings.port}")
    except RuntimeError as error:
        where = f"{settings.host}:{settings.port}"
        raise errors.SignatureError(f"cannot listen on {where} (in use?); give another --port, or 0 for a free one") from error
    return server, health, port


def _handlers(path: str, answer: object, workers: _Workers) -> grpc.GenericRpcHandler[Any, Any]:
    made = {}
    for method in POOL.FindServiceByName(path).methods:
        function = getattr(answer, method.name)
        call: Callable[..., Any]
        if method.client_streaming:
            call, kind = functools.partial(_receive, workers, function), grpc.stream_unary_rpc_method_handler
        elif method.server_streaming:
            call, kind = functools.partial(_stream, workers, function), grpc.unary_stream_rpc_method_handler
        else:
            call, kind = functools.partial(_answer, workers, function), grpc.unary_unary_rpc_method_handler
        request, response = GetMessageClass(method.input_type), GetMessageClass(method.output_type)
        made[method.name] = kind(call, request_deserializer=request.FromString, response_serializer=response.SerializeToString)
    return grpc.method_handlers_generic_handler(path, made)


async def _answer(workers: _Workers, function: Callable[[Any], Any], request: Any, context: Any) -> Any:  # noqa: ANN401 - any messages
    async with _statuses(context):
        return await workers.run(function, request)


async def _stream(workers: _Workers, function: Callable[[Any], Iterator[Any]], request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: ANN401
    async with _statuses(context):
        messages = await workers.run(function, request)
        while (message := await workers.run(next, messages, _END)) is not _END:
            yield message


async def _receive(workers: _Workers, begin: Callable[[], services.Creation], requests: AsyncIterator[Any], context: Any) -> Any:  # noqa: ANN401
    async with _statuses(context):
        creation = await workers.run(begin)
        try:
            async for request in requests:
                await workers.run(creation.add, request)
            return await workers.run(creation.finish)
        finally:
            # Also when the caller hung up: this waits for the thread that may still be at work.
            await asyncio.shield(workers.run(creation.discard))


@asynccontextmanager
async def _statuses(context: Any) -> AsyncIterator[None]:  # noqa: ANN401 - grpc's context has no public type for aio
    """Turn our errors into gRPC statuses; what is not ours is logged here and told as INTERNAL, without its details."""
    try:
        yield
    except (grpc.aio.AbortError, asyncio.CancelledError):
        raise
    except Exception as error:  # noqa: BLE001 - the last place before the wire
        status, text = _status(error)
        if status in _OURS:
            _LOG.exception("call failed")
        await context.abort(status, text)


def _status(error: Exception) -> tuple[grpc.StatusCode, str]:
    for kinds, status in _STATUS:
        if isinstance(error, kinds):
            return status, str(error)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return grpc.StatusCode.RESOURCE_EXHAUSTED, _FULL
    if isinstance(error, sa.exc.OperationalError) and getattr(error.orig, "sqlite_errorname", "") == "SQLITE_FULL":
        return grpc.StatusCode.RESOURCE_EXHAUSTED, _FULL
    if isinstance(error, sa.exc.OperationalError) and "locked" in str(error.orig):
        return grpc.StatusCode.UNAVAILABLE, "the database is busy; try again"
    return grpc.StatusCode.INTERNAL, "internal error; the server's log says more"
