"""Where providers keep their products: a table of ours, each line with its source and its day; what it lacks is not known."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

_TABLE = Path(__file__).with_name("holdings.json")


class Held(StrEnum):
    """How much of what a provider offers is at hand in a place."""

    ONLINE = "online"
    """All of it can be read at once."""
    CACHED = "cached"
    """Some of it: an archive that rolls, or a copy of a part."""
    ORDERABLE = "orderable"
    """It comes when somebody asks for it, after a while."""


@dataclass(frozen=True)
class Holding:
    """Where a provider keeps products."""

    provider: str
    """Name of the data provider, as products carry it."""
    collection: str
    """Which of its collections, a pattern."""
    cloud: str
    """Whose cloud it is, lower case."""
    regions: tuple[str, ...]
    """Regions of that cloud that have them at hand."""
    source: str
    """Address of the page that says so."""
    looked_up: date
    """Day on which it said so."""
    availability: Held | None = None
    """How much of them is there, as the same page says; None where nobody has looked that up."""
    doubtful: str = ""
    """Why it may be otherwise; empty where it is certain."""

    def is_at(self, cloud: str, region: str) -> bool:
        """Whether a region of a cloud is one that has them at hand; case does not matter."""
        return cloud.lower() == self.cloud and region.lower() in {one.lower() for one in self.regions}


@cache
def holdings() -> tuple[Holding, ...]:
    """Read the table; the first line that fits a product counts."""
    return tuple(_holding(**line) for line in json.loads(_TABLE.read_bytes()))


def holding(provider: str, collection: str) -> Holding | None:
    """Give the line that says where a provider keeps a collection; None where nobody has written that down."""
    return next((one for one in holdings() if one.provider == provider and fnmatchcase(collection, one.collection)), None)


@cache
def digest() -> str:
    """Name the state of the table: twelve hexadecimal digits of its SHA-256."""
    return hashlib.sha256(_TABLE.read_bytes()).hexdigest()[:12]


def _holding(*, regions: list[str], looked_up: str, availability: str | None = None, **rest: str) -> Holding:
    return Holding(
        **rest, regions=tuple(regions), looked_up=date.fromisoformat(looked_up), availability=Held(availability) if availability else None
    )
