"""The gRPC server: address, paths, reflection, health, start and stop.

Calls are held by asyncio and worked on by a few threads: many slow readers cost memory for one message each, never a thread, and
health is answered while all threads are busy.
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import grpc
from earthself.signature import errors, services
from earthself.signature.access import Access, TokenFile
from earthself.signature.calls import Calls, Workers
from earthself.signature.health import Health
from earthself.signature.limits import USUAL, Admission, Limits
from earthself.signature.metrics import Meters, StoreFigures, served
from earthself.signature.store import Store
from earthself.signature.tls import Certificates, ServerTls, on_this_machine
from earthself.signature.wire import POOL
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

_LOG = logging.getLogger(__name__)
_LARGEST_ANSWER = 1 << 30  # a v1 answer carries whole rasters
_POLITE = 0.8  # of the grace calls go on undisturbed, in the rest they are cancelled and clean up
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
    tls: ServerTls | None = None
    """Certificate and key; None: clear text."""
    insecure: bool = False
    """Whether clear text is wanted where other machines can connect."""
    tokens: Path | None = None
    """List of tokens; None: whoever is on this machine may write, nobody else."""
    read: Literal["open", "token"] = "open"
    """Who may read."""
    reflection: bool = True
    """Whether the server tells what it answers."""
    limits: Limits = USUAL
    """What one caller may cost."""
    metrics: str | None = None
    """Address of the metrics, host:port; None: they are not served."""


async def serve(settings: ServerSettings, ready: Callable[[int], None]) -> None:
    """Serve until SIGTERM or SIGINT; calls `ready` with the port once it answers. Raises `SignatureError` when it cannot start.

    A thread cannot be ended: where one is still at work after the grace, the process ends here (a product is whole or not at all).
    """
    # Every connection is a file: a usual limit of 1,024 would let a thousand silent ones keep all others out.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    access = _access(settings)
    certificates = None if settings.tls is None else Certificates(settings.tls)
    store = await asyncio.to_thread(Store.open, settings.home, settings.database_url)
    workers = Workers(settings.threads)
    left = settings.grace
    try:
        meters = Meters("earthsignature", ("service", "method"))
        meters.registry.register(StoreFigures(store))
        server, health = _server(store, Calls(workers, access, Admission(settings.limits), settings.limits, meters), settings)
        with served(meters.registry, settings.metrics):
            port = _listen(server, settings, certificates)
            await health.start()
            await server.start()
            stop = asyncio.Event()
            for number in (signal.SIGTERM, signal.SIGINT):
                asyncio.get_running_loop().add_signal_handler(number, stop.set)
            ready(port)
            await stop.wait()
        end = time.monotonic() + settings.grace
        health.end()
        await asyncio.wait([asyncio.ensure_future(server.stop(settings.grace * _POLITE))], timeout=settings.grace)
        left = end - time.monotonic()
    finally:
        if not await workers.close(left):
            _LOG.warning("ended in the middle of calls, which did not come to an end in %g s", settings.grace)
            logging.shutdown()
            os._exit(0)
        store.close()


def _server(store: Store, calls: Calls, settings: ServerSettings) -> tuple[grpc.aio.Server, Health]:
    server = grpc.aio.server(options=_options(settings.limits))
    answers: dict[str, object] = dict.fromkeys(V1_PATHS, services.V1(store, settings.limits))
    answers |= dict.fromkeys(V2_PATHS, services.V2(store, settings.limits, settings.sieve_ha))
    answers[OWN_PATH] = services.Own(store, settings.limits)
    server.add_generic_rpc_handlers(tuple(_handlers(path, answer, calls) for path, answer in answers.items()))
    health = Health(store, ("", *answers))
    health.add_to(server)
    standard = [health_pb2.DESCRIPTOR, reflection_pb2.DESCRIPTOR] if settings.reflection else []
    for file in standard:
        POOL.AddSerializedFile(file.serialized_pb)
    if settings.reflection:
        names = [*answers, *(service.full_name for file in standard for service in file.services_by_name.values())]
        reflection.enable_server_reflection(names, server, POOL)
    return server, health


def _listen(server: grpc.aio.Server, settings: ServerSettings, certificates: Certificates | None) -> int:
    where = (
        f"[{settings.host}]:{settings.port}"
        if settings.host.count(":") > 1 and "[" not in settings.host
        else f"{settings.host}:{settings.port}"
    )
    try:
        if certificates is None:
            return server.add_insecure_port(where)
        return server.add_secure_port(where, certificates.credentials())
    except RuntimeError as error:
        raise errors.SignatureError(f"cannot listen on {where} (in use?); give another --port, or 0 for a free one") from error


def in_brackets(host: str) -> str:
    """Write an address of IPv6 as it stands before a port: without brackets gRPC would take its last part for the port."""
    return f"[{host}]" if host.count(":") > 1 and not host.startswith("[") else host


def _options(limits: Limits) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", limits.message),
        ("grpc.max_send_message_length", _LARGEST_ANSWER),
        ("grpc.max_concurrent_streams", limits.streams),
        ("grpc.so_reuseport", 0),  # a port in use is an error, not a second server beside the first
        # Who connects and says nothing, or is gone without a word, is hung up on.
        ("grpc.server_handshake_timeout_ms", 20_000),
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        # gRPC's own minima of 5 minutes, and 2 hours without a call, hang up on clients that wait for polygons.
        ("grpc.http2.min_ping_interval_without_data_ms", int(limits.pings * 1000)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.max_connection_idle_ms", 600_000),
    ]


def _access(settings: ServerSettings) -> Access:
    """Who may: without a list of tokens everybody on this machine, and beyond it readers only."""
    file = None if settings.tokens is None else TokenFile(settings.tokens)
    beyond = not on_this_machine(settings.host)
    if beyond and settings.tls is None and not settings.insecure:
        raise errors.BadSetting(
            f"{settings.host} can be reached from other machines, and without TLS everybody between can read and change what is sent; "
            "give --tls-cert and --tls-key, or say --insecure where a proxy or a private network encrypts"
        )
    if beyond and file is None:
        _LOG.warning("without --tokens nobody may store products on a server that listens on %s; readers are welcome", settings.host)
    return Access(file, read=settings.read, write="open" if file is None and not beyond else "token")


def _handlers(path: str, answer: object, calls: Calls) -> grpc.GenericRpcHandler[Any, Any]:
    methods = POOL.FindServiceByName(path).methods
    return grpc.method_handlers_generic_handler(
        path, {method.name: calls.handler(method, getattr(answer, method.name)) for method in methods}
    )
