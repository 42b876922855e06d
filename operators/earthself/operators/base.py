"""What all operators share: errors that say whether to try again, and the run's folder."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from earthself.operators import counting, times
from earthself.operators.errors import translated

if TYPE_CHECKING:
    from airflow.sdk import Context
    from earthself.data.workspace import RunFolder

RETRIES = 3
RETRY_DELAY = timedelta(seconds=5)
MAX_RETRY_DELAY = timedelta(minutes=2)
"""At most three further attempts after about 5, 10 and 20 s: errors that say so themselves are the only ones tried again."""


class EarthSelfOperator(BaseOperator):
    """An operator whose errors follow `earthself.data.errors`; subclasses write `work` instead of `execute`."""

    def __init__(
        self,
        *,
        retries: int = RETRIES,
        retry_delay: timedelta = RETRY_DELAY,
        retry_exponential_backoff: float = 2.0,
        max_retry_delay: timedelta = MAX_RETRY_DELAY,
        **kwargs: Any,  # noqa: ANN401 - Airflow's own arguments
    ) -> None:
        # Airflow reads a mapped operator's defaults from this signature, so they cannot be set below it.
        super().__init__(
            retries=retries,
            retry_delay=retry_delay,
            retry_exponential_backoff=retry_exponential_backoff,
            max_retry_delay=max_retry_delay,
            **kwargs,
        )

    def execute(self, context: Context) -> Any:  # noqa: ANN401 - what a task returns is its own business
        """Do the work; permanent errors fail the task at once, temporary ones are retried."""
        return self.noted(context, lambda: self.work(context))

    def noted(self, context: Context, work: Callable[[], Any]) -> Any:  # noqa: ANN401
        """Do work of the task, also what follows a deferral: its errors are told apart, and its time is noted."""
        begin = time.time()
        with translated(self.log), counting.failures(context["ti"].dag_id, self.log):
            made = work()
            times.note(self.run_folder(context), self.task_id, map_index(context), (begin, time.time()), times.attempt(context, begin))
            return made

    @abstractmethod
    def work(self, context: Context) -> Any:  # noqa: ANN401
        """Do the operator's own work; raises errors derived from `EarthSelfError`."""

    def forget_what_follows(self, context: Context) -> None:
        """Take away what the tasks after this one said in an earlier attempt of the run: this one decides what they do now."""
        from earthself.operators import accounts

        accounts.forget(self.run_folder(context), self.get_flat_relative_ids())

    def run_folder(self, context: Context) -> RunFolder:
        """Name the folder of the current run in the workspace."""
        from earthself.data.workspace import Workspace

        ti = context["ti"]
        return Workspace.from_env().run(ti.dag_id, ti.run_id)


def map_index(context: Context) -> int:
    """Give the index of a mapped task, -1 for any other."""
    index = context["ti"].map_index
    return -1 if index is None else int(index)
