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


class SamplesBroken(BenchmarkError):
    """The table of samples cannot be used (exit 75: a database that is away comes back)."""

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
