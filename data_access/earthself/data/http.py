"""All HTTP for product bytes: bounded timeouts, retries with backoff, honoured Retry-After, resumable verified downloads.

Servers stall, drip, cut, state a wrong length, answer 429 or 504 and replace files under the reader. Each of these ends here
in an error that says whose fault it is and whether trying again helps; nothing else in the project talks HTTP to a provider.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from earthself.data.answers import Answer, Part, Version, one_line, range_of, refusal, retry_after, shown, version_of
from earthself.data.broker.interface import NO_VERDICT, Gate
from earthself.data.deadline import OVER, Deadline
from earthself.data.errors import Damaged, ProductChanged
from earthself.data.retries import Busy, CutShort, RetryPolicy

if TYPE_CHECKING:
    import httpx

_REDIRECTS = {301, 302, 303, 307, 308}
_MAX_REDIRECTS = 5
_OPENED = frozenset({200, 206, 416})
_TOLD_EACH = 1 << 26
_SLOWEST = 1024  # bytes a second over one timeout; slower than that counts as stalled


@dataclass(frozen=True)
class Signed:
    """A request that may be sent."""

    url: str
    """Address to ask; it may carry a token."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Headers to send."""
    login: str = ""
    """Which login it carries; empty for none."""


class Access(Protocol):
    """How requests to one provider are signed, and when they may be made."""

    @property
    def provider(self) -> str:
        """Name to show in messages."""

    @property
    def gate(self) -> Gate:
        """What to ask before each request, and to tell after it."""

    def sign(self, url: str) -> Signed:
        """Sign a request; it is left as it is where no credentials apply."""

    def renew(self, login: str) -> bool:
        """Use no longer that login, since it was refused; False when trying again cannot help."""


@dataclass(frozen=True)
class OpenAccess:
    """For providers that ask for nothing."""

    provider: str
    """Name to show in messages."""
    gate: Gate = field(default_factory=Gate, repr=False)
    """What to ask before each request."""

    def sign(self, url: str) -> Signed:
        """Leave the request as it is."""
        return Signed(url)

    def renew(self, login: str) -> bool:  # noqa: ARG002 - as the protocol has it
        """Nothing to renew."""
        return False


class _Meter:
    """Tells the broker of one answer: that it is one, once its body begins, and of the bytes.

    These are told now and then, so that a worker that is killed leaves few uncounted.
    """

    def __init__(self, gate: Gate, answer: httpx.Response) -> None:
        self._gate, self._answer, self._told = gate, answer, 0
        self.heard = False

    def hear(self) -> None:
        """Headers are a promise: a provider that sends nothing after them is not well."""
        if not self.heard:
            self.heard = True
            self._gate.answered(self._answer.status_code, retry_after(self._answer))

    def look(self) -> None:
        self.hear()
        if self._answer.num_bytes_downloaded - self._told >= _TOLD_EACH:
            self.tell()

    def tell(self) -> None:
        told, self._told = self._told, self._answer.num_bytes_downloaded
        self._gate.moved(self._told - told)


