"""Full downloads that are either whole and verified, or absent: temporary name, resume, size, checksum, atomic rename."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from earthself.data.answers import Answer, Version, shown
from earthself.data.errors import FULL, Damaged, NoRoom, ProductChanged, TryAgain, no_room
from earthself.data.http import Access, Http
from earthself.data.retries import CutShort

# Multihash codes (https://github.com/multiformats/multicodec/blob/master/table.csv) as the STAC file extension writes them.
_MULTIHASH = {"1220": "sha256", "1114": "sha1", "1340": "sha512", "1330": "sha384", "d50110": "md5", "1630": "sha3_384", "1620": "sha3_256"}
_PLAIN = {32: "md5", 40: "sha1", 64: "sha256", 128: "sha512"}


@dataclass(frozen=True)
class Checksum:
    """What the bytes of a file must hash to."""

    algorithm: str
    """Name in `hashlib`."""
    hexdigest: str
    """Lower-case hexadecimal digest."""

    @classmethod
    def parse(cls, text: str | None) -> Checksum | None:
        """Read `file:checksum`: a multihash, or the bare digest that some catalogues write; None where it is neither."""
        value = (text or "").strip().lower()
        if not value or any(c not in "0123456789abcdef" for c in value):
            return None
        for prefix, algorithm in _MULTIHASH.items():
            if value.startswith(prefix) and len(value) - len(prefix) == 2 * hashlib.new(algorithm, usedforsecurity=False).digest_size:
                return cls(algorithm, value[len(prefix) :])
        return cls(_PLAIN[len(value)], value) if len(value) in _PLAIN else None

    @classmethod
    def from_headers(cls, headers: dict[str, str], *, part: bool) -> Checksum | None:
        """Read the digest that a server states of the whole file: Repr-Digest, those of S3 and Google storage, or Content-MD5.

        Content-MD5 is of the bytes sent, so it says nothing of the file where only a `part` of it comes (RFC 1864).
        """
        for entry in (headers.get("repr-digest", "") + "," + headers.get("x-goog-hash", "")).split(","):
            name, _, value = entry.strip().partition("=")
            if (algorithm := {"sha-256": "sha256", "sha-512": "sha512", "md5": "md5"}.get(name)) and (made := _base64(algorithm, value)):
                return made
        sent = "" if part else headers.get("content-md5", "")
        return _base64("sha256", headers.get("x-amz-checksum-sha256", "")) or _base64("md5", sent)

    def of(self, path: Path) -> str:
        """Digest of a file."""
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.new(self.algorithm, usedforsecurity=False)).hexdigest()


def _base64(algorithm: str, text: str) -> Checksum | None:
    with contextlib.suppress(ValueError):
        raw = base64.b64decode(text.strip().strip(":"), validate=True)
        if len(raw) == hashlib.new(algorithm, usedforsecurity=False).digest_size:
            return Checksum(algorithm, raw.hex())
    return None


@dataclass(frozen=True)
class Expected:
    """What a catalogue states of a file."""

    size: int | None = None
    """Bytes (`file:size`)."""
    checksum: Checksum | None = None
    """Digest (`file:checksum`)."""

    @classmethod
    def of(cls, asset: Mapping[str, Any]) -> Expected:
        """Read a STAC asset."""
        size = asset.get("file:size")
        return cls(int(size) if isinstance(size, (int, float)) and size > 0 else None, Checksum.parse(asset.get("file:checksum")))


def download(http: Http, access: Access, url: str, path: Path, expected: Expected | None = None) -> int:
    """Bring a file to `path`, whole and verified, and return the bytes moved over the net.

    Until then it lies beside it as `.<name>.part`; a later call resumes there when the server says that the file is still the same.
    Raises `Damaged` when size or checksum are not what was stated, `ProductChanged` when the file is replaced meanwhile, `NoRoom`
    when the disk is full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _part_of(path) as part:
            moved = _Transfer(partial(http.stream, access, url), http, shown(url), part, expected or Expected()).run()
            part.file.replace(path)
    except OSError as error:
        if full := no_room(error, path):
            raise full from error
        raise
    return moved


@dataclass
class _Part:
    """The unfinished file and what is known about its source."""

    file: Path
    note: Path

    def version(self, source: str) -> Version | None:
        """The state of the file that it is a part of; None where that is not known, or it is of another source."""
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            noted = json.loads(self.note.read_text())
            return Version(**noted["version"]) if noted["source"] == source else None
        return None

    def remember(self, version: Version, source: str) -> None:
        self.note.write_text(json.dumps({"source": source, "version": asdict(version)}))

    def length(self) -> int:
        return self.file.stat().st_size if self.file.exists() else 0

    def clear(self) -> None:
        self.file.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)


@contextlib.contextmanager
def _part_of(path: Path) -> Iterator[_Part]:
    """Take the part file of `path` for this process alone; a second process works on a part of its own."""
    import fcntl

    name = f".{path.name}.part"
    locked = path.with_name(f".{path.name}.lock")
    with locked.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            mine = locked.exists() and os.path.samestat(os.fstat(lock.fileno()), locked.stat())
        except OSError:
            mine = False
        if not mine:
            name = f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.part"
        part = _Part(path.with_name(name), path.with_name(f"{name}.json"))
        try:
            yield part
        except BaseException:
            if not mine:
                part.clear()
            raise
        finally:
            if mine:
                locked.unlink(missing_ok=True)
        part.note.unlink(missing_ok=True)


