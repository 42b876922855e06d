"""All HTTP for product bytes: bounded timeouts, retries with backoff, honoured Retry-After, resumable verified downloads.

Servers stall, drip, cut, state a wrong length, answer 429 or 504 and replace files under the reader. Each of these ends here
in an error that says whose fault it is and whether trying again helps; nothing else in the project talks HTTP to a provider.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar
from urllib.parse import urlsplit

from earthself.data.errors import CredentialsRefused, Damaged, DataError, NotThere, ProductChanged, TryAgain

if TYPE_CHECKING:
    import httpx

_T = TypeVar("_T")
_RETRIED = {408, 425, 429, 500, 502, 503, 504}
_REDIRECTS = {301, 302, 303, 307, 308}
_MAX_REDIRECTS = 5
_SLOWEST = 1024  # bytes a second over one timeout; slower than that counts as stalled


class Access(Protocol):
    """How requests to one provider are signed."""

    @property
    def provider(self) -> str:
        """Name to show in messages."""

    def sign(self, url: str) -> tuple[str, dict[str, str]]:
        """Give the URL to ask (it may carry a token) and the headers to send; unchanged where no credentials apply."""

    @property
    def generation(self) -> int:
        """How often the login was renewed: a request that was refused may carry one that another thread has renewed since."""

    def renew(self, generation: int) -> bool:
        """Drop the login of that generation, since it was refused; False when trying again cannot help."""


@dataclass(frozen=True)
class OpenAccess:
    """For providers that ask for nothing."""

    provider: str
    """Name to show in messages."""

    def sign(self, url: str) -> tuple[str, dict[str, str]]:
        """Leave the request as it is."""
        return url, {}

    @property
    def generation(self) -> int:
        """Always the first."""
        return 0

    def renew(self, generation: int) -> bool:  # noqa: ARG002 - as the protocol has it
        """Nothing to renew."""
        return False


@dataclass(frozen=True)
class RetryPolicy:
    """How long to go on asking."""

    attempts: int = 4
    """Requests in all, the first included."""
    first_wait: float = 1.0
    """Seconds before the second request; doubled each time, with jitter of up to a half."""
    longest_wait: float = 60.0
    """Most seconds to wait once; a server that asks for more is left to the workflow's own retry."""
    sleep: Callable[[float], None] = field(default=time.sleep, repr=False)
    """How to wait."""
    jitter: Callable[[], float] = field(default=random.SystemRandom().random, repr=False)
    """Uniform numbers from 0 to 1, so that many workers do not come back at the same moment."""

    def run(self, work: Callable[[], _T]) -> _T:
        """Call until it succeeds; `TryAgain` is retried (after the seconds it asks for), anything else is not."""
        for attempt in range(1, self.attempts + 1):
            try:
                return work()
            except ProductChanged:
                raise
            except TryAgain as error:
                asked = getattr(error, "wait", None)
                if attempt == self.attempts or (asked is not None and asked > self.longest_wait):
                    raise
                backoff = self.first_wait * 2 ** (attempt - 1) * (1 - self.jitter() / 2)
                self.sleep(min(self.longest_wait, backoff if asked is None else asked))
        raise AssertionError("attempts is at least 1")


class _Busy(TryAgain):
    """A failure that may pass, with the seconds that the server asks to wait."""

    def __init__(self, message: str, wait: float | None = None) -> None:
        super().__init__(message)
        self.wait = wait


class CutShort(_Busy):
    """The other side closed the connection before it had sent what it stated."""