class Http:
    """One connection pool with one policy. Safe to share between threads."""

    def __init__(
        self,
        timeout: float = 30.0,
        retries: RetryPolicy | None = None,
        deadline: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Wait at most `timeout` seconds for a connection and for each byte.

        All headers of an answer, and a small document, may take `deadline` seconds, by default two timeouts.
        """
        self.timeout = timeout
        self.retries = retries or RetryPolicy()
        self.deadline = 2 * timeout if deadline is None else deadline
        self._limits = Deadline(clock)
        self._clock = clock
        self._client: httpx.Client | None = None
        self._opening = threading.Lock()

    @property
    def least_progress(self) -> float:
        """Bytes that all attempts at one request move at least, unless they count as stalled."""
        return _SLOWEST * self.timeout * self.retries.attempts

    def close(self) -> None:
        """Give the connections back."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def read(self, access: Access, url: str, start: int, stop: int, known: Version | None = None) -> Part:
        """Read bytes `[start, stop)`; fewer at the end of the file.

        Raises `ProductChanged` when the file is no longer the one of `known`, `Damaged` when the server sends other bytes than it
        states, and what `earthself.data.errors` has for the rest.
        """
        return self.retries.run(lambda: self._read(access, url, start, stop, known))

    def get(self, access: Access, url: str, most: int) -> bytes:
        """Read a small document whole; `Damaged` when it is longer than `most` bytes."""

        def work() -> bytes:
            with self._ask(access, url, {}, decode=True) as (answer, meter), self._limits.limit(self.deadline):
                data = b"".join(self._body(answer.iter_bytes(), url, meter, most + 1))
            if len(data) > most:
                raise Damaged(f"{shown(url)} is longer than {most} bytes, which a document of its kind never is")
            return data

        return self.retries.run(work)

    @contextlib.contextmanager
    def stream(self, access: Access, url: str, headers: dict[str, str]) -> Iterator[Answer]:
        """Open a body for reading in pieces; the caller retries."""
        with self._ask(access, url, headers, accept=_OPENED) as (answer, meter):
            first, last = range_of(answer) if answer.status_code == 206 else (0, None)
            body = self._body(answer.iter_raw(), url, meter)
            yield Answer(answer.status_code, version_of(answer), dict(answer.headers), body, first, last)

    def _read(self, access: Access, url: str, start: int, stop: int, known: Version | None) -> Part:
        with self._ask(access, url, {"Range": f"bytes={start}-{stop - 1}"}, accept=_OPENED) as (answer, meter):
            version = version_of(answer)
            if known is not None and known.differs(version):
                raise ProductChanged(f"{shown(url)} changed while it was read; read the product again from the start")
            if answer.status_code == 416:
                return Part(b"", version, ranged=True)
            if answer.status_code == 200:
                if known is not None:
                    raise Busy(f"{shown(url)} served ranges before and no longer does; try again")
                return Part(b"", version, ranged=False)
            first, last = range_of(answer)
            data = b"".join(self._body(answer.iter_raw(), url, meter, stop - start))
            wanted = min(stop, last + 1) - start
        if first < 0:
            raise Busy(f"{shown(url)} answers a range request without saying which range it sends; try again")
        if first != start or len(data) != wanted or (last + 1 < stop and last + 1 != version.size):
            raise Busy(f"{shown(url)} sent {len(data)} bytes from {first} where bytes {start} to {stop} were asked for; try again")
        return Part(data, version, ranged=True)

    @contextlib.contextmanager
    def _ask(
        self, access: Access, url: str, headers: dict[str, str], *, accept: frozenset[int] = frozenset({200}), decode: bool = False
    ) -> Iterator[tuple[httpx.Response, _Meter]]:
        """Open an answer; without `decode` one that is packed (Content-Encoding) is refused, since its ranges are of other bytes."""
        with access.gate.connection(), self._asked(access, url, headers, accept, decode=decode) as opened:
            yield opened

    @contextlib.contextmanager
    def _asked(
        self, access: Access, url: str, headers: dict[str, str], accept: frozenset[int], *, decode: bool
    ) -> Iterator[tuple[httpx.Response, _Meter]]:
        """The same, once there is a connection for it."""
        import httpx

        meter: _Meter | None = None
        try:
            answer, login = self._follow(access, url, headers)
            if answer.status_code in (401, 403) and access.renew(login):
                answer.close()
                access.gate.answered(NO_VERDICT)
                answer, login = self._follow(access, url, headers)
            meter = _Meter(access.gate, answer)
            try:
                _check(answer, access.provider, url, accept, decode=decode)
                yield answer, meter
            except httpx.RequestError:
                raise
            except BaseException:
                meter.hear()
                raise
            else:
                meter.hear()
            finally:
                answer.close()
                meter.tell()
        except httpx.RequestError as error:
            if meter is None or not meter.heard:
                access.gate.answered(0)
            raise self._broken(error, access.provider, url) from None
        except (httpx.InvalidURL, UnicodeError):
            raise Damaged(f"{access.provider} gives {shown(url)!r}, which is no address") from None

    def _broken(self, error: httpx.RequestError, provider: str, url: str) -> Busy:
        """What the end of a connection means."""
        import httpx

        if isinstance(error, httpx.TimeoutException):
            if str(error) == OVER:
                return Busy(f"{provider} did not answer within {self.deadline:g} s ({shown(url)}: it sends a byte now and then); try again")
            return Busy(f"{provider} sent nothing for {self.timeout:g} s ({shown(url)}); try again")
        what = one_line(str(error) or type(error).__name__)
        if isinstance(error, httpx.RemoteProtocolError):
            return CutShort(f"{provider} cut the connection ({shown(url)}: {what}); try again")
        return Busy(f"the connection to {provider} broke ({shown(url)}: {what}); try again")

    def _follow(self, access: Access, url: str, headers: dict[str, str]) -> tuple[httpx.Response, str]:
        """Send the request and go after redirects; each hop is signed anew, so that no token goes to a host that it is not for.

        Gives the answer and the login that the last hop with one carried.
        """
        client = self._open()
        login = ""
        for hop in range(_MAX_REDIRECTS):
            signed = access.sign(url) if hop == 0 or _is_http(url) else Signed(url)
            if not _is_http(signed.url):
                raise Damaged(f"{access.provider} gives {shown(url)}, which is not an http address")
            login = signed.login or login
            request = client.build_request("GET", signed.url, headers={"Accept-Encoding": "identity", **headers, **signed.headers})
            access.gate.enter()
            with self._limits.limit(self.deadline):
                answer = client.send(request, stream=True)
            if answer.status_code not in _REDIRECTS or "location" not in answer.headers:
                return answer, login
            answer.close()
            access.gate.answered(NO_VERDICT)  # where files are says nothing of whether they are served
            url = str(answer.request.url.join(answer.headers["location"]))
        raise Damaged(f"{access.provider} redirects {shown(url)} more than {_MAX_REDIRECTS} times")

    def _body(self, pieces: Iterable[bytes], url: str, meter: _Meter, most: int | None = None) -> Iterator[bytes]:
        """Give the pieces of a body, at most `most` bytes; slower than `_SLOWEST` counts as stalled."""
        window, in_window, got = self._clock(), 0, 0
        for piece in pieces:
            if most is not None and got + len(piece) > most:
                yield piece[: most - got]
                return
            meter.look()
            got += len(piece)
            in_window += len(piece)
            now = self._clock()
            if now - window >= self.timeout:
                if in_window < _SLOWEST * self.timeout:
                    raise Busy(f"{shown(url)} comes at less than {_SLOWEST} bytes a second; try again")
                window, in_window = now, 0
            yield piece

    def _open(self) -> httpx.Client:
        import httpx

        with self._opening:
            if self._client is None:
                limits = httpx.Limits(max_connections=16, max_keepalive_connections=16)
                self._client = self._limits.watch(httpx.Client(timeout=self.timeout, limits=limits, headers={"User-Agent": "earthself"}))
            return self._client


def _check(answer: httpx.Response, provider: str, url: str, accept: frozenset[int], *, decode: bool) -> None:
    """Raise what an answer means that cannot be used."""
    if answer.status_code not in accept:
        raise refusal(answer, provider, url)
    packed = answer.headers.get("content-encoding", "identity").strip().lower()
    if packed not in ("", "identity") and not decode:
        raise Damaged(f"{provider} sends {shown(url)} packed ({packed}), which was not asked for; choose another provider")


def _is_http(url: str) -> bool:
    return urlsplit(url).scheme in ("http", "https")
