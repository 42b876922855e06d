"""What is kept of one account, and each question to it in steps that neither wait nor call back.

A worker that asks alone sleeps between its steps; a service takes those of two hundred in one go.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar

from earthself.data.broker import breaker, quota, shares
from earthself.data.broker.interface import Account, AccountStatus, Grant, Order, Resting, TokenStatus
from earthself.data.errors import CredentialsRefused, EarthSelfError, TryAgain

LOOK = 0.1
"""Seconds between looks at whether it is one's turn."""
ORDERS = "orders"
"""What is held by the one who places an order."""
_RENEWALS, _RENEWALS_WITHIN = 3, 300.0  # logins because a token was refused; providers ban accounts that make many
_REMEMBER_REFUSAL = 60.0
_LOST_AFTER = 3600.0  # seconds after the end of its last token that a session can only be renewed
_RENEW_AGAIN = 15.0  # seconds between attempts to renew a token that still works
_ORDER_DAYS, _STAGED_DAYS = 14, 2  # after which an order is forgotten: that was not seen to end, and that was
_UNASKED = 3600.0  # seconds after the expected end of an order that nobody asks about any more: it no longer takes a place
_T = TypeVar("_T")


@dataclass(frozen=True)
class Turn:
    """Where one stands who waits to make a request."""

    at: float | None
    """When the turn is, Unix seconds, which may be over or soon; None: not known yet."""
    look: float
    """Seconds after which to look again."""
    warning: str | None
    """What a person should know of the account."""


