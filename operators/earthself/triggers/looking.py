"""One look at a provider for all who watch it: what it lists is held against what is remembered, and each product gets a verdict."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from earthself.triggers.errors import MemoryBroken
from earthself.triggers.memory import CLOUDY, COPY, SUPERSEDED, TAKEN, WAITING, Memory, Sighting
from earthself.triggers.watch import Watch, published_at

if TYPE_CHECKING:
    from earthself.data.sources import Sources

MOST_JOINED = 20
"""Areas of one question; more are asked in turn."""
_MOST_VERTICES = 2_000
"""Corners of the joined areas of one question: servers refuse long ones."""
_AHEAD = timedelta(days=1)
"""A provider's clock may be ahead of ours."""
_LONGEST = 250
"""Characters of an id that the tables take."""
BACK_EVERY = timedelta(hours=6)
"""How often a part of the past is looked through for reprocessings."""
_BACK_SPAN = timedelta(days=30)
"""How much of it at a time: 400 days in three and a half."""
_BYTES_A_KM2 = 66_000
"""A whole tile of 12,000 km2 has about 0.8 GB."""


@dataclass(frozen=True)
class Look:
    """How one question to a provider went."""

    watches: tuple[Watch, ...]
    """Whose question it was."""
    provider: str
    """Who answered, or was asked in vain."""
    listed: int = 0
    """Products that it lists."""
    news: int = 0
    """Products that begin to wait."""
    error: str = ""
    """Why there was no answer."""
    warnings: tuple[str, ...] = ()
    """What to know about the answer."""


def questions(watches: Iterable[Watch]) -> Iterator[tuple[Watch, ...]]:
    """Join watches whose areas one request can ask for: same provider and collection, not too many corners."""
    import shapely

    groups: dict[tuple[str, str], list[Watch]] = {}
    for watch in watches:
        groups.setdefault((watch.provider or "", watch.collection), []).append(watch)
    for group in groups.values():
        joined: list[Watch] = []
        corners = 0
        for watch in group:
            own = int(shapely.get_num_coordinates(watch.area.geometry))
            if joined and (len(joined) == MOST_JOINED or corners + own > _MOST_VERTICES):
                yield tuple(joined)
                joined, corners = [], 0
            joined.append(watch)
            corners += own
        yield tuple(joined)


def look(watches: Sequence[Watch], sources: Sources, memory: Memory, now: datetime) -> Look:
    """Ask once for watches that `questions` joined, and remember what came of it; a provider that fails is no error but an outcome.

    Asked is for acquisitions back to the lookback before the last answer, so that neither a late publication nor an outage loses one.
    """
    import shapely
    from earthself.data.area import Area
    from earthself.data.errors import DataError
    from earthself.data.query import SearchRequest

    starts = {watch.name: min(now, memory.watch(watch, now) or now) - watch.lookback for watch in watches}
    first = watches[0]
    request = SearchRequest(
        area=Area(shapely.union_all([watch.area.geometry for watch in watches])),
        start=min(starts.values()),
        end=now + _AHEAD,
        collection=first.collection,
        provider=first.provider,
        max_cloud_cover=None,
    )
    names = list(starts)
    news = 0
    try:
        found = sources.search(request)
        items, odd = _readable([*found.items, *found.superseded])
        for watch in watches:
            own = [item for item in items if watch.area.may_touch(item.get("geometry")) and _acquired(item, now) >= starts[watch.name]]
            news += memory.sight(watch.name, judge(watch, own, memory, now), now)
    except MemoryBroken:
        raise
    except Exception as error:  # noqa: BLE001 - an answer that nobody can read must not cost the other watches theirs
        asked = first.provider or ", ".join(sources.config.providers)
        said = str(error) if isinstance(error, DataError) else f"its answer cannot be used: {type(error).__name__}: {error}"
        memory.asked(names, asked, now, well=False, said=said)
        return Look(tuple(watches), asked, error=said)
    warnings = (*(warning for warning in found.warnings if "failed, the next provider" in warning), *odd)
    memory.asked(names, found.provider, now, well=True, said="; ".join([f"{len(items)} products listed", *warnings]))
    return Look(tuple(watches), found.provider, len(items), news, warnings=warnings)


