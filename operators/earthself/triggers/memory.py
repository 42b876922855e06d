"""What was asked, seen and decided, kept so that nothing is taken twice or lost when a process dies, and so that it can be explained.

A product waits here until a run takes it; an event only wakes a run. So it does not matter where between the two a process is killed.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from earthself.data.database import Kept
from earthself.triggers.tables import ALERT, ASKING, DECISION, SIGHTING, TABLES, WATCH
from earthself.triggers.watch import Watch
from sqlalchemy.engine import Connection, Row

WAITING, CLAIMED, STORED, NOTHING, FAILED = "waiting", "claimed", "stored", "nothing", "failed"
CLOUDY, SUPERSEDED, COPY = "cloudy", "superseded", "copy"
"""States of a sighting: `nothing` has no pixel in the area, `copy` is another copy of what was seen before."""
TAKEN = (WAITING, CLAIMED, STORED, NOTHING, FAILED)
"""States of products that are to be processed, or were."""
PAUSES = tuple(timedelta(hours=hours) for hours in (0, 1, 6, 24, 48))
"""How long a product rests after each loss, so that an outage of a day or two costs none; the loss after the last one gives it up."""
KEPT = timedelta(days=800)
"""How long is remembered what nobody asks providers for any more."""


@dataclass(frozen=True)
class Sighting:
    """What was found out about one product for one watch."""

    item: Mapping[str, Any]
    """The STAC item."""
    state: str
    """`waiting`, `cloudy`, `superseded` or `copy`."""
    reason: str
    """A sentence for people."""
    acquired: datetime
    """When it was sensed."""
    published: datetime | None
    """When the catalogue says that it was listed."""
    bytes: int
    """Estimate of what reading the area's share moves."""
    superseded_by: str | None = None
    """Id of the newer product of the observation."""


@dataclass(frozen=True)
class Run:
    """A run of a workflow."""

    dag_id: str
    """Workflow."""
    run_id: str
    """Run."""


@dataclass(frozen=True)
class Budget:
    """How much may be taken; None is no limit."""

    products_a_run: int | None = None
    """Products of one run."""
    products_a_day: int | None = None
    """Products of one day, UTC."""
    bytes_a_run: int | None = None
    """Estimated bytes of one run."""
    bytes_a_day: int | None = None
    """Estimated bytes of one day, UTC."""


@dataclass(frozen=True)
class _Decision:
    """What is kept of one decision."""

    what: str
    """A state, or a word such as `announced`, `released`, `lost`, `budget`."""
    detail: str
    """A sentence."""
    run: Run | None = None
    """Whose it was; None takes the run that the sighting has."""


