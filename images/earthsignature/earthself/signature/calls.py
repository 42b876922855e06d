"""Runs the calls of a server: who may make them, how many at a time, on which thread, and what the caller is told.

Every method is registered as a stream of requests, so that a call is refused before its request is received. Requests are parsed and
answers made in threads, several small ones at a time; the loop only moves bytes. A call that ends early stops its answers at once.
"""

from __future__ import annotations

import asyncio
import contextvars
import errno
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
from earthself.data.errors import BadInput
from earthself.signature import errors, services
from earthself.signature.access import CALLER, Access
from earthself.signature.limits import Admission, Limits
from earthself.signature.metrics import Meters
from earthself.signature.waiting import WAITING, Waiting
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

_LOG = logging.getLogger(__name__)
_BATCH, _BATCH_BYTES, _BATCH_SECONDS = 64, 128 << 10, 0.02
_PUSHBACK = (("grpc-retry-pushback-ms", "500"),)  # what tells "later" from "never" under RESOURCE_EXHAUSTED; gRPC's own word for it
_FULL = "the store's disk is full; nothing was stored, try again when there is room"
_STATUS = (
    ((errors.BadSignature, BadInput), grpc.StatusCode.INVALID_ARGUMENT),
    ((errors.AlreadyExists,), grpc.StatusCode.ALREADY_EXISTS),
    ((errors.NotFound,), grpc.StatusCode.NOT_FOUND),
    ((errors.NotAuthenticated,), grpc.StatusCode.UNAUTHENTICATED),
    ((errors.NotPermitted,), grpc.StatusCode.PERMISSION_DENIED),
    ((errors.TooBusy, errors.TooMuch, errors.StoreFull), grpc.StatusCode.RESOURCE_EXHAUSTED),
    ((errors.TooSlow,), grpc.StatusCode.DEADLINE_EXCEEDED),
    ((errors.StoreBroken,), grpc.StatusCode.DATA_LOSS),
    ((errors.Unavailable,), grpc.StatusCode.UNAVAILABLE),
)
_CALLERS = (errors.BadSignature, BadInput, errors.AlreadyExists, errors.NotFound, errors.AccessRefused, errors.TooBusy, errors.TooSlow)
"""What the caller has to look after; the rest is the operator's and goes to the log in full."""
_READING = ("ListSegmentation", "ListProductIds", "Find", "Get")  # whatever is added needs the right to write until it stands here
_DEFLATED = (
    "snapearth.api.v1.DatabaseProductService.ListSegmentation",
    "snapearth.api.v1.database.DatabaseProductService.ListSegmentation",
    "earthself.signature.v1.SignatureService.Get",
)
"""Answers of rasters, which are compressed already."""
_POLYGONS = (
    "snapearth.api.v2.DatabaseProductService.ListSegmentation",
    "snapearth.api.v2.database.DatabaseProductService.ListSegmentation",
)
_POLYGON_THREADS = 2
_LONGEST_TEXT = 2000  # bytes, of which the wire may make three times as many; clients take 8 kB
COMPRESSION = "earthself-compression"
"""Metadata by which a client asks for compressed answers: gRPC itself hides from a server what its client can read."""
_COMPRESSIONS = {"gzip": grpc.Compression.Gzip, "deflate": grpc.Compression.Deflate}


class Workers:
    """The threads that calls are worked on. Polygons have few of their own, since each keeps a process busy."""

    def __init__(self, threads: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="earthsignature")
        self._polygons = ThreadPoolExecutor(_POLYGON_THREADS, thread_name_prefix="earthsignature-polygons")
        self._working: set[Future[Any]] = set()

    async def run(self, function: Callable[..., Any], *arguments: Any, polygons: bool = False) -> Any:  # noqa: ANN401 - any messages
        """Do it in a thread, which knows the caller's name."""
        return await asyncio.wrap_future(self._begun(function, *arguments, polygons=polygons))

    async def run_to_end(self, function: Callable[..., Any], *arguments: Any) -> Any:  # noqa: ANN401
        """Do it in a thread, and wait for its end also when the call ends: until then it costs what a call that runs does."""
        future = self._begun(function, *arguments)
        working = asyncio.wrap_future(future)
        try:
            return await asyncio.shield(working)
        except asyncio.CancelledError:
            if not future.cancel():
                await asyncio.gather(working, return_exceptions=True)
            raise

    def _begun(self, function: Callable[..., Any], *arguments: Any, polygons: bool = False) -> Future[Any]:  # noqa: ANN401
        pool = self._polygons if polygons else self._pool
        future: Future[Any] = pool.submit(contextvars.copy_context().run, function, *arguments)
        self._working.add(future)
        future.add_done_callback(self._working.discard)
        return future

    async def close(self, seconds: float) -> bool:
        """Begin nothing new, and wait so long for what is at work; tells whether all of it ended."""
        for pool in (self._pool, self._polygons):
            pool.shutdown(wait=False, cancel_futures=True)
        working = [asyncio.wrap_future(future) for future in list(self._working)]
        ended = asyncio.gather(*working, return_exceptions=True)
        return not working or bool((await asyncio.wait([ended], timeout=seconds))[0])


