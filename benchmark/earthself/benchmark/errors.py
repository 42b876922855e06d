"""What goes wrong in the Cloud Suggest Engine."""

from __future__ import annotations

from earthself.data.errors import EarthSelfError


class BenchmarkError(EarthSelfError):
    """Anything that keeps the engine from measuring or answering."""


class BadSample(BenchmarkError):
    """What was given is no sample (exit 65)."""

    exit_code = 65


class BadSetting(BenchmarkError):
    """A setting of a probe cannot be used (exit 65)."""

    exit_code = 65


class UnknownCollection(BenchmarkError):
    """A collection that EODAG does not know, or that was not asked for (exit 65)."""

    exit_code = 65


class SamplesBroken(BenchmarkError):
    """The table of samples cannot be used (exit 75: a database that is away comes back)."""

    exit_code = 75
    retry = True


class BadOffers(BenchmarkError):
    """What was given about clouds, offers or prices cannot be used (exit 65)."""

    exit_code = 65


class RateUnknown(BenchmarkError):
    """Nobody said what a currency is worth, so an amount in it is unknown in euros (exit 65)."""

    exit_code = 65


class CatalogueBroken(BenchmarkError):
    """The tables of offers and prices cannot be used (exit 75: a database that is away comes back)."""

    exit_code = 75
    retry = True


class ProbeFailed(BenchmarkError):
    """One repeat of a probe gave no value; `reason` is one of `missing`, `timeout`, `refused`, `failed`."""

    reason = "failed"


class ToolMissing(ProbeFailed):
    """The program that measures is not installed."""

    reason = "missing"


class TooSlow(ProbeFailed):
    """One repeat took longer than it may."""

    reason = "timeout"


class Refused(ProbeFailed):
    """The other side does not let us in."""

    reason = "refused"


class BadNeed(BenchmarkError):
    """What a service is said to need cannot be read, or contradicts itself (exit 65)."""

    exit_code = 65
