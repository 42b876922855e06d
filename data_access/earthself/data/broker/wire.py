"""How questions to a broker and its answers travel as JSON; what a caller sends is checked here, before anything is named after it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from earthself.data.broker.interface import Account, AccountStatus, Grant, Limits, Order, QuotaUsedUp, Resting, TokenStatus
from earthself.data.errors import BadInput, CredentialsRefused, DataError, EarthSelfError, NoRoom, TryAgain

_ERRORS: dict[str, type[EarthSelfError]] = {
    kind.__name__: kind for kind in (Resting, QuotaUsedUp, CredentialsRefused, TryAgain, BadInput, NoRoom, DataError)
}
_TICKET = re.compile(r"[0-9a-f]{8,32}", re.ASCII)
_LONGEST = 500


class Question:
    """What a caller asks, read field by field; raises `BadInput` for a field that is missing or nonsense."""

    def __init__(self, value: object) -> None:
        if not isinstance(value, Mapping):
            raise BadInput("the question is no JSON object")
        self._value = value

    def account(self) -> Account:
        """The account, by the name that this broker gave it."""
        told = self._object("account")
        try:
            account = Account(
                str(told["provider"]), team=str(told["team"]), limits=Limits.from_dict(told["limits"]), name=str(told["name"])
            )
        except (KeyError, TypeError, ValueError):
            raise BadInput("the account is not {provider, name, team, limits}") from None
        if not account.name:
            raise BadInput("the account has no name")
        return account

    def ticket(self, name: str = "ticket") -> str:
        """What tells this question from all others, also when it is asked again."""
        return self._ticket(self._value.get(name))

    def tickets(self) -> dict[str, list[str]]:
        """By account name, the tickets that hold something."""
        return {_known(name): [self._ticket(each) for each in _listed(tickets)] for name, tickets in self._object("holds").items()}

    def text(self, name: str) -> str:
        """A short text."""
        value = self._value.get(name)
        if not isinstance(value, str) or not 0 < len(value) <= _LONGEST:
            raise BadInput(f"{name} is no text of 1 to {_LONGEST} characters")
        return value

    def optional(self, name: str) -> str | None:
        """A short text, or None."""
        return None if self._value.get(name) is None else self.text(name)

    def number(self, name: str) -> float:
        """A number from 0 up."""
        value = self._value.get(name)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
            raise BadInput(f"{name} is no number from 0 up")
        return value

    def flag(self, name: str) -> bool:
        """Yes or no."""
        return self._value.get(name) is True

    def has(self, name: str) -> bool:
        """Whether the field is there."""
        return self._value.get(name) is not None

    def grant(self, name: str = "grant") -> Grant:
        """A login."""
        return read_grant(self._object(name))

    def order(self) -> Order:
        """An order."""
        return read_order(self._object("order"))

    def error(self) -> EarthSelfError:
        """Why something failed at the caller."""
        return read_error(self._object("failed"))

    def _object(self, name: str) -> Mapping[str, Any]:
        value = self._value.get(name)
        if not isinstance(value, Mapping):
            raise BadInput(f"{name} is no JSON object")
        return value

    @staticmethod
    def _ticket(value: object) -> str:
        if not isinstance(value, str) or not _TICKET.fullmatch(value):
            raise BadInput("a ticket has 8 to 32 hexadecimal digits")
        return value


def account_told(account: Account, name: str) -> dict[str, Any]:
    """An account as it is told to a broker: never with its secret."""
    return {"provider": account.provider, "name": name, "team": account.team, "limits": asdict(account.limits)}


def error_told(error: EarthSelfError) -> dict[str, Any]:
    """An error as `read_error` takes it."""
    kind = next(name for name in (each.__name__ for each in (*type(error).__mro__, DataError)) if name in _ERRORS)
    return {"error": kind, "message": str(error), "wait": getattr(error, "wait", None)}


def read_error(told: Mapping[str, Any]) -> EarthSelfError:
    """The error that the other side has raised, of the same class."""
    kind = _ERRORS.get(str(told.get("error")), DataError)
    message = str(told.get("message"))[:2000]
    return Resting(message, float(told.get("wait") or 0.0)) if issubclass(kind, Resting) else kind(message)


def read_grant(told: Mapping[str, Any]) -> Grant:
    """A login from its fields; raises `BadInput` for something else."""
    try:
        return Grant(
            id=str(told["id"]),
            headers=_texts(told["headers"]),
            query=_texts(told["query"]),
            issued=float(told["issued"]),
            expires=None if told["expires"] is None else float(told["expires"]),
            memory=_texts(told["memory"]),
            renew_from=float(told["renew_from"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        raise BadInput("a login is not {id, headers, query, issued, expires, memory, renew_from}") from None  # without its secrets


def read_order(told: Mapping[str, Any]) -> Order:
    """An order from its fields; raises `BadInput` for something else."""
    try:
        return Order(
            str(told["product"]), float(told["since"]), float(told["expected"]), told["guessed"] is True, memory=_texts(told["memory"])
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        raise BadInput("an order is not {product, since, expected, guessed, memory}") from None


def read_status(told: Mapping[str, Any]) -> AccountStatus:
    """How an account stands, from its fields."""
    tokens, orders = (TokenStatus(**each) for each in told["tokens"]), (read_order(each) for each in told["orders"])
    return AccountStatus(**{**told, "tokens": tuple(tokens), "orders": tuple(orders), "notes": tuple(told["notes"])})


def _known(name: object) -> str:
    """The name of an account, fit to be part of a file's."""
    return Account(str(name)).provider


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _texts(value: Mapping[str, Any]) -> dict[str, str]:
    return {str(key): str(each) for key, each in value.items()}
