"""What one tile asks of a machine, as it was measured on a machine whose speed is known."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from earthself.benchmark.errors import BadNeed

_PROFILES = Path(__file__).parents[1] / "profiles"


@dataclass(frozen=True)
class Profile:
    """The work of a tile (10,980 x 10,980 pixels of 10 m)."""

    name: str
    cpu_seconds: float
    """Of one core."""
    memory_gib: float
    """Of one step at its peak."""
    read_gb: float
    """10^9 bytes."""
    speed: float
    """Of the core on which `cpu_seconds` were measured: probe `numpy_one`, Mpixel/s."""
    write_gb: float = 0.0
    """To object storage, 10^9 bytes."""
    threads: int = 1
    """Cores that one step keeps busy."""
    start_seconds: float = 0.0
    """For each tile beside."""
    measured: date | None = None
    """Of which day the figures are; None: somebody gave them."""
    runs: int | None = None
    """How often that was measured."""


def profile(said: str | Mapping[str, Any]) -> Profile:
    """Give the profile of a name, or the one whose figures a need holds; raises `BadNeed` for a name that nobody knows."""
    if isinstance(said, str):
        if said not in names():
            raise BadNeed(f"profile: nobody has measured {said!r}; there are {', '.join(names())}; or give the profile's figures")
        return _profile(json.loads((_PROFILES / f"{said}.json").read_text(encoding="utf-8")))
    return _profile({"name": "given"} | dict(said))


def names() -> list[str]:
    """Name the profiles that are known."""
    return sorted(path.stem for path in _PROFILES.glob("*.json"))


def _profile(fields: Mapping[str, Any]) -> Profile:
    measured = fields.get("measured")
    day = {"measured": date.fromisoformat(measured)} if isinstance(measured, str) else {}
    return Profile(**{**fields, **day})
