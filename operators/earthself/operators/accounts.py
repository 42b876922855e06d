"""What a step's task says about itself in the run's folder, and when that no longer counts.

A run may be done again in part. So the tasks that read these accounts must find those of the attempt that is theirs: a step's
account goes when the step begins, and those of all later tasks go when a task begins that decides what they do.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from earthself.data.errors import EarthSelfError
    from earthself.data.reference import Reference
    from earthself.data.workspace import RunFolder

ENDED, _LEFT, _FAILED = "run.json", "output.json", "error.json"
"""In `steps/<task>[~<index>]`: how the process ended, the reference of its output, why the task failed."""


def ended(folder: Path, account: Mapping[str, Any]) -> None:
    """Keep how a step's process ended and what it used."""
    _write(folder / ENDED, account)


def left(folder: Path, output: Reference) -> dict[str, Any]:
    """Keep where the output of a step lies, whole or not at all; returns the reference as plain types."""
    from earthself.data.workspace import write_json

    write_json(folder / _LEFT, output.to_dict())
    return output.to_dict()


def failed(folder: Path, error: EarthSelfError) -> None:
    """Keep why a step's task failed."""
    _write(folder / _FAILED, {"error": str(error), "retry": error.retry})


def take_back(folder: Path) -> None:
    """Take away what an earlier try of a step said, where it goes on and its folder is not made anew."""
    for name in (ENDED, _LEFT, _FAILED):
        (folder / name).unlink(missing_ok=True)


def output(folder: Path) -> Path | None:
    """Give the catalogue that a step left, None when it left none; raises `NotThere` when it has changed since."""
    from earthself.data.reference import Reference
    from earthself.data.workspace import read_json

    path = folder / _LEFT
    return Reference.from_dict(read_json(path)).path() if path.is_file() else None


def why_lost(run: RunFolder, task_id: str, index: int) -> dict[str, Any]:
    """Say why a mapped step left no output: {error, retry}."""
    from earthself.data.workspace import read_json

    folder = run.step(task_id, index)
    if (folder / _FAILED).is_file():
        found = read_json(folder / _FAILED)
        return {"error": str(found["error"]), "retry": bool(found["retry"])}
    if folder.is_dir():
        return {"error": "its task was killed before it could say why", "retry": True}
    where = folder.relative_to(run.path)
    said = f"no task {task_id!r} took it up ({where} is missing): it was stopped while it waited, or sign_task_id names another task"
    return {"error": said, "retry": True}


def of_steps(run: RunFolder) -> dict[str, dict[str, Any]]:
    """Read how the processes of all steps ended, by the names of their folders."""
    from earthself.data.workspace import read_json

    return {path.parent.name: dict(read_json(path)) for path in sorted((run.work / "steps").glob(f"*/{ENDED}"))}


def forget(run: RunFolder, task_ids: Iterable[str]) -> None:
    """Take away what earlier attempts of these tasks said about themselves: accounts, times and warnings; their logs stay."""
    from earthself.data.workspace import task_of

    ids = set(task_ids)
    for path in [*run.work.glob("steps/*/*.json"), *run.work.glob("times/*.json"), *run.work.glob("notes/*.json")]:
        in_steps = path.parent.parent.name == "steps"
        if in_steps and path.name not in (ENDED, _LEFT, _FAILED):
            continue
        name = path.parent.name if in_steps else path.stem
        if task_of(name) in ids:
            path.unlink(missing_ok=True)


def _write(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")
