"""How a task stands with Airflow, asked from wherever somebody decides about what belongs to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def state_of(ask: Callable[..., dict[str, Any]], dag_id: str, run_id: str, task_id: str, index: int) -> str:
    """Tell the state of a task, by its map index (-1: not mapped); "not there" for one that Airflow does not know (any more).

    `ask` is the Task SDK's `get_task_states`.
    """
    states = ask(dag_id=dag_id, task_ids=[task_id], run_ids=[run_id], map_index=index)
    return str(states.get(run_id, {}).get(task_id if index < 0 else f"{task_id}_{index}") or "not there")
