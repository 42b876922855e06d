"""What can go wrong between a person and the server; every message is one sentence and what to do.

`exit_code` is what the command line ends with: 1 failed, 65 bad input, 69 not there, 75 try again later.
"""

from __future__ import annotations


class ClientError(Exception):
    """The root of the client's errors."""

    exit_code: int = 1


class BadInput(ClientError):
    """What was given cannot be used as it is."""

    exit_code = 65


class LoginRefused(ClientError):
    """The server does not know this user and password, or none were given."""

    exit_code = 65


class LoginExpired(ClientError):
    """The stored login is too old."""

    exit_code = 65


class NotAllowed(ClientError):
    """The user may not do this."""

    exit_code = 65


class ServerNotThere(ClientError):
    """Nothing answers at the address."""

    exit_code = 69


class NotThere(ClientError):
    """The server does not know the run, the workflow or the file."""

    exit_code = 69


class TryAgain(ClientError):
    """The server is busy or broken for now."""

    exit_code = 75


class RunFailed(ClientError):
    """The workflow ended without a result; the message is the reason that the failed task logged."""


class RequestRefused(RunFailed):
    """The workflow ended because what it was asked for cannot be done so; the same request fails again."""

    exit_code = 65
