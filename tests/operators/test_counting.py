"""What is counted: every error has a reason, many tasks add to the same rows, on SQLite and on PostgreSQL."""

from __future__ import annotations

import importlib
import pkgutil
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import earthself.data
import earthself.hooks
import earthself.operators
import earthself.signature
import earthself.triggers
import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
from earthself.data.errors import BadInput, CredentialsRefused, EarthSelfError, NoRoom, NotThere, TryAgain
from earthself.hooks.tally import Amount, Tally, TallyBroken, observed
from earthself.operators import counting
from earthself.operators.errors import AllLost, StepFailed, StepNotStarted
from structlog.testing import capture_logs


def all_errors(kind=EarthSelfError) -> set[type]:
    return {kind} | {each for sub in kind.__subclasses__() for each in all_errors(sub)}


def test_every_error_of_ours_has_a_reason() -> None:
    """Those of a step itself (earthself.processing) reach Airflow as its exit code, never as an exception."""
    for package in (earthself.data, earthself.signature, earthself.hooks, earthself.triggers, earthself.operators):
        for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
            if module.name.endswith(("errors", "cluster", "history", "memory", "tally", "eodag", "interface", "freshness")):
                importlib.import_module(module.name)
    counted = tuple(f"earthself.{package}." for package in ("data", "signature", "hooks", "triggers", "operators", "portal"))
    found = {
        kind.__name__: counting.reason(kind.__new__(kind)) for kind in all_errors() - {StepFailed} if kind.__module__.startswith(counted)
    }
    assert set(found.values()) <= counting.REASONS
    assert {name for name, why in found.items() if why == "platform"} == {"EarthSelfError", "OperatorError", "NoticeNotSent"}, (
        "the rest say more"
    )


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (StepFailed("", exit_code=65, retry=False), "bad_input"),
        (StepFailed("", exit_code=75, retry=True), "temporary"),
        (StepFailed("", exit_code=137, retry=False), "memory"),
        (StepFailed("", exit_code=143, retry=True), "interrupted"),
        (StepFailed("", exit_code=139, retry=True), "interrupted"),
        (StepFailed("", exit_code=3, retry=False), "program"),
        (StepNotStarted("", exit_code=1, retry=True), "not_started"),
        (AllLost(""), "all_lost"),
        (BadInput(""), "bad_input"),
        (NotThere(""), "not_there"),
        (NoRoom(""), "no_room"),
        (TryAgain(""), "provider"),
        (CredentialsRefused(""), "provider"),
        (TallyBroken(""), "database"),
        (KeyError("x"), "mistake"),
        (OSError("x"), "other"),
    ],
)
def test_whose_fault_a_failure_is(error: Exception, reason: str) -> None:
    assert counting.reason(error) == reason


def test_a_task_that_is_skipped_has_not_failed(workspace) -> None:
    for kind in (AirflowSkipException, AirflowFailException):
        with pytest.raises(kind), counting.failures("d", None):
            raise kind("x")
    with Tally() as tally:
        assert [(each.labels, each.value) for each in tally.counted()] == [({"dag_id": "d", "reason": "other"}, 1)]


def test_a_count_that_is_lost_is_said(workspace, monkeypatch) -> None:
    monkeypatch.setenv("EARTHSELF_DATABASE_URL", "sqlite:////proc/none/x.db")
    import structlog

    with capture_logs() as logs:
        counting.published("d", 5, structlog.get_logger())
    assert "not counted for the platform's metrics" in logs[0]["event"]


def many_tasks_at_once() -> None:
    """Two kinds of task name the same rows in another order, which must not make them wait for each other."""
    amounts = [Amount("a", {"x": "1"}), Amount("b", {"x": "1"}, 2.5), *observed("c", 7, {}, (1, 10))]

    def add(number: int) -> None:
        with Tally() as tally:
            for _ in range(5):
                tally.add(amounts if number % 2 else list(reversed(amounts)))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(add, range(8)))
    with Tally() as tally:
        found = {(each.name, tuple(each.labels.items())): each.value for each in tally.counted()}
    assert found == {("a", (("x", "1"),)): 40, ("b", (("x", "1"),)): 100, ("c", (("le", "10"),)): 40, ("c_sum", ()): 280}


def test_many_tasks_add_at_once(workspace) -> None:
    many_tasks_at_once()


def test_many_tasks_add_at_once_on_postgresql(cluster, workspace, monkeypatch) -> None:
    monkeypatch.setenv("EARTHSELF_DATABASE_URL", cluster.new_database().replace("postgresql://", "postgresql+psycopg://"))
    many_tasks_at_once()
    now = datetime.now(UTC)
    with Tally() as tally:
        tally.tell("w", {"north": 2}, "cloud", "one", now)
        tally.tell("w", {"north": 3}, "cloud", "one", now)
        assert [(each.labels, each.value) for each in tally.told(now)] == [({"cloud": "north"}, 3)]


def test_buckets_hold_what_no_smaller_one_does() -> None:
    assert [observed("n", value, {}, (1, 10))[0].labels["le"] for value in (0, 1, 1.5, 10, 11)] == ["1", "1", "10", "10", "+Inf"]
