"""The broker of one machine: what the workers' processes share lies in a folder that only its owner reads.

Everything that a process may die with is a lock of the kernel's, which goes with it, or ends by itself: no worker waits for a dead one.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import hmac
import logging
import os
import secrets
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from earthself.data.broker import breaker, quota, shares
from earthself.data.broker.interface import Account, AccountStatus, Broker, Grant, Order, Resting, TokenStatus
from earthself.data.broker.state import StateFile, StateMemory, opened
from earthself.data.errors import CredentialsRefused, TryAgain

_LOOK = 0.1  # seconds between looks at whether it is one's turn
_LOGIN_PATIENCE = 180.0  # seconds to wait for another worker's login
_RENEWALS, _RENEWALS_WITHIN = 3, 300.0  # logins because a token was refused; providers ban accounts that make many
_REMEMBER_REFUSAL = 60.0
_LOST_AFTER = 3600.0  # seconds after the end of its last token that a session can only be renewed
_RENEW_AGAIN = 15.0  # seconds between attempts to renew a token that still works
_ORDER_DAYS, _STAGED_DAYS = 14, 2  # after which an order is forgotten: that was not seen to end, and that was
_UNASKED = 3600.0  # seconds after the expected end of an order that nobody asks about any more: it no longer takes a place
_VERSION = 1
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
        self._clock, self._sleep = clock, sleep
        self._tag = secrets.token_hex(3)
        self._memories: dict[str, StateMemory] = {}
        self._logins: dict[str, threading.Lock] = {}
        self._names: dict[tuple[str, str], str] = {}
        self._key = b"" if folder else secrets.token_bytes(32)
        self._here = threading.RLock()

    def token(self, account: Account, name: str, fetch: Callable[[Grant | None], Grant], refused: str | None = None) -> Grant:
        """See `Broker.token`."""
        given_up = self._clock() + _LOGIN_PATIENCE
        while True:
            found, _ = self._held_grant(account, name, refused)
            if found and not found.due(self._clock()):
                return found
            with self._alone(account, name) as mine:
                if mine:
                    return self._log_in(account, name, fetch, refused)
            if found:
                return found  # another worker renews it, in time
            if self._clock() > given_up:
                raise TryAgain(f"another worker's login at {account.provider} does not end; try again")
            self._sleep(_LOOK)

    def request(self, account: Account) -> None:
        """See `Broker.request`."""
        ticket, who = secrets.token_hex(6), (account.team, f"{os.getpid()}-{self._tag}")
        try:
            while True:
                with self._state(account) as state:
                    now = self._clock()
                    warning = quota.check(_part(state, "usage"), account.provider, account.limits.bytes_a_month, now)
                    wait = breaker.check(_part(state, "breaker"), account.provider, now, going=False)
                    turn = None if wait else shares.take(_part(state, "turns"), ticket, who, now, account.limits.rate)
                    if turn is not None:
                        breaker.check(_part(state, "breaker"), account.provider, now, going=True)
                    queue = shares.waiting(_part(state, "turns"), now) / (account.limits.rate or 1.0)
                if warning:
                    _log.warning(warning)
                if turn is not None:
                    self._sleep_until(turn)
                    return
                self._sleep(min(wait, 1.0) if wait else min(_LOOK, max(_LOOK / 10, queue)))
        except BaseException:
            with self._state(account) as state:
                shares.leave(_part(state, "turns"), ticket)
            raise

    @contextlib.contextmanager
    def connection(self, account: Account) -> Iterator[None]:
        """See `Broker.connection`. Each is a lock of the kernel's: a worker that dies leaves it."""
        most = account.limits.connections
        if most is None:
            yield
            return
        free = self._connected(account, int(most))
        try:
            yield
        finally:
            free()

    def answered(self, account: Account, status: int, wait: float | None = None) -> None:
        """See `Broker.answered`."""
        with self._state(account) as state:
            before = breaker.standing(_part(state, "breaker"), self._clock())[0]
            breaker.answered(_part(state, "breaker"), status, wait, self._clock())
            now, reason, seconds = breaker.standing(_part(state, "breaker"), self._clock())
        if now != before and now in ("open", "holding"):
            _log.warning(f"{account.provider} is left alone by all workers for {seconds:.0f} s: {reason}")

    def moved(self, account: Account, count: int) -> None:
        """See `Broker.moved`."""
        with self._state(account) as state:
            quota.add(_part(state, "usage"), account.team, count, self._clock())

    def order(self, account: Account, product: str, place: Callable[[], Order]) -> Order:
        """See `Broker.order`."""
        with self._alone(account, "orders", wait=True):
            with self._state(account) as state:
                self._forget_old_orders(state)
                asked, now = _part(state, "asked"), self._clock()
                held = {name: Order(**value) for name, value in _part(state, "orders").items()}
                ended = _part(state, "staged").get(product)
                if product in held:
                    asked[product] = now
                waiting = [order for name, order in held.items() if max(order.expected, asked.get(name, 0.0)) > now - _UNASKED]
            if product in held:
                return held[product]
            if ended:
                return Order(**ended)
            if len(waiting) >= account.limits.orders:
                soonest = min(order.expected for order in waiting) - now
                raise Resting(
                    f"{account.provider} stages {len(waiting)} products for this account, which is as many as it may (limit orders); "
                    f"{product} is ordered when one of them is there",
                    max(60.0, soonest),
                )
            made, now = place(), self._clock()
            made = replace(made, since=now, expected=now + made.expected - made.since)
            with self._state(account) as state:
                if took := state.get("staging"):
                    made = replace(made, expected=made.since + statistics.median(took), guessed=False) if made.guessed else made
                _part(state, "orders")[product] = asdict(made)
            return made

    def staged(self, account: Account, product: str, *, well: bool = True) -> None:
        """See `Broker.staged`."""
        with self._state(account) as state:
            found = _part(state, "orders").pop(product, None)
            _part(state, "asked").pop(product, None)
            if found and well:
                state["staging"] = [*state.get("staging", []), self._clock() - float(found["since"])][-20:]
                _part(state, "staged")[product] = found
            if not well:
                _part(state, "staged").pop(product, None)

    def status(self) -> list[AccountStatus]:
        """See `Broker.status`."""
        names = sorted(self._memories if self.folder is None else (path.stem for path in self.folder.glob("*.state")))
        found = []
        for name in names:
            with self._named(name).held() as state:
                found.append(self._status_of(name, state))
        return found

    def _connected(self, account: Account, most: int) -> Callable[[], None]:
        """Wait for a connection, in turns between teams and workers; gives how to give it back."""
        ticket, who = secrets.token_hex(6), (account.team, f"{os.getpid()}-{self._tag}")
        try:
            while True:
                with self._state(account) as state:
                    mine = shares.among_first(_part(state, "connections"), ticket, who, self._clock(), most)
                if mine and (free := self._free_connection(self._name(account), most)):
                    with self._state(account) as state:
                        shares.had(_part(state, "connections"), ticket)
                    return free
                self._sleep(_LOOK / 2)
        except BaseException:
            with self._state(account) as state:
                shares.leave(_part(state, "connections"), ticket)
            raise

    def _free_connection(self, name: str, most: int) -> Callable[[], None] | None:
        """Take a connection that nobody has, if there is one; gives how to give it back."""
        for number in range(most):
            if self.folder is None:
                with self._here:
                    lock = self._logins.setdefault(f"{name}.connection-{number}", threading.Lock())
                if lock.acquire(blocking=False):
                    return lock.release
                continue
            descriptor = opened(self.folder / f"{name}.connection-{number}.lock")
            if _locked(descriptor, wait=False):
                return partial(os.close, descriptor)
            os.close(descriptor)
        return None

    def _connections(self, name: str) -> int:
        """How many connections are held."""
        if self.folder is None:
            return sum(lock.locked() for key, lock in self._logins.items() if key.startswith(f"{name}.connection-"))
        held = 0
        for path in self.folder.glob(f"{name}.connection-*.lock"):
            descriptor = opened(path)
            held += not _locked(descriptor, wait=False)
            os.close(descriptor)
        return held

    def _held_grant(self, account: Account, name: str, refused: str | None) -> tuple[Grant | None, Grant | None]:
        """The login that others fetched, where it may be used, and the last one whether or not it may."""
        with self._state(account) as state:
            tokens, now = _part(state, "tokens"), self._clock()
            entry = tokens.get(name) or {}
            last = Grant(**entry["grant"]) if "grant" in entry else None
            usable = last if last and last.id != refused and last.usable(now) else None
            if usable is None and now < float(entry.get("refused_until", 0.0)):
                raise CredentialsRefused(str(entry["refused"]))
            if usable is None and last and last.id == refused:
                entry["renewals"] = [time for time in entry.get("renewals", []) if now - time < _RENEWALS_WITHIN]
                if len(entry["renewals"]) >= _RENEWALS and last.usable(now):
                    usable = last  # new logins did not help: whatever is refused, it is not this token
        return usable, last

    def _log_in(self, account: Account, name: str, fetch: Callable[[Grant | None], Grant], refused: str | None) -> Grant:
        """Fetch a login; the caller holds the lock, and somebody may have been quicker."""
        found, last = self._held_grant(account, name, refused)
        now = self._clock()
        if found and not found.due(now):
            return found
        try:
            made = _as_of(self._fetched(fetch, last, now), self._clock())
        except (CredentialsRefused, TryAgain) as error:
            with self._state(account) as state:
                entry = _part(_part(state, "tokens"), name)
                if found:
                    entry["grant"] = asdict(replace(found, renew_from=now + _RENEW_AGAIN))
                elif isinstance(error, CredentialsRefused):
                    entry |= {"refused": str(error), "refused_until": now + _REMEMBER_REFUSAL}
            if found:
                return found
            raise
        with self._state(account) as state:
            state["logins"] = int(state.get("logins", 0)) + 1
            entry = _part(_part(state, "tokens"), name)
            entry.pop("refused_until", None)
            entry["grant"] = asdict(made)
            if refused and last and last.id == refused:
                entry["renewals"] = [*entry.get("renewals", []), now]
        return made

    @staticmethod
    def _fetched(fetch: Callable[[Grant | None], Grant], last: Grant | None, now: float) -> Grant:
        """Go on with the last session, or where that has not worked for long, begin one: some servers answer 500 for one they have lost."""
        try:
            return fetch(last)
        except TryAgain:
            if last is None or not last.memory or now < (last.expires or last.issued) + _LOST_AFTER:
                raise
            return fetch(None)

    @contextlib.contextmanager
    def _alone(self, account: Account, name: str, *, wait: bool = False) -> Iterator[bool]:
        """Let one thread of one process in at a time; the others are told so, or wait."""
        with self._here:
            lock = self._logins.setdefault(f"{self._name(account)}.{name}", threading.Lock())
        if not lock.acquire(blocking=wait):
            yield False
            return
        try:
            if self.folder is None:
                yield True
                return
            descriptor = opened(self.folder / f"{self._name(account)}.{name}.lock")
            try:
                yield _locked(descriptor, wait=wait)
            finally:
                os.close(descriptor)
        finally:
            lock.release()

    @contextlib.contextmanager
    def _state(self, account: Account) -> Iterator[dict[str, Any]]:
        with self._named(self._name(account)).held() as state:
            if state.setdefault("version", _VERSION) != _VERSION:
                state.clear()
                state |= {"version": _VERSION, "notes": ["the state was of another version and began anew"]}
            state |= {"provider": account.provider, "rate": account.limits.rate, "quota": account.limits.bytes_a_month}
            yield state

    def _named(self, name: str) -> StateFile | StateMemory:
        if self.folder is not None:
            return StateFile(self.folder / f"{name}.state")
        with self._here:
            return self._memories.setdefault(name, StateMemory())

    def _name(self, account: Account) -> str:
        """Name the account so that its credentials cannot be told, nor guessed and tried, from it."""
        if not account.secret:
            return account.provider
        with self._here:
            name = self._names.get((account.provider, account.secret))
            if name is None:
                self._key = self._key or _key_in(self.folder or Path())
                digest = hmac.new(self._key, f"{account.provider}\0{account.secret}".encode(), hashlib.sha256).hexdigest()
                name = self._names[account.provider, account.secret] = f"{account.provider}-{digest[:12]}"
            return name

    def _forget_old_orders(self, state: dict[str, Any]) -> None:
        for part, days in (("orders", _ORDER_DAYS), ("staged", _STAGED_DAYS)):
            orders = _part(state, part)
            for name in [name for name, value in orders.items() if self._clock() - float(value["since"]) > days * 86_400]:
                del orders[name]
                _part(state, "asked").pop(name, None)

    def _sleep_until(self, turn: float) -> None:
        if (left := turn - self._clock()) > 0:
            self._sleep(left)

    def _status_of(self, name: str, state: dict[str, Any]) -> AccountStatus:
        now = self._clock()
        turns, usage = _part(state, "turns"), _part(state, "usage")
        made = shares.lately(turns, now)
        total = sum(made.values())
        grants = {each: Grant(**entry["grant"]) for each, entry in _part(state, "tokens").items() if "grant" in entry}
        standing, reason, wait = breaker.standing(_part(state, "breaker"), now)
        return AccountStatus(
            provider=str(state.get("provider", name)),
            account=name,
            tokens=tuple(TokenStatus(n, now - g.issued, None if g.expires is None else g.expires - now) for n, g in grants.items()),
            logins=int(state.get("logins", 0)),
            rate=state.get("rate"),
            requests_a_second=total / 60,
            waiting=shares.waiting(turns, now) + shares.waiting(_part(state, "connections"), now),
            shares={team: count / total for team, count in sorted(made.items())},
            breaker=standing,
            reason=reason,
            opens_in=wait,
            connections=self._connections(name),
            month=quota.month_of(now),
            bytes=quota.moved(usage, now),
            quota=state.get("quota"),
            orders=tuple(Order(**value) for value in _part(state, "orders").values()),
            notes=tuple(state.get("notes", ())),
        )


def _part(state: dict[str, Any], name: str) -> dict[str, Any]:
    """The part of a state that one concern keeps."""
    part: dict[str, Any] = state.setdefault(name, {})
    return part


def _as_of(grant: Grant, now: float) -> Grant:
    """A login that was just given, by the clock that all workers go by."""
    return replace(grant, issued=now, expires=None if grant.expires is None else grant.expires - grant.issued + now)


def _locked(descriptor: int, *, wait: bool) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True


def _key_in(folder: Path) -> bytes:
    """The secret that account names are made with, the same to all workers of the machine."""
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
