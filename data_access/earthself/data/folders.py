"""Folders in an object storage, whole or not at all for a reader: what pods of different clusters hand to each other.

A marker, written last and read first, names every file with its size and SHA-256. Listings are not asked what is there: an object
storage may show a new key late. Nobody but the one who stages a folder out writes below its URL.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from earthself.data.errors import BadInput, Damaged, DataError, NotThere, TryAgain, no_room
from earthself.data.retries import RetryPolicy
from earthself.data.s3 import THREADS, OutOfRange, Transfers, code_of, etag_of, in_threads
from earthself.data.storage import Place, Storage

MARKER = ".staged.json"
"""Name of the object that says what a staged folder holds; no file of a folder may have it."""
_VERSION = 1
_PIECE = 1 << 20


@dataclass(frozen=True)
class StagedFile:
    """One file of a staged folder."""

    name: str
    """Path in the folder, with slashes."""
    size: int
    """Bytes."""
    sha256: str
    """Hexadecimal SHA-256 of the bytes."""


@dataclass(frozen=True)
class StagedFolder:
    """What a staged folder holds."""

    files: tuple[StagedFile, ...]
    """All files, by name."""
    empty: tuple[str, ...] = ()
    """Folders without anything in them."""

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


@dataclass(frozen=True)
class Moved:
    """What staging one folder took."""

    folder: StagedFolder
    """What the folder holds."""
    moved: int
    """Bytes of the files that went over the wire; the others had been there already."""


@dataclass(frozen=True)
class Pace:
    """How much is done at once, and how often again."""

    files: int = THREADS
    """Files at a time."""
    requests: int = 10
    """Requests at a time for files in several parts."""
    single: int = 64 << 20
    """Bytes up to which a file travels in one request; larger ones are fetched in ranges of that size."""
    part: int = 16 << 20
    """Bytes of a part (at least 5 MiB) in which larger files are sent."""
    retries: RetryPolicy = field(default_factory=RetryPolicy)
    """How often a file is tried again that was cut, or is not (yet) what the marker says."""


@dataclass(frozen=True)
class _Marker:
    whole: bool
    folder: StagedFolder
    """What can be read; while it is not whole, what may lie there of an earlier one."""
    since: str


@dataclass(frozen=True)
class _Wire:
    """What it takes to move a file."""

    at: Place
    url: str
    storage: Storage
    folder: Path
    """The folder at this end, by the name that people know it by."""
    several: Transfers
    """For files in several parts."""
    pace: Pace

    def errors(self, name: str) -> AbstractContextManager[None]:
        return self.storage.errors(f"{self.url.rstrip('/')}/{name}", self.folder / name)


class _Unlike(TryAgain):
    """What lies in the storage is not (yet) what the marker says."""


def stage_out(folder: Path, url: str, storage: Storage | None = None, pace: Pace | None = None) -> Moved:
    """Copy a local folder to `s3://PROFILE@bucket/prefix`; nothing can be read there before everything is there.

    Done again after an interruption, it leaves alone what has arrived. A folder that is there already stops being readable until the
    new one is whole. Contents only: no rights, no times. Raises `BadInput` for links that lead out of the folder and for what is
    no file, `NotThere` for a missing folder or bucket, `NoRoom`, `CredentialsRefused`, `TryAgain`.
    """
    pace, storage = pace or Pace(), storage or Storage()
    if not folder.is_dir():
        raise NotThere(f"{folder} is no folder and cannot be staged to {url}; mend the path, or run the step that makes it")
    names, empty = _contents(folder)
    at = storage.place(url)
    with storage.errors(url):
        before = _earlier(at, url)
        same = before and before.whole and _holds(folder, before.folder, names, empty, pace.files)
        # The marker alone would keep a folder damaged whose files somebody has harmed.
        if before and same and all(in_threads(lambda name: _arrived(at, folder / name, name, pace), names, pace.files)):
            return Moved(before.folder, 0)
        _write_marker(at, before.folder if before else StagedFolder(()), whole=False)
        with Transfers(at.client, pace.requests, pace.part) as several:
            wire = _Wire(at, url, storage, folder, several, pace)

            def send(name: str) -> tuple[StagedFile, int]:
                return pace.retries.run(lambda: _send(wire, folder, name, again=before is not None))

            sent = in_threads(send, names, pace.files, several.stop)
        staged = StagedFolder(tuple(file for file, _ in sent), empty)
        _write_marker(at, staged, whole=True)
        for name in sorted({file.name for file in before.folder.files} - set(names) if before else ()):
            at.client.delete_object(Bucket=at.bucket, Key=_key(at, name))
    return Moved(staged, sum(moved for _, moved in sent))


def stage_in(url: str, folder: Path, storage: Storage | None = None, pace: Pace | None = None) -> Moved:
    """Copy a staged folder to a local one, which appears in one move when all its files are there and as their checksums say.

    Done again after an interruption, it takes only what is missing. The local folder must not exist, or be empty (and no mount: name
    a folder in it), or hold exactly this already. Raises `NotThere` for what was never staged, `TryAgain` for what is being staged,
    `Damaged` for files that are not what was staged, `BadInput`, `NoRoom`, `CredentialsRefused`.
    """
    pace, storage = pace or Pace(), storage or Storage()
    if folder.is_mount():
        raise BadInput(f"{folder} is a mount, which nothing can be moved to in one go; stage {url} to a folder in it")
    marker = pace.retries.run(lambda: _whole(url, storage))
    if folder.is_dir() and any(folder.iterdir()):
        if _holds(folder, marker.folder, *_contents(folder), pace.files):
            return Moved(marker.folder, 0)
        raise BadInput(f"{folder} holds something else than {url}; stage to a folder that does not exist yet")
    at = storage.place(url)
    part = folder.with_name(f".{folder.name}.part")
    with _kept(part, folder), storage.errors(url), Transfers(at.client, pace.requests, pace.single) as several:
        wire = _Wire(at, url, storage, folder, several, pace)
        _prepare(part, marker.folder)

        def fetch(file: StagedFile) -> int:
            return pace.retries.run(lambda: _fetch(wire, file, part))

        try:
            moved = in_threads(fetch, marker.folder.files, pace.files, several.stop)
        except _Unlike as error:
            if _marker(at, url) != marker:
                raise TryAgain(f"{url} was staged anew while it was read; try again") from None
            raise Damaged(f"{error}; stage {url} again: clear the task that wrote it") from None
        part.rename(folder)
    return Moved(marker.folder, sum(moved))


def staged(url: str, storage: Storage | None = None) -> StagedFolder:
    """What lies staged at a URL; raises `NotThere` for what was never staged and `TryAgain` for what is being staged."""
    return _whole(url, storage or Storage()).folder


def same_files(folder: Path, wanted: StagedFolder) -> bool:
    """Whether all files of a staged folder lie in a local one, to the byte; there may be others beside them."""
    return all(in_threads(lambda file: _is(folder / file.name, file), wanted.files))


def drop(url: str, storage: Storage | None = None) -> int:
    """Remove a staged folder, first from the eyes of readers; gives the bytes freed, 0 where there is none."""
    storage = storage or Storage()
    at = storage.place(url)
    with storage.errors(url):
        marker = _marker(at, url)
        if marker is None:
            return 0
        _write_marker(at, marker.folder, whole=False)
        in_threads(lambda file: at.client.delete_object(Bucket=at.bucket, Key=_key(at, file.name)), marker.folder.files)
        at.client.delete_object(Bucket=at.bucket, Key=_key(at, MARKER))
    return marker.folder.size


def read_marker(data: bytes, url: str) -> tuple[bool, StagedFolder]:
    """Whether a marker says that its folder is whole, and what is (or may be) there; raises `Damaged` for what is no marker."""
    try:
        value = json.loads(data)
        files = tuple(StagedFile(str(name), int(size), str(sha256)) for name, size, sha256 in value["files"])
        empty = tuple(str(each) for each in value["empty"])
        whole = {"whole": True, "begun": False}[value["state"]]
        known = value["version"] == _VERSION and all(map(_inside, (*(file.name for file in files), *empty)))
    except (ValueError, KeyError, TypeError):
        known = False
    if not known:
        raise Damaged(f"{url}/{MARKER} is no marker of version {_VERSION}; stage {url} again: clear the task that wrote it")
    return whole, StagedFolder(files, empty)


def _whole(url: str, storage: Storage) -> _Marker:
    at = storage.place(url)
    with storage.errors(url):
        marker = _marker(at, url)
    if marker is None:
        raise NotThere(f"nothing is staged at {url}; mend the address, or run the task that stages it")
    if not marker.whole:
        raise TryAgain(f"{url} is not whole: it has been staged since {marker.since}; try again when that is done")
    return marker


def _marker(at: Place, url: str) -> _Marker | None:
    try:
        answer = at.client.get_object(Bucket=at.bucket, Key=_key(at, MARKER))
        data = answer["Body"].read()
    except at.client.exceptions.NoSuchKey:
        return None
    return _Marker(*read_marker(data, url), str(answer["LastModified"]))


def _earlier(at: Place, url: str) -> _Marker | None:
    """The marker as who stages anew sees it: one that cannot be read is one that has begun."""
    try:
        return _marker(at, url)
    except Damaged:
        return _Marker(False, StagedFolder(()), "an unknown time")


def _write_marker(at: Place, folder: StagedFolder, *, whole: bool) -> None:
    files = [[file.name, file.size, file.sha256] for file in folder.files]
    value = {"version": _VERSION, "state": "whole" if whole else "begun", "files": files, "empty": list(folder.empty)}
    at.client.put_object(Bucket=at.bucket, Key=_key(at, MARKER), Body=json.dumps(value).encode(), ContentType="application/json")


def _key(at: Place, name: str) -> str:
    return f"{at.key}/{name}" if at.key else name


def _inside(name: str) -> bool:
    return bool(name) and not name.startswith("/") and "\0" not in name and not {"", ".", ".."} & set(name.split("/"))


def _contents(folder: Path) -> tuple[list[str], tuple[str, ...]]:
    """Names of the files, and of the folders without anything in them."""
    root, names, empty = folder.resolve(), [], []
    for where, folders, files in os.walk(folder):
        here = Path(where)
        for path in (here / name for name in (*folders, *files)):
            name = path.relative_to(folder).as_posix()
            if path.is_symlink() and (path.is_dir() or not path.resolve().is_relative_to(root)):
                raise BadInput(f"{path} is a link to a folder, or out of {folder}, and cannot be staged; put the files themselves there")
            if not (path.is_file() or path.is_dir()) or path.name == MARKER or not _utf8(name):
                raise BadInput(f"{path} cannot be staged: it is no file, or has a name that is not UTF-8 or is kept for markers; remove it")
        names += [(here / name).relative_to(folder).as_posix() for name in files]
        if not folders and not files and here != folder:
            empty.append(here.relative_to(folder).as_posix())
    return sorted(names), tuple(sorted(empty))


def _utf8(name: str) -> bool:
    try:
        return bool(name.encode())
    except UnicodeEncodeError:
        return False


def _holds(folder: Path, wanted: StagedFolder, names: list[str], empty: tuple[str, ...], threads: int) -> bool:
    """Whether a local folder is what is staged, to the byte."""
    if (sorted(file.name for file in wanted.files), wanted.empty) != (names, empty):
        return False
    if any((folder / file.name).stat().st_size != file.size for file in wanted.files):
        return False
    return all(in_threads(lambda file: _is(folder / file.name, file), wanted.files, threads))


def _is(path: Path, file: StagedFile) -> bool:
    return path.is_file() and path.stat().st_size == file.size and _sha256(path) == file.sha256


def _sha256(path: Path) -> str:
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _send(wire: _Wire, folder: Path, name: str, *, again: bool) -> tuple[StagedFile, int]:
    path, at, key = folder / name, wire.at, _key(wire.at, name)
    before = path.stat()
    size = before.st_size
    with wire.errors(name):
        if again and _arrived(at, path, name, wire.pace):
            return StagedFile(name, size, _sha256(path)), 0
        if size <= wire.pace.single:
            sha256 = _sha256(path)
            with path.open("rb") as file:
                at.client.put_object(Bucket=at.bucket, Key=key, Body=file)
        else:
            sha256 = wire.several.upload(path, at.bucket, key, meanwhile=lambda: _sha256(path))
        after = path.stat()
        if (after.st_size, after.st_mtime_ns) != (size, before.st_mtime_ns):
            raise TryAgain(f"{path} was changed while it was staged; stage it when whoever writes it has ended")
        return StagedFile(name, size, sha256), size


def _arrived(at: Place, path: Path, name: str, pace: Pace) -> bool:
    """Whether this very file lies in the storage: by its own checksum, where that is one of the bytes."""
    try:
        found = at.client.head_object(Bucket=at.bucket, Key=_key(at, name))
    except at.client.exceptions.ClientError as error:
        if code_of(error) == "404":
            return False
        raise
    etag = str(found["ETag"]).strip('"')
    return bool(found["ContentLength"] == path.stat().st_size) and etag == etag_of(path, pace.single, pace.part)


def _fetch(wire: _Wire, file: StagedFile, part: Path) -> int:
    path, at, key = part / file.name, wire.at, _key(wire.at, file.name)
    if _is(path, file):
        return 0
    with _unlike(wire, file), wire.errors(file.name):
        if file.size <= wire.pace.single:
            right = _stream(wire, key, file, path)
        else:
            wire.several.download(at.bucket, key, path, file.size)
            right = _is(path, file)
    if not right:
        path.unlink(missing_ok=True)
        raise _Unlike(f"{wire.url}/{file.name} is not what was staged: {file.size} bytes with SHA-256 {file.sha256[:12]}…")
    return file.size


def _stream(wire: _Wire, key: str, file: StagedFile, path: Path) -> bool:
    """Fetch a file in one request; gives whether it is what was staged."""
    digest, size = hashlib.sha256(), 0
    body = wire.at.client.get_object(Bucket=wire.at.bucket, Key=key)["Body"]
    with contextlib.closing(body), path.open("wb") as out:
        while size <= file.size and (piece := body.read(_PIECE)):
            size += out.write(piece)
            digest.update(piece)
    return size == file.size and digest.hexdigest() == file.sha256


@contextlib.contextmanager
def _unlike(wire: _Wire, file: StagedFile) -> Iterator[None]:
    """A key may show late, or be one of another size that is being replaced."""
    try:
        yield
    except (NotThere, OutOfRange):
        raise _Unlike(f"{wire.url}/{file.name} is not there, or shorter than the {file.size} bytes that were staged") from None


def _prepare(part: Path, wanted: StagedFolder) -> None:
    """Make the folders, and remove what an interrupted staging of something else has left."""
    names = {file.name for file in wanted.files}
    for path in [path for path in part.rglob("*") if path.is_symlink() or not path.is_dir()]:
        if path.relative_to(part).as_posix() not in names:
            path.unlink()
    for path in sorted((path for path in part.rglob("*") if path.is_dir()), reverse=True):
        with contextlib.suppress(OSError):
            path.rmdir()
    for name in {str(PurePosixPath(name).parent) for name in names} | set(wanted.empty):
        (part / name).mkdir(parents=True, exist_ok=True)


@contextlib.contextmanager
def _kept(part: Path, folder: Path) -> Iterator[None]:
    """Hold the folder in which files gather, for one process; raises `TryAgain` while another has it."""
    try:
        part.mkdir(parents=True, exist_ok=True)
        opened = os.open(part, os.O_RDONLY)
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError:
            raise TryAgain(f"{folder} is being staged by another process; try again when it is done") from None
        finally:
            os.close(opened)
    except OSError as error:
        raise no_room(error, folder) or DataError(f"{folder} cannot be written ({error}); mend its rights or its path") from error