class _Transfer:
    """One download: attempts, each of which goes on where the last one stopped."""

    def __init__(
        self,
        stream: Callable[[dict[str, str]], AbstractContextManager[Answer]],
        http: Http,
        name: str,
        part: _Part,
        expected: Expected,
    ) -> None:
        self.stream, self.name, self.part, self.expected = stream, name, part, expected
        self.retries, self.least = http.retries, http.least_progress
        self.moved = 0
        self.stated: Checksum | None = None
        self.resumes = True
        self.ends: set[int] = set()

    def run(self) -> int:
        # A server that cuts every answer still gets through as long as the attempts move on at a bearable speed.
        while True:
            before = self.part.length()
            self.ends.clear()
            try:
                self.retries.run(self._attempt)
            except ProductChanged:
                self.part.clear()
                raise
            except TryAgain as error:
                if self.part.length() - before >= self.least:
                    continue
                if isinstance(error, CutShort) and self.ends == {before} and before:
                    raise Damaged(
                        f"{self.name} ends after {before} bytes every time, though it states more; choose another provider"
                    ) from error
                raise
            break
        try:
            self._verify()
        except Damaged:
            self.part.clear()
            raise
        return self.moved

    def _attempt(self) -> None:
        have, known = self.part.length(), self.part.version(self.name)
        if have and (known is None or known.validator is None or not self.resumes):
            self.part.clear()
            have, known = 0, None
        headers = {"Range": f"bytes={have}-", "If-Range": known.validator} if have and known and known.validator else {}
        try:
            self._receive(headers, have, known)
        except CutShort:
            self.ends.add(self.part.length())
            raise

    def _receive(self, headers: dict[str, str], have: int, known: Version | None) -> None:
        with self.stream(headers) as answer:
            if known is not None and known.differs(answer.version):
                raise ProductChanged(f"{self.name} was replaced while it was downloaded; start the download again")
            if answer.status == 416 and answer.version.size == have:
                return
            if answer.status == 416:
                self.part.clear()
                raise TryAgain(f"{self.name} has no bytes after {have}; start the download again")
            self._check_stated(answer)
            if answer.status == 206 and (answer.first != have or answer.last is None):
                raise self._glued(f"bytes from {answer.first} where those from {have} were asked for")
            self.stated = Checksum.from_headers(answer.headers, part=answer.status == 206) or self.stated
            self._check_room(answer.version.size, self.part.length() if answer.status == 206 else 0)
            try:
                self.part.remember(answer.version, self.name)
                self._write(answer, append=answer.status == 206)
            except OSError as error:
                if error.errno not in FULL:
                    raise
                raise self._no_room(str(error.strerror)) from None
        size = answer.version.size if answer.version.size is not None or known is None else known.size
        length, end = self.part.length(), size if answer.last is None else answer.last + 1
        if end is not None and length > end:
            raise self._glued(f"more than the {end} bytes that it states")
        if size is not None and length < size:
            raise TryAgain(f"{self.name} ended after {length} of {size} bytes; try again")

    def _glued(self, what: str) -> TryAgain:
        """Drop a part that such bytes would spoil; from here on every attempt begins at the start."""
        self.part.clear()
        self.resumes = False
        return TryAgain(f"{self.name} sent {what}; start the download again")

    def _check_room(self, size: int | None, have: int) -> None:
        free = shutil.disk_usage(self.part.file.parent).free
        if size is not None and free < size - have:
            raise self._no_room(f"{size - have} bytes are to come and {free} are free")

    def _no_room(self, what: str) -> NoRoom:
        """Give back what the part took: whatever else fails for want of room is worth more than a resumed download."""
        self.part.clear()
        return NoRoom(f"there is no room for {self.name} in {self.part.file.parent} ({what}); make room and try again")

    def _check_stated(self, answer: Answer) -> None:
        if self.expected.size is not None and answer.version.size is not None and answer.version.size != self.expected.size:
            raise Damaged(
                f"{self.name} has {answer.version.size} bytes by its server and {self.expected.size} by the catalogue; "
                "search again, or choose another provider"
            )

    def _write(self, answer: Answer, *, append: bool) -> None:
        with self.part.file.open("ab" if append else "wb") as file:
            try:
                for piece in answer.body:
                    self.moved += len(piece)
                    file.write(piece)
            finally:
                file.flush()
                os.fsync(file.fileno())

    def _verify(self) -> None:
        length = self.part.length()
        if self.expected.size is not None and length != self.expected.size:
            raise Damaged(f"{self.name} gave {length} bytes where the catalogue states {self.expected.size}; choose another provider")
        for checksum, who in ((self.expected.checksum, "the catalogue"), (self.stated, "its server")):
            if checksum is not None and (found := checksum.of(self.part.file)) != checksum.hexdigest:
                raise Damaged(
                    f"{self.name} has {checksum.algorithm} {found[:16]} where {who} states {checksum.hexdigest[:16]}; "
                    "download it again, or choose another provider"
                )