@dataclass(frozen=True)
class Method:
    """One method of a service, as a server runs it."""

    described: MethodDescriptor
    """Name and messages."""
    function: Callable[..., Any]
    """Of `services`: from a request to an answer or to an iterator of answers; without a request where requests are a stream."""
    most_bytes: int
    """Of one request message."""

    @property
    def writes(self) -> bool:
        """Whether it changes something."""
        return self.described.name not in _READING

    @property
    def polygons(self) -> bool:
        """Whether its answers are polygons, which may have to be made first."""
        return self.described.full_name in _POLYGONS

    def request(self, content: bytes) -> Any:  # noqa: ANN401 - the method's message
        """Parse a message; raises `BadSignature`."""
        try:
            return GetMessageClass(self.described.input_type).FromString(content)
        except DecodeError as error:
            wanted = self.described.input_type.full_name
            raise errors.BadSignature(f"the bytes sent are no {wanted}; make stubs from the published .proto files") from error


@dataclass(frozen=True)
class Calls:
    """What all calls of a server share."""

    workers: Workers
    """Threads."""
    access: Access
    """Who may."""
    admission: Admission
    """How many at a time."""
    limits: Limits
    """How much."""
    meters: Meters
    """What is counted, by service and method."""

    def handler(self, described: MethodDescriptor, function: Callable[..., Any]) -> grpc.RpcMethodHandler[Any, Any]:
        """Make the handler of a method."""
        method = Method(described, function, self.limits.message_of(described.full_name))

        async def run(_requests: Any, context: Any) -> None:  # noqa: ANN401 - grpc's context has no public type for aio
            await self._run(method, context)

        return grpc.stream_stream_rpc_method_handler(run)

    async def _run(self, method: Method, context: Any) -> None:  # noqa: ANN401
        service, _, name = method.described.full_name.rpartition(".")
        with self.meters.request(service, name) as status:
            call = _Call(self, method, context, status)
            await self._admitted(call, method, context)

    async def _admitted(self, call: _Call, method: Method, context: Any) -> None:  # noqa: ANN401
        async with call.statuses():
            metadata = context.invocation_metadata()
            name = self.access.check(metadata, "write" if method.writes else "read")
            if name is not None:
                CALLER.set(name)
            async with self.admission.admitted(call.address, writing=method.writes):
                asked = next((value for key, value in metadata if key == COMPRESSION), None)
                if asked in _COMPRESSIONS and method.described.full_name not in _DEFLATED:
                    context.set_compression(_COMPRESSIONS[asked])
                await call.run()