class Memory(Kept):
    """Reads and writes the tables, and makes them where they are missing. Every method raises `MemoryBroken`."""

    def __init__(self, url: str | None = None) -> None:
        super().__init__(TABLES, url)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Give a connection for questions of one's own."""
        with self._database.reading() as connection:
            yield connection

    @contextmanager
    def changing(self) -> Iterator[Connection]:
        """Give a connection for changes of one's own, which count together."""
        with self._database.writing() as connection:
            yield connection

    def watch(self, watch: Watch, now: datetime) -> datetime | None:
        """Note that something is watched as of now; gives when the last question began that was answered."""
        values = {
            "collection": watch.collection,
            "provider": watch.provider,
            "area": json.dumps(watch.area.geojson),
            "max_cloud_cover": watch.max_cloud_cover,
            "lookback_hours": watch.lookback / timedelta(hours=1),
            "every_seconds": watch.every / timedelta(seconds=1),
            "goal_hours": watch.goal.hours if watch.goal else None,
            "goal_share": watch.goal.share if watch.goal else None,
            "ended": None,
        }
        with self._database.writing() as connection:
            row = connection.execute(sa.select(WATCH).where(WATCH.c.name == watch.name)).one_or_none()
            if row is None:
                connection.execute(sa.insert(WATCH).values(name=watch.name, since=now, answered=None, **values))
                return None
            if any(getattr(row, key) != value for key, value in values.items()):
                connection.execute(sa.update(WATCH).where(WATCH.c.name == watch.name).values(**values))
            answered: datetime | None = row.answered
            return answered

    def end(self, names: Collection[str], now: datetime) -> None:
        """Note that these are no longer watched."""
        with self._database.writing() as connection:
            connection.execute(sa.update(WATCH).where(WATCH.c.name.in_(names), WATCH.c.ended.is_(None)).values(ended=now))

    def asked(self, names: Iterable[str], provider: str, begun: datetime, *, well: bool, said: str) -> None:
        """Note how a question went; what goes as before makes the span of its kind longer."""
        # PostgreSQL takes no NUL and no more than the column holds; what a server said, and a long order of providers, may have both.
        provider, said = provider[:100], said.replace("\0", "")
        with self._database.writing() as connection:
            for name in names:
                newest = sa.select(ASKING).where(ASKING.c.watch == name).order_by(ASKING.c.pk.desc()).limit(1)
                last = connection.execute(newest).one_or_none()
                if last is not None and (last.well, last.provider) == (well, provider):
                    longer = {"last": begun, "times": last.times + 1, "said": said}
                    connection.execute(sa.update(ASKING).where(ASKING.c.pk == last.pk).values(**longer))
                else:
                    new = {"watch": name, "provider": provider, "first": begun, "last": begun, "times": 1, "well": well, "said": said}
                    connection.execute(sa.insert(ASKING).values(**new))
                if well:
                    connection.execute(sa.update(WATCH).where(WATCH.c.name == name).values(answered=begun))

    def remembered(self, name: str, observations: Collection[str]) -> list[Row[Any]]:
        """Give the sightings of a watch of these observations, oldest first."""
        query = sa.select(SIGHTING).where(SIGHTING.c.watch == name).order_by(SIGHTING.c.pk)
        with self.reading() as connection:
            wanted = sorted(observations)
            some = [wanted[start : start + 500] for start in range(0, len(wanted), 500)]
            return [row for part in some for row in connection.execute(query.where(SIGHTING.c.observation.in_(part)))]

    def stored_of(self, name: str, period: tuple[datetime, datetime]) -> set[str]:
        """Give the observations of a period `[start, end)` whose signatures are stored for a watch."""
        start, end = period
        query = sa.select(SIGHTING.c.observation).where(SIGHTING.c.watch == name, SIGHTING.c.state == STORED)
        with self.reading() as connection:
            return set(connection.scalars(query.where(SIGHTING.c.acquired >= start, SIGHTING.c.acquired < end)))

    def sight(self, name: str, sightings: Iterable[Sighting], now: datetime) -> int:
        """Keep what was decided about products of a watch; gives how many of them wait now that did not before."""
        waiting = 0
        with self._database.writing() as connection:
            # The triggerer and a run may look at the same moment: one after the other, each product is new once.
            connection.execute(sa.select(WATCH.c.name).where(WATCH.c.name == name).with_for_update())
            for each in sightings:
                waiting += _sight(connection, name, each, now)
        return waiting

    def unannounced(self, names: Collection[str], now: datetime) -> dict[str, list[Row[Any]]]:
        """Give by watch the products that may be taken and of which nobody was told, oldest acquisition first."""
        found: dict[str, list[Row[Any]]] = {}
        query = sa.select(SIGHTING).where(SIGHTING.c.watch.in_(names), SIGHTING.c.announced.is_(None), *_ready(now))
        with self.reading() as connection:
            for row in connection.execute(query.order_by(SIGHTING.c.acquired, SIGHTING.c.pk)):
                found.setdefault(row.watch, []).append(row)
        return found

    def announced(self, name: str, products: Collection[str], now: datetime) -> None:
        """Note that Airflow has the event of these products."""
        rows = [SIGHTING.c.watch == name, SIGHTING.c.product.in_(products), SIGHTING.c.announced.is_(None)]
        with self._database.writing() as connection:
            connection.execute(sa.update(SIGHTING).where(*rows).values(announced=now))
            for product in products:
                _decide(connection, now, name, product, _Decision("announced", "an event was given to Airflow"))

    def claim(self, names: Collection[str], run: Run, budget: Budget, now: datetime) -> list[dict[str, Any]]:
        """Give the items that a run is to process for watches, newest acquisition first; a run that asks again gets the same.

        What other runs of the workflow claimed and did not finish is taken over: a workflow that claims runs once at a time. What the
        budget leaves waits for the next run, which is woken at once where only this run's share is used up.
        """
        ours = SIGHTING.c.watch.in_(names)
        with self._database.writing() as connection:
            mine = [SIGHTING.c.state == CLAIMED, SIGHTING.c.dag_id == run.dag_id]
            held = connection.execute(sa.select(SIGHTING).where(ours, *mine, SIGHTING.c.run_id == run.run_id)).all()
            if not held:
                stale = connection.execute(sa.select(SIGHTING).where(ours, *mine)).all()
                for row in stale:
                    ended = _Decision("released", f"the run {row.run_id} ended without it")
                    _become(connection, row, now, {"state": WAITING, "attempts": max(0, row.attempts - 1)}, ended)
                held = _take(connection, ours, run, budget, now)
        newest = sorted(held, key=lambda row: (row.acquired, row.product), reverse=True)
        return list({row.product: json.loads(row.item) for row in newest}.values())

    def areas(self, names: Collection[str]) -> list[dict[str, Any]]:
        """Give the areas of watches as GeoJSON."""
        with self.reading() as connection:
            return [json.loads(text) for (text,) in connection.execute(sa.select(WATCH.c.area).where(WATCH.c.name.in_(names)))]

    def of_run(self, run: Run) -> list[Row[Any]]:
        """Give the sightings that a run has, or had, to process."""
        with self.reading() as connection:
            query = sa.select(SIGHTING).where(SIGHTING.c.dag_id == run.dag_id, SIGHTING.c.run_id == run.run_id)
            return list(connection.execute(query.order_by(SIGHTING.c.pk)))

    def stored(self, run: Run, product: str, signed: datetime | None, now: datetime) -> None:
        """Note that EarthSignature has a product's signature."""
        self._became(run, product, now, {"state": STORED, "signed": signed, "stored": now, "reason": "stored in EarthSignature"})

    def nothing(self, run: Run, product: str, now: datetime) -> None:
        """Note that a product has no pixel in the area."""
        self._became(run, product, now, {"state": NOTHING, "reason": "it has no pixel in the area"})

    def lost(self, run: Run, product: str, error: str, now: datetime, *, retry: bool = True) -> None:
        """Note that a run lost a product; it waits for the next run, unless another try cannot help or that happened too often."""
        with self._database.writing() as connection:
            for row in _claimed(connection, run, product):
                lost = _Decision("lost", error)
                if not retry or row.attempts > len(PAUSES):
                    reason = f"lost {row.attempts} {_times(row.attempts)}, given up; the last reason: {error}"
                    _become(connection, row, now, {"state": FAILED, "reason": reason}, lost)
                    continue
                pause = PAUSES[max(0, row.attempts - 1)]
                after = f" from {now + pause:%Y-%m-%d %H:%M} UTC on" if pause else ""
                # Nobody was told of the new chance: the loop wakes a run when the pause is over.
                again = {"state": WAITING, "announced": None, "not_before": now + pause}
                _become(connection, row, now, {**again, "reason": f"lost, to be tried again{after}: {error}"}, lost)

    def forget(self, now: datetime) -> int:
        """Delete what is so old that no look can meet it again; gives how many sightings that were.

        A product that is looked for stays known, however long the lookback or the silence of its provider.
        """
        gone = 0
        with self._database.writing() as connection:
            for watch in connection.execute(sa.select(WATCH)).all():
                given_up = watch.ended is not None and watch.ended < now - KEPT
                reach = min(now, watch.answered or watch.since) - max(KEPT, 2 * timedelta(hours=watch.lookback_hours))
                end = now if given_up else reach
                old = sa.and_(SIGHTING.c.watch == watch.name, SIGHTING.c.acquired < end, SIGHTING.c.seen < end)
                products = sa.select(SIGHTING.c.product).where(old)
                connection.execute(sa.delete(DECISION).where(DECISION.c.watch == watch.name, DECISION.c.product.in_(products)))
                gone += connection.execute(sa.delete(SIGHTING).where(old)).rowcount
            end = now - KEPT
            connection.execute(sa.delete(ASKING).where(ASKING.c.last < end))
            connection.execute(sa.delete(ALERT).where(ALERT.c.ended < end))
            connection.execute(sa.delete(WATCH).where(WATCH.c.ended < end, ~sa.exists().where(SIGHTING.c.watch == WATCH.c.name)))
        return gone

    def _became(self, run: Run, product: str, now: datetime, values: dict[str, Any]) -> None:
        with self._database.writing() as connection:
            for row in _claimed(connection, run, product):
                values = {**values, "item": _kept(json.loads(row.item), whole=False)}
                _become(connection, row, now, values, _Decision(str(values["state"]), str(values["reason"])))


