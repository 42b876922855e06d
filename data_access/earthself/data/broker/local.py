"""The broker of one machine: what the workers' processes share lies in a folder that only its owner reads.

Everything that a process may die with is a lock of the kernel's, which goes with it, or ends by itself: no worker waits for a dead one.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from earthself.data.broker.book import LOOK, ORDERS, fetched
from earthself.data.broker.books import Books
from earthself.data.broker.interface import Account, AccountStatus, Broker, Grant, Order
from earthself.data.errors import CredentialsRefused, TryAgain

LOGIN_PATIENCE = 180.0
"""Seconds to wait for another worker's login."""
_log = logging.getLogger("earthself.data.broker")


def shared_folder() -> Path:
    """The folder that this machine's workers share: `broker` in EARTHSELF_HOME, else in `.earthself` of the current folder."""
    return Path(os.environ.get("EARTHSELF_HOME") or ".earthself").expanduser().absolute() / "broker"


class LocalBroker(Broker):
    """Shares accounts between the processes that name the same folder; without one, between the threads of this process."""

    def __init__(
        self,
        folder: Path | None = None,
        *,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Nothing is made yet. `clock` gives Unix seconds, which all workers of the machine must agree on."""
        self.folder = folder
        self._books = Books(folder, clock)
        self._clock, self._sleep = clock, sleep
        self._tag = secrets.token_hex(3)

    def token(self, account: Account, name: str, fetch: Callable[[Grant | None], Grant], refused: str | None = None) -> Grant:
        """See `Broker.token`."""
        given_up = self._clock() + LOGIN_PATIENCE
        while True:
            with self._books.of(account) as book:
                found, _ = book.grant(name, refused)
            if found and not found.due(self._clock()):
                return found
            with self._alone(account, name) as mine:
                if mine:
                    return self._log_in(account, name, fetch, refused)
            if found:
                return found  # another worker renews it, in time
            if self._clock() > given_up:
                raise TryAgain(f"another worker's login at {account.provider} does not end; try again")
            self._sleep(LOOK)

    def request(self, account: Account) -> None:
        """See `Broker.request`."""
        ticket = secrets.token_hex(6)
        try:
            while True:
                with self._books.of(account) as book:
                    turn = book.turn(account, ticket, self._worker())
                if turn.warning:
                    _log.warning(turn.warning)
                if turn.at is not None:
                    self._sleep_until(turn.at)
                    return
                self._sleep(turn.look)
        except BaseException:
            with self._books.of(account) as book:
                book.leave(ticket)
            raise

    @contextlib.contextmanager
    def connection(self, account: Account) -> Iterator[None]:
        """See `Broker.connection`. Each is a lock of the kernel's: a worker that dies leaves it."""
        if account.limits.connections is None:
            yield
            return
        free = self._connected(account)
        try:
            yield
        finally:
            free()

    def answered(self, account: Account, status: int, wait: float | None = None) -> None:
        """See `Broker.answered`."""
        with self._books.of(account) as book:
            warning = book.answered(account, status, wait)
        if warning:
            _log.warning(warning)

    def moved(self, account: Account, count: int) -> None:
        """See `Broker.moved`."""
        with self._books.of(account) as book:
            book.moved(account, count)

    def order(self, account: Account, product: str, place: Callable[[], Order]) -> Order:
        """See `Broker.order`."""
        with self._alone(account, ORDERS, wait=True):
            with self._books.of(account) as book:
                known = book.ordered(account, product)
            if known:
                return known
            made = place()
            with self._books.of(account) as book:
                return book.placed(product, made)

    def staged(self, account: Account, product: str, *, well: bool = True) -> None:
        """See `Broker.staged`."""
        with self._books.of(account) as book:
            book.staged(product, well=well)

    def status(self) -> list[AccountStatus]:
        """See `Broker.status`."""
        return self._books.status()

    def _connected(self, account: Account) -> Callable[[], None]:
        """Wait for a connection, in turns between teams and workers; gives how to give it back."""
        ticket, take = secrets.token_hex(6), partial(self._books.take, self._books.name(account))
        try:
            while True:
                with self._books.of(account) as book:
                    free = book.connection(account, ticket, self._worker(), take)
                if free:
                    return free
                self._sleep(LOOK / 2)
        except BaseException:
            with self._books.of(account) as book:
                book.leave(ticket)
            raise

    def _log_in(self, account: Account, name: str, fetch: Callable[[Grant | None], Grant], refused: str | None) -> Grant:
        """Fetch a login; the caller holds the lock, and somebody may have been quicker."""
        with self._books.of(account) as book:
            found, last = book.grant(name, refused)
        now = self._clock()
        if found and not found.due(now):
            return found
        try:
            made = fetched(fetch, last, now)
        except (CredentialsRefused, TryAgain) as error:
            with self._books.of(account) as book:
                book.login_failed(name, found, error, now)
            if found:
                return found
            raise
        with self._books.of(account) as book:
            return book.logged_in(name, made, refused, now)

    @contextlib.contextmanager
    def _alone(self, account: Account, what: str, *, wait: bool = False) -> Iterator[bool]:
        """Let one at a time in, here or far away; the others are told so, or wait."""
        while (free := self._free(account, what, wait=wait)) is None and wait:
            self._sleep(LOOK)
        try:
            yield free is not None
        finally:
            if free:
                free()

    def _free(self, account: Account, what: str, *, wait: bool) -> Callable[[], None] | None:
        free = self._books.take(self._books.name(account), what, wait=wait)
        if free is None:
            return None
        with self._books.of(account) as book:
            leased = book.leased(what)
        if leased:
            free()
        return None if leased else free

    def _worker(self) -> str:
        return f"{os.getpid()}-{self._tag}"

    def _sleep_until(self, turn: float) -> None:
        if (left := turn - self._clock()) > 0:
            self._sleep(left)
