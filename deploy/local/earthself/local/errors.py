"""Why the local stack could not do what was asked; every message says what to do next."""

from __future__ import annotations


class LocalError(Exception):
    """The root of the local stack's errors."""

    exit_code: int = 1


class BadSetting(LocalError):
    """An environment variable holds something that cannot be used."""

    exit_code = 2


class PortTaken(LocalError):
    """Another program listens where the stack wants to."""

    exit_code = 69


class NotReady(LocalError):
    """A process of the stack did not come up."""

    exit_code = 69


class NotUp(LocalError):
    """The stack is not running."""

    exit_code = 69