def _sight(connection: Connection, name: str, each: Sighting, now: datetime) -> int:
    """Insert or change one sighting; 1 where it begins to wait."""
    item = each.item
    key = [SIGHTING.c.watch == name, SIGHTING.c.product == str(item["id"])]
    row = connection.execute(sa.select(SIGHTING).where(*key)).one_or_none()
    if row is None:
        properties = item["properties"]
        values = {
            "observation": str(properties["earthself:observation"]),
            "baseline": properties.get("earthself:baseline"),
            "provider": str(properties.get("earthself:provider") or ""),
            "acquired": each.acquired,
            "published": each.published,
            "seen": now,
            "state": each.state,
            "reason": each.reason,
            "superseded_by": each.superseded_by,
            "cloud_cover": properties.get("eo:cloud_cover"),
            "bytes": each.bytes,
            "item": _kept(item, whole=each.state == WAITING),
        }
        connection.execute(sa.insert(SIGHTING).values(watch=name, product=str(item["id"]), attempts=0, dag_id="", run_id="", **values))
        _decide(connection, now, name, str(item["id"]), _Decision(each.state, each.reason))
        return int(each.state == WAITING)
    if each.state == SUPERSEDED and row.superseded_by != each.superseded_by:
        # What a run has or had stays what it became: that is the very result that is out of date now.
        state = row.state if row.state in (CLAIMED, STORED, NOTHING) else SUPERSEDED
        reason = row.reason if state == row.state else each.reason
        change = {"state": state, "reason": reason, "superseded_by": each.superseded_by}
        _become(connection, row, now, change, _Decision(SUPERSEDED, each.reason))
    elif row.state == CLOUDY and each.state in (WAITING, CLOUDY) and (row.state, row.reason) != (each.state, each.reason):
        change = {
            "state": each.state,
            "reason": each.reason,
            "cloud_cover": item["properties"].get("eo:cloud_cover"),
            "announced": None,
            "item": _kept(item, whole=each.state == WAITING),
        }
        _become(connection, row, now, change, _Decision(each.state, each.reason))
        return int(each.state == WAITING)
    return 0


