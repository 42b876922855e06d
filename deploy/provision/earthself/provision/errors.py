"""What goes wrong where environments are made and taken away."""

from __future__ import annotations

from earthself.data.errors import EarthSelfError


class ProvisionError(EarthSelfError):
    """Anything that keeps an environment from being made, looked at or taken away."""


class BadOrder(ProvisionError):
    """What was ordered cannot be made by this engine (exit 65)."""

    exit_code = 65


class NoQuota(ProvisionError):
    """There is no room for it by the limits of the platform (exit 65: somebody has to give more, or something back)."""

    exit_code = 65


class EngineFailed(ProvisionError):
    """The engine could not do it; trying again is no use."""


class TakenAway(EngineFailed):
    """Somebody takes the environment away while it is being made."""


class EngineBusy(ProvisionError):
    """The engine could not do it now (exit 75)."""

    exit_code = 75
    retry = True


class JournalBroken(ProvisionError):
    """The journal cannot be used (exit 75: a database that is away comes back)."""

    exit_code = 75
    retry = True
