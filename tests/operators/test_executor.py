"""What the executor says of its tasks to the scheduler, with the queues through which Airflow gives them to workers."""

from __future__ import annotations

import multiprocessing
from types import SimpleNamespace

import pytest
from airflow.models.taskinstancekey import TaskInstanceKey
from airflow.utils.state import TaskInstanceState
from earthself.operators.executor import PreparedLocalExecutor

KEY = TaskInstanceKey("a", "step", "today", 1, 3)
TASK = SimpleNamespace(id="018f", key=KEY)


@pytest.fixture
def executor(monkeypatch):
    """One without workers: what they would answer is put into their queue here."""
    made = PreparedLocalExecutor(parallelism=1)
    made.activity_queue, made.result_queue, made.workers = multiprocessing.SimpleQueue(), multiprocessing.SimpleQueue(), {}
    made._unread_messages = multiprocessing.Value("I")
    monkeypatch.setattr(made, "_check_workers", lambda: None)
    return made


def give(executor):
    executor.queued_tasks[KEY] = SimpleNamespace(key=KEY, ti=SimpleNamespace(priority_weight=1))
    executor.trigger_tasks(1)


def end(executor, state=TaskInstanceState.SUCCESS):
    executor.result_queue.put((KEY, state, None))
    executor.sync()


def test_it_has_a_task_from_its_queue_to_the_end_of_its_worker(executor):
    assert not executor.has_task(TASK)
    give(executor)
    assert executor.has_task(TASK)
    end(executor)
    assert not executor.has_task(TASK)


@pytest.mark.parametrize("state", [TaskInstanceState.SUCCESS, TaskInstanceState.FAILED])
def test_the_late_end_of_a_worker_that_deferred_a_task_is_not_that_of_the_one_that_goes_on(executor, state):
    give(executor)
    give(executor)  # the trigger was quick
    end(executor, state)
    assert KEY in executor.get_event_buffer()
    assert executor.has_task(TASK), "else the scheduler tries it again"
    end(executor)
    assert not executor.has_task(TASK)


def test_an_end_that_nobody_waits_for_does_no_harm(executor):
    end(executor)
    give(executor)
    assert executor.has_task(TASK)