def _kept(item: Mapping[str, Any], *, whole: bool) -> str:
    """Write an item: whole where a run needs it, else without its assets, which are most of it."""
    return json.dumps(item if whole else {**item, "assets": {}, "links": []}, allow_nan=False)


def _take(connection: Connection, ours: sa.ColumnElement[bool], run: Run, budget: Budget, now: datetime) -> list[Row[Any]]:
    """Claim what waits, oldest acquisition first, so far as the budget goes."""
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    # A product that two watches see is taken once, so it counts once.
    spent = connection.execute(
        sa.select(SIGHTING.c.product, sa.func.max(SIGHTING.c.bytes))
        .where(ours, SIGHTING.c.claimed >= midnight)
        .group_by(SIGHTING.c.product)
    ).all()
    day = [len(spent), sum(int(size) for _, size in spent)]
    used = [0, 0]
    taken: list[Row[Any]] = []
    chosen: dict[str, tuple[str, bool] | None] = {}
    query = sa.select(SIGHTING).where(ours, *_ready(now)).order_by(SIGHTING.c.acquired, SIGHTING.c.pk)
    for row in connection.execute(query.with_for_update()).all():
        if row.product not in chosen:
            chosen[row.product] = _over(budget, used, day, row.bytes)
            if chosen[row.product] is None:
                used, day = [used[0] + 1, used[1] + row.bytes], [day[0] + 1, day[1] + row.bytes]
        if (over := chosen[row.product]) is not None:
            reason, wake = over
            if wake or row.reason != reason:
                change = {"reason": reason, "announced": None if wake else row.announced}
                _become(connection, row, now, change, _Decision("budget", reason))
            continue
        own = {"state": CLAIMED, "claimed": now, "dag_id": run.dag_id, "run_id": run.run_id, "attempts": row.attempts + 1}
        reason = f"taken by the run {run.run_id}"
        _become(connection, row, now, {**own, "reason": reason}, _Decision(CLAIMED, reason, run))
        taken.append(row)
    return taken


