"""All HTTP for product bytes: bounded timeouts, retries with backoff, honoured Retry-After, resumable verified downloads.

Servers stall, drip, cut, state a wrong length, answer 429 or 504 and replace files under the reader. Each of these ends here
in an error that says whose fault it is and whether trying again helps; nothing else in the project talks HTTP to a provider.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from earthself.data.answers import Answer, Part, Version, one_line, range_of, refusal, shown, version_of
from earthself.data.deadline import OVER, Deadline
from earthself.data.errors import Damaged, ProductChanged
from earthself.data.retries import Busy, CutShort, RetryPolicy

if TYPE_CHECKING:
    import httpx

_REDIRECTS = {301, 302, 303, 307, 308}
_MAX_REDIRECTS = 5
_OPENED = frozenset({200, 206, 416})
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

        All headers of an answer, or a small document, may take `deadline` seconds, by default two timeouts.
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
            with self._limits.limit(self.deadline), self._ask(access, url, {}, decode=True) as answer:
                data = b"".join(self._body(answer.iter_bytes(), url, most + 1))
            if len(data) > most:
                raise Damaged(f"{shown(url)} is longer than {most} bytes, which a document of its kind never is")
            return data

        return self.retries.run(work)

    @contextlib.contextmanager
    def stream(self, access: Access, url: str, headers: dict[str, str]) -> Iterator[Answer]:
        """Open a body for reading in pieces; the caller retries."""
        with self._ask(access, url, headers, accept=_OPENED) as answer:
            first, last = range_of(answer) if answer.status_code == 206 else (0, None)
            yield Answer(answer.status_code, version_of(answer), dict(answer.headers), self._body(answer.iter_raw(), url), first, last)

    def _read(self, access: Access, url: str, start: int, stop: int, known: Version | None) -> Part:
        with self._ask(access, url, {"Range": f"bytes={start}-{stop - 1}"}, accept=_OPENED) as answer:
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
            data = b"".join(self._body(answer.iter_raw(), url, stop - start))
            wanted = min(stop, last + 1) - start
        if first < 0:
            raise Busy(f"{shown(url)} answers a range request without saying which range it sends; try again")
        if first != start or len(data) != wanted or (last + 1 < stop and last + 1 != version.size):
            raise Busy(f"{shown(url)} sent {len(data)} bytes from {first} where bytes {start} to {stop} were asked for; try again")
        return Part(data, version, ranged=True)

    @contextlib.contextmanager
    def _ask(
        self, access: Access, url: str, headers: dict[str, str], *, accept: frozenset[int] = frozenset({200}), decode: bool = False
    ) -> Iterator[httpx.Response]:
        """Open an answer; without `decode` one that is packed (Content-Encoding) is refused, since its ranges are of other bytes."""
        import httpx

        try:
            generation = access.generation
            answer = self._follow(access, url, headers)
            if answer.status_code in (401, 403) and access.renew(generation):
                answer.close()
                answer = self._follow(access, url, headers)
            try:
                if answer.status_code not in accept:
                    raise refusal(answer, access.provider, url)
                packed = answer.headers.get("content-encoding", "identity").strip().lower()
                if packed not in ("", "identity") and not decode:
                    raise Damaged(
                        f"{access.provider} sends {shown(url)} packed ({packed}), which was not asked for; choose another provider"
                    )
                yield answer
            finally:
                answer.close()
        except httpx.TimeoutException as error:
            if str(error) == OVER:
                raise Busy(
                    f"{access.provider} did not answer within {self.deadline:g} s ({shown(url)}: it sends a byte now and then); try again"
                ) from None
            raise Busy(f"{access.provider} sent nothing for {self.timeout:g} s ({shown(url)}); try again") from None
        except httpx.RemoteProtocolError as error:
            raise CutShort(f"{access.provider} cut the connection ({shown(url)}: {one_line(str(error))}); try again") from None
        except httpx.RequestError as error:
            what = str(error) or type(error).__name__
            raise Busy(f"the connection to {access.provider} broke ({shown(url)}: {one_line(what)}); try again") from None
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
            left = self._limits.left()
            with self._limits.limit(self.deadline if left is None else left):
                answer = client.send(request, stream=True)
            if answer.status_code not in _REDIRECTS or "location" not in answer.headers:
                return answer
            answer.close()
            url = str(answer.request.url.join(answer.headers["location"]))
        raise Damaged(f"{access.provider} redirects {shown(url)} more than {_MAX_REDIRECTS} times")

    def _body(self, pieces: Iterable[bytes], url: str, most: int | None = None) -> Iterator[bytes]:
        """Give the pieces of a body, at most `most` bytes; slower than `_SLOWEST` counts as stalled."""
        window, in_window, got = self._clock(), 0, 0
        for piece in pieces:
            if most is not None and got + len(piece) > most:
                yield piece[: most - got]
                return
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


def _is_http(url: str) -> bool:
    return urlsplit(url).scheme in ("http", "https")
