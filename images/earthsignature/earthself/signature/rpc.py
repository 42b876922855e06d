"""One channel to an EarthSignature server: deadlines, message limits, tries again, and errors of our own.

Only a server that is away (UNAVAILABLE) or that says when to come back (RESOURCE_EXHAUSTED with a pushback) is asked again, and a stream
only before its first message.
"""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import grpc
from earthself.signature import errors
from earthself.signature.tls import ClientTls, client_credentials, on_this_machine
from earthself.signature.wire import POOL
from google.protobuf.message_factory import GetMessageClass
from grpc.experimental import ChannelOptions
from grpc_health.v1 import health_pb2

_LARGEST_MESSAGE = 1 << 30  # a v1 answer carries whole rasters
_ATTEMPTS = {grpc.StatusCode.UNAVAILABLE: 4, grpc.StatusCode.RESOURCE_EXHAUSTED: 8}
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 10.0
_PUSHBACK = "grpc-retry-pushback-ms"
_COMPRESSION = "earthself-compression"
_HEALTH_TIMEOUT = 5.0
_CODES = {
    grpc.StatusCode.INVALID_ARGUMENT: errors.BadSignature,
    grpc.StatusCode.ALREADY_EXISTS: errors.AlreadyExists,
    grpc.StatusCode.NOT_FOUND: errors.NotFound,
    grpc.StatusCode.UNIMPLEMENTED: errors.Unimplemented,
    grpc.StatusCode.UNAUTHENTICATED: errors.AccessRefused,
    grpc.StatusCode.PERMISSION_DENIED: errors.AccessRefused,
    grpc.StatusCode.DATA_LOSS: errors.StoreBroken,
    grpc.StatusCode.UNAVAILABLE: errors.Unavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: errors.Unavailable,
    grpc.StatusCode.RESOURCE_EXHAUSTED: errors.Unavailable,
    grpc.StatusCode.ABORTED: errors.Unavailable,
    grpc.StatusCode.CANCELLED: errors.Unavailable,
}


@dataclass(frozen=True)
class Connection:
    """Where a server is and how to talk to it; picklable, so that a task in another process can connect anew."""

    target: str
    """host:port."""
    tls: bool = False
    """Encrypt, and check the server's certificate against the known authorities."""
    token: str | None = None
    """Sent as a bearer token; only with TLS, or to this machine."""
    timeout: float = 60.0
    """Seconds that an answer, or the next message of a stream, may take."""
    tls_ca: str | None = None
    """File of the authorities to trust instead of the machine's (PEM); encrypts, too."""
    tls_cert: str | None = None
    """File of the certificate that the client shows to a server that asks for one (PEM)."""
    tls_key: str | None = None
    """File of the key of that certificate (PEM)."""
    compression: Literal["gzip", "deflate"] | None = None
    """How answers other than rasters are to be compressed, for slow lines; our own server does it. None: not at all."""

    @property
    def encrypted(self) -> bool:
        """Whether TLS is used."""
        return self.tls or self.tls_ca is not None or self.tls_cert is not None

    def __repr__(self) -> str:
        """Show everything but the token."""
        return f"Connection({self.target!r}, tls={self.encrypted}, token={'***' if self.token else None}, timeout={self.timeout:g})"