def past(watch: Watch, now: datetime) -> tuple[datetime, datetime] | None:
    """Give the period `[start, end)` of a watch's past whose turn it is now, None where it looks no further back than a look does.

    The turn goes by the clock, so that it needs no memory, survives restarts, and comes to watches alike at the same time.
    """
    depth = watch.reprocessed - watch.lookback
    if depth <= timedelta(0):
        return None
    turns = math.ceil(depth / _BACK_SPAN)
    turn = int(now.timestamp() // BACK_EVERY.total_seconds()) % turns
    end = now - watch.lookback - turn * _BACK_SPAN
    # All of it moves with the clock while the turns go round: by so much the periods overlap.
    return max(end - _BACK_SPAN - turns * BACK_EVERY, now - watch.reprocessed), end


def look_back(watches: Sequence[Watch], sources: Sources, memory: Memory, now: datetime) -> Look:
    """Ask once for reprocessings of what is stored for watches with the same past; products that nobody took stay as they are.

    A provider that fails is asked again at the next turn; what is remembered of questions for new products is left alone.
    """
    import shapely
    from earthself.data.area import Area
    from earthself.data.errors import DataError
    from earthself.data.query import SearchRequest

    period, first = past(watches[0], now), watches[0]
    have = {watch.name: memory.stored_of(watch.name, period) for watch in watches} if period else {}
    asking = [watch for watch in watches if have.get(watch.name)]
    if period is None or not asking:
        return Look((), "nobody")
    area = Area(shapely.union_all([watch.area.geometry for watch in asking]))
    request = SearchRequest(area, *period, collection=first.collection, provider=first.provider, max_cloud_cover=None)
    news = 0
    try:
        found = sources.search(request)
        items, odd = _readable([*found.items, *found.superseded])
        for watch in asking:
            own = [i for i in items if str(i["properties"]["earthself:observation"]) in have[watch.name]]
            own = [item for item in own if watch.area.may_touch(item.get("geometry"))]
            news += memory.sight(watch.name, judge(watch, own, memory, now), now)
    except MemoryBroken:
        raise
    except Exception as error:  # noqa: BLE001 - as for new products
        said = str(error) if isinstance(error, DataError) else f"its answer cannot be used: {type(error).__name__}: {error}"
        return Look(tuple(asking), first.provider or ", ".join(sources.config.providers), error=said)
    return Look(tuple(asking), found.provider, len(items), news, warnings=tuple(odd))


def judge(watch: Watch, items: Sequence[Mapping[str, Any]], memory: Memory, now: datetime) -> list[Sighting]:
    """Decide about each listed product, in the light of what is remembered of its observation."""
    from earthself.data.observation import newest_of_each

    listed = {str(item["id"]): {**item, "properties": dict(item["properties"])} for item in items}
    rows = {row.product: row for row in memory.remembered(watch.name, {str(i["properties"]["earthself:observation"]) for i in items})}
    # What a provider no longer lists, or another one listed, still counts: its successor must be known as one.
    everything = {name: json.loads(row.item) for name, row in rows.items()} | listed
    used, superseded = newest_of_each(everything.values(), watch.area.geometry)
    copies = {}
    verdicts = []
    for item in superseded:
        name, newer = str(item["id"]), everything[str(item["properties"]["earthself:superseded_by"])]
        row, known = rows.get(name), rows.get(str(newer["id"]))
        alike = _baseline(item) == _baseline(newer) and (known is None or known.state == COPY)
        if alike and row is not None and row.state in TAKEN:
            copies[str(newer["id"])] = name
        elif str(newer["id"]) not in copies:
            reason = f"superseded by {newer['id']} ({_baseline(newer)} instead of {_baseline(item)})"
            verdicts.append(_sighting(watch, item, now, (SUPERSEDED, reason), str(newer["id"])))
    for item in used:
        name = str(item["id"])
        if name in listed:
            verdicts.append(_verdict(watch, item, now, copies.get(name)))
    return verdicts


def _readable(items: Iterable[Mapping[str, Any]]) -> tuple[list[dict[str, Any]], list[str]]:
    """Bring items into a form that the tables take; gives them, and a warning for those whose ids no table takes.

    One product that a catalogue describes badly must not cost the others their turn, round after round.
    """
    usable, odd = [], []
    for item in items:
        name, observation = str(item["id"]), str(item["properties"]["earthself:observation"])
        if max(len(name), len(observation)) > _LONGEST or "\0" in name + observation:
            odd.append(f"{name[:60]!r}…")
            continue
        # JSON has no NaN and no infinity, though Python reads and writes them.
        plain: dict[str, Any] = json.loads(json.dumps(item), parse_constant=lambda _: None)
        plain["properties"]["eo:cloud_cover"] = _percent(plain["properties"].get("eo:cloud_cover"))
        usable.append(plain)
    said = f"{len(odd)} products have ids that cannot be used (over {_LONGEST} characters, or with NUL) and are left out, such as"
    return usable, [f"{said} {odd[0]}"] if odd else []


def _percent(value: Any) -> float | None:  # noqa: ANN401 - whatever a catalogue states
    """Read a number, also one that is written as text; None where it is none, which counts as not known."""
    try:
        number = float(value) if isinstance(value, (int, float, str)) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    return number if math.isfinite(number) else None


def _verdict(watch: Watch, item: Mapping[str, Any], now: datetime, copy_of: str | None) -> Sighting:
    if copy_of:
        return _sighting(watch, item, now, (COPY, f"another copy of {copy_of}, which was seen before"))
    cover, limit = item["properties"]["eo:cloud_cover"], watch.max_cloud_cover
    if limit is not None and cover is not None and cover > limit:
        return _sighting(watch, item, now, (CLOUDY, f"{cover:g} % clouds, over the limit of {limit:g} %"))
    return _sighting(watch, item, now, (WAITING, "it waits for a run"))


def _sighting(watch: Watch, item: Mapping[str, Any], now: datetime, verdict: tuple[str, str], superseded_by: str | None = None) -> Sighting:
    """Put a verdict (state, reason) on record."""
    state, reason = verdict
    return Sighting(item, state, reason, _acquired(item, now), published_at(dict(item)), _bytes(watch, item), superseded_by)


def _bytes(watch: Watch, item: Mapping[str, Any]) -> int:
    from earthself.data.area import Area
    from earthself.data.errors import BadInput

    try:
        met = Area.from_conf(item["geometry"]).geometry.intersection(watch.area.geometry)
        parts = [part for part in getattr(met, "geoms", (met,)) if part.area]
        return round(sum(Area(part).geodesic_m2 for part in parts) / 1e6 * _BYTES_A_KM2)
    except BadInput:
        return 0


def _acquired(item: Mapping[str, Any], now: datetime) -> datetime:
    from earthself.data.observation import observed_at

    return observed_at(item) or now


def _baseline(item: Mapping[str, Any]) -> str:
    return str(item["properties"].get("earthself:baseline") or "an unknown baseline")
