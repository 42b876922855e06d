"""How many bytes an account may move in a calendar month (UTC), and how many it has."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from earthself.data.broker.interface import QuotaUsedUp

WARNED_AT = 0.8
"""Part of the quota from which on it is said how much is left."""


def check(state: dict[str, Any], provider: str, quota: int | None, now: float) -> str | None:
    """Raise `QuotaUsedUp` when nothing is left; gives a warning, once a month, when little is.

    `state` is what this module keeps (nothing to begin with).
    """
    if quota is None:
        return None
    used = sum(moved(state, now).values())
    renews = _renews(now)
    if used >= quota:
        raise QuotaUsedUp(
            f"the account at {provider} has moved {_spell(used)} of the {_spell(quota)} that it may in a month; this renews on {renews}: "
            "wait, raise bytes_a_month in the provider settings, or choose another provider"
        )
    if used < WARNED_AT * quota or state.get("warned") == month_of(now):
        return None
    state["warned"] = month_of(now)
    return f"the account at {provider} has moved {_spell(used)} of the {_spell(quota)} that it may until {renews}"


def add(state: dict[str, Any], team: str, count: int, now: float) -> None:
    """Add bytes that a team moved."""
    month = month_of(now)
    if state.get("month") != month:
        state["month"], state["bytes"] = month, {}
    state["bytes"][team] = int(state["bytes"].get(team, 0)) + count


def moved(state: dict[str, Any], now: float) -> dict[str, int]:
    """Bytes of this month, by team."""
    return dict(state["bytes"]) if state.get("month") == month_of(now) else {}


def month_of(now: float) -> str:
    """The calendar month, `2026-11`."""
    return datetime.fromtimestamp(now, UTC).strftime("%Y-%m")


def _renews(now: float) -> str:
    today = datetime.fromtimestamp(now, UTC)
    return f"{today.year + today.month // 12}-{today.month % 12 + 1:02d}-01"


def _spell(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"
