"""How EarthSelf's errors become Airflow's: what the user must mend fails at once, what may pass is tried again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from airflow.sdk.exceptions import AirflowException, AirflowFailException
from earthself.data.errors import EarthSelfError


class OperatorError(EarthSelfError):
    """What goes wrong in a task of its own accord (never retried)."""


class BadRequest(OperatorError):
    """A parameter of a DAG or an operator cannot be used as it is (exit 65)."""

    exit_code = 65


class StepFailed(OperatorError):
    """A step ended with an exit code other than 0; whether to try again is decided per instance."""

    def __init__(self, message: str, *, exit_code: int, retry: bool) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.retry = retry


class OutOfMemory(StepFailed):
    """A step was killed for memory, or ended with the exit code that says so; less work or more memory may help."""

    def __init__(self, message: str, *, what: str, exit_code: int, retry: bool) -> None:
        """`what` is the message without what to do about it."""
        super().__init__(message, exit_code=exit_code, retry=retry)
        self.what = what


class StepNotStarted(StepFailed):
    """The pod of a step never got as far as running its program."""


class AllLost(OperatorError):
    """No product of the run could be signed."""


class NoSuggestion(OperatorError):
    """Too little is known to say where a service should run, or nothing leads there (exit 69)."""

    exit_code = 69


class TemporaryFailure(AirflowException):
    """Another attempt may succeed: Airflow retries within the task's `retries` and `retry_delay`."""


MISTAKES = (ImportError, TypeError, ValueError, LookupError, AttributeError, AssertionError, NameError)
"""Mistakes in code or in a document: the next attempt makes the same one. What is not listed, such as OSError, may pass."""


@contextmanager
def translated(log: Any) -> Iterator[None]:  # noqa: ANN401 - structlog's loggers have no public type
    """Log the reason as one line, then raise what tells Airflow whether to try again."""
    try:
        yield
    except EarthSelfError as error:
        log.error(str(error))  # noqa: TRY400 - one line for people; Airflow adds the traceback
        raise (TemporaryFailure if error.retry else AirflowFailException)(str(error)) from error
    except MISTAKES as error:
        message = f"{type(error).__name__}: {error}"
        log.error(message)  # noqa: TRY400
        raise AirflowFailException(message) from error
