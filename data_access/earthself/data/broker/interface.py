"""What a worker asks before it asks a provider: one login for all, a turn in the rate, whether to ask at all, and what it may move.

Four narrow questions and their answers, so that what answers them may be a folder on one machine or a small service in a cluster.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from earthself.data.errors import BadInput, DataError, EarthSelfError, TryAgain

NO_VERDICT = 401
"""Status to report for a request whose end says nothing of how well the provider is: refused for want of a login, or a login itself."""
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}", re.ASCII)


class Resting(TryAgain):
    """A provider is left alone for now, by all workers; asking it again before `wait` seconds is of no use."""

    def __init__(self, message: str, wait: float) -> None:
        super().__init__(message)
        self.wait = wait


class QuotaUsedUp(DataError):
    """The account has moved the bytes that it may in a month: only a new month or a larger quota helps, not another attempt."""

    exit_code = 75


class BrokerError(EarthSelfError):
    """The broker does not do its part. No provider and no product is to blame, so that no other one is tried instead."""


class BrokerAway(BrokerError):
    """The broker does not answer (exit 75, retried)."""

    exit_code = 75
    retry = True


class BrokerRefused(BrokerError):
    """The broker takes this caller's token for none, or what it says for nonsense (exit 65: only its settings can mend it)."""

    exit_code = 65


