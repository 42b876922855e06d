"""How fresh the watched areas are, held against what was promised, and whose fault it is where they are not.

Counted are acquisitions since an area is watched, each observation once (a reprocessing does not make it late again), that are due: stored,
or older than the goal. An acquisition that no provider has ever listed cannot be known, and is not counted; but where nobody has had an
answer for longer than the goal, the promise counts as broken, since what was not asked for cannot have been kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from itertools import zip_longest
from statistics import median
from typing import Any

import sqlalchemy as sa
from earthself.triggers.memory import FAILED, TAKEN, Memory
from earthself.triggers.tables import ALERT, ASKING, DECISION, SIGHTING, WATCH
from earthself.triggers.watch import Goal
from sqlalchemy.engine import Row

NOBODY = "nobody asked"
LATE, DOWN, UNSEEN, UNTAKEN, BUDGET, PROCESSING, SLOW = (
    "provider late",
    "provider down",
    "not seen in time",
    "no run took it in time",
    "budget",
    "processing failed",
    "processing slow",
)
"""Causes. `not seen in time`: published, and nobody looked, such as while the triggerer was down."""
PHASES = ("publish", "see", "sign", "store")
"""From acquisition to publication, to sighting, to signature, to the stored signature."""
_SILENT = 2.0
"""Rounds of an hour at least without a question, after which it is not the provider that is silent."""
_MOST_LATE = 50
_HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class Acquisition:
    """How one observation fared."""

    product: str
    """Product that was stored first, or seen first."""
    acquired: datetime
    """When it was sensed."""
    hours: float | None
    """From acquisition to the stored signature; None while it is not stored."""
    late: bool
    """Over the goal."""
    cause: str
    """Why it is late, empty where it is not."""
    phases: dict[str, float]
    """Hours of each phase that is over and known."""


@dataclass(frozen=True)
class Blind:
    """That nothing is known of an area for longer than its goal allows."""

    since: datetime
    """The last answer of a provider, else when the watch began."""
    cause: str
    """`provider down` or `nobody asked`."""


@dataclass(frozen=True)
class Freshness:
    """How one watched area fares over the last days."""

    watch: str
    """Its name."""
    goal: Goal
    """What was promised; the default where nothing was."""
    promised: bool
    """Whether it was."""
    acquisitions: tuple[Acquisition, ...]
    """Those that are due, oldest first."""
    pending: int
    """Acquisitions that are not stored and not due yet."""
    blind: Blind | None
    """Set while what a provider lists is not known."""

    @property
    def share(self) -> float | None:
        """Share of the acquisitions that were in time, None where there are none."""
        return sum(not each.late for each in self.acquisitions) / len(self.acquisitions) if self.acquisitions else None

    @property
    def met(self) -> bool | None:
        """Whether the promise is kept; None where nothing was promised or there is nothing to judge by."""
        if self.promised and self.blind is not None:
            return False
        return None if self.share is None or not self.promised else self.share >= self.goal.share

    @property
    def causes(self) -> dict[str, int]:
        """How many acquisitions are late for each cause, the most frequent first."""
        return dict(Counter(each.cause for each in self.acquisitions if each.late).most_common())

    @property
    def sentence(self) -> str:
        """All of it in a sentence."""
        unknown = f"nothing is known since {self.blind.since:%Y-%m-%d %H:%M} UTC ({self.blind.cause}); " if self.blind else ""
        if self.share is None:
            return f"{self.watch}: {unknown}no acquisition is due"
        why = ", ".join(f"{cause} {count}" for cause, count in self.causes.items())
        goal = f"{self.goal.share:.0%} within {self.goal.hours:g} h" if self.promised else f"no goal; {self.goal.hours:g} h taken"
        counted = f"{self.share:.0%} of {len(self.acquisitions)} acquisitions in time ({goal})"
        return f"{self.watch}: {unknown}{counted}{f'; late: {why}' if why else ''}"

    def to_dict(self) -> dict[str, Any]:
        """Plain types, fit for JSON."""
        hours = sorted(each.hours for each in self.acquisitions if each.hours is not None)
        known = {phase: [each.phases[phase] for each in self.acquisitions if phase in each.phases] for phase in PHASES}
        late = [each for each in self.acquisitions if each.late]
        return {
            "watch": self.watch,
            "goal": asdict(self.goal) if self.promised else None,
            "acquisitions": len(self.acquisitions),
            "in_time": len(self.acquisitions) - len(late),
            "pending": self.pending,
            "share": None if self.share is None else round(self.share, 4),
            "met": self.met,
            "median_hours": round(median(hours), 2) if hours else None,
            "phases": {phase: round(median(values), 2) for phase, values in known.items() if values},
            "causes": self.causes,
            "blind": {"since": self.blind.since.isoformat(), "cause": self.blind.cause} if self.blind else None,
            "late": [{**asdict(each), "acquired": each.acquired.isoformat()} for each in late[-_MOST_LATE:]],
            "sentence": self.sentence,
        }


def freshness(memory: Memory, now: datetime, days: float = 30, names: Iterable[str] | None = None) -> list[Freshness]:
    """Measure every watch (or those named) over the acquisitions of the last days; what ended before them is left out."""
    lately = sa.or_(WATCH.c.ended.is_(None), WATCH.c.ended > now - timedelta(days=days))
    with memory.reading() as connection:
        watches = connection.execute(sa.select(WATCH).where(lately).order_by(WATCH.c.name)).all()
    wanted = None if names is None else set(names)
    return [_of_watch(memory, watch, now, timedelta(days=days)) for watch in watches if wanted is None or watch.name in wanted]


def check(memory: Memory, now: datetime, names: Iterable[str]) -> list[tuple[str, str]]:
    """Open an alert for each promise that is broken, end it when it is kept again; gives (watch, sentence) of what is new."""
    said = []
    for area in freshness(memory, now, names=names):
        with memory.changing() as connection:
            # One after the other: the triggerer's loop and a missed deadline may measure at the same moment.
            connection.execute(sa.select(WATCH.c.name).where(WATCH.c.name == area.watch).with_for_update())
            query = sa.select(ALERT).where(ALERT.c.watch == area.watch, ALERT.c.ended.is_(None)).order_by(ALERT.c.pk)
            row = connection.execute(query.limit(1)).one_or_none()
            if area.met is False and row is None:
                connection.execute(sa.insert(ALERT).values(watch=area.watch, first=now, last=now, text=area.sentence))
                said.append((area.watch, f"not as fresh as promised: {area.sentence}"))
            elif area.met is False and row is not None:
                connection.execute(sa.update(ALERT).where(ALERT.c.pk == row.pk).values(last=now, text=area.sentence))
            elif row is not None:
                connection.execute(sa.update(ALERT).where(ALERT.c.pk == row.pk).values(ended=now))
                over = "as fresh as promised again" if area.met else "no promise is broken any more"
                said.append((area.watch, f"{over}: {area.sentence}"))
    return said


def end_alerts(memory: Memory, names: Iterable[str], now: datetime) -> None:
    """End the alerts of watches that nobody keeps any more: their promise is taken back."""
    with memory.changing() as connection:
        connection.execute(sa.update(ALERT).where(ALERT.c.watch.in_(list(names)), ALERT.c.ended.is_(None)).values(ended=now))


def alerts(memory: Memory, limit: int = 50) -> list[dict[str, Any]]:
    """Give the latest alerts, newest first: {watch, first, last, ended, text}."""
    with memory.reading() as connection:
        rows = connection.execute(sa.select(ALERT).order_by(ALERT.c.pk.desc()).limit(limit)).all()
    return [
        {
            "watch": row.watch,
            "first": row.first.isoformat(),
            "last": row.last.isoformat(),
            "ended": row.ended.isoformat() if row.ended else None,
            "text": row.text,
        }
        for row in rows
    ]


def _of_watch(memory: Memory, watch: Row[Any], now: datetime, span: timedelta) -> Freshness:
    goal = Goal() if watch.goal_hours is None else Goal(watch.goal_hours, watch.goal_share)
    first = max(watch.since, now - span)
    mine = [SIGHTING.c.watch == watch.name, SIGHTING.c.acquired >= first, SIGHTING.c.state.in_(TAKEN), SIGHTING.c.state != "nothing"]
    with memory.reading() as connection:
        rows = connection.execute(sa.select(SIGHTING).where(*mine).order_by(SIGHTING.c.seen, SIGHTING.c.pk)).all()
        outages = connection.execute(sa.select(ASKING).where(ASKING.c.watch == watch.name, ASKING.c.last >= first)).all()
        held_up = connection.execute(
            sa.select(DECISION.c.product, DECISION.c.what).where(
                DECISION.c.watch == watch.name, DECISION.c.what.in_(("lost", "released", "budget"))
            )
        ).all()
    troubles: dict[str, set[str]] = {}
    for product, what in held_up:
        troubles.setdefault(product, set()).add(what)
    groups: dict[str, list[Row[Any]]] = {}
    for row in rows:
        groups.setdefault(row.observation, []).append(row)
    found, pending = [], 0
    for group in groups.values():
        row = min((each for each in group if each.stored), key=lambda each: each.stored, default=group[0])
        due = row.acquired + goal.hours * _HOUR
        if row.stored is None and row.state != FAILED and now <= due:
            pending += 1
            continue
        late = row.state == FAILED or row.stored is None or row.stored > due
        cause = _cause(row, due, _spans(outages, now), troubles.get(row.product, set())) if late else ""
        hours = None if row.stored is None else (row.stored - row.acquired) / _HOUR
        found.append(Acquisition(row.product, row.acquired, None if hours is None else round(hours, 3), late, cause, _phases(row)))
    found.sort(key=lambda each: each.acquired)
    return Freshness(watch.name, goal, watch.goal_hours is not None, tuple(found), pending, _blind(memory, watch, goal, now))


def _blind(memory: Memory, watch: Row[Any], goal: Goal, now: datetime) -> Blind | None:
    """Say since when nothing is known, where that is longer than the goal; a watch that ended promises nothing."""
    since: datetime = watch.answered or watch.since
    if watch.ended is not None or now - since <= goal.hours * _HOUR:
        return None
    query = sa.select(ASKING).where(ASKING.c.watch == watch.name).order_by(ASKING.c.pk.desc()).limit(1)
    with memory.reading() as connection:
        last = connection.execute(query).one_or_none()
    silent = last is None or now - last.last > _SILENT * max(timedelta(seconds=watch.every_seconds), _HOUR)
    return Blind(since, NOBODY if silent else DOWN)


def _phases(row: Row[Any]) -> dict[str, float]:
    """Give the hours between the moments that are known; a catalogue's own time may lie after ours by a little."""
    moments = [row.acquired, row.published or row.seen, row.seen, row.signed or row.stored, row.stored]
    pairs = zip(PHASES, moments[:-1], moments[1:], strict=True)
    return {phase: round(max(0.0, (last - first) / _HOUR), 3) for phase, first, last in pairs if first is not None and last is not None}


def _spans(asked: Sequence[Row[Any]], now: datetime) -> list[tuple[datetime, datetime]]:
    """Give from when to when no provider answered: an outage ends with the next answer."""
    ordered = sorted(asked, key=lambda row: row.pk)
    return [(row.first, after.first if after else now) for row, after in zip_longest(ordered, ordered[1:]) if not row.well]


def _cause(row: Row[Any], due: datetime, outages: Sequence[tuple[datetime, datetime]], troubles: set[str]) -> str:
    """Name whose fault it is that an acquisition was not stored when it was due."""
    if row.seen > due:
        if row.published is not None and row.published > due:
            return LATE
        begin = row.published or row.acquired
        without = sum((max(timedelta(0), min(end, row.seen) - max(first, begin)) for first, end in outages), timedelta(0))
        if without * 2 >= row.seen - begin:
            return DOWN
        return LATE if row.published is None else UNSEEN
    if troubles & {"lost", "released"} or row.state == FAILED:
        return PROCESSING
    if "budget" in troubles:
        return BUDGET
    return UNTAKEN if row.claimed is None or row.claimed > due else SLOW
