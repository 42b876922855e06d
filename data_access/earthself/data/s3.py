"""Clients of S3 whose keys are looked up for every request, and what the answers of S3 mean in one sentence."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Self, TypeVar

from botocore.credentials import Credentials as BotoCredentials
from botocore.credentials import ReadOnlyCredentials
from earthself.data.credentials import Credentials, Keys
from earthself.data.errors import CredentialsRefused, DataError, NoRoom, NotThere, TryAgain
from earthself.data.profiles import StorageProfile

_T = TypeVar("_T")
_R = TypeVar("_R")

THREADS = 8
"""Files that are worked on at a time, unless told."""
CONNECTIONS = 32
"""Connections that a client keeps; more than its users have threads."""
EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestTimeTooSkewed", "InvalidToken"})
_REFUSED = {
    "AccessDenied",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "SignatureDoesNotMatch",
    "403",
    "401",
    "AccountProblem",
    "AllAccessDisabled",
    "NotSignedUp",
}
_BUSY = {"SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout", "500", "502", "503", "504", "429", "OperationAborted"}
_NO_ROOM = {"QuotaExceeded", "ServiceQuotaExceeded", "InsufficientStorage", "507", "XMinioStorageFull", "EntityTooLarge", "413"}
_OUT_OF_RANGE = {"InvalidRange", "416"}
_MISSING = {"NoSuchKey", "404", "NoSuchUpload"}


def client(profile: StorageProfile) -> Any:  # noqa: ANN401 - boto3 makes its clients at run time
    """A boto3 client that all threads may share, and whose requests survive that keys expire and are renewed."""
    from boto3.session import Session as BotoSession
    from botocore import UNSIGNED
    from botocore.config import Config
    from botocore.session import Session

    session = Session()
    config = Config(**profile.client_config(), max_pool_connections=CONNECTIONS)
    if profile.keys is None:
        config = config.merge(Config(signature_version=UNSIGNED))
    else:
        _sign_with(session, _Now(profile.keys), profile.attempts)
    made = BotoSession(botocore_session=session)
    return made.client("s3", endpoint_url=profile.endpoint, region_name=profile.region or "us-east-1", config=config)


def filesystem(profile: StorageProfile) -> Any:  # noqa: ANN401 - s3fs has no types
    """An fsspec file system whose requests survive that keys expire and are renewed."""
    import s3fs
    from aiobotocore.session import AioSession

    options = profile.fsspec_options()
    session = AioSession()
    if profile.keys is not None:
        for name in ("key", "secret", "token"):
            options.pop(name)
        _sign_with(session, _AsyncNow(profile.keys), profile.attempts)
    made = s3fs.S3FileSystem(**options, session=session, skip_instance_cache=True, use_listings_cache=False)
    made.retries = 1  # botocore asks again already
    return made


def code_of(error: BaseException | None) -> str | None:
    """The S3 error code in a chain of exceptions; the HTTP status where the answer does not name one."""
    while error is not None:
        response = getattr(error, "response", None)
        if isinstance(response, dict) and "Error" in response:
            return str(response["Error"].get("Code") or response.get("ResponseMetadata", {}).get("HTTPStatusCode"))
        error = error.__cause__ or error.__context__
    return None


def meaning(error: Exception, profile: StorageProfile, url: str) -> DataError:
    """What an error of boto3 or s3fs means for the user of a URL."""
    code = code_of(error)
    where = profile.endpoint or "AWS"
    if code in EXPIRED:
        return CredentialsRefused(f"the keys of storage profile {profile.name} have expired ({code}); renew them at {profile.credentials}")
    if code in _REFUSED or isinstance(error, PermissionError):
        keys = profile.credentials or "nothing (the bucket is not public)"
        return CredentialsRefused(f"{where} refuses the keys of storage profile {profile.name} for {url} ({code}); check {keys}")
    if code == "NoSuchBucket":
        bucket = url.partition("@")[2].partition("/")[0]
        return NotThere(f"there is no bucket {bucket!r} at {where}; create it, or mend its name or the endpoint of profile {profile.name}")
    if code in _MISSING or isinstance(error, FileNotFoundError):
        return NotThere(f"{url} does not exist; mend the key, or run the task that writes it")
    if code in _OUT_OF_RANGE:
        return OutOfRange(f"{url} is shorter than what was asked of it; run the task that writes it again")
    if code in _NO_ROOM:
        return NoRoom(f"{where} has no room for {url} ({code}); make room, or raise the quota of profile {profile.name}, and try again")
    if code in _BUSY or code is None:
        return TryAgain(f"{where} cannot be reached or is busy ({code or type(error).__name__}); try again later")
    return DataError(f"{where} refuses {url} ({code}); check storage profile {profile.name}")


class OutOfRange(DataError):
    """A file is shorter than the range that was asked of it."""


class Stopped(DataError):
    """A transfer was given up because another one failed."""


class Transfers:
    """Files in several parts at a time, by s3transfer; whatever is on its way when the block ends or `stop` is called is taken back."""

    def __init__(self, made: Any, requests: int, part: int) -> None:  # noqa: ANN401 - boto3 has no types
        """Nothing is sent yet; a part is `part` bytes, and `requests` of them travel at a time."""
        from s3transfer.manager import TransferConfig, TransferManager

        settings = {"multipart_threshold": part, "multipart_chunksize": part, "max_request_concurrency": requests}
        # A slow disk shall not make what was fetched pile up: 128 pieces of 256 KiB.
        self._manager = TransferManager(made, TransferConfig(**settings, max_io_queue_size=128))
        self._running: set[Any] = set()
        self._stopped = False
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._manager.shutdown()

    def upload(self, path: Path, bucket: str, key: str, meanwhile: Callable[[], _R]) -> _R:
        """Send a file; gives what `meanwhile` gives, which is called while the file is on its way."""
        with self._one(lambda: self._manager.upload(str(path), bucket, key)) as sending:
            found = meanwhile()
            sending.result()
        return found

    def download(self, bucket: str, key: str, path: Path, size: int) -> None:
        """Fetch a file of a known size."""
        with self._one(lambda: self._manager.download(bucket, key, str(path), subscribers=[_Size(size)])) as fetching:
            fetching.result()

    def stop(self) -> None:
        """Give up what is on its way, and begin nothing more."""
        with self._lock:
            self._stopped = True
            running = set(self._running)
        for each in running:
            each.cancel()

    @contextlib.contextmanager
    def _one(self, begin: Callable[[], Any]) -> Iterator[Any]:
        with self._lock:
            if self._stopped:
                raise Stopped("the transfer was stopped because another one failed")
            future = begin()
            self._running.add(future)
        try:
            yield future
        except Exception:
            if self._stopped:
                raise Stopped("the transfer was stopped because another one failed") from None
            raise
        finally:
            future.cancel()  # nothing where it is done
            with self._lock:
                self._running.discard(future)


class _Size:
    """Tells s3transfer the size of an object, which it would ask for."""

    def __init__(self, size: int) -> None:
        self._size = size

    def on_queued(self, future: Any, **_: object) -> None:  # noqa: ANN401 - s3transfer's
        future.meta.provide_transfer_size(self._size)


def etag_of(path: Path, single: int, part: int) -> str:
    """The ETag that S3 gives a file: its MD5, or that of its parts' and their number where it is larger than `single` bytes."""
    from s3transfer.utils import ChunksizeAdjuster

    size = path.stat().st_size
    with path.open("rb") as file:
        if size <= single:
            return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        step = ChunksizeAdjuster().adjust_chunksize(part, size)
        parts = [hashlib.md5(file.read(step), usedforsecurity=False).digest() for _ in range(-(-size // step))]
    return f"{hashlib.md5(b''.join(parts), usedforsecurity=False).hexdigest()}-{len(parts)}"


def in_threads(work: Callable[[_T], _R], items: Sequence[_T], threads: int = THREADS, stop: Callable[[], None] = lambda: None) -> list[_R]:
    """Do the work for all items, some at a time, in order; at the first failure call `stop`, and begin no more."""
    with ThreadPoolExecutor(threads, thread_name_prefix="storage") as pool:
        doing = [pool.submit(work, item) for item in items]
        try:
            wait(doing, return_when=FIRST_EXCEPTION)
            for each in doing:
                if each.done():
                    each.result()  # whatever has failed is raised before anything is waited for
            return [each.result() for each in doing]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            stop()
            raise


_used: ContextVar[Credentials | None] = ContextVar("_used", default=None)
"""The keys that the request of this thread or task was signed with."""


class _Now(BotoCredentials):  # type: ignore[misc]
    """Botocore asks for a frozen copy for every signature: it gets the keys of that moment."""

    def __init__(self, keys: Keys) -> None:
        super().__init__("", "", "", method="earthself")
        self.keys = keys

    def get_frozen_credentials(self) -> ReadOnlyCredentials:
        return _frozen(self.keys.now())


class _AsyncNow(_Now):
    def get_account_id(self) -> None:
        """Asked by aiobotocore for AWS's account-based endpoints, which profiles do not use."""

    async def get_frozen_credentials(self) -> ReadOnlyCredentials:
        return _frozen(await asyncio.to_thread(self.keys.now))


def _frozen(keys: Credentials) -> ReadOnlyCredentials:
    _used.set(keys)
    return ReadOnlyCredentials(keys.access_key_id, keys.secret_access_key, keys.session_token)


def _sign_with(session: Any, keys: _Now, attempts: int) -> None:  # noqa: ANN401 - sync or async
    session._credentials = keys  # noqa: SLF001 - what Session.get_credentials keeps; its providers are not asked again
    session.register("needs-retry.s3", _Renewal(keys.keys, attempts))


class _Renewal:
    """Has a request sent again that was refused because its keys expired: at once when there are new ones, else after a while."""

    def __init__(self, keys: Keys, attempts: int) -> None:
        self._keys, self._attempts = keys, attempts

    def __call__(self, response: Any, attempts: int, operation: Any, **_: object) -> float | None:  # noqa: ANN401 - botocore's
        used = _used.get()
        if response is None or used is None or attempts >= self._attempts:
            return None
        code = response[1].get("Error", {}).get("Code")
        # An answer to HEAD has no body, hence no name of what is wrong.
        nameless = operation.name.startswith("Head") and code in ("400", "403")
        if code not in EXPIRED and not nameless:
            return None
        self._keys.refused(used)
        if self._keys.now() != used:
            return 0.0
        return None if nameless else min(2.0 ** (attempts - 1), 8.0)