class Book:
    """The state of one account while it is held: nobody else reads or changes it."""

    def __init__(self, state: dict[str, Any], clock: Callable[[], float]) -> None:
        """`state` is what all share; it is kept when the book is closed. `clock` gives Unix seconds."""
        self._state, self._clock = state, clock

    def know(self, account: Account) -> None:
        """Keep for the status what the account is said to be."""
        self._state |= {"provider": account.provider, "rate": account.limits.rate, "quota": account.limits.bytes_a_month}

    def turn(self, account: Account, ticket: str, worker: str) -> Turn:
        """Look whether the ticket may make its request. Raises `Resting` or `QuotaUsedUp` when none may be made."""
        now = self._clock()
        warning = quota.check(self._part("usage"), account.provider, account.limits.bytes_a_month, now)
        wait = breaker.check(self._part("breaker"), account.provider, now, going=False)
        if wait:
            return Turn(None, min(wait, 1.0), warning)
        at = shares.take(self._part("turns"), ticket, (account.team, worker), now, account.limits.rate)
        if at is not None:
            breaker.check(self._part("breaker"), account.provider, now, going=True)
        queue = shares.waiting(self._part("turns"), now) / (account.limits.rate or 1.0)
        return Turn(at, min(LOOK, max(LOOK / 10, queue)), warning)

    def leave(self, ticket: str) -> None:
        """Forget a ticket that waits no longer, and what it held."""
        for part in ("turns", "connections"):
            shares.leave(self._part(part), ticket)
        self._part("leases").pop(ticket, None)

    def connection(self, account: Account, ticket: str, worker: str, take: Callable[[str], _T | None]) -> _T | None:
        """Give what `take` gives for a connection that nobody has, where the ticket is among those whose turn it is."""
        most, places = int(account.limits.connections or 0), self._part("connections")
        if not shares.among_first(places, ticket, (account.team, worker), self._clock(), most):
            return None
        for number in range(most):
            what = f"connection-{number}"
            if not self.leased(what) and (taken := take(what)) is not None:
                shares.had(places, ticket)
                return taken
        return None

    def leased(self, what: str) -> bool:
        """Whether somebody far away holds it, whose death no kernel tells us."""
        return any(held == what for held, _ in self._leases().values())

    def lease(self, ticket: str, what: str, seconds: float) -> None:
        """Let the ticket hold it until it has not been heard of for so long."""
        self._leases()[ticket] = (what, self._clock() + seconds)

    def held(self, ticket: str) -> str | None:
        """What the ticket holds."""
        found = self._leases().get(ticket)
        return found[0] if found else None

    def heard(self, tickets: Iterable[str] | None, seconds: float) -> list[str]:
        """Prolong what tickets hold, None for all that held something when last seen; gives those that hold nothing any more."""
        leases = self._part("leases") if tickets is None else self._leases()
        wanted = list(leases if tickets is None else tickets)
        for ticket in wanted:
            if ticket in leases:
                self.lease(ticket, leases[ticket][0], seconds)
        return [ticket for ticket in wanted if ticket not in leases]

    def grant(self, name: str, refused: str | None) -> tuple[Grant | None, Grant | None]:
        """The login that others fetched, where it may be used, and the last one whether or not it may.

        Raises `CredentialsRefused` while a refusal is remembered.
        """
        tokens, now = self._part("tokens"), self._clock()
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

    def logged_in(self, name: str, made: Grant, refused: str | None, began: float) -> Grant:
        """Keep a login that was just given, by the clock that all go by; `began` is when it was asked for."""
        now = self._clock()
        made = replace(made, issued=now, expires=None if made.expires is None else made.expires - made.issued + now)
        self._state["logins"] = int(self._state.get("logins", 0)) + 1
        entry = self._part("tokens").setdefault(name, {})
        entry.pop("refused_until", None)
        if refused and entry.get("grant", {}).get("id") == refused:
            entry["renewals"] = [*entry.get("renewals", []), began]
        entry["grant"] = asdict(made)
        return made

    def login_failed(self, name: str, found: Grant | None, error: EarthSelfError, began: float) -> None:
        """Remember that a login was refused, or that the one that is still in use could not be renewed."""
        entry = self._part("tokens").setdefault(name, {})
        if found:
            entry["grant"] = asdict(replace(found, renew_from=began + _RENEW_AGAIN))
        elif isinstance(error, CredentialsRefused):
            entry |= {"refused": str(error), "refused_until": began + _REMEMBER_REFUSAL}

    def answered(self, account: Account, status: int, wait: float | None) -> str | None:
        """Take into account how a request ended; gives what is to be said where the provider is left alone from now on."""
        part = self._part("breaker")
        before = breaker.standing(part, self._clock())[0]
        breaker.answered(part, status, wait, self._clock())
        now, reason, seconds = breaker.standing(part, self._clock())
        if now == before or now not in ("open", "holding"):
            return None
        return f"{account.provider} is left alone by all workers for {seconds:.0f} s: {reason}"

    def moved(self, account: Account, count: int) -> None:
        """Account for bytes."""
        quota.add(self._part("usage"), account.team, count, self._clock())

    def ordered(self, account: Account, product: str) -> Order | None:
        """The order of a product; None where it is to be placed. Raises `Resting` when the account has as many as it may."""
        self._forget_old_orders()
        asked, now = self._part("asked"), self._clock()
        orders = {name: Order(**value) for name, value in self._part("orders").items()}
        if product in orders:
            asked[product] = now
            return orders[product]
        if ended := self._part("staged").get(product):
            return Order(**ended)
        waiting = [order for name, order in orders.items() if max(order.expected, asked.get(name, 0.0)) > now - _UNASKED]
        if len(waiting) >= account.limits.orders:
            soonest = min(order.expected for order in waiting) - now
            raise Resting(
                f"{account.provider} stages {len(waiting)} products for this account, which is as many as it may (limit orders); "
                f"{product} is ordered when one of them is there",
                max(60.0, soonest),
            )
        return None

    def placed(self, product: str, made: Order) -> Order:
        """Keep an order that was just placed, with the time that orders of the account take where its own is a guess."""
        now = self._clock()
        made = replace(made, since=now, expected=now + made.expected - made.since)
        if made.guessed and (took := self._state.get("staging")):
            made = replace(made, expected=made.since + statistics.median(took), guessed=False)
        self._part("orders")[product] = asdict(made)
        return made

    def staged(self, product: str, *, well: bool) -> None:
        """Forget an order that has ended, and learn from it."""
        found = self._part("orders").pop(product, None)
        self._part("asked").pop(product, None)
        if found and well:
            self._state["staging"] = [*self._state.get("staging", []), self._clock() - float(found["since"])][-20:]
            self._part("staged")[product] = found
        if not well:
            self._part("staged").pop(product, None)

    def status(self, name: str, connections: int) -> AccountStatus:
        """How the account of that name stands, of which so many connections are held on this machine."""
        now, state = self._clock(), self._state
        turns, usage = self._part("turns"), self._part("usage")
        made = shares.lately(turns, now)
        total = sum(made.values())
        grants = {each: Grant(**entry["grant"]) for each, entry in self._part("tokens").items() if "grant" in entry}
        standing, reason, wait = breaker.standing(self._part("breaker"), now)
        return AccountStatus(
            provider=str(state.get("provider", name)),
            account=name,
            tokens=tuple(TokenStatus(n, now - g.issued, None if g.expires is None else g.expires - now) for n, g in grants.items()),
            logins=int(state.get("logins", 0)),
            rate=state.get("rate"),
            requests_a_second=total / 60,
            waiting=shares.waiting(turns, now) + shares.waiting(self._part("connections"), now),
            shares={team: count / total for team, count in sorted(made.items())},
            breaker=standing,
            reason=reason,
            opens_in=wait,
            connections=connections + sum(what.startswith("connection-") for what, _ in self._leases().values()),
            month=quota.month_of(now),
            bytes=quota.moved(usage, now),
            quota=state.get("quota"),
            orders=tuple(Order(**value) for value in self._part("orders").values()),
            notes=tuple(state.get("notes", ())),
        )

    def _leases(self) -> dict[str, tuple[str, float]]:
        """What is held, without that of those who were not heard of for too long."""
        leases, now = self._part("leases"), self._clock()
        for ticket in [ticket for ticket, (_, until) in leases.items() if until <= now]:
            del leases[ticket]
        return leases

    def _forget_old_orders(self) -> None:
        for part, days in (("orders", _ORDER_DAYS), ("staged", _STAGED_DAYS)):
            orders = self._part(part)
            for name in [name for name, value in orders.items() if self._clock() - float(value["since"]) > days * 86_400]:
                del orders[name]
                self._part("asked").pop(name, None)

    def _part(self, name: str) -> dict[str, Any]:
        """What one concern keeps."""
        part: dict[str, Any] = self._state.setdefault(name, {})
        return part


def fetched(fetch: Callable[[Grant | None], Grant], last: Grant | None, now: float) -> Grant:
    """Go on with the last session, or where that has not worked for long, begin one: some servers answer 500 for one they have lost."""
    try:
        return fetch(last)
    except TryAgain:
        if last is None or not last.memory or now < (last.expires or last.issued) + _LOST_AFTER:
            raise
        return fetch(None)