def _over(budget: Budget, used: Sequence[int], day: Sequence[int], size: int) -> tuple[str, bool] | None:
    """Say which limit one more product would break, and whether another run may take it at once."""
    limits = (
        (day[0] + 1, budget.products_a_day, "products a day"),
        (day[1] + size, budget.bytes_a_day, "bytes a day"),
        (used[0] + 1, budget.products_a_run, "products a run"),
        (used[1] + size, budget.bytes_a_run, "bytes a run"),
    )
    for _, limit, what in limits:
        if limit is not None and what.startswith("bytes") and size > limit:
            return f"it needs about {size:,} bytes, more than the budget of {limit:,} {what}; raise the budget", False
    for would, limit, what in limits:
        if limit is not None and would > limit:
            return f"the budget of {limit:,} {what} is used up; it waits for the next run", what.endswith("run")
    return None


def _ready(now: datetime) -> tuple[sa.ColumnElement[bool], ...]:
    """What waits and does not rest after a loss."""
    return SIGHTING.c.state == WAITING, sa.or_(SIGHTING.c.not_before.is_(None), SIGHTING.c.not_before <= now)


def _times(count: int) -> str:
    return "time" if count == 1 else "times"


def _claimed(connection: Connection, run: Run, product: str) -> list[Row[Any]]:
    here = [SIGHTING.c.dag_id == run.dag_id, SIGHTING.c.run_id == run.run_id, SIGHTING.c.product == product, SIGHTING.c.state == CLAIMED]
    return list(connection.execute(sa.select(SIGHTING).where(*here)).all())


def _become(connection: Connection, row: Row[Any], now: datetime, values: Mapping[str, Any], decision: _Decision) -> None:
    connection.execute(sa.update(SIGHTING).where(SIGHTING.c.pk == row.pk).values(**values))
    run = decision.run or Run(row.dag_id, row.run_id)
    _decide(connection, now, row.watch, row.product, replace(decision, run=run))


def _decide(connection: Connection, now: datetime, watch: str, product: str, decision: _Decision) -> None:
    run = decision.run or Run("", "")
    kept = {"what": decision.what, "detail": decision.detail, "dag_id": run.dag_id, "run_id": run.run_id}
    connection.execute(sa.insert(DECISION).values(at=now, watch=watch, product=product, **kept))
