"""What all workers of a machine share of one account: a file that one of them at a time reads and writes, whole or not at all.

The file has two places and is written in place, to the one that is not current: a worker killed while it writes leaves the other, and a
disk that fills up later does not matter, since all room is taken at the start.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from earthself.data.errors import FULL, BadInput, NoRoom, TryAgain

_ROOM = 1 << 20  # bytes of one place
_HEAD = 64


class StateFile:
    """A JSON object in a file of mode 600, held by one thread of one process at a time (`flock`: the kernel lets go of a dead one's)."""

    def __init__(self, path: Path) -> None:
        """Nothing is read yet."""
        self.path = path

    @contextlib.contextmanager
    def held(self) -> Iterator[dict[str, Any]]:
        """Give the object to change; it is written at the end, also where the block fails.

        A damaged file begins anew with a note in `notes`. Raises `NoRoom` where there is no room, `BadInput` where the file is not ours.
        """
        descriptor = self._open()
        try:
            place, serial, before = _current(descriptor)
            value = _parsed(before)
            if value is None:
                self._keep_damaged(descriptor)
                value = {"notes": ["the state was damaged and began anew: what was counted before, and orders, are lost"]}
            try:
                yield value
            finally:
                after = json.dumps(value, separators=(",", ":")).encode()
                if after != before:
                    self._write(descriptor, 1 - place, serial + 1, after)
        finally:
            os.close(descriptor)  # lets go of the lock

    def _open(self) -> int:
        """Open and lock the file, which may be made or taken away meanwhile."""
        while True:
            descriptor = opened(self.path)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                if self.path.exists() and os.path.samestat(os.fstat(descriptor), self.path.stat()):
                    self._make(descriptor)
                    return descriptor
            except OSError as error:
                os.close(descriptor)
                raise _refused(self.path, error) from None
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)

    def _make(self, descriptor: int) -> None:
        found = os.fstat(descriptor)
        if found.st_uid == os.getuid() and found.st_mode & 0o077:
            os.fchmod(descriptor, 0o600)
        if found.st_size < 2 * _ROOM:
            os.posix_fallocate(descriptor, 0, 2 * _ROOM)
        if found.st_size == 0:
            _put(descriptor, 0, 1, b"{}")

    def _write(self, descriptor: int, place: int, serial: int, data: bytes) -> None:
        if len(data) > _ROOM - _HEAD:
            raise TryAgain(f"the state in {self.path} does not fit into {_ROOM} bytes; ask with fewer workers, or remove the file")
        try:
            _put(descriptor, place, serial, data)
        except OSError as error:
            raise _refused(self.path, error) from None

    def _keep_damaged(self, descriptor: int) -> None:
        """Leave the damaged bytes beside the file for whoever wants to know; they are lost where there is no room."""
        with contextlib.suppress(OSError):
            beside = os.open(self.path.with_suffix(".damaged"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
            try:
                os.write(beside, os.pread(descriptor, 2 * _ROOM, 0))
            finally:
                os.close(beside)


class StateMemory:
    """The same for one process alone."""

    def __init__(self) -> None:
        """Empty."""
        self._value: dict[str, Any] = {}
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def held(self) -> Iterator[dict[str, Any]]:
        """Give the object to change."""
        with self._lock:
            yield self._value


def opened(path: Path) -> int:
    """Open a file of mode 600 in a folder of mode 700, each made where it is not there; gives a descriptor to close.

    Raises `NoRoom` where there is no room, `BadInput` where the place cannot be used.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _refused(path, error) from None


def _refused(path: Path, error: OSError) -> NoRoom | BadInput:
    if error.errno in FULL:
        return NoRoom(f"there is no room for the state of the download broker at {path.parent} ({error.strerror}); make some")
    return BadInput(
        f"the state of the download broker at {path} cannot be used ({error.strerror}); set EARTHSELF_HOME to a folder of yours"
    )


def _current(descriptor: int) -> tuple[int, int, bytes | None]:
    """The place that holds the newest whole object, its number, and its bytes; None where neither is whole."""
    found: list[tuple[int, int, bytes]] = []
    for place in (0, 1):
        head = os.pread(descriptor, _HEAD, place * _ROOM).split()
        with contextlib.suppress(ValueError, IndexError):
            serial, length, check = int(head[0]), int(head[1]), int(head[2])
            data = os.pread(descriptor, min(length, _ROOM), place * _ROOM + _HEAD)
            if len(data) == length and zlib.crc32(data) == check:
                found.append((serial, place, data))
    if not found:
        return 1, 0, None
    serial, place, data = max(found)
    return place, serial, data


def _put(descriptor: int, place: int, serial: int, data: bytes) -> None:
    head = f"{serial} {len(data)} {zlib.crc32(data)}\n".encode().ljust(_HEAD)
    os.pwrite(descriptor, head + data, place * _ROOM)


def _parsed(data: bytes | None) -> dict[str, Any] | None:
    with contextlib.suppress(ValueError):
        value = json.loads(data) if data is not None else None
        return value if isinstance(value, dict) else None
    return None
