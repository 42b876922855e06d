"""What goes wrong inside a step, sorted by whose fault it is and whether another attempt may help."""

from __future__ import annotations

from earthself.data.errors import EarthSelfError


class ProcessingError(EarthSelfError):
    """A step failed for a reason of its own (exit 1)."""


class BadInput(ProcessingError):
    """A parameter or an input cannot be used as it is (exit 65, never retried)."""

    exit_code = 65


class NotInstalled(ProcessingError):
    """An optional part is missing; the message says how to install it (exit 65, never retried)."""

    exit_code = 65


class TryAgain(ProcessingError):
    """Something outside the step was slow, busy or gone (exit 75, retried with backoff)."""

    exit_code = 75
    retry = True