class _Call:
    """One call, from its first byte to its last."""

    def __init__(self, shared: Calls, method: Method, context: Any, status: list[str]) -> None:  # noqa: ANN401
        """How it ends is added to `status`."""
        self._ends_with = status.append
        self._shared, self._method, self._context = shared, method, context
        self.address = _address(context.peer())
        self._sent = 0

    async def run(self) -> None:
        """Receive, work, answer."""
        described = self._method.described
        if described.client_streaming:
            await self._receive()
            return
        content = await self._next()
        if content is None:
            raise errors.BadSignature(f"a call of {described.name} without its {described.input_type.name}")
        if described.server_streaming:
            await self._answers(content)
        else:
            await self._write(await self._shared.workers.run_to_end(_unary, self._method, content))

    async def _receive(self) -> None:
        work = self._shared.workers.run
        creation: services.Creation = await work(self._method.function)
        try:
            while (content := await self._next()) is not None:
                await work(lambda content: creation.add(self._method.request(content)), content)
            await self._write((await work(creation.finish)).SerializeToString())
        finally:
            # Also when the caller hung up: this waits for the thread that may still be at work.
            await asyncio.shield(work(creation.discard))

    async def _answers(self, content: bytes) -> None:
        answers = _Answers(self._method, content)
        try:
            while not answers.ended:
                await self._send(await self._shared.workers.run(answers.next, polygons=self._method.polygons))
        finally:
            answers.stop()

    async def _send(self, batch: list[bytes]) -> None:
        """Send messages as fast as the reader takes them, keeping those only that it has not taken."""
        patience = self._shared.limits.patience
        batch.reverse()
        try:
            async with asyncio.timeout(None) as slow:
                while batch:
                    slow.reschedule(asyncio.get_running_loop().time() + patience)
                    await self._write(batch.pop())
        except TimeoutError as error:
            raise errors.TooSlow(f"the reader took no message for {patience:g} s; ask again for what is missing") from error

    async def _next(self) -> bytes | None:
        """Give the next message, None at the end."""
        seconds = self._shared.limits.seconds_of(self._method.most_bytes)
        try:
            async with asyncio.timeout(seconds):
                content = await self._context.read()
        except TimeoutError as error:
            raise errors.TooSlow(f"no message came for {seconds:.3g} s; send without pauses, or end the call") from error
        if content is grpc.aio.EOF:  # type: ignore[attr-defined]  # missing in the stubs
            return None
        size, most, name = len(content), self._method.most_bytes, self._method.described.name
        if size > most:
            del content  # which the error would keep
            raise errors.BadSignature(f"a message of {size} bytes to {name}; it takes at most {most}")
        return bytes(content)

    async def _write(self, content: bytes) -> None:
        await self._context.write(content)
        self._sent += 1

    @asynccontextmanager
    async def statuses(self) -> AsyncIterator[None]:
        """Turn our errors into gRPC statuses; what is not the caller's goes to the log, and is told as INTERNAL if it is not ours."""
        try:
            yield
            self._ends_with("OK")
        except (asyncio.CancelledError, grpc.aio.InternalError):  # the second where a message is on its way just then
            self._ends_with("CANCELLED")
            _LOG.info("%s from %s was given up after %d messages", self._method.described.full_name, self.address, self._sent)
            raise
        except Exception as error:  # noqa: BLE001 - the last place before the wire
            status, text = _status(error)
            self._ends_with(status.name)
            if not isinstance(error, _CALLERS):
                _LOG.exception("%s failed", self._method.described.full_name)
            elif isinstance(error, (errors.AccessRefused, errors.TooBusy, errors.TooSlow)):
                _LOG.info("%s from %s was refused: %s", self._method.described.full_name, self.address, text)
            await self._context.abort(status, _short(text), _PUSHBACK if isinstance(error, errors.TooBusy) else ())


class _Answers:
    """A method's answers as bytes, made in a thread as they are asked for, and stopped from the loop at any time."""

    def __init__(self, method: Method, content: bytes) -> None:
        self._method = method
        self._content: bytes | None = content
        self._messages: Iterator[Any] = iter(())
        self._failed: Exception | None = None
        self._waiting = Waiting()
        self._lock = threading.Lock()
        self.ended = False

    def next(self) -> list[bytes]:
        """Make the next answers, as many as are small and quick; when there is none left, `ended` says so."""
        WAITING.set(self._waiting)
        with self._lock:
            try:
                return self._made()
            finally:
                if self._waiting.over:
                    self._close()

    def _made(self) -> list[bytes]:
        if self._failed is not None:
            raise self._failed
        made: list[bytes] = []
        size, end = 0, time.monotonic() + _BATCH_SECONDS
        try:
            if self._content is not None:
                content, self._content = self._content, None
                self._messages = self._method.function(self._method.request(content))
            while not self._waiting.over and len(made) < _BATCH and size < _BATCH_BYTES and (not made or time.monotonic() < end):
                message = next(self._messages, None)
                if message is None:
                    self.ended = True
                    break
                made.append(message.SerializeToString())
                del message  # before the reader takes its time
                size += len(made[-1])
        except Exception as error:
            if not made:
                raise
            self._failed = error  # after those that were made before it
        return made

    def stop(self) -> None:
        """Make no more: what is at work ends with the message that it is at, or where it asks whether somebody waits."""
        self._waiting.give_up()
        if self._lock.acquire(blocking=False):
            try:
                self._close()
            finally:
                self._lock.release()

    def _close(self) -> None:
        close = getattr(self._messages, "close", None)
        if close is not None:
            close()


def _unary(method: Method, content: bytes) -> bytes:
    made: bytes = method.function(method.request(content)).SerializeToString()
    return made


def _address(peer: str) -> str:
    """Give the host of a gRPC peer such as `ipv4:127.0.0.1:4242`: all its connections count as one caller."""
    kind, _, rest = peer.partition(":")
    return rest.rpartition(":")[0].replace("%5B", "[").replace("%5D", "]") if kind in ("ipv4", "ipv6") else peer


def _short(text: str) -> str:
    """Cut a message so that it fits into what every client takes of metadata, however much of the request it repeats."""
    content = text.encode(errors="replace")
    return text if len(content) <= _LONGEST_TEXT else content[: _LONGEST_TEXT - 3].decode(errors="ignore") + "…"


def _status(error: Exception) -> tuple[grpc.StatusCode, str]:
    for kinds, status in _STATUS:
        if isinstance(error, kinds):
            return status, str(error)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return grpc.StatusCode.RESOURCE_EXHAUSTED, _FULL
    return grpc.StatusCode.INTERNAL, "internal error; the server's log says more"