class Rpc:
    """Calls by the name of their service and method; safe to share between threads."""

    def __init__(self, connection: Connection, sleep: Callable[[float], None] = time.sleep) -> None:
        """Connect at the first call. Raises `AccessRefused` for a token that would travel in clear text, `BadSetting` for a bad file."""
        self.connection = connection
        self._sleep = sleep
        if connection.token and not connection.encrypted and not on_this_machine(connection.target):
            raise errors.AccessRefused(f"the token would travel to {connection.target} in clear text; use tls=True, or leave the token out")
        said = {"authorization": connection.token and f"Bearer {connection.token}", _COMPRESSION: connection.compression}
        self._metadata = tuple((key, value) for key, value in said.items() if value)
        options = [
            ("grpc.max_receive_message_length", _LARGEST_MESSAGE),
            ("grpc.max_send_message_length", _LARGEST_MESSAGE),
            ("grpc.enable_retries", 0),
            (ChannelOptions.SingleThreadedUnaryStream, 1),  # who reads a stream waits for it itself: a fifth less time for 16 messages
        ]
        if connection.encrypted:
            files = [None if name is None else Path(name) for name in (connection.tls_ca, connection.tls_cert, connection.tls_key)]
            self._channel = grpc.secure_channel(connection.target, client_credentials(ClientTls(*files)), options=options)
        else:
            self._channel = grpc.insecure_channel(connection.target, options=options)

    def close(self) -> None:
        """Hang up."""
        self._channel.close()

    def unary(self, service: str, method: str, request: Any) -> Any:  # noqa: ANN401 - the messages of the method
        """Ask for one answer."""
        call = self._callable(self._channel.unary_unary, service, method)
        return self._patiently(lambda: call(request, timeout=self.connection.timeout, metadata=self._metadata))

    def upload(self, service: str, method: str, requests: Callable[[], Iterable[Any]], seconds: float) -> Any:  # noqa: ANN401
        """Send many messages and get one answer; the deadline is the timeout plus the seconds that sending may take."""
        call = self._callable(self._channel.stream_unary, service, method)
        timeout = self.connection.timeout + seconds
        return self._patiently(lambda: call(iter(requests()), timeout=timeout, metadata=self._metadata))

    def stream(self, service: str, method: str, request: Any) -> Iterator[Any]:  # noqa: ANN401
        """Get many messages as they come; the timeout counts while waiting for one, not while the caller works."""
        call = self._callable(self._channel.unary_stream, service, method)

        def start() -> tuple[_Watched, Any]:
            watched = _Watched(call(request, metadata=self._metadata), self.connection.timeout)
            try:
                return watched, watched.next()
            except BaseException:
                watched.close()
                raise

        watched, message = self._patiently(start)
        try:
            while message is not None:
                yield message
                try:
                    message = watched.next()
                except grpc.RpcError as error:
                    raise self._translated(error) from error
        finally:
            watched.close()

    def healthy(self) -> bool:
        """Tell whether the server answers and says that it serves."""
        call = self._channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        try:
            answer = call(health_pb2.HealthCheckRequest(), timeout=min(self.connection.timeout, _HEALTH_TIMEOUT), metadata=self._metadata)
        except grpc.RpcError as error:
            return bool(error.code() == grpc.StatusCode.UNIMPLEMENTED)  # it answers; it only has no health service
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    def _callable(self, kind: Callable[..., Any], service: str, method: str) -> Any:  # noqa: ANN401
        described = POOL.FindServiceByName(service).methods_by_name[method]
        return kind(
            f"/{service}/{method}",
            request_serializer=GetMessageClass(described.input_type).SerializeToString,
            response_deserializer=GetMessageClass(described.output_type).FromString,
        )

    def _patiently(self, attempt: Callable[[], Any]) -> Any:  # noqa: ANN401
        for number in itertools.count(1):
            try:
                return attempt()
            except grpc.RpcError as error:
                wait = _pushback(error)
                if wait is None or number >= _ATTEMPTS[error.code()] or _hopeless(error):
                    raise self._translated(error) from error
                pause = max(wait, min(_FIRST_PAUSE * 3 ** (number - 1), _LONGEST_PAUSE))
                self._sleep(pause * random.uniform(0.75, 1.25))  # noqa: S311 - spreads clients, hides nothing
        raise AssertionError("unreachable")

    def _translated(self, error: Any) -> errors.SignatureError:  # noqa: ANN401 - a grpc.RpcError that is a Call, too
        code, text = error.code(), error.details() or ""
        where, seconds = self.connection.target, self.connection.timeout
        if code == grpc.StatusCode.UNAVAILABLE and _hopeless(error):
            return errors.AccessRefused(f"EarthSignature at {where}: {_hopeless(error)} ({text})")
        if code == grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than max" in text:
            return errors.BadSignature(f"EarthSignature at {where}: {text}; send or ask for less at a time")
        if code == grpc.StatusCode.UNAVAILABLE:
            check = "the address" if self.connection.encrypted else "the address and whether it wants TLS"
            text = f"EarthSignature at {where} does not answer ({text}); check {check}, or start it with `earthsignature serve`"
        elif code in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED):
            text = f"EarthSignature at {where} gave no answer within {seconds:g} s; try again, or give a longer timeout"
        elif code not in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.ALREADY_EXISTS, grpc.StatusCode.NOT_FOUND):
            text = f"EarthSignature at {where}: {code.name}: {text}"
        return _CODES.get(code, errors.SignatureError)(text)


def _pushback(error: Any) -> float | None:  # noqa: ANN401 - a grpc.RpcError that is a Call, too
    """Give the seconds after which trying again makes sense, None where it makes none."""
    if error.code() == grpc.StatusCode.UNAVAILABLE:
        return 0.0
    if error.code() != grpc.StatusCode.RESOURCE_EXHAUSTED:
        return None
    said = dict(error.trailing_metadata() or ()).get(_PUSHBACK, "")
    return min(int(said) / 1000, _LONGEST_PAUSE) if said.isascii() and said.isdigit() else None


def _hopeless(error: Any) -> str | None:  # noqa: ANN401
    """Say why a handshake fails that will fail again."""
    text = error.details() or ""
    if "CERTIFICATE_VERIFY_FAILED" in text or "Hostname Verification Check failed" in text:
        return "its certificate is not one that this machine trusts for that name; give its authority with tls_ca (--tls-ca)"
    if "WRONG_VERSION_NUMBER" in text:
        return "it does not speak TLS; connect without, or check the port"
    return None


class _Watched:
    """A stream that is cancelled when a message takes longer than the timeout."""

    def __init__(self, call: Any, timeout: float) -> None:  # noqa: ANN401
        self._call, self._timeout = call, timeout
        self._since: float | None = None
        self._ended = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def next(self) -> Any:  # noqa: ANN401
        """Wait for the next message; None at the end."""
        self._since = time.monotonic()
        try:
            return next(self._call, None)
        finally:
            self._since = None

    def close(self) -> None:
        self._ended.set()
        self._call.cancel()

    def _watch(self) -> None:
        while not self._ended.wait(min(1.0, self._timeout / 4)):
            since = self._since
            if since is not None and time.monotonic() - since > self._timeout:
                self._call.cancel()
                return
