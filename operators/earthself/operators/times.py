"""Where a run's time went: each task notes when it began and ended, the last one adds it up.

A run that was done again in part has several attempts; the time between them is nobody's.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.sdk import Context
    from earthself.data.workspace import RunFolder


@dataclass(frozen=True)
class Spent:
    """What a run took, all attempts whose tasks still count together."""

    took: dict[str, float]
    """Seconds by task from the first begin to the last end of its instances; `waiting` is when none of them worked."""
    seconds: float
    """From the start of an attempt to the end of its last task that still counts, added up."""


def attempt(context: Context, begin: float) -> float:
    """Give when Airflow started the run, or started it again, in seconds since 1970; `begin` where it does not say."""
    run: Any = context.get("dag_run")
    start = getattr(run, "start_date", None)
    return float(start.timestamp()) if start is not None else begin


def note(run: RunFolder, task_id: str, map_index: int, span: tuple[float, float], attempt: float) -> None:
    """Keep when a task began and ended (`span`), and when the attempt that it belongs to was started, in seconds since 1970."""
    from earthself.data.workspace import named

    path = run.work / "times" / f"{named(task_id, map_index)}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"task": task_id, "begin": span[0], "end": span[1], "attempt": attempt}), encoding="utf-8")


def spent(run: RunFolder, attempt: float, now: float, task_id: str, own_begin: float) -> Spent:
    """Add up what the tasks noted; `task_id` is the task that asks and is not done yet, `attempt` and `own_begin` are its own."""
    from earthself.data.workspace import read_json

    entries = [read_json(path) for path in (run.work / "times").glob("*.json")]
    entries = [entry for entry in entries if entry["task"] != task_id]
    entries.append({"task": task_id, "begin": own_begin, "end": now, "attempt": attempt})
    by_attempt: dict[float, dict[str, list[tuple[float, float]]]] = {}
    for entry in sorted(entries, key=lambda entry: float(entry["begin"])):
        own = by_attempt.setdefault(float(entry["attempt"]), {})
        own.setdefault(str(entry["task"]), []).append((float(entry["begin"]), float(entry["end"])))
    took: dict[str, float] = {}
    total = worked = 0.0
    for started, tasks in by_attempt.items():
        spans = [span for each in tasks.values() for span in each]
        last = max(end for _, end in spans)
        total += max(0.0, last - started)
        worked += _covered(spans, started, last)
        for name, each in tasks.items():
            took[name] = took.get(name, 0.0) + max(end for _, end in each) - min(first for first, _ in each)
    rounded = {name: round(seconds, 2) for name, seconds in took.items()}
    return Spent({**rounded, "waiting": round(max(0.0, total - worked), 2)}, round(total, 2))


def _covered(spans: Iterable[tuple[float, float]], begin: float, end: float) -> float:
    covered, reached = 0.0, begin
    for first, last in sorted(spans):
        start, stop = max(first, reached), min(last, end)
        if stop > start:
            covered += stop - start
            reached = stop
    return covered
