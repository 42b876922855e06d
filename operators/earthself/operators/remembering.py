"""What a step took goes into the history that estimates are made of."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from earthself.operators import catalogs
from earthself.operators.errors import OperatorError
from earthself.operators.history import History, Record

if TYPE_CHECKING:
    from collections.abc import Mapping

    from earthself.operators._process import Outcome
    from earthself.operators.step_run import StepRun


def remember(run: StepRun, took: Outcome, metrics: Mapping[str, float], *, task: Any, installed: str | None, log: Any) -> None:  # noqa: ANN401
    """Add a row for a step that ended well; `task` is Airflow's task instance. A lost row is no reason to fail.

    A step that does not say how much it did (`items` or `pixels`) teaches nothing and is left out.
    """
    if not {"items", "pixels"} & set(metrics):
        return
    record = Record(
        step=run.name[:250],
        version=_version(installed),
        dag_id=task.dag_id,
        run_id=task.run_id,
        products=int(metrics.get("items", len(catalogs.item_paths(run.source / catalogs.CATALOG)))),
        pixels=int(metrics.get("pixels", 0)),
        bytes_read=int(metrics.get("bytes_read", 0)),
        seconds=took.seconds,
        cpu_seconds=took.cpu_seconds,
        peak_memory=took.peak_memory,
    )
    try:
        with History() as history:
            history.add(record)
    except OperatorError as error:
        log.warning(f"not remembered for later estimates: {error}")


def _version(step: str | None) -> str:
    """Give the version of the distribution that offers an installed step."""
    found = next(iter(entry_points(group="earthself.steps", name=step)), None) if step else None
    return found.dist.version if found and found.dist else ""
