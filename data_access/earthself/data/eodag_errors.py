"""EODAG's errors, and those of the libraries below it, as ours: whose fault it is, whether trying again helps, what to do next."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from earthself.data.errors import CredentialsRefused, DataError, NotThere, TryAgain
from earthself.data.retries import Busy


def translated(error: Exception, provider: str, what: str, scrub: Callable[[str], str], timeout: float) -> DataError:
    """What EODAG raised when it asked a provider for something, as one of our errors; `scrub` takes secrets out of foreign messages."""
    import requests
    from eodag.utils import exceptions as theirs

    response, status = _response(error), status_of(error)
    text = scrub(str(error.args[-1]) if error.args else "") or type(error).__name__
    if isinstance(error, (theirs.AuthenticationError, theirs.MisconfiguredError)) or status in (401, 403):
        if status in (429, 500, 502, 503, 504):
            return _busy(f"the login server of {provider} is busy or broken ({status}); try again later", response)
        return CredentialsRefused(
            f"{provider} refuses the login ({text}); set or renew its credentials in the provider settings (connection `eodag`)"
        )
    if isinstance(error, theirs.QuotaExceededError) or status == 429:
        return _busy(f"{provider} has had enough requests for now (429); try again later", response)
    if isinstance(error, (theirs.TimeOutError, requests.Timeout)) or "timed out" in text:
        return TryAgain(f"{provider} sent nothing for {timeout:g} s; try again later")
    if status is not None and (status >= 500 or status == 408):
        return _busy(f"{provider} is busy or broken ({status}); try again later", response)
    gave_up = isinstance(error, theirs.DownloadError) and error.__cause__ is None  # an answer says so, not a connection
    if status is None and not gave_up and isinstance(error, (theirs.RequestError, requests.RequestException, OSError)):
        return TryAgain(f"{provider} cannot be reached ({text}); try again later")
    if status == 404:
        return NotThere(f"{provider} has no {what} at its configured address (404); mend its address in the provider settings")
    return DataError(f"{provider} refuses the {what} ({text}); choose another provider")


def _busy(message: str, response: Any) -> TryAgain:  # noqa: ANN401
    text = str(getattr(response, "headers", {}).get("Retry-After", "")).strip()
    return Busy(message, float(text) if text.isdecimal() else None)


def status_of(error: BaseException) -> int | None:
    """The HTTP status behind an error of EODAG; None where there was no answer."""
    return getattr(error, "status_code", None) or getattr(_response(error), "status_code", None)


def _response(error: BaseException | None) -> Any:  # noqa: ANN401 - a requests response
    while error is not None:
        if getattr(error, "response", None) is not None:
            return error.response  # type: ignore[attr-defined]
        error = error.__cause__ or error.__context__
    return None