@dataclass(frozen=True)
class Version:
    """What a server says about the state of a file."""

    etag: str | None
    """Entity tag as sent."""
    modified: str | None
    """Last-Modified as sent."""
    size: int | None
    """Bytes of the whole file."""

    def differs(self, other: Version) -> bool:
        """Whether the two cannot be the same state; what only one of them states says nothing."""
        if self.size is not None and other.size is not None and self.size != other.size:
            return True
        if self.etag and other.etag:
            return self.etag.removeprefix("W/") != other.etag.removeprefix("W/")
        return bool(self.modified and other.modified and self.modified != other.modified)

    @property
    def validator(self) -> str | None:
        """What If-Range accepts: a strong entity tag, else the date."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.modified


@dataclass(frozen=True)
class Part:
    """Bytes of a file and the state that they are of."""

    data: bytes
    """The bytes."""
    version: Version
    """State of the file."""
    ranged: bool
    """False when the server ignored the range, in which case `data` is empty."""


class Http:
    """One connection pool with one policy. Safe to share between threads."""

    def __init__(self, timeout: float = 30.0, retries: RetryPolicy | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        """Wait at most `timeout` seconds for a connection and for each byte."""
        self.timeout = timeout
        self.retries = retries or RetryPolicy()
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
            with self._ask(access, url, {}) as answer:
                data = b"".join(self._body(answer, url, most + 1))
            if len(data) > most:
                raise Damaged(f"{shown(url)} is longer than {most} bytes, which a document of its kind never is")
            return data

        return self.retries.run(work)

    @contextlib.contextmanager
    def stream(self, access: Access, url: str, headers: dict[str, str]) -> Iterator[Answer]:
        """Open a body for reading in pieces; the caller retries."""
        with self._ask(access, url, headers, accept={200, 206, 416}) as answer:
            yield Answer(answer.status_code, _version(answer), dict(answer.headers), self._body(answer, url))

    def _read(self, access: Access, url: str, start: int, stop: int, known: Version | None) -> Part:
        with self._ask(access, url, {"Range": f"bytes={start}-{stop - 1}"}, accept={200, 206, 416}) as answer:
            version = _version(answer)
            if known is not None and known.differs(version):
                raise ProductChanged(f"{shown(url)} changed while it was read; read the product again from the start")
            if answer.status_code == 416:
                return Part(b"", version, ranged=True)
            if answer.status_code == 200:
                if known is not None:
                    raise _Busy(f"{shown(url)} served ranges before and no longer does; try again")
                return Part(b"", version, ranged=False)
            first, last = _content_range(answer, url)
            data = b"".join(self._body(answer, url, stop - start))
            wanted = min(stop, last + 1) - start
        if first != start or len(data) != wanted or (last + 1 < stop and last + 1 != version.size):
            raise _Busy(f"{shown(url)} sent {len(data)} bytes from {first} where bytes {start} to {stop} were asked for; try again")
        return Part(data, version, ranged=True)

    @contextlib.contextmanager
    def _ask(
        self, access: Access, url: str, headers: dict[str, str], accept: frozenset[int] | set[int] = frozenset({200})
    ) -> Iterator[httpx.Response]:
        import httpx

        try:
            generation = access.generation
            answer = self._follow(access, url, headers)
            if answer.status_code in (401, 403) and access.renew(generation):
                answer.close()
                answer = self._follow(access, url, headers)
            try:
                if answer.status_code not in accept:
                    raise _refusal(answer, access.provider, url)
                yield answer
            finally:
                answer.close()
        except httpx.TimeoutException:
            raise _Busy(f"{access.provider} sent nothing for {self.timeout:g} s ({shown(url)}); try again") from None
        except httpx.RemoteProtocolError as error:
            raise CutShort(f"{access.provider} cut the connection ({shown(url)}: {_one_line(str(error))}); try again") from None
        except httpx.RequestError as error:
            what = str(error) or type(error).__name__
            raise _Busy(f"the connection to {access.provider} broke ({shown(url)}: {_one_line(what)}); try again") from None
        except (httpx.InvalidURL, UnicodeError):
            raise Damaged(f"{access.provider} gives {shown(url)!r}, which is no address") from None

    def _follow(self, access: Access, url: str, headers: dict[str, str]) -> httpx.Response:
        """Send the request and go after redirects; each hop is signed anew, so that no token goes to a host that it is not for."""
        client = self._open()
        for hop in range(_MAX_REDIRECTS):
            signed, extra = access.sign(url) if hop == 0 or _is_http(url) else (url, {})
            if not _is_http(signed):
                raise Damaged(f"{access.provider} gives {shown(url)}, which is not an http address")
            request = client.build_request("GET", signed, headers={"Accept-Encoding": "identity", **headers, **extra})
            answer = client.send(request, stream=True)
            if answer.status_code not in _REDIRECTS or "location" not in answer.headers:
                return answer
            answer.close()
            url = str(answer.request.url.join(answer.headers["location"]))
        raise Damaged(f"{access.provider} redirects {shown(url)} more than {_MAX_REDIRECTS} times")

    def _body(self, answer: httpx.Response, url: str, most: int | None = None) -> Iterator[bytes]:
        """Give the pieces of a body, at most `most` bytes; slower than `_SLOWEST` counts as stalled."""
        window, in_window, got = self._clock(), 0, 0
        for piece in answer.iter_raw():
            if most is not None and got + len(piece) > most:
                yield piece[: most - got]
                return
            got += len(piece)
            in_window += len(piece)
            now = self._clock()
            if now - window >= self.timeout:
                if in_window < _SLOWEST * self.timeout:
                    raise _Busy(f"{shown(url)} comes at less than {_SLOWEST} bytes a second; try again")
                window, in_window = now, 0
            yield piece

    def _open(self) -> httpx.Client:
        import httpx

        with self._opening:
            if self._client is None:
                limits = httpx.Limits(max_connections=16, max_keepalive_connections=16)
                self._client = httpx.Client(timeout=self.timeout, limits=limits, headers={"User-Agent": "earthself"})
            return self._client


@dataclass(frozen=True)
class Answer:
    """A body about to be read."""

    status: int
    """200 (whole), 206 (rest) or 416 (nothing left)."""
    version: Version
    """State of the file."""
    headers: dict[str, str]
    """All headers, names in lower case."""
    body: Iterator[bytes]
    """The pieces."""


def _is_http(url: str) -> bool:
    return urlsplit(url).scheme in ("http", "https")


def shown(url: str) -> str:
    """The URL as it may be shown: without query, user and password, any of which may hold a secret."""
    try:
        parts = urlsplit(url)
        host = parts.netloc.rsplit("@", 1)[-1]
        return f"{parts.scheme}://{host}{parts.path}" if host else Path(url).name or url
    except ValueError:
        return "(unreadable address)"


def _refusal(answer: httpx.Response, provider: str, url: str) -> DataError:
    status, where = answer.status_code, shown(url)
    if status in (401, 403):
        return CredentialsRefused(
            f"{provider} refuses access to {where} ({status}); check its login and licence terms in the provider settings "
            "(connection `eodag`)"
        )
    if status in (404, 410):
        return NotThere(f"{provider} has no {where} any more ({status}); search again, or choose another provider")
    if status in _RETRIED:
        wait = _retry_after(answer)
        asks = "" if wait is None else f" and asks to wait {wait:.0f} s"
        return _Busy(f"{provider} is busy or broken: {where} answers {status}{asks}; try again later", wait)
    return DataError(f"{provider} answers {status} to a request for {where}; choose another provider, or report it there")


def _retry_after(answer: httpx.Response) -> float | None:
    text = answer.headers.get("retry-after", "").strip()
    if text.isdecimal():
        return float(text)
    with contextlib.suppress(ValueError, TypeError):
        now = parsedate_to_datetime(answer.headers["date"]).timestamp() if "date" in answer.headers else time.time()
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    return None


def _version(answer: httpx.Response) -> Version:
    size: int | None = None
    total = answer.headers.get("content-range", "").rpartition("/")[2]
    if answer.status_code in (206, 416):
        size = int(total) if total.isdecimal() else None
    elif answer.headers.get("content-length", "").isdecimal():
        size = int(answer.headers["content-length"])
    return Version(answer.headers.get("etag"), answer.headers.get("last-modified"), size)


def _content_range(answer: httpx.Response, url: str) -> tuple[int, int]:
    unit, _, rest = answer.headers.get("content-range", "").partition(" ")
    first, _, last = rest.partition("/")[0].partition("-")
    if unit.lower() != "bytes" or not first.isdecimal() or not last.isdecimal():
        raise _Busy(f"{shown(url)} answers a range request without saying which range it sends; try again")
    return int(first), int(last)


def _one_line(text: str) -> str:
    return " ".join(text.split())[:200]