@dataclass(frozen=True)
class Limits:
    """What a provider grants to one account."""

    rate: float | None = None
    """Requests a second, over all workers; None does not limit."""
    bytes_a_month: int | None = None
    """Bytes in a calendar month (UTC); None does not limit."""
    orders: int = 20
    """Offline products that may be staged for the account at one time."""
    connections: int | None = None
    """Downloads that may go on at one time, over all workers; None does not limit."""

    def __post_init__(self) -> None:
        for name in ("rate", "bytes_a_month", "orders", "connections"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf")):
                raise BadInput(f"the limit {name}={value!r} is not a number above 0; leave it out for none")
        if self.connections is not None and self.connections != int(self.connections):
            raise BadInput(f"the limit connections={self.connections!r} is not a whole number")

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Limits:
        """Read the limits of one provider in the settings; raises `BadInput` for a name or number that is none."""
        if unknown := sorted(set(value) - {"rate", "bytes_a_month", "orders", "connections"}):
            raise BadInput(f"{unknown[0]!r} is no limit of a provider; there are rate, bytes_a_month, orders, connections")
        return cls(**dict(value))


@dataclass(frozen=True)
class Account:
    """Whose rights a request uses: an account at a provider, and the team that it is made for."""

    provider: str
    """EODAG name of the provider."""
    secret: str = field(default="", repr=False)
    """What tells accounts of one provider apart: its credentials, as text; empty where it asks for none. Never written down."""
    team: str = "default"
    """Who shares the account with others."""
    limits: Limits = field(default_factory=Limits)
    """What the provider grants to the account."""
    name: str = ""
    """Name of the account at the broker, for those who were told it and not the secret; empty where it is made from that."""

    def __post_init__(self) -> None:
        for name, what in ((self.provider, "provider"), (self.team, "team")):
            if not _NAME.fullmatch(name):
                raise BadInput(f"{what} {name[:80]!r} cannot be used: names have letters, digits and _ . -, at most 80")
        if self.name and self.name != self.provider and not re.fullmatch(re.escape(self.provider) + "-[0-9a-f]{12}", self.name):
            raise BadInput(f"account {self.name[:80]!r} is no name that a broker gave to an account at {self.provider}")


@dataclass(frozen=True)
class Grant:
    """A login that works: what to put on requests."""

    id: str
    """Tells this login from the one before it; no secret."""
    headers: Mapping[str, str] = field(repr=False)
    """Headers to send."""
    query: Mapping[str, str] = field(repr=False)
    """Parameters to add to the address."""
    issued: float
    """When it was given, Unix seconds."""
    expires: float | None
    """When it ends, Unix seconds; None where the provider does not say."""
    memory: Mapping[str, str] = field(default_factory=dict, repr=False)
    """What the next login of the same session needs, such as the refresh token."""
    renew_from: float = 0.0
    """When renewing it may be tried, Unix seconds: later where an attempt has failed."""

    def usable(self, now: float) -> bool:
        """Whether a request that begins now may carry it."""
        return self.expires is None or now < self.expires - min(5.0, 0.1 * self._life)

    def due(self, now: float) -> bool:
        """Whether somebody should renew it, while the others still use it."""
        return (
            self.expires is not None and now >= self.renew_from and now >= self.expires - min(0.5 * self._life, max(30.0, 0.1 * self._life))
        )

    @property
    def _life(self) -> float:
        return max(0.0, (self.expires or self.issued) - self.issued)


@dataclass(frozen=True)
class Order:
    """An offline product that a provider was asked to stage."""

    product: str
    """Id of the product."""
    since: float
    """When it was ordered, Unix seconds."""
    expected: float
    """When it should be there: what the provider says, else as long as its orders took so far, Unix seconds."""
    guessed: bool = True
    """Whether `expected` is only a guess because nothing was staged yet at this account."""
    memory: Mapping[str, str] = field(default_factory=dict, repr=False)
    """What asking how far it is needs."""


@dataclass(frozen=True)
class TokenStatus:
    """One login session, without the token."""

    name: str
    """Which login of the account."""
    age: float
    """Seconds since the token was given."""
    expires_in: float | None
    """Seconds until it ends, below 0 when it has; None where the provider does not say."""


@dataclass(frozen=True)
class AccountStatus:
    """How an account stands."""

    provider: str
    """EODAG name of the provider."""
    account: str
    """Name of the account here, from which its credentials cannot be told."""
    tokens: tuple[TokenStatus, ...]
    """Sessions."""
    logins: int
    """How often a token was fetched since the state began."""
    rate: float | None
    """Requests a second that may be made, as the last worker had it in its settings."""
    requests_a_second: float
    """Requests a second in the last minute."""
    waiting: int
    """Requests that wait for their turn."""
    shares: Mapping[str, float]
    """Part of the last minute's requests that each team made, 0 to 1."""
    breaker: str
    """`closed`, `open`, `half-open` or `holding` (the provider asked to wait)."""
    reason: str
    """Why it is not closed; empty when it is."""
    opens_in: float
    """Seconds until the provider is asked again; 0 when it may be."""
    connections: int
    """Downloads that go on, where their number is limited."""
    month: str
    """Calendar month of the bytes, `2026-11`."""
    bytes: Mapping[str, int]
    """Bytes moved in that month, by team."""
    quota: int | None
    """Bytes that may be moved in a month."""
    orders: tuple[Order, ...]
    """Products being staged."""
    notes: tuple[str, ...]
    """What happened to the state itself."""


class Broker(ABC):
    """Answers for all workers that may use an account. Safe to share between threads."""

    @abstractmethod
    def token(self, account: Account, name: str, fetch: Callable[[Grant | None], Grant], refused: str | None = None) -> Grant:
        """Give the login `name` of the account, the same to all; where there is none, one caller alone fetches it.

        `refused` is the id of a grant that the provider no longer takes: another one is given, unless several new ones were refused too.
        `fetch` gets the grant before, to go on with its session, and asks for its own turn. Raises what `fetch` raises,
        `CredentialsRefused` while a refusal is remembered, `TryAgain` when another worker's login does not end.
        """

    @abstractmethod
    def request(self, account: Account) -> None:
        """Wait for the turn to make one request. Raises `Resting` or `QuotaUsedUp` when none may be made now."""

    @abstractmethod
    def connection(self, account: Account) -> AbstractContextManager[None]:
        """Wait for one of the connections that the account may have at one time, and hold it for the block."""

    @abstractmethod
    def answered(self, account: Account, status: int, wait: float | None = None) -> None:
        """Report how a request ended: its status, 0 for no answer, and the seconds that the provider asks to wait."""

    @abstractmethod
    def moved(self, account: Account, count: int) -> None:
        """Account for bytes of answers."""

    @abstractmethod
    def order(self, account: Account, product: str, place: Callable[[], Order]) -> Order:
        """Give the order of an offline product; where there is none, one caller alone places it.

        Raises what `place` raises, and `Resting` when the account has as many orders as it may.
        """

    @abstractmethod
    def staged(self, account: Account, product: str, *, well: bool = True) -> None:
        """Report that an order has ended, so that its place is free and the next estimate better; not `well` when it was given up."""

    @abstractmethod
    def status(self) -> list[AccountStatus]:
        """How all accounts stand that are known here."""


class Gate:
    """The broker as HTTP sees it: of one account."""

    def __init__(self, broker: Broker | None = None, account: Account | None = None) -> None:
        """Without a broker everything passes and nothing is remembered."""
        self._broker, self._account = broker, account

    def enter(self) -> None:
        """Wait for the turn to make one request; see `Broker.request`."""
        if self._broker and self._account:
            self._broker.request(self._account)

    def connection(self) -> AbstractContextManager[None]:
        """See `Broker.connection`."""
        return self._broker.connection(self._account) if self._broker and self._account else nullcontext()

    def answered(self, status: int, wait: float | None = None) -> None:
        """See `Broker.answered`."""
        if self._broker and self._account:
            self._broker.answered(self._account, status, wait)

    def moved(self, count: int) -> None:
        """See `Broker.moved`."""
        if self._broker and self._account and count:
            self._broker.moved(self._account, count)
