"""What tasks tell of themselves to whoever looks after the platform: steps begun and ended, bytes, failures by whose fault they are.

A count that cannot be kept is said in the task's log, and is no reason to fail. docs/operations.md lists the names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowException, AirflowFailException
from earthself.operators.errors import MISTAKES, StepFailed, StepNotStarted

if TYPE_CHECKING:
    from earthself.hooks.tally import Amount
    from earthself.operators._process import Outcome

STEPS_BEGUN = "earthself_steps_started"
STEPS_ENDED = "earthself_steps_ended"
STEP_SECONDS = "earthself_step_seconds"
STEP_CPU = "earthself_step_cpu_seconds"
STEP_MEMORY = "earthself_step_peak_memory_bytes"
READ = "earthself_read_bytes"
STAGED = "earthself_staged_bytes"
PUBLISHED = "earthself_published_bytes"
FAILURES = "earthself_task_failures"
SECONDS = (1, 5, 15, 60, 300, 900, 3600, 14_400)
"""Upper bounds of the buckets of a step's time."""
MEMORY = tuple(2.0**power for power in range(28, 37))
"""Upper bounds of the buckets of a step's memory: 256 MiB to 64 GiB."""
_BY_EXIT = {65: "bad_input", 69: "not_there", 75: "temporary", 137: "memory", 143: "interrupted"}
"""Exit codes of steps."""
_BY_CLASS = {
    "StepNotStarted": "not_started",
    "AllLost": "all_lost",
    "BadRequest": "bad_input",
    "BadWatch": "bad_input",
    "BadInput": "bad_input",
    "BadNeed": "bad_input",
    "UnknownCollection": "bad_input",
    "NotThere": "not_there",
    "NoSuggestion": "not_there",
    "NoRoom": "no_room",
    "DataError": "provider",
    "SignatureError": "earthsignature",
    "BrokerError": "broker",
    "NoDask": "cluster",
    "ClusterError": "cluster",
    "HistoryBroken": "database",
    "MemoryBroken": "database",
    "TallyBroken": "database",
    "SamplesBroken": "database",
    "CatalogueBroken": "database",
    "EarthSelfError": "platform",
}
"""Names, since the modules of most of them import much; the nearest base class counts."""
REASONS = frozenset({*_BY_EXIT.values(), *_BY_CLASS.values(), "program", "mistake", "other"})
"""All values of the label `reason`."""


def reason(error: BaseException) -> str:
    """Name whose fault a failure is, in one of a few words (`REASONS`)."""
    if isinstance(error, StepFailed) and not isinstance(error, StepNotStarted):
        return _BY_EXIT.get(error.exit_code, "interrupted" if error.exit_code > 128 else "program")
    if isinstance(error, MISTAKES):
        return "mistake"
    return next((_BY_CLASS[base.__name__] for base in type(error).__mro__ if base.__name__ in _BY_CLASS), "other")


@contextmanager
def failures(dag_id: str, log: Any) -> Iterator[None]:  # noqa: ANN401 - structlog's loggers have no public type
    """Count what a task fails with; Airflow's own ways to end one early (skipped, deferred) are none."""
    try:
        yield
    except AirflowFailException as error:
        _failed(dag_id, error, log)
        raise
    except AirflowException:
        raise
    except Exception as error:
        _failed(dag_id, error, log)
        raise


class StepCount:
    """The counts of one attempt of a step; one that is adopted from an earlier worker has begun before."""

    def __init__(self, step: str, runtime: str, log: Any) -> None:  # noqa: ANN401
        self._labels = {"step": step, "runtime": runtime}
        self._log = log

    def begun(self) -> None:
        """Count that it begins."""
        from earthself.hooks.tally import Amount

        _add([Amount(STEPS_BEGUN, self._labels)], self._log)

    def ended(self, result: str, outcome: Outcome | None, bytes_read: float = 0) -> None:
        """Count how it ended: `done`, `nothing`, or why it failed; of one that never ran there is no outcome."""
        from earthself.hooks.tally import Amount, observed

        labels = self._labels
        amounts = [Amount(STEPS_ENDED, labels | {"result": result})]
        if outcome is not None:
            amounts += observed(STEP_SECONDS, outcome.seconds, labels, SECONDS)
            amounts.append(Amount(STEP_CPU, labels, outcome.cpu_seconds))
            if outcome.peak_memory:
                amounts += observed(STEP_MEMORY, outcome.peak_memory, labels, MEMORY)
        if bytes_read:
            amounts.append(Amount(READ, {"step": labels["step"]}, bytes_read))
        _add(amounts, self._log)


def staged(cloud: str, moved: Mapping[str, int | bool], log: Any) -> None:  # noqa: ANN401
    """Count the bytes that were staged for a step; `moved` is {sent, fetched, crossed}."""
    from earthself.hooks.tally import Amount

    labels = {"cloud": cloud, "crossed": str(bool(moved["crossed"])).lower()}
    _add([Amount(STAGED, labels | {"direction": way}, float(moved[way])) for way in ("sent", "fetched")], log)


def published(dag_id: str, size: int, log: Any) -> None:  # noqa: ANN401
    """Count the bytes of a result."""
    from earthself.hooks.tally import Amount

    _add([Amount(PUBLISHED, {"dag_id": dag_id}, size)], log)


def _failed(dag_id: str, error: BaseException, log: Any) -> None:  # noqa: ANN401
    from earthself.hooks.tally import Amount

    _add([Amount(FAILURES, {"dag_id": dag_id, "reason": reason(error)})], log)


def _add(amounts: list[Amount], log: Any) -> None:  # noqa: ANN401
    from earthself.hooks.tally import Tally, TallyBroken

    try:
        with Tally() as tally:
            tally.add(amounts)
    except TallyBroken as error:
        log.warning(f"not counted for the platform's metrics: {error}")
