"""The broker as workers see it that share no folder: the same questions, asked of a service (`earthself.data.broker.service`).

A service that is away for a while costs a wait and nothing else: each question can be asked again, whatever became of the one before.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import secrets
import socket
import ssl
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from earthself.data.broker.book import fetched
from earthself.data.broker.books import name_of
from earthself.data.broker.holds import Holds
from earthself.data.broker.interface import Account, AccountStatus, Broker, BrokerAway, BrokerRefused, Grant, Order
from earthself.data.broker.local import LOGIN_PATIENCE
from earthself.data.broker.wire import account_told, error_told, read_error, read_grant, read_order, read_status
from earthself.data.errors import BadInput, CredentialsRefused, EarthSelfError, TryAgain

if TYPE_CHECKING:
    import httpx

PATIENCE = 120.0
"""Seconds to wait for a service that is away: a pod takes that long to be moved to another node."""
_CONNECT, _ANSWER = 5.0, 25.0  # seconds; a question that waits is answered after ten
_FIRST_WAIT, _LONGEST_WAIT = 0.1, 5.0
_GIVEN_UP = 60.0  # seconds for which a service that was waited for in vain is not waited for again
_TO_ASK_AGAIN = frozenset({502, 503, 504})
_log = logging.getLogger("earthself.data.broker")


class RemoteBroker(Broker):
    """Asks the service at an address. Safe to share between threads, and to use after a fork."""

    def __init__(
        self,
        address: str,
        token: str = "",
        authorities: str = "",
        *,
        patience: float = PATIENCE,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Nothing is asked yet. `authorities` are certificates (PEM) to trust instead of the machine's, `patience` is in seconds."""
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
            raise BadInput("the download broker's address is not like https://broker.example.org:8443")  # it may hold a secret
        if not re.fullmatch(r"[!-~]*", token):
            raise BadInput("the token of the download broker has characters that cannot be sent; it is one line of letters and digits")
        self.address = address.rstrip("/")
        self._token, self._authorities, self._patience = token, authorities, patience
        self._clock, self._sleep = clock, sleep
        self._key = b""
        self._given_up = 0.0
        self._begin()

    def token(self, account: Account, name: str, fetch: Callable[[Grant | None], Grant], refused: str | None = None) -> Grant:
        """See `Broker.token`. The login is made here: the service keeps what it gives and never sees the credentials."""
        told = {"name": name, "refused": refused}
        with self._ticket(account) as ticket:
            answer = self._waited("token", account, ticket, told, LOGIN_PATIENCE)
            if answer is None:
                raise TryAgain(f"another worker's login at {account.provider} does not end; try again")
            if "grant" in answer:
                return read_grant(answer["grant"])
            with self._holding(account, ticket, answer):
                return self._log_in(account, ticket, told, answer["log_in"], fetch)

    def request(self, account: Account) -> None:
        """See `Broker.request`."""
        with self._ticket(account) as ticket:
            answer = self._waited("request", account, ticket, {})
            if answer.get("warning"):
                _log.warning(answer["warning"])
            if answer["in"] > 0:
                self._sleep(float(answer["in"]))

    @contextlib.contextmanager
    def connection(self, account: Account) -> Iterator[None]:
        """See `Broker.connection`. A worker that dies, or is not heard of for long, loses it."""
        if account.limits.connections is None:
            yield
            return
        with self._ticket(account) as ticket:
            answer = self._waited("connection", account, ticket, {})
            with self._holding(account, ticket, answer):
                yield
            self._leave(account, ticket)

    def answered(self, account: Account, status: int, wait: float | None = None) -> None:
        """See `Broker.answered`."""
        answer = self._asked("answered", self._told(account, _ticket()) | {"status": status, "wait": wait})
        if answer.get("warning"):
            _log.warning(answer["warning"])

    def moved(self, account: Account, count: int) -> None:
        """See `Broker.moved`."""
        self._asked("moved", self._told(account, _ticket()) | {"count": count})

    def order(self, account: Account, product: str, place: Callable[[], Order]) -> Order:
        """See `Broker.order`."""
        with self._ticket(account) as ticket:
            answer = self._waited("order", account, ticket, {"product": product})
            if "order" not in answer:
                with self._holding(account, ticket, answer):
                    made = asdict(place())
                    answer = self._asked("placed", self._told(account, ticket) | {"product": product, "order": made})
            return read_order(answer["order"])

    def staged(self, account: Account, product: str, *, well: bool = True) -> None:
        """See `Broker.staged`."""
        self._asked("staged", self._told(account, _ticket()) | {"product": product, "well": well})

    def status(self) -> list[AccountStatus]:
        """See `Broker.status`."""
        return [read_status(each) for each in self._asked("status")]

    def _log_in(
        self, account: Account, ticket: str, told: dict[str, Any], begun: Mapping[str, Any], fetch: Callable[[Grant | None], Grant]
    ) -> Grant:
        found, last = (read_grant(begun[each]) if begun[each] else None for each in ("found", "last"))
        end = self._told(account, ticket) | told | {"began": begun["now"]}
        try:
            made = fetched(fetch, last, float(begun["now"]))
        except (CredentialsRefused, TryAgain) as error:
            self._asked("logged-in", end | {"failed": error_told(error), "found": begun["found"]})
            if found:
                return found
            raise
        return read_grant(self._asked("logged-in", end | {"grant": asdict(made)})["grant"])

    @contextlib.contextmanager
    def _ticket(self, account: Account) -> Iterator[str]:
        """Give what tells this question from all others; what it waits for or holds is given up where the question fails."""
        ticket = _ticket()
        try:
            yield ticket
        except BaseException as error:
            if not isinstance(error, BrokerAway):
                self._leave(account, ticket)
            raise

    @contextlib.contextmanager
    def _holding(self, account: Account, ticket: str, answer: Mapping[str, Any]) -> Iterator[None]:
        self._here()
        with self._holds.keeping(self._name(account), ticket, float(answer["lease"])):
            yield

    def _leave(self, account: Account, ticket: str) -> None:
        """Give back what the ticket has; what cannot be given back ends by itself."""
        with contextlib.suppress(EarthSelfError):
            self._asked("leave", self._told(account, ticket), patience=_CONNECT)

    def _waited(self, what: str, account: Account, ticket: str, told: dict[str, Any], patience: float | None = None) -> Any:  # noqa: ANN401
        """Ask until there is an answer; None where it takes longer than `patience` seconds."""
        given_up = None if patience is None else self._clock() + patience
        question = self._told(account, ticket) | {"worker": self._worker} | told
        while (answer := self._asked(what, question)).get("again"):
            if given_up is not None and self._clock() > given_up:
                return None
        return answer

    def _told(self, account: Account, ticket: str) -> dict[str, Any]:
        return {"account": account_told(account, self._name(account)), "ticket": ticket}

    def _name(self, account: Account) -> str:
        """The service's name for the account, made here so that it need not know the credentials."""
        if account.name or not account.secret:
            return account.name or account.provider
        if not self._key:
            self._key = bytes.fromhex(self._asked("key")["key"])
        return name_of(account, self._key)

    def _asked(self, what: str, question: object = None, patience: float | None = None) -> Any:  # noqa: ANN401 - JSON
        """Ask one question, also when the service is away for a while; raises what the service does, `BrokerAway` or `BrokerRefused`."""
        self._here()
        begun, pause = self._clock(), _FIRST_WAIT
        patience = self._patience if patience is None else patience
        while True:
            try:
                return self._answer(what, question)
            except _Away as error:
                now = self._clock()
                if now - begun >= patience or now < self._given_up:
                    self._given_up = max(self._given_up, now + _GIVEN_UP)
                    raise BrokerAway(
                        f"the download broker at {self.address} does not answer ({error}), waited for {now - begun:.0f} s; no request is "
                        "made without it: try again when it is back"
                    ) from None
                self._sleep(pause)
                pause = min(_LONGEST_WAIT, 2 * pause)

    def _answer(self, what: str, question: object) -> Any:  # noqa: ANN401
        import httpx

        try:
            answer = self._client().request("GET" if question is None else "POST", f"{self.address}/v1/{what}", json=question)
        except httpx.TransportError as error:
            if _untrusted(error):
                raise BrokerRefused(
                    f"the certificate of {self.address} is of nobody whom this worker trusts; name its authorities (EARTHSELF_BROKER_CA)"
                ) from None
            raise _Away(str(error) or type(error).__name__) from None
        if answer.status_code in _TO_ASK_AGAIN:
            raise _Away(f"it answers {answer.status_code}")
        try:
            told = answer.json()
        except ValueError:
            raise BrokerRefused(f"{self.address} answers {answer.status_code} and no JSON: it is no download broker") from None
        if answer.status_code == 200:
            self._given_up = 0.0
            return told
        if answer.status_code == 401:
            raise BrokerRefused(f"the download broker at {self.address} does not know the token of this worker; see docs/pods.md")
        if answer.status_code == 409:
            raise read_error(told)
        raise BrokerRefused(f"the download broker at {self.address} refuses {what} with {answer.status_code}: {str(told)[:300]}")

    def _begin(self) -> None:
        self._pid, self._lock = os.getpid(), threading.Lock()
        self._http: httpx.Client | None = None
        self._worker = f"{socket.gethostname()[:60]}-{self._pid}-{secrets.token_hex(3)}"
        self._holds = Holds(self._say_held)

    def _say_held(self, holds: Mapping[str, list[str]]) -> list[str]:
        with contextlib.suppress(_Away):  # said again soon
            return list(self._answer("hold", {"holds": holds})["lost"])
        return []

    def _here(self) -> None:
        """Begin anew in a process that was forked: connections cannot be shared with the one that it comes from."""
        if self._pid != os.getpid():
            self._begin()

    def _client(self) -> httpx.Client:
        import httpx

        with self._lock:
            if self._http is None:
                # In the cluster there is no proxy between, and a proxy for the world outside must not see the tokens.
                self._http = httpx.Client(
                    headers={"Authorization": f"Bearer {self._token}"} if self._token else {},
                    timeout=httpx.Timeout(_ANSWER, connect=_CONNECT, pool=None),
                    limits=httpx.Limits(max_connections=None, keepalive_expiry=60),
                    verify=_trusted(self._authorities) if self.address.startswith("https:") else False,
                    trust_env=False,
                )
                weakref.finalize(self, self._http.close)
            return self._http


class _Away(Exception):
    """Nothing was heard, and asking again may help."""


def _ticket() -> str:
    return secrets.token_hex(8)


def _trusted(authorities: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cadata=authorities or None)
    except (ssl.SSLError, ValueError):
        raise BadInput("the authorities that the download broker's certificate is to be of are no certificates (PEM)") from None


def _untrusted(error: BaseException | None) -> bool:
    while error is not None and not isinstance(error, ssl.SSLCertVerificationError):
        error = error.__cause__ or error.__context__
    return error is not None
