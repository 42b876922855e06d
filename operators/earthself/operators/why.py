"""Why was I not triggered? What is remembered about an area and a time, put into sentences."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from earthself.data.dates import format_instant
from earthself.triggers.memory import CLAIMED, FAILED, NOTHING, STORED, WAITING, Memory
from earthself.triggers.tables import ASKING, DECISION, SIGHTING, WATCH
from sqlalchemy.engine import Row

if TYPE_CHECKING:
    from earthself.data.area import Area

NO_WATCH, NOT_WATCHED_THEN, NOT_ASKED, PROVIDER_DOWN, NOT_PUBLISHED, OUTSIDE, BUDGET, TOO_MANY = (
    "no watch",
    "not watched then",
    "not asked",
    "provider down",
    "not published",
    "outside",
    "budget",
    "too many",
)
"""Verdicts beside the states of a sighting."""
_MOST_SIGHTINGS = 1000
_MOST_SPANS = 20
_SILENT_ROUNDS = 4
"""Rounds without a question after which nobody seems to watch."""


@dataclass(frozen=True)
class Reason:
    """One thing that is known."""

    verdict: str
    """A state of a sighting, or `no watch`, `provider down` and so on: for programs."""
    text: str
    """A sentence for people."""
    watch: str = ""
    """Whose it is, empty where nobody watches."""
    product: str = ""
    """Id, empty where it is not about one product."""
    acquired: str | None = None
    """When it was sensed, RFC 3339."""
    at: str | None = None
    """When that was found or decided, RFC 3339."""
    dag_id: str = ""
    """Workflow of the run that has or had the product."""
    run_id: str = ""
    """The run."""


@dataclass(frozen=True)
class Why:
    """The whole answer."""

    start: str
    """First instant that was asked about."""
    end: str
    """First instant after it."""
    watches: tuple[str, ...]
    """Who watches some of the area."""
    watched_fraction: float
    """Share of the area that somebody watches, 0 to 1."""
    reasons: tuple[Reason, ...]
    """What is known, products first."""

    def to_dict(self) -> dict[str, Any]:
        """Plain types, fit for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class _More:
    """Products that an answer has no room for."""

    count: int
    """How many."""
    first: datetime
    """When the first of them was sensed."""


def why(memory: Memory, area: Area, period: tuple[datetime, datetime], now: datetime) -> Why:
    """Say what became of the products of an area and a period `[start, end)`, or why there are none."""
    start, end = period
    with memory.reading() as connection:
        watches = connection.execute(sa.select(WATCH).order_by(WATCH.c.name)).all()
    covering, fraction = _covering(watches, area)
    reasons: list[Reason] = []
    silent: list[Reason] = []
    for watch in covering:
        touching, outside, more = _sightings(memory, watch.name, area, start, end)
        reasons += [_of_sighting(memory, row) for row in touching]
        if not touching:
            silent += _silence(memory, watch, period, now)
        if more:
            text = f"{more.count} later products of that time are not shown; ask about a shorter time, from {_when(more.first)} on"
            silent.append(Reason(TOO_MANY, text, watch.name))
        if outside:
            text = f"{outside} products of that time touch the watched area, but not the one asked about"
            silent.append(Reason(OUTSIDE, text, watch.name))
    if fraction == 0:
        others = ", ".join(watch.name for watch in watches) or "nothing"
        silent.append(Reason(NO_WATCH, f"no watcher covers the area; watched is {others}"))
    elif fraction < 0.9999:
        silent.append(Reason(NO_WATCH, f"{1 - fraction:.1%} of the area is covered by no watcher"))
    names = tuple(watch.name for watch in covering)
    return Why(format_instant(start), format_instant(end), names, round(fraction, 4), (*reasons, *silent))


def _covering(watches: Iterable[Row[Any]], area: Area) -> tuple[list[Row[Any]], float]:
    """Give the watches that touch an area, and the share of it that they cover."""
    import shapely
    from earthself.data.area import Area

    shapes = [(watch, Area.from_conf(json.loads(watch.area)).geometry) for watch in watches]
    touching = [(watch, shape) for watch, shape in shapes if shape.intersects(area.geometry)]
    if not touching:
        return [], 0.0
    rest = area.geometry.difference(shapely.union_all([shape for _, shape in touching]))
    parts = [part for part in getattr(rest, "geoms", (rest,)) if part.area]
    uncovered = sum(Area(part).geodesic_m2 for part in parts)
    return [watch for watch, _ in touching], max(0.0, 1 - uncovered / area.geodesic_m2)


