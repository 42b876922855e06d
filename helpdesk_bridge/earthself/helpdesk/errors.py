"""What goes wrong with services, needs and requests."""

from __future__ import annotations

from earthself.data.errors import EarthSelfError


class HelpdeskError(EarthSelfError):
    """Anything that keeps a record from being made or read."""


class BadEntry(HelpdeskError):
    """What somebody gave cannot be kept as it is (exit 65)."""

    exit_code = 65


class Unknown(HelpdeskError):
    """There is no such service, need or request, or none that this team has (exit 69)."""

    exit_code = 69


class NotNow(HelpdeskError):
    """A request does not take this change in the state that it is in (exit 65)."""

    exit_code = 65


class RecordsBroken(HelpdeskError):
    """The tables cannot be used (exit 75: a database that is away comes back)."""

    exit_code = 75
    retry = True
