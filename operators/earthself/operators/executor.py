"""Airflow's LocalExecutor, prepared for steps in pods."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from airflow.executors.local_executor import LocalExecutor
from airflow.utils.state import TaskInstanceState

if TYPE_CHECKING:
    from airflow.executors.workloads import ExecutorWorkload
    from airflow.executors.workloads.types import WorkloadKey, WorkloadState
    from airflow.models.taskinstance import TaskInstance

_HEAVY = (
    "earthself.operators.staged_pod",
    "earthself.operators.placement",
    "earthself.operators.accounts",
    "earthself.operators.catalogs",
    "earthself.operators.remembering",
    "earthself.hooks.tally",
)
"""Nothing that starts threads or keeps connections: after a fork those would be nobody's. So neither grpc nor EODAG."""
_ENDS = (TaskInstanceState.SUCCESS, TaskInstanceState.FAILED)


class PreparedLocalExecutor(LocalExecutor):
    """Set it as `[core] executor = earthself.operators.executor.PreparedLocalExecutor`.

    What pods need is imported before its workers are forked: each task would else spend a second or two on it. And it knows which tasks
    its workers have: Airflow 3.3's own does not, and a task that is deferred and goes on before its first worker has quite ended would be
    taken for one that was killed, and tried again.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - those of LocalExecutor
        super().__init__(*args, **kwargs)  # type: ignore[no-untyped-call]
        self._given: Counter[WorkloadKey] = Counter()

    def start(self) -> None:
        """Import, then start as ever; workers share what was imported."""
        for name in _HEAVY:
            import_module(name)
        super().start()

    def has_task(self, task_instance: TaskInstance) -> bool:
        """Tell whether it is queued here or a worker has it."""
        return super().has_task(task_instance) or task_instance.key in self._given

    def change_state(self, key: WorkloadKey, state: WorkloadState, info: Any = None, remove_running: bool = True) -> None:  # noqa: ANN401
        """Pass it on; one that two workers have, since it was deferred, is had by one of them from then on."""
        if state in _ENDS:
            self._given[key] -= 1
            if self._given[key] <= 0:
                del self._given[key]
        super().change_state(key, state, info, remove_running)

    def _process_workloads(self, workload_list: Sequence[ExecutorWorkload]) -> None:
        self._given.update(workload.key for workload in workload_list)
        super()._process_workloads(workload_list)  # type: ignore[no-untyped-call]