def _sightings(memory: Memory, watch: str, area: Area, start: datetime, end: datetime) -> tuple[list[Row[Any]], int, _More | None]:
    """Give the sightings that touch the area, how many do not, and what an answer has no room for."""
    query = sa.select(SIGHTING).where(SIGHTING.c.watch == watch, SIGHTING.c.acquired >= start, SIGHTING.c.acquired < end)
    with memory.reading() as connection:
        rows = connection.execute(query.order_by(SIGHTING.c.acquired, SIGHTING.c.pk).limit(_MOST_SIGHTINGS + 1)).all()
        count = connection.execute(sa.select(sa.func.count()).select_from(query.subquery())).scalar_one()
    more = _More(count - _MOST_SIGHTINGS, rows[-1].acquired) if len(rows) > _MOST_SIGHTINGS else None
    rows = rows[:_MOST_SIGHTINGS]
    touching = [row for row in rows if area.may_touch(json.loads(row.item).get("geometry"))]
    return touching, len(rows) - len(touching), more


def _of_sighting(memory: Memory, row: Row[Any]) -> Reason:
    run = f" by the run {row.run_id}" if row.run_id else ""
    over = "" if row.superseded_by is None or row.state not in (CLAIMED, STORED, NOTHING) else f"; superseded by {row.superseded_by} since"
    told = f", an event was given to Airflow {_when(row.announced)}" if row.announced else ", Airflow has no event of it yet"
    seen = f"seen {_when(row.seen)}"
    texts = {
        WAITING: f"{seen}{told}; {row.reason}",
        CLAIMED: f"{seen}, taken{run} {_when(row.claimed)}, not finished yet (the next run takes over what one that died had){over}",
        STORED: f"seen already: {seen}, taken{run} {_when(row.claimed)}, stored {_when(row.stored)}{over}",
        NOTHING: f"{seen}, taken{run}: {row.reason}{over}",
        FAILED: f"{seen}, {row.reason}",
    }
    text = texts.get(row.state, f"{seen}: {row.reason}")
    verdict = BUDGET if row.state == WAITING and "the budget of" in row.reason else row.state
    at = _last_decision(memory, row) or row.seen
    return Reason(verdict, text, row.watch, row.product, format_instant(row.acquired), format_instant(at), row.dag_id, row.run_id)


def _last_decision(memory: Memory, row: Row[Any]) -> datetime | None:
    query = sa.select(sa.func.max(DECISION.c.at)).where(DECISION.c.watch == row.watch, DECISION.c.product == row.product)
    with memory.reading() as connection:
        last: datetime | None = connection.execute(query).scalar()
    return last


def _silence(memory: Memory, watch: Row[Any], period: tuple[datetime, datetime], now: datetime) -> Iterator[Reason]:
    """Say why a watch has seen no product of a period."""
    start, end = period
    earliest = watch.since - timedelta(hours=watch.lookback_hours)
    if start > now:
        yield Reason(NOT_PUBLISHED, "that time is still to come", watch.name)
        return
    if end <= earliest:
        text = f"watched since {_when(watch.since)}, looking back {watch.lookback_hours / 24:g} days: not as far as that time"
        yield Reason(NOT_WATCHED_THEN, text, watch.name)
        return
    if watch.ended is not None and watch.ended <= end:
        text = f"not watched since {_when(watch.ended)}: is its workflow paused, or the area taken out of the settings?"
        yield Reason(NOT_WATCHED_THEN, text, watch.name, at=format_instant(watch.ended))
    with memory.reading() as connection:
        newest = sa.select(ASKING).where(ASKING.c.watch == watch.name, ASKING.c.last >= start).order_by(ASKING.c.pk.desc())
        spans = connection.execute(newest.limit(_MOST_SPANS)).all()
        of_all = sa.select(ASKING).where(ASKING.c.watch == watch.name).order_by(ASKING.c.pk.desc())
        last = connection.execute(of_all.limit(1)).one_or_none()
    yield from _outages(watch, spans)
    if last is None:
        yield Reason(NOT_ASKED, f"watched since {_when(watch.since)}; no provider has been asked yet", watch.name)
        return
    if watch.ended is None and now - last.last > timedelta(seconds=_SILENT_ROUNDS * max(watch.every_seconds, 900)):
        text = f"nobody has asked since {_when(last.last)}: does Airflow's triggerer run, and is the workflow not paused?"
        yield Reason(NOT_ASKED, text, watch.name, at=format_instant(last.last))
    if (well := next((span for span in spans if span.well), None)) is not None:
        text = (
            f"not published (yet), or none was acquired then: {well.provider} answered last {_when(well.last)} and lists no product "
            f"of that time; a late one is seen up to {watch.lookback_hours / 24:g} days after its acquisition"
        )
        yield Reason(NOT_PUBLISHED, text, watch.name, at=format_instant(well.last))


def _outages(watch: Row[Any], spans: Sequence[Row[Any]]) -> Iterator[Reason]:
    """Say when the provider gave no answer; `spans` is newest first."""
    for number, span in enumerate(spans):
        if span.well:
            continue
        until = f"until {_when(spans[number - 1].first)}" if number else "and has not answered since"
        text = f"{span.provider} gave no answer from {_when(span.first)} {until} (asked {span.times} times; {span.said})"
        yield Reason(PROVIDER_DOWN, text, watch.name, at=format_instant(span.last))


def _when(instant: datetime | None) -> str:
    return "at an unknown time" if instant is None else f"{instant:%Y-%m-%d %H:%M} UTC"
