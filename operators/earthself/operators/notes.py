"""What a task found that a reader of the result must know, kept until the result is published."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from earthself.data.workspace import RunFolder


def leave(run: RunFolder, task_id: str, warnings: list[str]) -> None:
    """Keep a task's warnings; those of an earlier attempt are replaced."""
    from earthself.data.workspace import write_json

    path = _path(run, task_id)
    if warnings:
        write_json(path, warnings)
    else:
        path.unlink(missing_ok=True)


def collect(run: RunFolder) -> list[str]:
    """Gather the warnings of all tasks, each sentence once."""
    from earthself.data.workspace import read_json

    found = [str(warning) for path in sorted((run.work / "notes").glob("*.json")) for warning in read_json(path)]
    return list(dict.fromkeys(found))


def _path(run: RunFolder, task_id: str) -> Path:
    return run.work / "notes" / f"{task_id}.json"
