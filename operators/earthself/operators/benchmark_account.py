"""What a run of `benchmark_clouds` says about itself in its folder: its plan, how long each target took, what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from earthself.operators.errors import OperatorError

if TYPE_CHECKING:
    from earthself.benchmark.planning import LeftOut, Plan, Planned, Target
    from earthself.data.workspace import RunFolder

_SPENT = "spent"
"""Folder of the run's work folder with the times of each target."""


@dataclass(frozen=True)
class Spent:
    """What targets have used."""

    minutes: float
    euros: float
    """Of those whose price is known."""


def target_document(target: Target) -> dict[str, Any]:
    """Give a target as JSON."""
    return {"connection": target.connection, **target.place}


def write_plan(run: RunFolder, plan: Plan, budget: Mapping[str, Any]) -> None:
    """Keep what is to be measured; times of an earlier plan go."""
    from earthself.data.workspace import write_json
    from earthself.operators.catalogs import empty_folder

    empty_folder(run.work / _SPENT)
    document = {
        "budget": dict(budget),
        "estimated": {"minutes": round(plan.minutes, 3), "euros": round(plan.euros, 6)},
        "run": [_planned(one) for one in plan.run],
        "left_out": [_left_out(one) for one in plan.left_out],
    }
    write_json(_plan(run), document)


def forget_plan(run: RunFolder) -> None:
    """Take an earlier plan away before another one is made."""
    _plan(run).unlink(missing_ok=True)


def read_plan(run: RunFolder) -> dict[str, Any]:
    """Read the plan; raises `OperatorError` where there is none."""
    from earthself.data.workspace import read_json

    if not _plan(run).is_file():
        raise OperatorError("the run has no plan, so nothing was measured; the log of the task plan says why")
    return dict(read_json(_plan(run)))


def begin(run: RunFolder, number: int, now: float) -> None:
    """Note that a target begins."""
    _change(run, number, lambda said: said["spans"].append([now, None]))


def end(run: RunFolder, number: int, now: float) -> None:
    """Note that a target has ended, if it had begun."""

    def close(said: dict[str, Any]) -> None:
        said["spans"] = [[begun, now if ended is None else ended] for begun, ended in said["spans"]]

    if _file(run, number).is_file():
        _change(run, number, close)


def skip(run: RunFolder, number: int, reason: str) -> None:
    """Note why a target that was planned is not measured."""
    _change(run, number, lambda said: said.update(skipped=reason))


def skipped(run: RunFolder, number: int) -> str:
    """Say why a target was not measured, empty where nobody noted that."""
    return str(_read(run, number)["skipped"])


def goes_on(run: RunFolder, number: int) -> float | None:
    """Say since when a target is being measured, seconds since 1970; None where it is not, or nobody noted that."""
    spans = _read(run, number)["spans"]
    return float(spans[-1][0]) if spans and spans[-1][1] is None else None


def begun(run: RunFolder, number: int) -> float | None:
    """Say when a target was begun last, seconds since 1970."""
    spans = _read(run, number)["spans"]
    return float(spans[-1][0]) if spans else None


def spent(run: RunFolder, number: int, planned: Mapping[str, Any]) -> Spent:
    """Add up what a target used; one whose end nobody noted counts with all that it may take."""
    spans = _read(run, number)["spans"]
    minutes = sum((ended - begun) / 60 if ended is not None else float(planned["limit"]) for begun, ended in spans)
    return Spent(minutes, minutes / 60 * float(planned["euros_per_hour"] or 0.0))


def spent_by_all(run: RunFolder, plan: Mapping[str, Any]) -> Spent:
    """Add up what all targets used so far."""
    each = [spent(run, number, planned) for number, planned in enumerate(plan["run"])]
    return Spent(sum(one.minutes for one in each), sum(one.euros for one in each))


def _planned(one: Planned) -> dict[str, Any]:
    return target_document(one.target) | {
        "minutes": one.minutes,
        "limit": one.limit,
        "euros_per_hour": one.hourly.euros,
        "price": one.hourly.said,
    }


def _left_out(one: LeftOut) -> dict[str, Any]:
    return target_document(one.target) | {"reason": one.reason}


def _plan(run: RunFolder) -> Path:
    return run.work / "plan.json"


def _file(run: RunFolder, number: int) -> Path:
    return run.work / _SPENT / f"{number:04d}.json"


def _read(run: RunFolder, number: int) -> dict[str, Any]:
    from earthself.data.workspace import read_json

    path = _file(run, number)
    return dict(read_json(path)) if path.is_file() else {"spans": [], "skipped": ""}


def _change(run: RunFolder, number: int, change: Any) -> None:  # noqa: ANN401 - a function that changes what was said
    from earthself.data.workspace import write_json

    said = _read(run, number)
    change(said)
    write_json(_file(run, number), said)
