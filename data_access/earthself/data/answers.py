"""What a server answers to a request for product bytes: the state of the file, the range sent, the refusal as one of our errors."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from earthself.data.errors import CredentialsRefused, DataError, NotThere
from earthself.data.retries import Busy

if TYPE_CHECKING:
    import httpx

_RETRIED = {408, 425, 429, 500, 502, 503, 504}


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
    first: int = 0
    """First byte of the file that the body holds; -1 where a 206 does not say which range it sends."""
    last: int | None = None
    """Last byte of the file that the body holds; None where the status is not 206."""


def shown(url: str) -> str:
    """The URL as it may be shown: without query, user and password, any of which may hold a secret."""
    try:
        parts = urlsplit(url)
        host = parts.netloc.rsplit("@", 1)[-1]
        return f"{parts.scheme}://{host}{parts.path}" if host else Path(url).name or url
    except ValueError:
        return "(unreadable address)"


def refusal(answer: httpx.Response, provider: str, url: str) -> DataError:
    """What a status other than those of success means: whose fault it is, and the next step."""
    status, where = answer.status_code, shown(url)
    if status in (401, 403):
        return CredentialsRefused(
            f"{provider} refuses access to {where} ({status}); check its login and licence terms in the provider settings "
            "(connection `eodag`)"
        )
    if status in (404, 410):
        return NotThere(f"{provider} has no {where} any more ({status}); search again, or choose another provider")
    if status in _RETRIED:
        wait = retry_after(answer)
        asks = "" if wait is None else f" and asks to wait {wait:.0f} s"
        return Busy(f"{provider} is busy or broken: {where} answers {status}{asks}; try again later", wait)
    return DataError(f"{provider} answers {status} to a request for {where}; choose another provider, or report it there")


def retry_after(answer: httpx.Response) -> float | None:
    """The seconds that a server asks to wait, or None."""
    text = answer.headers.get("retry-after", "").strip()
    if text.isdecimal():
        return float(text)
    with contextlib.suppress(ValueError, TypeError):
        now = parsedate_to_datetime(answer.headers["date"]).timestamp() if "date" in answer.headers else time.time()
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    return None


def version_of(answer: httpx.Response) -> Version:
    """The state of the file by the headers of an answer."""
    size: int | None = None
    total = answer.headers.get("content-range", "").rpartition("/")[2]
    if answer.status_code in (206, 416):
        size = int(total) if total.isdecimal() else None
    elif answer.headers.get("content-length", "").isdecimal():
        size = int(answer.headers["content-length"])
    return Version(answer.headers.get("etag"), answer.headers.get("last-modified"), size)


def range_of(answer: httpx.Response) -> tuple[int, int]:
    """First and last byte that a 206 sends by its Content-Range; -1 and -1 where it does not say."""
    unit, _, rest = answer.headers.get("content-range", "").partition(" ")
    first, _, last = rest.partition("/")[0].partition("-")
    if unit.lower() != "bytes" or not first.isdecimal() or not last.isdecimal():
        return -1, -1
    return int(first), int(last)


def one_line(text: str) -> str:
    """A foreign message, fit for a sentence."""
    return " ".join(text.split())[:200]
