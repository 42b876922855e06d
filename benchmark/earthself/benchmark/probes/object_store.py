"""What an object storage does: how long until the first byte, what one stream and many carry, small objects, a page of a listing.

Requests are not repeated, so that what fails is counted and not hidden; what was written is removed again.
"""

from __future__ import annotations

import statistics
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar

from earthself.benchmark.errors import ProbeFailed, Refused
from earthself.benchmark.probing import Measure, Probe, Setting
from earthself.data.errors import CredentialsRefused, DataError
from earthself.data.profiles import load_profiles
from earthself.data.storage import Place, Storage

_T = TypeVar("_T")
_MIB = 1 << 20
_SMALL = 16 << 10
_MANY = 64
_FIRST = 10
_SMALL_THREADS = 8
_WIDE = (8, 32)
_CLEANINGS = 3


class _Requests:
    """Requests to one prefix of a bucket, counted."""

    def __init__(self, at: Place, storage: Storage, url: str) -> None:
        self.client: Any = at.client
        self._storage, self._url = storage, url
        self._lock = threading.Lock()
        self.made = self.failed = 0
        self._last: DataError | None = None

    def ask(self, request: Callable[[], _T]) -> _T | None:
        """Do one; None where it fails. Raises `Refused` for keys that are not good: no other one would be answered either."""
        error: DataError | None = None
        found = None
        try:
            with self._storage.errors(self._url):
                found = request()
        except CredentialsRefused as refused:
            raise Refused(str(refused)) from refused
        except DataError as failed:
            error = failed
        with self._lock:
            self.made += 1
            self.failed += error is not None
            self._last = error or self._last
        return found

    def rate(self, threads: int, amount: float, requests: list[Callable[[], object]]) -> float:
        """Do many at a time; gives what of `amount` arrived in a second. Raises `ProbeFailed` where nothing did."""
        begun = time.perf_counter()
        with ThreadPoolExecutor(threads) as pool:
            arrived = sum(found is not None for found in pool.map(self.ask, requests))
        return self.some(arrived) * amount / len(requests) / (time.perf_counter() - begun)

    def some(self, arrived: int) -> int:
        """Refuse nothing as a measurement."""
        if not arrived:
            raise ProbeFailed(f"all requests of a kind failed: {self._last}")
        return arrived


def _measure(setting: Setting) -> Mapping[str, float]:
    if not setting.storage:
        raise ProbeFailed("nobody says which storage; name a prefix that may be written: --storage s3://PROFILE@bucket/prefix")
    profiles = {name: replace(profile, attempts=1) for name, profile in load_profiles().items()}
    try:
        storage = Storage(profiles)
        at = storage.place(setting.storage)
    except DataError as error:
        raise ProbeFailed(str(error)) from error
    requests = _Requests(at, storage, setting.storage)
    with _prefix(requests, at) as prefix:
        return _values(requests, at.bucket, prefix, setting.object_mib * _MIB)


def _values(requests: _Requests, bucket: str, prefix: str, size: int) -> Mapping[str, float]:
    s3, big = requests.client, f"{prefix}big"
    small = [f"{prefix}small/{number:04d}" for number in range(_MANY)]

    def put(key: str, body: bytes) -> Callable[[], object]:
        return lambda: s3.put_object(Bucket=bucket, Key=key, Body=body)

    def get(key: str, part: str = "bytes=0-") -> Callable[[], object]:
        def request() -> bytes:
            found: bytes = s3.get_object(Bucket=bucket, Key=key, Range=part)["Body"].read()
            return found

        return request

    def first() -> float:
        begun = time.perf_counter()
        with s3.get_object(Bucket=bucket, Key=small[0])["Body"] as body:
            body.read(1)
            took = time.perf_counter() - begun
            body.read()  # so that the connection can be used again
        return took

    def page() -> float:
        begun = time.perf_counter()
        s3.list_objects_v2(Bucket=bucket, Prefix=f"{prefix}small/")
        return time.perf_counter() - begun

    def median(timed: Callable[[], float]) -> float:
        """Milliseconds."""
        found = [took for took in (requests.ask(timed) for _ in range(_FIRST)) if took is not None]
        return 1000 * statistics.median(found) if requests.some(len(found)) else 0.0

    body, some = bytes(size), bytes(_SMALL)
    found = {
        "write": requests.rate(1, size / 1e6, [put(big, body)]),
        "small_write": requests.rate(_SMALL_THREADS, _MANY, [put(key, some) for key in small]),
        "first_byte": median(first),
        "list": median(page),
        "small_read": requests.rate(_SMALL_THREADS, _MANY, [get(key) for key in small]),
        "read": requests.rate(1, size / 1e6, [get(big)]),
    }
    for threads in _WIDE:
        step = size // threads
        parts = [f"bytes={number * step}-{(number + 1) * step - 1}" for number in range(threads)]
        found[f"read_{threads}"] = requests.rate(threads, step * threads / 1e6, [get(big, part) for part in parts])
    return found | {"failed_requests": 100 * requests.failed / requests.made}


@contextmanager
def _prefix(requests: _Requests, at: Place) -> Iterator[str]:
    """Give a prefix of our own, and leave nothing below it."""
    prefix = f"{at.key}/probe-{uuid.uuid4()}/".lstrip("/")
    try:
        yield prefix
    finally:
        for _ in range(_CLEANINGS):
            if _emptied(requests, at.bucket, prefix):
                break


def _emptied(requests: _Requests, bucket: str, prefix: str) -> bool:
    s3 = requests.client
    found = requests.ask(lambda: s3.list_objects_v2(Bucket=bucket, Prefix=prefix))
    if found is None:
        return False

    def delete(key: str) -> Callable[[], object]:
        return lambda: s3.delete_object(Bucket=bucket, Key=key)

    gone = [requests.ask(delete(each["Key"])) for each in found.get("Contents", ())]
    return None not in gone


PROBES = [
    Probe(
        "object_store",
        "an object storage, over its own protocol (S3)",
        [
            Measure("first_byte", "ms", "lower"),
            Measure("read", "MB/s", "higher"),
            *(Measure(f"read_{threads}", "MB/s", "higher") for threads in _WIDE),
            Measure("write", "MB/s", "higher"),
            Measure("small_read", "objects/s", "higher"),
            Measure("small_write", "objects/s", "higher"),
            Measure("list", "ms", "lower"),
            Measure("failed_requests", "%", "lower"),
        ],
        _measure,
        lambda setting: {"storage": setting.storage or "", "object_mib": str(setting.object_mib), "small_kib": str(_SMALL >> 10)},
        asks=["storage"],
    )
]
