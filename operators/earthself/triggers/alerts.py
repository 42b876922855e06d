"""What Airflow calls when a run of the monitor is not done by its deadline; imported with the DAG file, so it imports nothing heavy."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from typing import Any

_log = logging.getLogger(__name__)


async def run_is_late(context: dict[str, Any], settings: str | None = None) -> str:
    """Say which areas suffer from a run that takes too long, and why: in the triggerer's log, as an alert, and to whom `settings` names."""
    run = context.get("dag_run") or {}
    said = await asyncio.to_thread(_check)
    name = f"the run {run.get('dag_run_id') or run.get('run_id')} of {run.get('dag_id')}"
    text = f"{name} is not done by its deadline; {' '.join(said) or 'no goal of an area is missed so far'}"
    _log.error(text)
    if settings:
        await asyncio.to_thread(_notify, settings, text, str(run.get("dag_id")))
    return text


def _check() -> list[str]:
    from earthself.triggers.freshness import check, freshness
    from earthself.triggers.memory import Memory

    now = datetime.now(UTC)
    with Memory() as memory:
        areas = freshness(memory, now)
        check(memory, now, [area.watch for area in areas])
    return [area.sentence for area in areas if area.met is False]


def _notify(settings: str, text: str, name: str) -> None:
    from earthself.triggers.notices import send
    from earthself.triggers.settings import read_settings

    if (to := read_settings(settings).notify) is not None:
        send(to, text, name)
