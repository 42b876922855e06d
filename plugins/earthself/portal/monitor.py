"""What the portal says about the watched areas: why something did not happen."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from earthself.data.area import Area
from earthself.data.dates import parse_instant
from earthself.data.errors import BadInput

MONITOR = "earthsignature_monitor"
"""Who may see its runs may ask; runs of other workflows are named to those only who may see them."""


def why(question: dict[str, Any], may_see: Any) -> dict[str, Any]:  # noqa: ANN401 - a function from a workflow's id to a truth value
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
