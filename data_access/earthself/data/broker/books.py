"""Where the accounts' books lie: a folder that all processes of a machine share, or the memory of one process."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import hmac
import os
import secrets
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from earthself.data.broker.book import Book
from earthself.data.broker.interface import Account, AccountStatus
from earthself.data.broker.state import StateFile, StateMemory, opened

_VERSION = 1


class Books:
    """Opens books, and holds what one alone may have by a lock of the kernel's. Safe to share between threads."""

    def __init__(self, folder: Path | None, clock: Callable[[], float]) -> None:
        """Nothing is made yet."""
        self.folder = folder
        self._clock = clock
        self._memories: dict[str, StateMemory] = {}
        self._locks: dict[str, threading.Lock] = {}
        self._names: dict[tuple[str, str], str] = {}
        self._key = b"" if folder else secrets.token_bytes(32)
        self._here = threading.RLock()

    @contextlib.contextmanager
    def of(self, account: Account) -> Iterator[Book]:
        """Hold the book of an account, which is begun where there is none."""
        with self.named(self.name(account)) as book:
            book.know(account)
            yield book

    @contextlib.contextmanager
    def named(self, name: str) -> Iterator[Book]:
        """Hold the book of that name; see `StateFile.held` for what it raises."""
        with self._state(name).held() as state:
            if state.setdefault("version", _VERSION) != _VERSION:
                state.clear()
                state |= {"version": _VERSION, "notes": ["the state was of another version and began anew"]}
            yield Book(state, self._clock)

    def names(self) -> list[str]:
        """Names of all accounts that are known here."""
        return sorted(self._memories if self.folder is None else (path.stem for path in self.folder.glob("*.state")))

    def name(self, account: Account) -> str:
        """Name the account so that its credentials cannot be told, nor guessed and tried, from it."""
        if account.name:
            return account.name
        if not account.secret:
            return account.provider
        with self._here:
            name = self._names.get((account.provider, account.secret))
            if name is None:
                name = self._names[account.provider, account.secret] = name_of(account, self.key())
            return name

    def key(self) -> bytes:
        """The secret that account names are made with, the same to all who share the books."""
        with self._here:
            self._key = self._key or _key_in(self.folder or Path())
            return self._key

    def take(self, name: str, what: str, *, wait: bool = False) -> Callable[[], None] | None:
        """Take what one thread of one process may have at a time; gives how to give it back, None where another has it."""
        with self._here:
            lock = self._locks.setdefault(f"{name}.{what}", threading.Lock())
        if not lock.acquire(blocking=wait):
            return None
        if self.folder is None:
            return lock.release
        try:
            descriptor = opened(self.folder / f"{name}.{what}.lock")
        except BaseException:
            lock.release()
            raise
        if not _locked(descriptor, wait=wait):
            os.close(descriptor)
            lock.release()
            return None
        return partial(_free, descriptor, lock)

    def status(self) -> list[AccountStatus]:
        """How all accounts stand that are known here."""
        found = []
        for name in self.names():
            with self.named(name) as book:
                found.append(book.status(name, self._connections(name)))
        return found

    def _connections(self, name: str) -> int:
        """How many connections processes of this machine hold."""
        if self.folder is None:
            return sum(lock.locked() for key, lock in self._locks.items() if key.startswith(f"{name}.connection-"))
        held = 0
        for path in self.folder.glob(f"{name}.connection-*.lock"):
            descriptor = opened(path)
            held += not _locked(descriptor, wait=False)
            os.close(descriptor)
        return held

    def _state(self, name: str) -> StateFile | StateMemory:
        if self.folder is not None:
            return StateFile(self.folder / f"{name}.state")
        with self._here:
            return self._memories.setdefault(name, StateMemory())


def name_of(account: Account, key: bytes) -> str:
    """The name that a broker with this key gives to an account with credentials."""
    digest = hmac.new(key, f"{account.provider}\0{account.secret}".encode(), hashlib.sha256).hexdigest()
    return f"{account.provider}-{digest[:12]}"


def _free(descriptor: int, lock: threading.Lock) -> None:
    os.close(descriptor)
    lock.release()


def _locked(descriptor: int, *, wait: bool) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True


def _key_in(folder: Path) -> bytes:
    """The key in a folder, made by whoever needs it first."""
    path = folder / "key"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.exists():
        beside = path.with_name(f".key.{secrets.token_hex(4)}")
        try:
            beside.touch(mode=0o600)
            beside.write_bytes(secrets.token_bytes(32))
            with contextlib.suppress(FileExistsError):
                path.hardlink_to(beside)
        finally:
            beside.unlink(missing_ok=True)
    return path.read_bytes()
