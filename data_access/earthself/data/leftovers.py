"""What interrupted stagings leave in an object storage: found by age, removed, counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import PurePosixPath

from earthself.data.errors import BadInput, Damaged
from earthself.data.folders import MARKER, read_marker
from earthself.data.s3 import code_of, in_threads
from earthself.data.storage import Place, Storage


@dataclass(frozen=True)
class Swept:
    """What was, or would be, removed."""

    uploads: tuple[str, ...]
    """Keys of uploads in several parts that nobody finished. Storages do not say how many bytes they hold."""
    objects: tuple[str, ...]
    """Keys that no marker of a whole folder names."""
    size: int
    """Bytes of the objects."""


@dataclass(frozen=True)
class _Object:
    key: str
    size: int
    changed: datetime


def _now() -> datetime:
    return datetime.now(UTC)


def sweep(url: str, hours: float, storage: Storage | None = None, *, dry_run: bool = False, now: Callable[[], datetime] = _now) -> Swept:
    """Remove, below a URL, what is older than some hours and belongs to no staged folder that is whole.

    That is: uploads in several parts that were begun so long ago, folders whose staging stopped so long ago, and objects that no marker
    names. For places that hold staged folders only: what else lies below the URL is removed too. Raises `BadInput` for less than an
    hour, since a staging that still runs must not be taken for one that stopped.
    """
    if hours < 1:
        raise BadInput(f"{hours:g} hours is less than a staging may take; sweep what is at least 1 hour old")
    storage = storage or Storage()
    at = storage.place(url)
    cutoff = now() - timedelta(hours=hours)
    with storage.errors(url):
        uploads = list(_uploads(at))
        objects = list(_objects(at))
        stale = _stale(at, objects, {key for key, _, begun in uploads if begun >= cutoff}, cutoff)
        old = [(key, upload) for key, upload, begun in uploads if begun < cutoff]
        if not dry_run:
            in_threads(lambda each: _abort(at, *each), old)
            # Markers go last, so that a sweep that is interrupted is taken up by the next one.
            for group in ([o for o in stale if not _is_marker(o.key)], [o for o in stale if _is_marker(o.key)]):
                in_threads(lambda each: at.client.delete_object(Bucket=at.bucket, Key=each.key), group)
    return Swept(tuple(sorted(key for key, _ in old)), tuple(each.key for each in stale), sum(each.size for each in stale))


def _stale(at: Place, objects: list[_Object], uploading: set[str], cutoff: datetime) -> list[_Object]:
    """The old objects that no whole folder names, nor one that is being staged."""
    old = [each for each in objects if each.changed < cutoff]
    busy = uploading | {each.key for each in objects if each.changed >= cutoff}
    folders = sorted({folder for each in old for folder in _above(each.key)})
    # Asked for by name, since a listing may hide a marker.
    markers = dict(zip(folders, in_threads(lambda folder: _marked(at, folder), folders), strict=True))
    working = {folder for folder, marker in markers.items() if marker and any(key.startswith(_inside(folder)) for key in busy)}

    def stale(each: _Object) -> bool:
        root = next((folder for folder in _above(each.key) if markers[folder]), None)
        whole, names = (markers[root] if root is not None else None) or (False, frozenset())
        if whole:
            return not _is_marker(each.key) and each.key not in names
        return root not in working

    return [each for each in old if stale(each)]


def _above(key: str) -> list[str]:
    """The folders above a key, the nearest first, the bucket (an empty name) last."""
    parts = key.split("/")[:-1]
    return ["/".join(parts[:number]) for number in range(len(parts), -1, -1)]


def _inside(folder: str) -> str:
    return f"{folder}/" if folder else ""


def _marked(at: Place, folder: str) -> tuple[bool, frozenset[str]] | None:
    before = _inside(folder)
    try:
        data = at.client.get_object(Bucket=at.bucket, Key=before + MARKER)["Body"].read()
    except at.client.exceptions.NoSuchKey:
        return None
    try:
        whole, held = read_marker(data, f"s3://{at.profile.name}@{at.bucket}/{folder}")
    except Damaged:
        return False, frozenset()
    return whole, frozenset(before + file.name for file in held.files)


def _is_marker(key: str) -> bool:
    return PurePosixPath(key).name == MARKER


def _objects(at: Place) -> Iterator[_Object]:
    pages = at.client.get_paginator("list_objects_v2").paginate(Bucket=at.bucket, Prefix=_inside(at.key))
    for page in pages:
        for each in page.get("Contents", ()):
            yield _Object(each["Key"], each["Size"], each["LastModified"])


def _uploads(at: Place) -> Iterator[tuple[str, str, datetime]]:
    pages = at.client.get_paginator("list_multipart_uploads").paginate(Bucket=at.bucket, Prefix=_inside(at.key))
    for page in pages:
        for each in page.get("Uploads", ()):
            yield each["Key"], each["UploadId"], each["Initiated"]


def _abort(at: Place, key: str, upload: str) -> None:
    try:
        at.client.abort_multipart_upload(Bucket=at.bucket, Key=key, UploadId=upload)
    except at.client.exceptions.ClientError as error:
        if code_of(error) != "NoSuchUpload":  # somebody was faster
            raise
