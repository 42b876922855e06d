"""What the portal says about the watched areas: why something did not happen, how fresh they are, which results are out of date."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from earthself.data.area import Area
from earthself.data.dates import parse_instant
from earthself.data.errors import BadInput

if TYPE_CHECKING:
    from earthself.triggers.freshness import Acquisition, Freshness

MONITOR = "earthsignature_monitor"
"""Who may see its runs may ask; runs of other workflows are named to those only who may see them."""


MaySee = Callable[[str], bool]
"""Whether the user may see the runs of a workflow, by its id."""
_MOST_DAYS = 366


def why(question: dict[str, Any], may_see: MaySee) -> dict[str, Any]:
    """Answer {area, time}: `time` is a day, an instant (its day), or `start/end`. Raises `BadInput`."""
    from earthself.operators.why import why as explained
    from earthself.triggers.memory import Memory

    if unknown := sorted(set(question) - {"area", "time"}):
        raise BadInput(f"{', '.join(unknown)} is not part of the question; ask with area and time")
    if missing := [name for name in ("area", "time") if question.get(name) is None]:
        raise BadInput(f"the question lacks {' and '.join(missing)}; ask with area and time")
    area, period = Area.from_conf(question["area"]), _period(question["time"])
    with Memory() as memory:
        answer = explained(memory, area, period, datetime.now(UTC)).to_dict()
    for reason in answer["reasons"]:
        if reason["run_id"] and not may_see(reason["dag_id"]):
            reason["text"] = reason["text"].replace(reason["run_id"], "(of another workflow)")
            reason["dag_id"] = reason["run_id"] = ""
    return answer


def fresh(days: float) -> dict[str, Any]:
    """Give {days, areas, alerts}: how fresh each watched area was over the acquisitions of the last days. Raises `BadInput`."""
    from earthself.triggers.freshness import alerts, freshness
    from earthself.triggers.memory import Memory

    if not 0 < days <= _MOST_DAYS:
        raise BadInput(f"days {days:g} is not a number from above 0 to {_MOST_DAYS}")
    with Memory() as memory:
        areas = freshness(memory, datetime.now(UTC), days)
        return {"days": days, "areas": [area.to_dict() for area in areas], "alerts": alerts(memory)}


def outdated(may_see: MaySee) -> dict[str, Any]:
    """Give {results}: those made from products that were reprocessed since, of workflows whose runs the user may see."""
    from earthself.data.workspace import Workspace
    from earthself.operators.outdated import listed

    results = listed(Workspace.from_env())
    seen = {dag_id: may_see(dag_id) for dag_id in {str(entry["dag_id"]) for entry in results}}
    return {"results": [entry for entry in results if seen[str(entry["dag_id"])]]}


def page(may_see: MaySee) -> str:
    """Show both, for people: a page without scripts."""
    import jinja2
    from earthself.triggers.freshness import alerts, freshness
    from earthself.triggers.memory import Memory

    days = 30.0
    with Memory() as memory:
        areas = freshness(memory, now := datetime.now(UTC), days)
        told = alerts(memory, 20)
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    template = environment.from_string(Path(__file__).with_name("monitor.html.j2").read_text(encoding="utf-8"))
    shown = [{"area": area, "figures": area.to_dict(), "plot": _plot(area, now, days)} for area in areas]
    return template.render(areas=shown, alerts=told, outdated=outdated(may_see)["results"], days=days, now=f"{now:%Y-%m-%d %H:%M} UTC")


@dataclass(frozen=True)
class _Dot:
    """One acquisition in the plot."""

    x: float
    """Pixels from the left: when it was sensed."""
    y: float
    """Pixels from the top: hours until it was stored, at most as many as the plot has."""
    late: bool
    """Over the goal."""
    stored: bool
    """Whether it is stored at all."""
    text: str
    """What a pointer over it shows."""


@dataclass(frozen=True)
class _Plot:
    """Hours to the stored signature over the days."""

    width: int
    """Pixels."""
    height: int
    """Pixels."""
    goal: float
    """Pixels from the top at which the goal lies."""
    top: float
    """Hours at the upper edge."""
    dots: tuple[_Dot, ...]
    """One for each acquisition that is due."""


def _plot(area: Freshness, now: datetime, days: float) -> _Plot:
    width, height = 480, 80
    top = 2 * area.goal.hours

    def dot(each: Acquisition) -> _Dot:
        x = width * (1 - (now - each.acquired) / timedelta(days=days))
        hours = top if each.hours is None else min(top, each.hours)
        said = "not stored" if each.hours is None else f"stored after {each.hours:.1f} h"
        text = f"{each.product}: {said}{f' ({each.cause})' if each.cause else ''}"
        return _Dot(round(x, 1), round(height * (1 - hours / top), 1), each.late, each.hours is not None, text)

    return _Plot(width, height, height / 2, top, tuple(dot(each) for each in area.acquisitions))


def _period(value: Any) -> tuple[datetime, datetime]:  # noqa: ANN401 - what a user typed
    if not isinstance(value, str):
        raise BadInput(f"time {value!r} is not text; write a day such as 2017-06-13, or start/end")
    first, slash, last = value.partition("/")
    start = parse_instant(first.strip())
    if not slash:
        day = start.replace(hour=0, minute=0, second=0, microsecond=0)
        return day, day + timedelta(days=1)
    end = parse_instant(last.strip())
    if start >= end:
        raise BadInput(f"the period {value} is empty; the end is not part of it, so give at least the next day")
    return start, end
