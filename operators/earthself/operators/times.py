"""Where a run's time went: each task notes when it began and ended, the last one adds it up."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from earthself.data.workspace import RunFolder


def note(run: RunFolder, task_id: str, map_index: int, begin: float, end: float) -> None:
    """Keep when a task began and ended, in seconds since 1970."""
    name = task_id if map_index < 0 else f"{task_id}-{map_index}"
    path = run.work / "times" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"task": task_id, "begin": begin, "end": end}), encoding="utf-8")


def took(run: RunFolder, begin: float, now: float, task_id: str, own_begin: float) -> dict[str, float]:
    """Seconds by task from the first begin to the last end of its instances; `waiting` is when none of them worked.

    `begin` is when the run was started, `task_id` and `own_begin` are the task that asks and is not done yet.
    """
    from earthself.data.workspace import read_json

    spans: dict[str, list[tuple[float, float]]] = {task_id: [(own_begin, now)]}
    for path in (run.work / "times").glob("*.json"):
        entry = read_json(path)
        if entry["begin"] >= begin - 1 and entry["task"] != task_id:  # an earlier attempt of the run left what was not done again
            spans.setdefault(str(entry["task"]), []).append((float(entry["begin"]), float(entry["end"])))
    by_task = {name: max(end for _, end in each) - min(first for first, _ in each) for name, each in spans.items()}
    ordered = sorted(by_task, key=lambda name: min(first for first, _ in spans[name]))
    waiting = (now - begin) - _covered([span for each in spans.values() for span in each], begin, now)
    return {**{name: round(by_task[name], 2) for name in ordered}, "waiting": round(max(0.0, waiting), 2)}


def _covered(spans: Iterable[tuple[float, float]], begin: float, end: float) -> float:
    covered, reached = 0.0, begin
    for first, last in sorted(spans):
        start, stop = max(first, reached), min(last, end)
        if stop > start:
            covered += stop - start
            reached = stop
    return covered
