"""Whose turn it is: so many requests a second in all, in turns between teams, and within a team in turns between its workers.

Turns are given when they come, not when they are asked for, so that a team with one worker waits no longer than one with fifty. A
worker that died while it waited costs one turn.
"""

from __future__ import annotations

from typing import Any

_AHEAD = 3  # turns that are given before they come: those who wait look again only now and then
_SILENT = 15.0  # seconds after which one who waits and no longer asks counts as gone
_TOUCH = 3.0
_BUCKET = 10.0
_BUCKETS = 6


def take(state: dict[str, Any], ticket: str, who: tuple[str, str], now: float, rate: float | None) -> float | None:
    """Give the time of the ticket's turn, Unix seconds, which may be over or soon; None when it has to go on waiting.

    `state` is what this module keeps (nothing to begin with), `who` the team and the worker.
    """
    given: dict[str, float] = state.setdefault("given", {})
    waiting: dict[str, list[Any]] = state.setdefault("waiting", {})
    if ticket in given:
        return given.pop(ticket)
    if rate is None:
        _count(state, who[0], now)
        return now
    entry = waiting.setdefault(ticket, [*who, now, now])
    if now - entry[3] > _TOUCH:
        entry[3] = now
    _deal(state, now, rate)
    return given.pop(ticket, None)


def among_first(state: dict[str, Any], ticket: str, who: tuple[str, str], now: float, places: int) -> bool:
    """Whether a ticket that waits for one of so many places is among those whose teams, and who themselves, had none for longest.

    `state` is what this module keeps of places, apart from that of turns; `served` says when one was had.
    """
    waiting: dict[str, list[Any]] = state.setdefault("waiting", {})
    waiting.setdefault(ticket, [*who, now, now])[3] = now
    for gone in [each for each, entry in waiting.items() if now - entry[3] > _SILENT]:
        del waiting[gone]
    return ticket in _in_order(state)[:places]


def had(state: dict[str, Any], ticket: str) -> None:
    """A ticket has got the place that it waited for."""
    _serve(state, state["waiting"].pop(ticket))


def leave(state: dict[str, Any], ticket: str) -> None:
    """Forget a ticket that no longer waits."""
    for part in ("given", "waiting"):
        state.get(part, {}).pop(ticket, None)


def waiting(state: dict[str, Any], now: float) -> int:
    """How many wait."""
    return sum(now - entry[3] <= _SILENT for entry in state.get("waiting", {}).values())


def lately(state: dict[str, Any], now: float) -> dict[str, int]:
    """Turns of the last minute, by team."""
    made: dict[str, int] = {}
    for bucket, counts in state.get("lately", {}).items():
        if now - float(bucket) * _BUCKET <= _BUCKET * _BUCKETS:
            for team, count in counts.items():
                made[team] = made.get(team, 0) + count
    return made


def _deal(state: dict[str, Any], now: float, rate: float) -> None:
    """Give all turns that come soon to those whose teams, and who themselves, had none for longest."""
    waiting, given = state["waiting"], state["given"]
    for ticket in [ticket for ticket, entry in waiting.items() if now - entry[3] > _SILENT]:
        del waiting[ticket]
    for ticket in [ticket for ticket, time in given.items() if now - time > _SILENT]:
        del given[ticket]
    # A clock that was set back must not make everybody wait for it.
    upcoming = float(state.get("next", 0.0))
    upcoming = now if upcoming > now + _AHEAD / rate + 120.0 else max(now, upcoming)
    while waiting and upcoming <= now + _AHEAD / rate:
        ticket = _in_order(state)[0]
        entry = waiting.pop(ticket)
        _serve(state, entry)
        given[ticket] = upcoming
        _count(state, entry[0], now)
        upcoming += 1 / rate
    state["next"] = upcoming


def _in_order(state: dict[str, Any]) -> list[str]:
    waiting, served = state["waiting"], state.setdefault("served", {})
    return sorted(waiting, key=lambda t: (served.get(waiting[t][0], 0), served.get(_worker(waiting[t]), 0), waiting[t][2]))


def _serve(state: dict[str, Any], entry: list[Any]) -> None:
    served: dict[str, int] = state.setdefault("served", {})
    state["turns"] = turn = int(state.get("turns", 0)) + 1
    served[entry[0]] = served[_worker(entry)] = turn
    if len(served) > 1000:
        state["served"] = dict(sorted(served.items(), key=lambda each: each[1])[-500:])


def _worker(entry: list[Any]) -> str:
    return f"{entry[0]}/{entry[1]}"


def _count(state: dict[str, Any], team: str, now: float) -> None:
    lately: dict[str, dict[str, int]] = state.setdefault("lately", {})
    bucket = str(int(now // _BUCKET))
    counts = lately.setdefault(bucket, {})
    counts[team] = counts.get(team, 0) + 1
    for old in sorted(lately, key=int)[: -_BUCKETS - 1]:
        del lately[old]
